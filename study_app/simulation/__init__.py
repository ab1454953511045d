"""People who are none: they judge through the service or through the pages."""
