"""The dialect of Gemini's own clients."""
