"""Whom the proxy asks: a folder for each provider."""
