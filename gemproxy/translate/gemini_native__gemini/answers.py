"""Look at the answers to native calls on their way to the client.

The bytes pass as they came. From a copy of them only those facts are read that the rest of the
program needs: tokens, whether there is any content, whether the answer was blocked, and whether it
is complete. An unexpected type hides facts from us; the answer passes. Only a body that is not a
JSON object fails.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from gemproxy.core.errors import (
    ErrorInAnswer,
    FailureKind,
    MalformedUpstreamResponse,
    ProxyError,
    StreamIncomplete,
    UpstreamFailed,
)
from gemproxy.providers.gemini.wire.answers import (
    NO_ERROR,
    PromptFeedback,
    UsageMetadata,
    finish_reason_of,
)
from gemproxy.providers.gemini.wire.raw_stream import element, payloads
from gemproxy.providers.gemini.wire.sse import DEFAULT_MAX_EVENT_BYTES
from gemproxy.translate.shared.finish import UNSPECIFIED, FinishState
from gemproxy.translate.shared.usage import TokenUsage

#: Fields of a part that are no content by themselves.
_SIDE_FIELDS = frozenset({"text", "thought", "thoughtSignature"})
_FINISH, _BLOCK = b'"finishReason"', b'"blockReason"'
#: The length of an empty string in JSON.
_EMPTY_TEXT = 2
#: Finish reasons with which an empty answer is worth one retry.
_WORTH_ANOTHER = frozenset({"STOP", UNSPECIFIED, "MALFORMED_FUNCTION_CALL", "MALFORMED_RESPONSE"})


class _Content(msgspec.Struct, frozen=True, gc=False):
    parts: list[dict[str, msgspec.Raw]] | None = None


class _Candidate(msgspec.Struct, rename="camel", frozen=True, gc=False):
    content: _Content | None = None
    finish_reason: str | int | None = None


class _Answer(msgspec.Struct, rename="camel", frozen=True, gc=False):
    candidates: list[_Candidate] | None = None
    prompt_feedback: PromptFeedback | None = None
    usage_metadata: UsageMetadata | None = None
    error: msgspec.Raw = NO_ERROR


class _Finish(msgspec.Struct, rename="camel", frozen=True, gc=False):
    finish_reason: str | int | None = None


class _LaterAnswer(msgspec.Struct, rename="camel", frozen=True, gc=False):
    """An event after the first one with content."""

    candidates: list[_Finish] | None = None
    prompt_feedback: PromptFeedback | None = None
    usage_metadata: UsageMetadata | None = None
    error: msgspec.Raw = NO_ERROR


class _Counted(msgspec.Struct, rename="camel", frozen=True, gc=False):
    """An answer with vectors or a number of tokens."""

    usage_metadata: UsageMetadata | None = None
    error: msgspec.Raw = NO_ERROR


class _Object(msgspec.Struct, frozen=True, gc=False):
    error: msgspec.Raw = NO_ERROR


_NO_ANSWER = _Answer()
_ANSWER = msgspec.json.Decoder(_Answer).decode
_LATER_ANSWER = msgspec.json.Decoder(_LaterAnswer).decode
_COUNTED = msgspec.json.Decoder(_Counted).decode
_OBJECT = msgspec.json.Decoder(_Object).decode


class PassedAnswer(msgspec.Struct, frozen=True, gc=False):
    """An answer as it came; see :class:`gemproxy.api.base.EncodedAnswer`."""

    body: bytes
    usage: TokenUsage | None
    blocked: bool = False
    empty: bool = False


class WholeGeneration:
    """Looks at a whole answer of a model; see :class:`gemproxy.api.base.WholeAnswer`.

    With ``partial`` the client asked for some fields only, so that a missing one tells nothing.
    """

    is_large = False

    def __init__(self, *, partial: bool = False) -> None:
        self._partial = partial
        self._body = b""
        self._answer = _NO_ANSWER

    def receive(self, body: bytes) -> None:
        """Read the facts. There is only one step."""
        try:
            answer = _ANSWER(body)
        except (msgspec.DecodeError, RecursionError):
            answer = _Answer(error=_error_of(body))
        if answer.error is not NO_ERROR:
            _check_error(answer.error, body)
        self._body, self._answer = body, answer

    def encode(self) -> PassedAnswer:
        """Return the answer as it came."""
        body, answer = self._body, self._answer
        self._body = b""
        usage = TokenUsage.from_gemini(answer.usage_metadata)
        candidates = answer.candidates or ()
        feedback = answer.prompt_feedback
        if feedback is not None and feedback.block is not None:
            return PassedAnswer(body, usage, blocked=True)
        if len(candidates) == 1:
            only = candidates[0]
            if only.finish_reason == "STOP" and _has_content(only):  # Nearly every answer.
                return PassedAnswer(body, usage)
        reasons = [
            candidate.finish_reason
            for candidate in candidates
            if candidate.finish_reason is not None and candidate.finish_reason != "STOP"
        ]
        blocked = bool(reasons) and any(map(_is_block, reasons))
        empty = not (blocked or self._partial or any(map(_has_content, candidates)))
        return PassedAnswer(
            body, usage, blocked, empty=empty and all(map(_is_worth_another, reasons))
        )


class WholeCount:
    """Looks at vectors or a number of tokens; see :class:`gemproxy.api.base.WholeAnswer`.

    If the answer does not say how many tokens it took, ``tokens`` are counted; with ``None`` it
    costs nothing.
    """

    is_large = False

    def __init__(self, tokens: int | None = None) -> None:
        self._tokens = tokens
        self._body = b""
        self._usage: UsageMetadata | None = None

    def receive(self, body: bytes) -> None:
        """Read the facts. There is only one step."""
        try:
            answer = _COUNTED(body)
        except (msgspec.DecodeError, RecursionError):
            answer = _Counted(error=_error_of(body))
        if answer.error is not NO_ERROR:
            _check_error(answer.error, body)
        self._body, self._usage = body, answer.usage_metadata

    def encode(self) -> PassedAnswer:
        """Return the answer as it came."""
        body, usage, tokens = self._body, self._usage, self._tokens
        self._body = b""
        if usage is not None and usage.counts:
            return PassedAnswer(body, TokenUsage.from_gemini(usage))
        if tokens is None:
            return PassedAnswer(body, None)
        return PassedAnswer(body, TokenUsage(input=tokens, total=tokens))


class StreamedGeneration:
    """Looks at the events of a stream; see :class:`gemproxy.api.base.StreamedAnswer`.

    Each event is returned as it came. ``array`` and ``partial`` are as in
    :class:`~gemproxy.providers.base.NativeCall` and :class:`WholeGeneration`.
    """

    malformed = False

    def __init__(self, *, array: bool = False, partial: bool = False) -> None:
        self._payloads: Callable[[bytes], list[bytes]] = _elements if array else payloads
        self._array = array
        self._partial = partial
        self._held = 0
        self._usage: UsageMetadata | None = None
        self._finished = False
        self._ends_array = False
        self._worth_another = True
        self.blocked = False
        self.started = False

    def receive(self, event: bytes) -> bytes:
        """Return ``event``. Raises :exc:`ErrorInAnswer`, :exc:`MalformedUpstreamResponse`."""
        texts = self._payloads(event)
        if self.started and len(texts) > 1:
            # Of several events the last one has the totals, and no error stands among them.
            *others, last = texts
            texts = [each for each in others if _FINISH in each or _BLOCK in each]
            texts.append(last)
        for text in texts:
            self._look(text)
        if self._array:
            self._ends_array = event.rstrip().endswith(b"]")
        if not self.started:
            # Events before the content are held back, because another key may still be tried.
            self._held += len(event)
            if self._held > DEFAULT_MAX_EVENT_BYTES:
                raise UpstreamFailed(FailureKind.TOO_LARGE)
        return event

    def finish(self) -> bytes:
        """Return nothing: everything was returned. Raises :exc:`StreamIncomplete`."""
        complete = self._finished or self.blocked or self._partial
        if not complete or (self._array and not self._ends_array):
            raise StreamIncomplete("The upstream ended its stream without a finish reason")
        return b""

    def next_step(self) -> None:
        """There is only one step."""

    def resume(self, *, again: bool = False) -> None:
        """Not used: there is only one step."""

    def failed(self, error: ProxyError) -> None:
        """The stream has no last events of its own for an error."""

    def cut_off(self) -> None:
        """Not used: there is only one step."""

    @property
    def usage(self) -> TokenUsage:
        """The latest totals."""
        return TokenUsage.from_gemini(self._usage)

    @property
    def empty(self) -> bool:
        """Whether the stream has no content, and another one may have some."""
        return not (self.started or self.blocked or self._partial) and self._worth_another

    def _look(self, payload: bytes) -> None:
        answer: _Answer | _LaterAnswer
        try:
            answer = _LATER_ANSWER(payload) if self.started else _ANSWER(payload)
        except (msgspec.DecodeError, RecursionError):
            if payload == b"[DONE]":  # Not sent by Google, but by gateways with its dialect.
                return
            answer = _Answer(error=_error_of(payload))
        if answer.error is not NO_ERROR:
            _check_error(answer.error, payload)
        usage = answer.usage_metadata
        if usage is not None and (usage.prompt_token_count is not None or usage.counts):
            self._usage = usage
        feedback = answer.prompt_feedback
        if feedback is not None and feedback.block is not None:
            self.blocked = self.started = True
        for candidate in answer.candidates or ():
            if not self.started and isinstance(candidate, _Candidate) and _has_content(candidate):
                self.started = True
            reason = candidate.finish_reason
            if reason is not None:
                self._finished = True
                if reason != "STOP":
                    self.blocked = self.blocked or _is_block(reason)
                    self._worth_another = self._worth_another and _is_worth_another(reason)


def _elements(event: bytes) -> list[bytes]:
    payload = element(event)
    return [payload] if payload else []


def _has_content(candidate: _Candidate) -> bool:
    content = candidate.content
    for part in (content.parts or ()) if content is not None else ():
        if not _SIDE_FIELDS.issuperset(part):
            return True
        text = part.get("text")
        if text is not None and len(text) > _EMPTY_TEXT:
            return True
    return False


def _is_block(reason: str | int) -> bool:
    return FinishState(finish_reason_of(reason)).is_block


def _is_worth_another(reason: str | int) -> bool:
    return finish_reason_of(reason) in _WORTH_ANOTHER


def _error_of(payload: bytes) -> msgspec.Raw:
    """The error of an object of which nothing else could be read."""
    try:
        return _OBJECT(payload).error
    except (msgspec.DecodeError, RecursionError) as error:
        raise MalformedUpstreamResponse(f"not an answer: {error}") from error


def _check_error(error: msgspec.Raw, payload: bytes) -> None:
    if bytes(error) != b"null":
        raise ErrorInAnswer(payload)
