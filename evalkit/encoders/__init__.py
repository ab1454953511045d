"""Encoders: images and texts in, features out. Import one of the modules; each needs the extra `metrics`."""
