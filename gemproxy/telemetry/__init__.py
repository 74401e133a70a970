"""Logs, metrics, request history, and the scrubber that every text passes."""
