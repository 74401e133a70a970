"""The wire types of OpenAI's API."""
