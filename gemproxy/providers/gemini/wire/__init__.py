"""The wire types of the native Gemini API."""
