"""What people said: preference, ties, agreement, biases, and who may not have looked."""
