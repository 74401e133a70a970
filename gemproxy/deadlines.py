"""One reactor timer for the deadlines of many exchanges.

A timer for each exchange would be set and cancelled with each request, which costs more than to
parse the request. Here a deadline that is later than the timer costs one comparison, and a deadline
may move later without a call. When the timer fires, all deadlines are read again: those that have
passed expire, and the timer is set for the nearest of the others.
"""

from __future__ import annotations

from math import nextafter
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

_NEVER = float("inf")


class Timed(Protocol):
    """Something with a deadline."""

    @property
    def due(self) -> float:
        """The present deadline in the reactor's time; infinity for none."""

    def expire(self, now: float) -> None:
        """Handle the deadline. Move it later, or release it; else it expires again at once."""


class Deadlines:
    """Calls ``expire`` of each watched object after its deadline.

    ``slack`` is the minimum number of seconds between two checks of all deadlines. A deadline
    between them expires late by up to ``slack``, and many different deadlines cost few checks.
    """

    def __init__(self, reactor: IReactorTime, slack: float = 0.0) -> None:
        self._reactor = reactor
        self._slack = slack
        # In the order in which they began.
        self._watched: dict[Timed, None] = {}
        self._call: IDelayedCall | None = None
        self._set_for = _NEVER

    def watch(self, timed: Timed) -> None:
        """Watch ``timed`` from now on. Call this again if its deadline has moved earlier."""
        self._watched[timed] = None
        due = timed.due
        if due < self._set_for:
            self._set(due)

    def release(self, timed: Timed) -> None:
        """Stop watching ``timed``."""
        self._watched.pop(timed, None)

    def stop(self) -> None:
        """Cancel the timer if nothing is watched."""
        if not self._watched:
            self._unset()

    def _set(self, due: float) -> None:
        self._unset()
        self._set_for = due
        now = self._reactor.seconds()
        delay = max(due - now, 0.0)
        # A sum that is rounded down would end before the deadline.
        if now + delay < due:
            delay = nextafter(delay, _NEVER)
        self._call = self._reactor.callLater(delay, self._look)

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
            self._set(max(nearest, now + self._slack))
