"""Metrics: across arms on the same seeds, and against people."""
