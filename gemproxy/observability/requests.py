"""What an operator reads: a line for each request that has ended, and for each turn of a key."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.logger import Logger

from gemproxy.exchange import AttemptRecord, Exchange
from gemproxy.keys.outcome import Verdict
from gemproxy.keys.pool import Transition
from gemproxy.observability.logs import Line, publish

_MINUTE = 60.0
_REGION_MEMORY = 300.0
#: The largest number that every reader of JSON takes; an upstream may say anything.
_MOST = 2**63 - 1
_REGION = Verdict.REGION.value
_SUCCESS = Verdict.SUCCESS.value


class RequestLine(Line, kw_only=True, gc=False):
    """What is written of each request that has ended. Times are milliseconds."""

    logger: str = "gemproxy.requests"
    event: str = "request finished"
    request_id: str
    route: str
    #: The key of the last attempt.
    key: str | None
    model: str | None
    stream: bool
    status: int
    outcome: str
    attempts: int
    #: The attempts before the last one, as key and verdict.
    tried: list[str]
    ms: float
    first_byte_ms: float | None
    prompt_tokens: int | None
    completion_tokens: int | None


class RequestLog:
    """Writes the lines that an operator greps for; the core's ``Telemetry``.

    ``write`` takes the line of each request, with its time (``LogSink.write``).
    """

    _log = Logger(namespace="gemproxy.requests")

    def __init__(self, write: Callable[[RequestLine, float], None] = publish) -> None:
        self._write = write
        self._region_told_at = self._region_refused_at = float("-inf")

    def request_finished(self, exchange: Exchange, status: int, seconds: float) -> None:
        """See :class:`gemproxy.interfaces.Telemetry`."""
        attempts, usage, first_byte = exchange.attempts, exchange.usage, exchange.first_byte
        started = exchange.started
        line = RequestLine(
            request_id=exchange.id,
            route=exchange.route,
            key=attempts[-1].key_name if attempts else None,
            model=exchange.model,
            stream=exchange.stream,
            status=status,
            outcome=exchange.outcome,
            attempts=len(attempts),
            tried=_tried(attempts[:-1]) if len(attempts) > 1 else [],
            ms=_ms(seconds),
            first_byte_ms=None if first_byte is None else _ms(first_byte - started),
            prompt_tokens=None if usage is None else min(usage.input, _MOST),
            completion_tokens=None if usage is None else min(usage.output, _MOST),
        )
        self._write(line, started + seconds)
        if exchange.outcome == _REGION:
            self._tell_region(exchange)
        elif exchange.outcome == _SUCCESS and attempts:
            self._region_refused_at = float("-inf")

    def region_refused(self, now: float) -> bool:
        """Whether Google has refused this host's location within the last minutes."""
        return now < self._region_refused_at + _REGION_MEMORY

    def breaker_changed(self, change: Transition) -> None:
        """A key's breaker opened, is being tried, or closed."""
        self._log.warn(
            "breaker of a key changed",
            key=change.key,
            before=change.before.value,
            after=change.after.value,
        )

    def _tell_region(self, exchange: Exchange) -> None:
        """Every key meets this alike: it is this host's address that Google refuses."""
        self._region_refused_at = exchange.started
        if exchange.started < self._region_told_at + _MINUTE:
            return
        self._region_told_at = exchange.started
        self._log.error(
            "Google does not serve this host's location; no key is at fault",
            request_id=exchange.id,
            message=exchange.attempts[-1].outcome.message,
        )


def _ms(seconds: float) -> float:
    # To tenths; round(x, 1) goes through decimal text and takes four times as long.
    return round(seconds * 10_000) / 10


def _tried(attempts: Sequence[AttemptRecord]) -> list[str]:
    return [f"{attempt.key_name}:{attempt.outcome.verdict.value}" for attempt in attempts]
