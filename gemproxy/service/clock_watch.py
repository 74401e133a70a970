"""Noticing that the wall clock was set.

Only its difference to the monotonic clock is looked at: the kernel slews both alike, so it changes
when somebody sets the wall clock, or when the machine was suspended.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.logger import Logger

from gemproxy.clock import epoch_offset, wall_clock
from gemproxy.service.periodic import PeriodicService

LOOK_SECONDS = 1.0
#: Smaller steps concern nobody.
_SMALLEST_STEP = 0.5


class ClockWatch(PeriodicService):
    """Tells ``changed`` what the two clocks say: monotonic time, and epoch time of that moment.

    Once when it is made, and again whenever the wall clock was set, within a second.
    """

    _log = Logger()

    def __init__(self, reactor: Any, changed: Callable[[float, float], None]) -> None:
        super().__init__(reactor, LOOK_SECONDS, self._look, "watching the wall clock")
        self._seconds: Callable[[], float] = reactor.seconds
        self._wall = wall_clock(reactor)
        self._changed = changed
        self._tell(epoch_offset(self._seconds, self._wall))

    async def _look(self) -> None:
        offset = epoch_offset(self._seconds, self._wall)
        step = offset - self._known
        if abs(step) >= _SMALLEST_STEP:
            self._tell(offset)
            self._log.warn("the wall clock was set", seconds=round(step, 1))

    def _tell(self, offset: float) -> None:
        self._known = offset
        now = self._seconds()
        self._changed(now, now + offset)
