"""Database models, sessions, migrations and bulk loading."""
