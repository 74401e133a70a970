"""Work that is repeated at an interval.

All of it shares one timer of the reactor. Each request sets timers that run in the same turn, and
these cost more the more timers the reactor holds: it keeps them in a heap, and compares them in
Python.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from heapq import heapify, heappop, heappush
from math import inf, nextafter
from typing import Any, Final
from weakref import WeakKeyDictionary, ref

from twisted.application.service import Service
from twisted.internet.base import DelayedCall
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import LoopingCall
from twisted.logger import Logger


class PeriodicService(Service):
    """Calls ``tick`` every ``interval`` seconds, first after one interval.

    Ticks never overlap: one that takes longer than the interval delays the next. A failure is
    logged under ``name``, and the next tick runs as usual.
    """

    _log = Logger()

    def __init__(
        self, reactor: Any, interval: float, tick: Callable[[], Awaitable[None]], name: str
    ) -> None:
        self.setName(name)
        self._interval = interval
        self._tick = tick
        self._loop = LoopingCall(self._guarded)
        self._loop.clock = _shared_timer(reactor)
        self._ended: Deferred[Any] = succeed(None)

    @property
    def interval(self) -> float:
        """Seconds. After a change the next tick comes after one new interval."""
        return self._interval

    @interval.setter
    def interval(self, interval: float) -> None:
        if interval == self._interval:
            return
        self._interval = interval
        if self._loop.running:
            self._loop.interval = interval
            self._loop.starttime = self._loop.clock.seconds()
            self._loop.reset()

    def startService(self) -> None:
        super().startService()
        self._ended = self._loop.start(self._interval, now=False)

    def stopService(self) -> Deferred[Any]:
        """Fires when the tick that is running, if any, has ended."""
        super().stopService()
        if self._loop.running:
            self._loop.stop()
        return self._ended

    async def _guarded_tick(self) -> None:
        try:
            await self._tick()
        except Exception:  # noqa: BLE001 - the next round may go better
            self._log.failure("{name} failed; it is tried again", name=self.name)

    def _guarded(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._guarded_tick())


class _SharedTimer:
    """A clock for ``LoopingCall`` whose calls take one timer of ``reactor``.

    The calls can be cancelled, but not delayed.
    """

    def __init__(self, reactor: Any) -> None:
        # Weak, because the dict below would keep its own key.
        self._reactor = ref(reactor)
        self._calls: list[DelayedCall] = []
        self._timer: IDelayedCall | None = None

    def seconds(self) -> float:
        """The reactor's time."""
        return float(self._existing().seconds())

    def callLater(
        self, delay: float, work: Callable[..., object], *args: object, **kwargs: object
    ) -> DelayedCall:
        """As that of the reactor."""
        call = DelayedCall(
            self.seconds() + delay, work, args, kwargs, self._cancelled, self._set, self.seconds
        )
        heappush(self._calls, call)
        self._set()
        return call

    def _existing(self) -> Any:
        reactor = self._reactor()
        if reactor is None:
            raise RuntimeError("the reactor does not exist any more")
        return reactor

    def _cancelled(self, call: DelayedCall) -> None:
        self._calls.remove(call)
        heapify(self._calls)
        self._set()

    def _set(self, _: DelayedCall | None = None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._calls:
            due, now = self._calls[0].getTime(), self.seconds()
            delay = max(due - now, 0.0)
            # A sum that is rounded down would end before the call is due.
            if now + delay < due:
                delay = nextafter(delay, inf)
            self._timer = self._existing().callLater(delay, self._run)

    def _run(self) -> None:
        self._timer = None
        try:
            while self._calls and self._calls[0].getTime() <= self.seconds():
                call = heappop(self._calls)
                call.called = 1
                call.func(*call.args, **call.kw)
        finally:
            self._set()


_timers: Final[WeakKeyDictionary[Any, _SharedTimer]] = WeakKeyDictionary()


def _shared_timer(reactor: Any) -> Any:
    timer = _timers.get(reactor)
    if timer is None:
        timer = _timers[reactor] = _SharedTimer(reactor)
    return timer
