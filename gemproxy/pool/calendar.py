"""How the pool's time, which is monotonic, relates to the calendar.

The pool reads no clock. It is told what the wall clock says (``KeyPool.set_wall_clock``), at the
start and whenever that clock has been set, and counts everything else in monotonic seconds.
"""

from __future__ import annotations

from gemproxy.pool.cooldowns import LONGEST_DAY, next_pacific_midnight


class Calendar:
    """See the module. ``epoch_offset`` added to a monotonic time gives epoch seconds."""

    __slots__ = ("epoch_offset",)

    def __init__(self) -> None:
        self.epoch_offset = 0.0

    def epoch(self, moment: float) -> float:
        """A monotonic time in epoch seconds."""
        return moment + self.epoch_offset

    def optional_epoch(self, moment: float | None) -> float | None:
        """As :meth:`epoch`; ``None`` stays."""
        return None if moment is None else moment + self.epoch_offset

    def monotonic(self, epoch: float) -> float:
        """An epoch time as monotonic time."""
        return epoch - self.epoch_offset

    def next_midnight(self, now: float) -> float:
        """When the next day begins in Los Angeles, at most 25 hours after ``now``."""
        try:
            midnight = self.monotonic(next_pacific_midnight(self.epoch(now)))
        except (ValueError, OverflowError, OSError):
            # A clock that is set beyond the years that a calendar has.
            return now + LONGEST_DAY
        return min(midnight, now + LONGEST_DAY)
