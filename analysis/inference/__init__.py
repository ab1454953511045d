"""The mathematics: clustered errors, intervals, bootstraps and models that are independent of a database."""
