"""Running study: assignment, judgments, checks, participants and their state."""
