"""What starts and stops: the daemon's assembly and its periodic work."""
