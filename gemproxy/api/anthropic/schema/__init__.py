"""The wire types of Anthropic's API."""
