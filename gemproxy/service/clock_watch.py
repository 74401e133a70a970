"""Notice that the wall clock was set.

It compares the wall clock with the monotonic clock. The kernel slews both at the same rate, so
their difference changes only when the wall clock is set or the machine was suspended.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.logger import Logger

from gemproxy.clock import epoch_offset, wall_clock
from gemproxy.service.periodic import PeriodicService

LOOK_SECONDS = 1.0
#: Smaller steps have no effect on the daemon.
_SMALLEST_STEP = 0.5


class ClockWatch(PeriodicService):
    """Calls ``changed`` with monotonic time and the epoch time of the same moment.

    It calls once when it is created, and within a second after the wall clock was set.
    """

    _log = Logger()

    def __init__(self, reactor: Any, changed: Callable[[float, float], None]) -> None:
        super().__init__(reactor, LOOK_SECONDS, self._look, "watching the wall clock")
        self._seconds: Callable[[], float] = reactor.seconds
        self._wall = wall_clock(reactor)
        self._changed = changed
        self._report(epoch_offset(self._seconds, self._wall))

    async def _look(self) -> None:
        offset = epoch_offset(self._seconds, self._wall)
        step = offset - self._known
        if abs(step) >= _SMALLEST_STEP:
            self._report(offset)
            self._log.warn("the wall clock was set", seconds=round(step, 1))

    def _report(self, offset: float) -> None:
        self._known = offset
        now = self._seconds()
        self._changed(now, now + offset)
