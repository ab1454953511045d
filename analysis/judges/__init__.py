"""Machine judges against people: two orders, agreement, the alternative annotator test, prediction-powered estimates."""
