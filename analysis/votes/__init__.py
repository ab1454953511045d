"""Analysis of votes: preference, ties, inter-rater agreement, biases, screening of participants."""
