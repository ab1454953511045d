"""The database: models, sessions, migrations, and the few writes that matter."""
