"""How well a key has done lately: successes over all outcomes in a sliding window."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

Bucket = tuple[float, int, int]
"""Middle of a slice of the window (monotonic time), its successes, its failures."""

_BUCKETS = 10


class SlidingWindow:
    """Successes and failures of the last ``seconds``, counted in ten slices.

    Old outcomes age out a slice at a time, so the window covers between nine tenths and all of its
    length. Only slices with something in them are stored: an idle key costs nothing.
    """

    __slots__ = ("_buckets", "_successes", "_width", "failures", "seconds")

    def __init__(self, seconds: float, buckets: Iterable[Bucket] = ()) -> None:
        self.seconds = seconds
        self._width = seconds / _BUCKETS
        self._buckets: deque[list[int]] = deque()  # slice number, successes, failures
        self._successes = 0
        #: How many are remembered; some may just have left the window.
        self.failures = 0
        for middle, successes, failures in buckets:
            latest = self._slice(middle)
            latest[1] += successes
            latest[2] += failures
            self._successes += successes
            self.failures += failures

    def record(self, *, success: bool, now: float) -> None:
        """Count one outcome."""
        latest = self._slice(now)
        if success:
            latest[1] += 1
            self._successes += 1
        else:
            latest[2] += 1
            self.failures += 1

    def tally(self, now: float) -> tuple[int, int]:
        """Successes and failures in the window."""
        self._forget(int(now // self._width))
        return self._successes, self.failures

    def score(self, now: float) -> float:
        """Successes / all, from 0.0 to 1.0; 1.0 when the window is empty."""
        successes, failures = self.tally(now)
        total = successes + failures
        return successes / total if total else 1.0

    def next_change(self, now: float) -> float:
        """When the oldest slice will leave the window; ``now`` when it is empty."""
        self._forget(int(now // self._width))
        return (self._buckets[0][0] + _BUCKETS) * self._width if self._buckets else now

    def buckets(self) -> tuple[Bucket, ...]:
        """The slices, oldest first, as the constructor takes them back."""
        # The middle, since a slice's start may fall into its neighbour by a rounding error.
        return tuple(((slot + 0.5) * self._width, won, lost) for slot, won, lost in self._buckets)

    def _slice(self, now: float) -> list[int]:
        """The slice to count in at ``now``."""
        slot = now // self._width
        buckets = self._buckets
        if not buckets or buckets[-1][0] != slot:
            self._forget(int(slot))
            # A clock that was set back must not reorder the slices.
            if not buckets or slot > buckets[-1][0]:
                buckets.append([int(slot), 0, 0])
        return buckets[-1]

    def _forget(self, slot: int) -> None:
        buckets = self._buckets
        while buckets and buckets[0][0] <= slot - _BUCKETS:
            _, successes, failures = buckets.popleft()
            self._successes -= successes
            self.failures -= failures
