"""Long answers, which Gemini 4 returns in hops.

Each hop but the last ends with the reason ``CONTINUATION`` and a token: the same request plus the
token of the previous hop gets the next one.
"""

from __future__ import annotations

import msgspec

from gemproxy.buffer_list import BufferList
from gemproxy.providers.gemini.wire.answers import GenerateContentResponse
from gemproxy.translate.shared.finish import CONTINUATION, UNSPECIFIED, FinishState

#: A Gemini 4 answer of 1,048,576 tokens comes in 32 unary hops.
MAX_HOPS = 40


def with_continuation(body: bytes | BufferList, token: str) -> bytes:
    """The translated ``body``, asking for what follows after ``token``.

    ``body`` is always that of the first request.
    """
    return b'%b,"continuationToken":%b}' % (bytes(body)[:-1], msgspec.json.encode(token))


def continuation_token(answer: GenerateContentResponse) -> str | None:
    """The token that requests the rest of a long answer; ``None`` if this is the end of it."""
    for candidate in answer.candidates or []:
        if candidate.continuation_token and candidate.finish == CONTINUATION:
            return candidate.continuation_token
    return None


def hop_fault(answer: GenerateContentResponse) -> str | None:
    """Why a further hop of a long answer cannot be used; ``None`` if it can."""
    if answer.block:
        return None
    candidates = answer.candidates or []
    for candidate in candidates:
        ending = FinishState(candidate.finish or UNSPECIFIED)
        if not candidate.parts and not ending.is_clean:
            return f"no content in a further hop, {ending.reason}"
    return None if candidates else "no candidates in a further hop"
