"""The pool of API keys: which key serves next, and what each outcome does to it.

Knows verdicts and seconds; knows nothing of Gemini or HTTP.
"""
