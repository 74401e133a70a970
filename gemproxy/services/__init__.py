"""What has a beginning and an end of its own: listening, draining, periodic work."""
