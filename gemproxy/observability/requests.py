"""One line in the log for each request that has ended."""

from __future__ import annotations

from twisted.logger import Logger

from gemproxy.exchange import Exchange


class RequestLog:
    """Writes the line that an operator greps for; the core's ``Telemetry``."""

    _log = Logger(namespace="gemproxy.requests")

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
