"""Votes and scores as tidy files: export, import, codebook."""
