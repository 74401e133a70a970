"""The log line of a request, and a fast path for the usual ones.

The lines of two similar requests that the first key answered differ only in time, id and a few
numbers. :class:`PreparedLines` encodes the common part once. That halves the cost of encoding the
line and searching all of it for secrets.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import UNSET, Raw, UnsetType
from twisted.logger import LogEvent

from gemproxy.core.context import Attempt, RequestContext
from gemproxy.core.sentences import first_sentence
from gemproxy.pool.outcome import SERVED, Verdict
from gemproxy.telemetry.logs import Line
from gemproxy.telemetry.timestamps import timestamp

if TYPE_CHECKING:
    from gemproxy.telemetry.scrubbing import Scrubber

#: The largest number that every JSON reader accepts; an upstream may send any.
_MOST: Final = 2**63 - 1
#: Seconds. Negative and very long times are written with more than digits and a point.
_YEAR: Final = 366 * 86_400.0
#: US dollars; no request costs more.
_MOST_USD: Final = 1e15
#: Prepared lines that are kept; only thousands of keys need so many.
_MOST_KINDS: Final = 16_384
#: Failed attempts in a line.
_MOST_FAILURES: Final = 5
_NO_FAILURE: Final = SERVED | {Verdict.CLIENT_GONE}
#: Longest line that is prepared, in bytes.
_LONGEST: Final = 2000
#: Twelve bytes tell a secret; where they touch one part of a line they cover no more of the next.
_REACH: Final = 11


class RequestLine(Line, kw_only=True, gc=False):
    """The log line of a finished request. Times are milliseconds."""

    logger: str = "gemproxy.requests"
    event: str = "request finished"
    request_id: str
    route: str
    #: The name of the client's token.
    client: str | None
    #: The key of the last attempt.
    key: str | None
    model: str | None
    stream: bool
    status: int
    outcome: str
    attempts: int
    #: The attempts before the last one, as key and verdict.
    tried: list[str]
    #: Why the key was chosen out of turn: ``conversation``, or the resource that its project has.
    chosen_for: str | UnsetType = UNSET
    #: How long it waited for a key.
    queue_ms: float
    ms: float
    first_byte_ms: float | None
    prompt_tokens: int | None
    completion_tokens: int | None
    #: An estimate, or ``null`` if a price is unknown.
    cost_usd: Raw
    #: The failed attempts; omitted if none failed.
    failures: list[dict[str, str | int]] | UnsetType = UNSET

    def as_event(self, now: float) -> LogEvent:
        """See :meth:`Line.as_event`."""
        return super().as_event(now) | {"cost_usd": msgspec.json.decode(self.cost_usd)}


def line_of(context: RequestContext, status: int, seconds: float) -> RequestLine:
    """The line of a finished request."""
    attempts, usage, first_byte = context.attempts, context.usage, context.first_byte
    return RequestLine(
        request_id=context.id,
        route=context.route,
        client=context.client,
        key=attempts[-1].key_name if attempts else None,
        model=context.model,
        stream=context.stream,
        status=status,
        outcome=context.outcome,
        attempts=len(attempts),
        tried=_tried(attempts[:-1]) if len(attempts) > 1 else [],
        chosen_for=context.chosen_for or UNSET,
        queue_ms=_ms(context.queued),
        ms=_ms(seconds),
        first_byte_ms=None if first_byte is None else _ms(first_byte - context.started),
        prompt_tokens=None if usage is None else min(usage.input, _MOST),
        completion_tokens=None if usage is None else min(usage.output, _MOST),
        cost_usd=_NULL if context.cost is None else _usd(context.cost),
        failures=_failures(attempts) or UNSET,
    )


def _ms(seconds: float) -> float:
    # To tenths; round(x, 1) goes through decimal text and takes four times as long.
    return round(seconds * 10_000) / 10


def _usd(cost: float) -> Raw:
    """To billionths, and never with an exponent, which is more than digits and a point."""
    return Raw(b"%.9f" % cost)


def _tried(attempts: Sequence[Attempt]) -> list[str]:
    return [f"{attempt.key_name}:{attempt.outcome.verdict.value}" for attempt in attempts]


def _failures(attempts: Sequence[Attempt]) -> list[dict[str, str | int]]:
    """The latest failed attempts, each with Google's message or the reason why there is none."""
    failed = [attempt for attempt in attempts if attempt.outcome.verdict not in _NO_FAILURE]
    return [_failure(attempt) for attempt in failed[-_MOST_FAILURES:]]


def _failure(attempt: Attempt) -> dict[str, str | int]:
    outcome = attempt.outcome
    fields: dict[str, str | int | None] = {
        "key": attempt.key_name,
        "outcome": outcome.verdict.value,
        "status": outcome.status,
        "reason": outcome.reason,
        "google_status": outcome.google_status,
        "google_reason": outcome.google_reason,
        "quota_id": outcome.quota_id,
        "message": first_sentence(outcome.message),
        "charged_to": attempt.charge.value,
    }
    return {name: value for name, value in fields.items() if value}


class PreparedLines:
    """Lines as JSON, free of the secrets that ``scrubber`` knows.

    A secret in such a line would have to

    - be in the common part, which was searched when it was prepared; or
    - touch the request id, which is searched each time, with enough of its neighbours; or
    - be in the rest, in which lines differ only in digits and in whether there is a cost, and which
      was searched for all digits at once in both forms.

    Everything is searched again when the scrubber has learnt other secrets.
    """

    def __init__(self, scrubber: Scrubber) -> None:
        self._scrubber = scrubber
        self._generation = -1
        self._is_suspicious = False
        #: ``_UNPREPARED`` for lines that take the general path.
        self._middles: dict[_Kind, Raw] = {}

    def line(self, context: RequestContext, status: int, seconds: float) -> bytes | None:
        """What the encoder makes of :func:`line_of`, and a line break.

        ``None`` if the request is unusual or may contain a secret.
        """
        attempts = context.attempts
        # Lines with a resource or a wait differ each time, so they are not made from a template.
        if len(attempts) != 1 or context.affinity is not None or context.queued:
            return None
        if self._generation != self._scrubber.generation:
            self._look_again()
        kind = (
            context.route,
            context.client,
            attempts[0].key_name,
            context.model,
            context.stream,
            status,
            context.outcome,
            attempts[0].sticky,
        )
        middle = self._middles.get(kind)
        if middle is None:
            middle = self._remember(kind, line_of(context, status, seconds))
        line = _line_around(middle, context, seconds)
        if line is None:
            return None
        try:
            data = _encode(line)
        except ValueError:
            return None
        begin = len(line.time) + _BEFORE_ID
        end = begin + len(context.id)
        # An escaped id has another length.
        if len(data) > _LONGEST or not data.startswith(_AFTER_ID, end):
            return None
        if self._scrubber.finds(data[begin - _REACH : end + _REACH]):
            return None
        return data + b"\n"

    def _remember(self, kind: _Kind, line: RequestLine) -> Raw:
        # A failed attempt adds text that differs each time.
        unlike = self._is_suspicious or kind[6] not in _SERVED_WORDS
        middle = _UNPREPARED if unlike else self._prepared(line)
        if len(self._middles) >= _MOST_KINDS:
            self._middles.clear()
        self._middles[kind] = middle
        return middle

    def _prepared(self, line: RequestLine) -> Raw:
        line.request_id = ""
        try:
            data = _encode(line)
        except ValueError:
            return _UNPREPARED
        begin, end = data.index(_AFTER_ID), data.rindex(_BEFORE_NUMBERS)
        if len(data) > _LONGEST or self._scrubber.finds(data[begin : end + _REACH]):
            return _UNPREPARED
        return Raw(data[begin + len(_AFTER_ID) : end])

    def _look_again(self) -> None:
        self._generation = self._scrubber.generation
        self._is_suspicious = any(map(self._scrubber.finds_in_shape, _FRAMES))
        self._middles.clear()


class _PreparedLine(msgspec.Struct, gc=False):
    """A :class:`RequestLine` that is mostly encoded already.

    ``Raw`` is written unchanged, so one field may carry further ones.
    """

    time: str
    #: And logger and event.
    level: Raw
    request_id: str
    #: And all up to ``queue_ms``.
    route: Raw
    ms: float
    first_byte_ms: float
    prompt_tokens: int
    completion_tokens: int
    cost_usd: Raw


def _line_around(middle: Raw, context: RequestContext, seconds: float) -> _PreparedLine | None:
    usage, first_byte, started = context.usage, context.first_byte, context.started
    if middle is _UNPREPARED or usage is None or first_byte is None:
        return None
    wait, prompt, completion = first_byte - started, usage.input, usage.output
    if not (0.0 <= seconds < _YEAR and 0.0 <= wait < _YEAR):
        return None
    if not (0 <= prompt <= _MOST and 0 <= completion <= _MOST):
        return None
    cost = context.cost
    if cost is not None and not 0.0 <= cost < _MOST_USD:
        return None
    return _PreparedLine(
        timestamp(started + context.epoch_offset + seconds),
        _BEGINNING,
        context.id,
        middle,
        round(seconds * 10_000) / 10,
        round(wait * 10_000) / 10,
        prompt,
        completion,
        _NULL if cost is None else Raw(b"%.9f" % cost),
    )


_Kind = tuple[str, str | None, str, str | None, bool, int, str, bool]

_encode: Final = msgspec.json.Encoder().encode

_NULL: Final = Raw(b"null")
_UNPREPARED: Final = Raw()
_SERVED_WORDS: Final = frozenset({verdict.value for verdict in SERVED})
_BEGINNING: Final = Raw(b'"info","logger":"gemproxy.requests","event":"request finished"')
_AFTER_ID: Final = b'","route":'
_BEFORE_NUMBERS: Final = b',"ms":'

#: What all lines have in common but for their digits, with a cost and without.
_FRAMES: Final = tuple(
    _encode(
        _PreparedLine(
            timestamp(0.0),
            _BEGINNING,
            "",
            Raw(b'"","attempts":1,"tried":[],"queue_ms":0.0'),
            0.0,
            0.0,
            0,
            0,
            cost,
        )
    )
    for cost in (Raw(b"0.0"), _NULL)
)
#: Bytes before the id, without those of the time.
_BEFORE_ID: Final = _FRAMES[0].index(_AFTER_ID) - len(timestamp(0.0))
