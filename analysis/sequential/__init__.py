"""Group sequential analysis: spending functions, stopping boundaries, estimates after stopping."""
