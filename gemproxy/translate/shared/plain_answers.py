"""Recognise answers that are text and nothing else, as nearly all are.

They take a short way to the client, which gives the same result as the general one.
"""

from __future__ import annotations

from gemproxy.providers.gemini.wire.answers import (
    NO_ERROR,
    Candidate,
    GenerateContentResponse,
)

#: The text and the finish reason, ``stop`` or ``length``.
PlainAnswer = tuple[str, str]

#: Normal finish reasons, by Google's names and numbers.
_FINISH_REASONS: dict[str | int | None, str] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    1: "stop",
    2: "length",
}


def plain_answer(answer: GenerateContentResponse) -> PlainAnswer | None:
    """The text of ``answer``; ``None`` if it is not plain.

    Log probabilities and usage are not looked at.
    """
    candidates = answer.candidates
    if not candidates or len(candidates) > 1 or answer.error is not NO_ERROR:
        return None
    candidate = candidates[0]
    finish_reason = _FINISH_REASONS.get(candidate.finish_reason)
    if (
        finish_reason is None
        or candidate.content is None
        or candidate.index
        or candidate.grounding_metadata is not None
        or candidate.citation_metadata is not None
    ):
        return None
    text = ""
    for part in candidate.content.parts or ():
        if part.text is None or part.thought or part.function_call is not None:
            return None
        text += part.text
    return (text, finish_reason) if text else None


def sole_text(candidates: list[Candidate]) -> str | None:
    """The text of an event that is a single text part, as nearly all are."""
    candidate = candidates[0]
    if (
        len(candidates) != 1
        or candidate.content is None
        or candidate.finish_reason is not None
        or candidate.grounding_metadata is not None
        or candidate.citation_metadata is not None
        or candidate.logprobs_result is not None
        or candidate.continuation_token is not None
    ):
        return None
    parts = candidate.content.parts
    if parts is None or len(parts) != 1:
        return None
    part = parts[0]
    return None if part.thought or part.function_call is not None else part.text
