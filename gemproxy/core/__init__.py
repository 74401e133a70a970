"""Serve one request: dispatch, retry, attribution, and the values that they use."""
