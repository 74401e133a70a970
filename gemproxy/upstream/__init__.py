"""Transport to Gemini, which implements ``Upstream``: prepared requests and treq on one pool."""
