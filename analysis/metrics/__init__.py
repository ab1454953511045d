"""What metrics say: across arms on the same seeds, and against people."""
