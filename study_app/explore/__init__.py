"""The images behind any number, in the researcher's browser."""
