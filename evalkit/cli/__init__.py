"""The `evalkit` command line."""
