"""Merging: methods (in `methods`), masks, hooks, and the machinery that applies them."""
