"""Metric specification: metric cards, signatures, conventions, similarities."""
