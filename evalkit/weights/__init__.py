"""Model weights: lookup, hashes, offline bundles."""
