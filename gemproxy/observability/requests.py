"""What an operator reads: a line for each request that has ended, and for each turn of a key."""

from __future__ import annotations

from twisted.logger import Logger

from gemproxy.exchange import Exchange
from gemproxy.keys.outcome import Verdict
from gemproxy.keys.pool import Transition

_MINUTE = 60.0
_REGION_MEMORY = 300.0


class RequestLog:
    """Writes the lines that an operator greps for; the core's ``Telemetry``."""

    _log = Logger(namespace="gemproxy.requests")

    def __init__(self) -> None:
        self._region_told_at = self._region_refused_at = float("-inf")

    def request_finished(self, exchange: Exchange, status: int, seconds: float) -> None:
        """See :class:`gemproxy.interfaces.Telemetry`."""
        usage, first_byte = exchange.usage, exchange.first_byte
        self._log.info(
            "request finished",
            request_id=exchange.id,
            route=exchange.route,
            key=exchange.key_name,
            model=exchange.model,
            stream=exchange.stream,
            status=status,
            outcome=exchange.outcome,
            attempts=len(exchange.attempts),
            tried=[
                f"{attempt.key_name}:{attempt.outcome.verdict.value}"
                for attempt in exchange.attempts[:-1]
            ],
            ms=round(seconds * 1000, 1),
            first_byte_ms=first_byte and round((first_byte - exchange.started) * 1000, 1),
            prompt_tokens=usage and usage.input,
            completion_tokens=usage and usage.output,
        )
        if exchange.outcome == Verdict.REGION.value:
            self._tell_region(exchange)
        elif exchange.outcome == Verdict.SUCCESS.value and exchange.attempts:
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
