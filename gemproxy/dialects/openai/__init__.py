"""OpenAI's Chat Completions API: requests as clients send them, answers as they expect them."""
