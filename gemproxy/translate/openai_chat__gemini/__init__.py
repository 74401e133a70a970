"""OpenAI chat completions to Gemini's generateContent, and back."""
