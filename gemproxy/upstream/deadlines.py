"""One timer for all exchanges in flight.

A timer of its own for each would be set and cancelled with each request, which costs more than the
request's parsing. Here a due time that comes later than the one the timer is set for costs one
comparison; the timer finds out when it fires who is really due.
"""

from __future__ import annotations

from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

_NEVER = float("inf")


class Timed(Protocol):
    """Something that must not take for ever. ``due`` may move between two looks at it."""

    @property
    def due(self) -> float:
        """The reactor's time at which it must be over, as things stand."""

    def expire(self, now: float) -> None:
        """Its time is up."""


class Deadlines:
    """Lets each of those it watches ``expire`` at the time that is due for it."""

    def __init__(self, reactor: IReactorTime) -> None:
        self._reactor = reactor
        # In the order of their beginning.
        self._watched: dict[Timed, None] = {}
        self._call: IDelayedCall | None = None
        self._set_for = _NEVER

    def watch(self, timed: Timed) -> None:
        """Watch ``timed`` from now on. To be told again when its ``due`` has come nearer."""
        self._watched[timed] = None
        due = timed.due
        if due < self._set_for:
            self._set(due)

    def release(self, timed: Timed) -> None:
        """Watch ``timed`` no longer."""
        self._watched.pop(timed, None)

    def stop(self) -> None:
        """Leave no timer behind, unless somebody still needs it."""
        if not self._watched:
            self._unset()

    def _set(self, due: float) -> None:
        self._unset()
        self._set_for = due
        self._call = self._reactor.callLater(max(due - self._reactor.seconds(), 0.0), self._look)

    def _unset(self) -> None:
        call, self._call, self._set_for = self._call, None, _NEVER
        if call is not None and call.active():
            call.cancel()

    def _look(self) -> None:
        self._call, self._set_for = None, _NEVER
        now = self._reactor.seconds()
        for timed in [each for each in self._watched if each.due <= now]:
            timed.expire(now)
        nearest = min((each.due for each in self._watched), default=_NEVER)
        if nearest < self._set_for:
            self._set(nearest)
