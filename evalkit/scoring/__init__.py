"""Scoring: decode, extract features, compare, write rows."""
