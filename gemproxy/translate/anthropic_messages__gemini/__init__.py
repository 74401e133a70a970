"""Anthropic Messages to Gemini's generateContent, and back."""
