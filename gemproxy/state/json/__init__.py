"""The state in one JSON file: the fallback, and the format of an export."""
