"""Work that is repeated at an interval."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
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
        self._loop.clock = reactor
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
