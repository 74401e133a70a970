"""What an operator sees: logs, metrics, and the scrubber that stands before every sink."""
