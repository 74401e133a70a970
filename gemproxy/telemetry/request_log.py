"""Log a line for each finished request and for each state change of a key's breaker."""

from __future__ import annotations

from twisted.logger import Logger

from gemproxy.core.context import RequestContext
from gemproxy.core.events import RequestListener
from gemproxy.core.sentences import first_sentence
from gemproxy.pool.outcome import Verdict
from gemproxy.pool.snapshot import LastError
from gemproxy.pool.status import PoolListener, Transition
from gemproxy.telemetry.logs import LogSink, publish
from gemproxy.telemetry.request_lines import PreparedLines, line_of

_MINUTE = 60.0
_REGION_MEMORY = 300.0
_NEVER = float("-inf")
#: The text for suppressed lines of requests that were refused by their heads.
_REFUSED = "gemproxy.requests.refused"
_REGION = Verdict.REGION.value
_SUCCESS = Verdict.SUCCESS.value
_HOST = Verdict.HOST.value


class RequestLog(RequestListener, PoolListener):
    """Writes a line for each finished request; a ``RequestListener``.

    The lines go to ``sink``, or without one to Twisted's observers.
    """

    _log = Logger(namespace="gemproxy.requests")

    def __init__(self, sink: LogSink | None = None) -> None:
        self._sink = sink
        self._prepared = None if sink is None else PreparedLines(sink.scrubber)
        self._region_told_at = self._region_refused_at = self._host_told_at = _NEVER

    def request_ended(self, context: RequestContext, status: int, seconds: float) -> None:
        """See :meth:`gemproxy.core.events.RequestListener.request_ended`."""
        now = context.started + context.epoch_offset + seconds
        sink, prepared = self._sink, self._prepared
        if sink is None or prepared is None:
            publish(line_of(context, status, seconds), now)
        elif sink.takes_json(now) and (line := prepared.line(context, status, seconds)):
            sink.write_json(line)
        elif not context.turned_away or sink.admits(_REFUSED, context.outcome, now):
            sink.write(line_of(context, status, seconds), now)
        if context.outcome == _REGION:
            self._tell_region(context)
        elif context.outcome == _SUCCESS and context.attempts:
            self._region_refused_at = _NEVER
        elif context.outcome == _HOST:
            self._tell_host(context)

    def region_refused(self, now: float) -> bool:
        """Whether Google has refused this host's location in the last minutes."""
        return now < self._region_refused_at + _REGION_MEMORY

    def breaker_changed(self, change: Transition) -> None:
        """See :class:`gemproxy.pool.status.PoolListener`."""
        self._log.warn(
            "breaker of a key changed",
            key=change.key,
            before=change.before.value,
            after=change.after.value,
            **_cause(change.last_error),
        )
        if change.needs_attention is not None:
            self._log.error(
                "a key needs attention: Google rejects it",
                key=change.key,
                reason=change.needs_attention,
                **_cause(change.last_error),
            )

    def _tell_region(self, context: RequestContext) -> None:
        """Warn: Google refuses this host's address, whatever the key."""
        self._region_refused_at = context.started
        if context.started < self._region_told_at + _MINUTE:
            return
        self._region_told_at = context.started
        self._log.error(
            "Google does not serve this host's location; no key is at fault",
            request_id=context.id,
            message=first_sentence(context.attempts[-1].outcome.message),
        )

    def _tell_host(self, context: RequestContext) -> None:
        """Warn, rate-limited: this machine is out of resources."""
        if context.started < self._host_told_at + _MINUTE:
            return
        self._host_told_at = context.started
        self._log.error(
            "this machine has no resources left for a connection; no key is at fault",
            request_id=context.id,
            message=context.attempts[-1].outcome.message,
        )


def _cause(error: LastError | None) -> dict[str, str | int]:
    """The cause of an open breaker, as fields of a line."""
    if error is None:
        return {}
    fields = {"outcome": error.outcome, "status": error.status, "message": error.message}
    return {name: value for name, value in fields.items() if value}
