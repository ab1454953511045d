"""Before there is anything to analyze: how large a study must be, and its analysis written down."""
