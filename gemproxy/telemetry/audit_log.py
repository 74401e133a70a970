"""Write audit events to the log and pass them on."""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger

from gemproxy.core.audit import AuditEvent


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
