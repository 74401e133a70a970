"""Audit events on their way out: a line of the log each, and whoever else keeps them."""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger

from gemproxy.core.audit import AuditEvent


def _keep_nowhere(_event: AuditEvent) -> None:
    pass


class AuditLog:
    """Tells of each change that an operator made.

    The line is written at ``info``, since lines above are thinned out when they repeat, and of a
    change none may be missing. ``keep`` takes the event to where it outlives the log; it must not
    raise.
    """

    def __init__(self, keep: Callable[[AuditEvent], None] = _keep_nowhere) -> None:
        # As an attribute of the class a logger takes the class's name.
        self._log = Logger(namespace="gemproxy.core.audit")
        self._keep = keep

    def changed(self, event: AuditEvent) -> None:
        """Tell of ``event``."""
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
