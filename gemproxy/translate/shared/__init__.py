"""What several translations have in common."""
