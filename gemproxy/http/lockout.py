"""Lock out addresses that guess tokens.

An address is locked out, never a token: a request with the right token is served from anywhere.
Otherwise one client behind a shared reverse proxy could lock out the operator.
"""

from __future__ import annotations

from collections import OrderedDict, deque

WRONG_TOKENS = 10
WINDOW_SECONDS = 60.0
MOST_ADDRESSES = 4096


class Lockout:
    """Locks out an address that sent ``limit`` wrong tokens within ``window`` seconds.

    It stays locked until the first of these is older than ``window``. Attempts in the meantime are
    not counted, so that the announced time is right. Beyond ``capacity`` addresses the one with the
    oldest attempt is forgotten. ``now`` is monotonic.
    """

    def __init__(
        self,
        limit: int = WRONG_TOKENS,
        window: float = WINDOW_SECONDS,
        capacity: int = MOST_ADDRESSES,
    ) -> None:
        self._limit = limit
        self._window = window
        self._capacity = capacity
        #: Times of the last wrong tokens; the address with the latest one stands last.
        self._wrong: OrderedDict[str, deque[float]] = OrderedDict()

    def wait(self, address: str, now: float) -> float:
        """Return for how many more seconds ``address`` is locked out, 0 if it is not."""
        times = self._wrong.get(address)
        if times is None or len(times) < self._limit:
            return 0.0
        return max(0.0, self._window - (now - times[0]))

    def count(self, address: str, now: float) -> None:
        """Count a wrong token from ``address``, unless it is locked out."""
        times = self._wrong.setdefault(address, deque(maxlen=self._limit))
        if not self.wait(address, now):
            times.append(now)
        self._wrong.move_to_end(address)
        if len(self._wrong) > self._capacity:
            self._wrong.popitem(last=False)

    def __len__(self) -> int:
        return len(self._wrong)
