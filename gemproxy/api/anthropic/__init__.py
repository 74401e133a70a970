"""The dialect of Anthropic's clients."""
