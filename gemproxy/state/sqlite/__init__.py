"""The state in a SQLite database."""
