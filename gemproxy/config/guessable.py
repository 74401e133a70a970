"""Recognise tokens that can be guessed: short, repetitive, or made of words.

This is for a warning and no measure of strength: it knows what people type in a hurry.
"""

from __future__ import annotations

import re
from itertools import pairwise

SHORTEST = 16
_FEW = 6
_LEFT_OVER = 4
_WORDS = re.compile(
    r"password|passwort|passw0rd|secret|token|bearer|changeme|change|letmein|welcome|please|default|"
    r"example|sample|testing|tests?|demo|admin|client|user|guest|root|public|private|access|"
    r"gemproxy|gemini|google|openai|proxy|localhost|local|qwertz|qwerty|uiop|asdfghjkl|asdf|zxcvbnm|"
    r"api|key|sk|foo|bar|baz|abc|xyz|the|this|my|is|dev|prod|staging|deadbeef|cafe|babe"
)


def weakness(token: str) -> str | None:
    """Why ``token`` is weak; ``None`` if it is not."""
    if len(token) < SHORTEST:
        return f"has fewer than {SHORTEST} characters"
    if len(set(token)) < _FEW:
        return "has too few different characters"
    if _repeats(token):
        return "repeats itself"
    steps = [ord(after) - ord(before) for before, after in pairwise(token)]
    if sum(step in {-1, 0, 1} for step in steps) > len(steps) * 2 / 3:
        return "is a sequence"
    # People append digits in order to a word that is too short.
    rest = re.sub(r"[^a-z0-9]|0?12345\d*|123\d?", "", _WORDS.sub("", token.lower()))
    if len(rest) < _LEFT_OVER:
        return "is made of words that everybody tries"
    return None


def _repeats(token: str) -> bool:
    # The token is a repetition of its first ``size`` characters; the last one may be incomplete.
    half = len(token) // 2
    return any(
        (token[:size] * (len(token) // size + 1))[: len(token)] == token
        for size in range(1, half + 1)
    )
