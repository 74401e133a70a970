"""Translate Gemini's finish and block reasons into OpenAI's ``finish_reason``."""

from __future__ import annotations

import msgspec

from gemproxy.core.errors import UpstreamRejected

#: The reason of a refusal that the documented dummy may overcome.
SIGNATURE_REFUSED = "thought_signature"

CONTINUATION = "CONTINUATION"
UNSPECIFIED = "FINISH_REASON_UNSPECIFIED"

_CONTENT_FILTER = "content_filter"

# A reason that is not in this table (MALFORMED_FUNCTION_CALL, MALFORMED_RESPONSE,
# UNEXPECTED_TOOL_CALL, TOO_MANY_TOOL_CALLS, OTHER, no reason, or one that Google added) means that
# something failed. If there is content before it, that is returned as the answer. If there is none,
# the answer is unusable.
_FINISH_REASONS = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    CONTINUATION: "length",  # only if the continuation was not requested
    "SAFETY": _CONTENT_FILTER,
    "RECITATION": _CONTENT_FILTER,
    "LANGUAGE": _CONTENT_FILTER,
    "BLOCKLIST": _CONTENT_FILTER,
    "PROHIBITED_CONTENT": _CONTENT_FILTER,
    "SPII": _CONTENT_FILTER,
    "MODEL_ARMOR": _CONTENT_FILTER,
    "IMAGE_SAFETY": _CONTENT_FILTER,
    "IMAGE_PROHIBITED_CONTENT": _CONTENT_FILTER,
    "IMAGE_RECITATION": _CONTENT_FILTER,
    "IMAGE_OTHER": _CONTENT_FILTER,
    "NO_IMAGE": _CONTENT_FILTER,
    "ESCALATION": _CONTENT_FILTER,
    "PUP_LIMITED_DISABLED": _CONTENT_FILTER,
}

_MISSING_SIGNATURE = "MISSING_THOUGHT_SIGNATURE"


class FinishState(msgspec.Struct, frozen=True, gc=False):
    """The end of a choice: a finish reason, or the block reason of the whole prompt."""

    reason: str = UNSPECIFIED
    message: str | None = None
    of_prompt: bool = False

    @property
    def is_block(self) -> bool:
        """Whether Google blocked the answer or the rest of it."""
        return self.of_prompt or _FINISH_REASONS.get(self.reason) == _CONTENT_FILTER

    @property
    def is_clean(self) -> bool:
        """Whether an empty choice with this end is a valid answer."""
        return self.of_prompt or self.reason in _FINISH_REASONS

    def finish_reason(self, *, calls: bool) -> str:
        """OpenAI's finish reason; ``calls`` tells that functions were called."""
        if self.of_prompt:
            return _CONTENT_FILTER
        reason = _FINISH_REASONS.get(self.reason, "stop")
        # An answer with calls ends with STOP, or with a reason about the call.
        return "tool_calls" if calls and reason == "stop" else reason

    def refusal(self) -> str | None:
        """The text of ``refusal`` for a block; else ``None``."""
        if not self.is_block:
            return None
        what = "the prompt" if self.of_prompt else "the answer"
        sentence = f"Gemini blocked {what}: {self.reason}"
        return f"{sentence} ({self.message})" if self.message else sentence

    def reject(self) -> None:
        """Raise :exc:`UpstreamRejected` if the request's history is at fault."""
        if self.reason == _MISSING_SIGNATURE:
            raise UpstreamRejected(
                self.message or "A function call in the messages lacks its thought signature",
                param="messages",
                reason=SIGNATURE_REFUSED,
            )
