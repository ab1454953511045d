"""A study that runs: who is asked what, and what becomes of the answers; everything that touches judgments."""
