"""Whether an upload comes fast enough to be waited for."""

from __future__ import annotations

#: A kept-alive connection may be silent for so long between two requests, and an upload within one.
IDLE_SECONDS = 60.0
#: A body must bring at least this much in each ``IDLE_SECONDS``; less is a client that holds on.
MIN_BODY_BYTES = 1024


class Pace:
    """How one body comes in, from ``now`` (monotonic) on."""

    def __init__(self, now: float) -> None:
        self._heard = now
        self._window_end = now + IDLE_SECONDS
        self._window_bytes = 0

    @property
    def deadline(self) -> float:
        """When to ask again, if nothing comes before."""
        return min(self._window_end, self._heard + IDLE_SECONDS)

    def brought(self, size: int, now: float) -> None:
        """``size`` more bytes have come."""
        self._heard = now
        self._window_bytes += size

    def is_too_slow(self, now: float) -> bool:
        """Whether this upload is silent, or drips only to hold its connection."""
        if now - self._heard >= IDLE_SECONDS:
            return True
        if now < self._window_end:
            return False
        drips = self._window_bytes < MIN_BODY_BYTES
        self._window_end, self._window_bytes = now + IDLE_SECONDS, 0
        return drips
