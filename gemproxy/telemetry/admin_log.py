"""Log requests to the admin API, and the changes that operators make."""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger

from gemproxy.core.audit import AuditEvent
from gemproxy.core.context import RequestContext
from gemproxy.core.events import RequestListener


class OperatorLog(RequestListener):
    """The admin API's ``RequestListener``: passes failed and refused requests to ``requests``.

    Successful reads are logged at debug, since an open dashboard polls every two seconds; changes
    are audit events.
    """

    _log = Logger(namespace="gemproxy.requests")

    def __init__(self, requests: RequestListener) -> None:
        self._requests = requests

    def request_ended(self, context: RequestContext, status: int, seconds: float) -> None:
        """See :meth:`gemproxy.core.events.RequestListener.request_ended`."""
        if status >= 400:
            self._requests.request_ended(context, status, seconds)
            return
        self._log.debug(
            "request finished",
            request_id=context.id,
            route=context.route,
            status=status,
            outcome=context.outcome,
            ms=round(seconds * 1000, 1),
        )


def _keep_nowhere(_event: AuditEvent) -> None:
    pass


class AuditLog:
    """Logs each change that an operator made.

    The level is ``info``: higher levels are rate-limited, and no change may be missing. ``keep``
    stores the event beyond the log's lifetime; it must not raise.
    """

    def __init__(self, keep: Callable[[AuditEvent], None] = _keep_nowhere) -> None:
        # As an attribute of the class a logger takes the class's name.
        self._log = Logger(namespace="gemproxy.audit")
        self._keep = keep

    def changed(self, event: AuditEvent) -> None:
        """Log ``event`` and pass it to ``keep``."""
        self._log.info(
            "changed by an operator",
            action=event.action,
            target=event.target,
            target_id=event.target_id,
            address=event.actor.address,
            token=event.actor.token,
            before=dict(event.before),
            after=dict(event.after),
        )
        self._keep(event)
