"""The pool of API keys: which key serves next, and what each outcome does to it.

It knows verdicts and seconds, not Gemini or HTTP. README.md in this directory has the theory of
operation.
"""
