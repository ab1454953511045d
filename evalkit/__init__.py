"""Evaluate merged LoRA adapters: metrics whose recipe travels with every number."""
