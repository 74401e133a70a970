"""Long answers, which Gemini 4 returns in hops.

Each hop but the last ends with the reason ``CONTINUATION`` and a token: the same request plus the
token of the previous hop gets the next one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce

import msgspec

from gemproxy.buffer_list import BufferList
from gemproxy.core.errors import ErrorInAnswer, MalformedUpstreamResponse, UnusableAnswer
from gemproxy.providers.gemini.wire.answers import (
    DECODE_ERRORS,
    NO_ERROR,
    GenerateContentResponse,
    UsageMetadata,
    decode_answer,
    decode_chunk,
    decode_usual,
)
from gemproxy.translate.shared.candidate import CandidateState
from gemproxy.translate.shared.finish import CONTINUATION, UNSPECIFIED, FinishState
from gemproxy.translate.shared.usage import TokenUsage

#: A Gemini 4 answer of 1,048,576 tokens comes in 32 unary hops.
MAX_HOPS = 40
#: Events without content; a model that thinks for an hour sends some thousands.
MAX_EMPTY_EVENTS = 100_000
#: A longer answer is encoded in a thread.
LARGE_ANSWER_BYTES = 1024 * 1024


class HopReader:
    """Reads the hops of one whole answer, of a request with this ``body``.

    The first part of :class:`gemproxy.api.base.WholeAnswer`; a dialect's class inherits from it and
    encodes :attr:`hops`.
    """

    def __init__(self, body: bytes | BufferList) -> None:
        self._body = body
        self._size = 0
        self.hops: list[GenerateContentResponse] = []
        #: Whether it has to be encoded in a thread: log probabilities are millions of small
        #: objects, which take seconds. No property, because that is a call for each request.
        self.is_large = False

    def receive(self, body: bytes) -> bytes | None:
        """Read a hop. Return the body of the request for the next one, if there is one."""
        answer = decode_answer(body)
        if answer.error is not NO_ERROR and answer.is_error:
            raise ErrorInAnswer(body)
        hops = self.hops
        if hops and (fault := hop_fault(answer)) is not None:
            raise UnusableAnswer(fault)
        hops.append(answer)
        self._size += len(body)
        self.is_large = self._size > LARGE_ANSWER_BYTES
        token = continuation_token(answer)
        if not token or len(hops) == MAX_HOPS:
            return None
        return with_continuation(self._body, token)


class StreamedHops:
    """The hops of one streamed answer and their tokens, of a request with this ``body``.

    A dialect's stream inherits from it, reads each event with :meth:`decode`, and gives
    :attr:`continuation`.
    """

    def __init__(self, body: bytes | BufferList) -> None:
        self._body = body
        self._hops = 1
        #: The latest counts of this hop.
        self.latest_usage: UsageMetadata | None = None
        self._earlier_usage: TokenUsage | None = None  # of the hops before
        self._empty_events = 0

    def decode(self, payload: bytes) -> GenerateContentResponse:
        """Decode one event and keep its counts.

        Raises :exc:`ErrorInAnswer` if the event is an error, and :exc:`UnusableAnswer` if it is not
        an answer at all.
        """
        try:
            answer = decode_usual(payload)
        except DECODE_ERRORS:
            answer = decode_chunk(payload)
        if answer.error is not NO_ERROR and answer.is_error:
            raise ErrorInAnswer(payload)
        usage = answer.usage_metadata
        if usage is not None and (usage.prompt_token_count is not None or usage.counts):
            self.latest_usage = usage
        return answer

    def receive_feedback(self, answer: GenerateContentResponse) -> bytes:
        """The client's events for an event without candidates."""
        feedback, reason = answer.prompt_feedback, answer.block
        if feedback is None or reason is None:
            return self.count_empty()
        return self.block(reason, feedback.block_reason_message)

    def block(self, reason: str, message: str | None) -> bytes:
        """The client's events for a prompt that Gemini blocked."""
        raise NotImplementedError

    def count_empty(self) -> bytes:
        """Count an event without content, for which the client gets nothing.

        Raises :exc:`MalformedUpstreamResponse` after :data:`MAX_EMPTY_EVENTS`.
        """
        if self._empty_events == MAX_EMPTY_EVENTS:
            raise MalformedUpstreamResponse(f"more than {MAX_EMPTY_EVENTS} events without content")
        self._empty_events += 1
        return b""

    @property
    def continuation(self) -> str | None:
        """The token that requests the next hop, if there is to be one."""
        raise NotImplementedError

    def next_step(self) -> bytes | None:
        """The body of the request for the next hop, when a body has ended; ``None`` at the end."""
        token = self.continuation
        if token is None or self._hops == MAX_HOPS:
            return None
        self._hops += 1
        return with_continuation(self._body, token)

    def resume(self, *, again: bool = False) -> None:
        """The next hop of this answer begins; ``again`` if an earlier attempt at it failed."""
        if self.latest_usage is not None and not again:
            self._earlier_usage = self.usage
        self.latest_usage = None

    @property
    def usage(self) -> TokenUsage:
        """The tokens of all hops so far."""
        earlier, present = self._earlier_usage, self.latest_usage
        if earlier is None or present is None:
            usage = earlier or TokenUsage.from_gemini(present)
        else:
            usage = earlier.continued_by(TokenUsage.from_gemini(present))
        return with_content(usage, self.candidates())

    def candidates(self) -> Iterable[CandidateState]:
        """The candidates of the answer."""
        return ()


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


def with_content(usage: TokenUsage, candidates: Iterable[CandidateState]) -> TokenUsage:
    """``usage``, with what is charged by the piece in these candidates."""
    searches = images = 0
    for candidate in candidates:
        searches += len(candidate.searches)
        images += candidate.images
    return usage.with_content(searches, images)


def usage_of(hops: Sequence[GenerateContentResponse]) -> TokenUsage:
    """The tokens of an answer in one hop or several."""
    counted = [each.usage_metadata for each in hops if each.usage_metadata is not None]
    return reduce(
        TokenUsage.continued_by, map(TokenUsage.from_gemini, counted or [UsageMetadata()])
    )
