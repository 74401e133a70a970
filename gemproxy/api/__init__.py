"""What clients speak: a folder for each dialect, a file for each endpoint."""
