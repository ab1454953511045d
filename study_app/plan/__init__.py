"""What stands before anyone judges: design, comparisons, blinded images, sentences, and the log that all is written to."""
