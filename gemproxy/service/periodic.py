"""Work that is repeated at an interval.

All of it shares one timer of the reactor (:mod:`gemproxy.deadlines`). Each request sets timers that
run in the same turn, and these cost more the more timers the reactor holds: it keeps them in a
heap, and compares them in Python.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from math import inf
from typing import Any, Final
from weakref import WeakValueDictionary

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from gemproxy.deadlines import Deadlines


class PeriodicService(Service):
    """Calls ``tick`` every ``interval`` seconds, first after one interval.

    Ticks never overlap: while one takes longer than the interval, those that become due are left
    out. A failure is logged under ``name``, and the next tick runs as usual.
    """

    _log = Logger()

    def __init__(
        self, reactor: Any, interval: float, tick: Callable[[], Awaitable[None]], name: str
    ) -> None:
        self.setName(name)
        self._reactor = reactor
        self._interval = interval
        self._tick = tick
        self._deadlines = _shared(reactor)
        #: When the next tick is due: a whole number of intervals after this moment.
        self._origin = 0.0
        self.due = inf
        self._ticking: Deferred[Any] = succeed(None)

    @property
    def interval(self) -> float:
        """Seconds. After a change the next tick comes after one new interval."""
        return self._interval

    @interval.setter
    def interval(self, interval: float) -> None:
        if interval == self._interval:
            return
        self._interval = interval
        if self.running:
            self._begin()

    def startService(self) -> None:
        super().startService()
        self._begin()

    def stopService(self) -> Deferred[Any]:
        """Fires when the tick that is running, if any, has ended."""
        super().stopService()
        self._deadlines.release(self)
        self._deadlines.stop()
        return self._ticking

    def expire(self, _: float) -> None:
        """See :class:`gemproxy.deadlines.Timed`."""
        self._deadlines.release(self)
        # Another tick of the same moment may have stopped this service.
        if self.running:
            self._ticking = Deferred.fromCoroutine(self._guarded_tick())
            self._ticking.addCallback(self._go_on)

    def _begin(self) -> None:
        self._origin = self._reactor.seconds()
        if self._ticking.called:
            self._go_on()

    def _go_on(self, _: object = None) -> None:
        if self.running:
            now = self._reactor.seconds()
            ticks = (now - self._origin) // self._interval + 1
            self.due = self._origin + self._interval * ticks
            if self.due <= now:
                # The division was rounded down.
                self.due = self._origin + self._interval * (ticks + 1)
            self._deadlines.watch(self)

    async def _guarded_tick(self) -> None:
        try:
            await self._tick()
        except Exception:  # noqa: BLE001 - the next round may go better
            self._log.failure("{name} failed; it is tried again", name=self.name)


#: By the id of a reactor, which its deadlines keep alive.
_all_shared: Final[WeakValueDictionary[int, Deadlines]] = WeakValueDictionary()


def _shared(reactor: Any) -> Deadlines:
    """The deadlines of all periodic work of ``reactor``."""
    return _all_shared.setdefault(id(reactor), Deadlines(reactor))
