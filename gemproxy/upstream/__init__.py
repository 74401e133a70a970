"""Gemini over HTTP: a treq client on a pool of kept-alive connections; implements ``Upstream``."""
