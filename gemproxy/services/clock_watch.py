"""Noticing that the wall clock was set.

Only its difference to the monotonic clock is looked at: the kernel slews both alike, so it changes
when somebody sets the wall clock, or when the machine was suspended.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.application.service import Service
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from gemproxy.clock import epoch_offset, wall_clock

LOOK_SECONDS = 1.0
#: Smaller steps concern nobody.
_SMALLEST_STEP = 0.5


class ClockWatch(Service):
    """Tells ``changed`` what the two clocks say: monotonic time, and epoch time of that moment.

    Once when it is made, and again whenever the wall clock was set, within a second.
    """

    _log = Logger()

    def __init__(self, reactor: Any, changed: Callable[[float, float], None]) -> None:
        self._seconds: Callable[[], float] = reactor.seconds
        self._wall = wall_clock(reactor)
        self._changed = changed
        self._loop = LoopingCall(self.look)
        self._loop.clock = reactor
        self._tell(epoch_offset(self._seconds, self._wall))

    def startService(self) -> None:
        super().startService()
        self._loop.start(LOOK_SECONDS, now=True)

    def stopService(self) -> None:
        super().stopService()
        self._loop.stop()

    def look(self) -> None:
        """Look now."""
        offset = epoch_offset(self._seconds, self._wall)
        step = offset - self._known
        if abs(step) >= _SMALLEST_STEP:
            self._tell(offset)
            self._log.warn("the wall clock was set", seconds=round(step, 1))

    def _tell(self, offset: float) -> None:
        self._known = offset
        now = self._seconds()
        self._changed(now, now + offset)
