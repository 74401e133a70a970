"""The passage between the two dialects."""
