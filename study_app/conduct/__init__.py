"""What the researcher does with a study: watch, exclude, lock, back up, export, verify."""
