"""The native Gemini API: requests as Google takes them, answers and errors as Google sends them."""
