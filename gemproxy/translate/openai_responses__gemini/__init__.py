"""From the Responses API to Gemini and back."""
