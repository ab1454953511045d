"""Diagnostics: how LoRAs overlap and conflict, and how generated images' latents differ from prior images'."""
