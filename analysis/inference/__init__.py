"""The mathematics: clustered errors, intervals, bootstraps and models that know nothing of a database."""
