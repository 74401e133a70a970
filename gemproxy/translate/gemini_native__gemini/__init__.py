"""Native calls: what passes unchanged is looked at, and never written again."""
