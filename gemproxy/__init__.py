"""gemproxy: a gateway for OpenAI, Anthropic and Gemini clients, with a pool of Gemini API keys.

``docs/architecture.md`` is the map; ``gemproxy.core.dispatch`` is the story of one request.
"""

__all__ = ["__version__"]

__version__ = "0.1.0"
