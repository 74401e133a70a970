"""A reactor with two clocks, of which the wall clock can be set."""

from __future__ import annotations

from twisted.internet.testing import MemoryReactorClock

HOUR = 3600.0
DAY = 86_400.0


class TwoClocks(MemoryReactorClock):
    """``seconds`` counts from the machine's start, ``wall`` in epoch seconds.

    ``advance`` moves both, ``set_wall_clock`` only the second.
    """

    def __init__(self, wall: float, seconds: float = 5000.0) -> None:
        super().__init__()
        self.advance(seconds)
        self._ahead = wall - seconds

    def wall(self) -> float:
        return self.seconds() + self._ahead

    def set_wall_clock(self, step: float) -> None:
        """Set it forward, or back where ``step`` is negative."""
        self._ahead += step
