"""The two languages, OpenAI's and Gemini's, and the passage between them. Pure; no I/O."""
