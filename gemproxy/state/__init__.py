"""The state on the disk: a SQLite database, and a JSON snapshot for when that cannot be written.

Knows nothing of Twisted: every call blocks, and ``service.checkpoint`` makes them in a thread.
"""
