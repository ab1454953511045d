"""Answer kinds of further questions, and their analysis."""
