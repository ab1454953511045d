"""Tinyworld: a small synthetic world whose truth is known, with models and concepts trained on it."""
