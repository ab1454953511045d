"""Blind A/B study: assignment of pairwise comparisons, web pages, dashboard, export and verification."""
