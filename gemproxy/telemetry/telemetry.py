"""One event, several listeners.

If a listener raises, this is logged, and the others are still called: a defect of a listener must
not stop a request.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from twisted.logger import Logger

from gemproxy.pool.cooldowns import Cooldown
from gemproxy.pool.snapshot import Override
from gemproxy.pool.status import PoolListener, Transition

_log = Logger(namespace="gemproxy.telemetry")


class PoolListeners(PoolListener):
    """Several ``PoolListener`` as one."""

    def __init__(self, *parts: PoolListener) -> None:
        self._parts = parts

    def breaker_changed(self, change: Transition) -> None:
        """See :class:`gemproxy.pool.status.PoolListener`."""
        _call_all((part.breaker_changed for part in self._parts), change)

    def cooldown_set(self, cooldown: Cooldown) -> None:
        """See :class:`gemproxy.pool.status.PoolListener`."""
        _call_all((part.cooldown_set for part in self._parts), cooldown)

    def override_changed(self, key: str, override: Override) -> None:
        """See :class:`gemproxy.pool.status.PoolListener`."""
        _call_all((part.override_changed for part in self._parts), key, override)


def _call_all(listeners: Iterable[Callable[..., None]], *event: object) -> None:
    for listener in listeners:
        try:
            listener(*event)
        except Exception:  # noqa: BLE001 - see the module
            log_failure(listener)


def log_failure(listener: object) -> None:
    """Log the exception that ``listener`` has raised, while it is handled."""
    _log.failure("a listener failed: {listener}", listener=listener)
