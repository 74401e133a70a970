"""What whole and streamed responses share: the request, new ids, and the last object.

``docs/responses.md`` describes both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from gemproxy.api.openai.schema.response_objects import (
    InputTokensDetails,
    OutputTokensDetails,
    ResponseError,
    ResponseFrame,
    ResponseUsage,
)
from gemproxy.core.errors import (
    ContextTooLong,
    DailyQuotaExhausted,
    InvalidRequest,
    ProxyError,
    QuotaExhausted,
    UpstreamRejected,
)
from gemproxy.translate.openai_responses__gemini.request import AnswerContext
from gemproxy.translate.shared.candidate import CandidateState, no_content
from gemproxy.translate.shared.signatures import SignatureStore
from gemproxy.translate.shared.translated import TranslatedRequest
from gemproxy.translate.shared.usage import TokenUsage

#: Takes the id of a complete response, and its text in three parts: the second one is the output.
Keep = Callable[[str, bytes, bytes, bytes], None]


class ResponseParts(msgspec.Struct, frozen=True):
    """What the answer to one request is made with.

    ``base`` is the response's id without its prefix. ``wall`` gives epoch time, ``new_id`` new ids
    for calls. ``keep`` stores the complete response.
    """

    translated: TranslatedRequest[AnswerContext]
    frame: ResponseFrame
    base: str
    new_id: Callable[[], str]
    wall: Callable[[], float]
    signatures: SignatureStore
    keep: Keep | None = None

    def complete(
        self, output: bytes, reason: str | None, usage: TokenUsage, tier: str | None
    ) -> bytes:
        """The text of the whole response, which is stored.

        ``output`` is the text of its items, ``reason`` that of an incomplete one.
        """
        frame = self.frame
        start, end = frame.around(
            "completed" if reason is None else "incomplete",
            usage=response_usage(usage),
            tier=tier,
            incomplete=reason,
            completed_at=int(self.wall()) if reason is None else None,
        )
        if self.keep is not None:
            self.keep(frame.id, start, output, end)
        return start + output + end


def response_usage(usage: TokenUsage) -> ResponseUsage:
    """The ``usage`` of a response."""
    return ResponseUsage(
        input_tokens=usage.input,
        input_tokens_details=InputTokensDetails(cached_tokens=usage.cached),
        output_tokens=usage.output,
        output_tokens_details=OutputTokensDetails(reasoning_tokens=usage.reasoning),
        total_tokens=usage.total,
    )


def require_answer(reader: CandidateState) -> str | None:
    """Why ``reader`` has no answer for the client; ``None`` if it has.

    Raises :exc:`UpstreamRejected` if Gemini reports that the input is at fault.
    """
    reader.reject()
    return None if reader.is_answer else no_content(reader)


def response_error(error: ProxyError) -> ResponseError:
    """The error of a failed response. Codex reads its code, and the delay in the message."""
    code = next((code for kind, code in _CODES if isinstance(error, kind)), "server_error")
    message = error.message
    if error.retry_after is not None and code == "rate_limit_exceeded":
        message = f"{message} Please try again in {max(1, round(error.retry_after))}s."
    return ResponseError(code=code, message=message)


_CODES: Final[tuple[tuple[type[ProxyError], str], ...]] = (
    (ContextTooLong, "context_length_exceeded"),
    (DailyQuotaExhausted, "insufficient_quota"),
    (QuotaExhausted, "rate_limit_exceeded"),
    (InvalidRequest, "invalid_prompt"),
    (UpstreamRejected, "invalid_prompt"),
)
