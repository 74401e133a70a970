"""How much of the keys' own limits a client may use at once while others need them too.

Theory of operation. A queue alone cannot be fair with a limit of requests a minute: a client that
sends 200 requests in a moment uses up the minute of every key before anybody waits, and then there
is nothing to share until the minute is over. So a client that uses more than its share of the
minute is *flooding*, and leaves a part of each key's limits to the others. This reserve is half of
the limits at first. It shrinks in a minute to a small rest, so that what nobody else needs is used:
the second half of the minute's requests is spread over the minute. Other clients may use all, and
what they have used comes back to them, because the flooding client cannot take it.

The share is what the keys may serve in a minute, divided by the clients that used them in the last
minute (at least two), and at least :data:`SMALLEST_SHARE`. Use is counted in slices of
:data:`_SLICE` seconds. Nothing is reserved if there is one client only, and nothing of keys without
limits of their own.
"""

from __future__ import annotations

from collections import deque
from math import inf

from msgspec import Struct, field

#: Requests a minute that no client floods with.
SMALLEST_SHARE = 20
#: The part of a key's limits that is left to others, at first and at last.
FIRST_RESERVE, LAST_RESERVE = 0.5, 0.05

_MINUTE = 60.0
_SLICE = 0.25
#: A client floods until it has used less than this part of its share in a minute.
_LITTLE = 0.5


class _Use(Struct):
    """What a client used in the last minute: slices with their numbers of requests."""

    slices: deque[list[int]] = field(default_factory=deque)
    total: int = 0
    #: When it began to flood.
    since: float | None = None

    def forget(self, now: float) -> None:
        """Forget what is older than a minute."""
        first = (now - _MINUTE) // _SLICE
        while self.slices and self.slices[0][0] < first:
            self.total -= self.slices.popleft()[1]


class FairShares:
    """See the module. Times are monotonic seconds."""

    def __init__(self) -> None:
        #: Clients that the operator has configured.
        self.configured = 0
        self._uses: dict[str | None, _Use] = {}
        #: When the clients that are idle are forgotten.
        self._sweep_at = -inf

    def count(self, client: str | None, now: float) -> None:
        """Count a request that a key with limits of its own serves."""
        use = self._uses.get(client)
        if use is None:
            use = self._uses[client] = _Use()
        number = int(now // _SLICE)
        if not use.slices or use.slices[-1][0] != number:
            use.slices.append([number, 0])
        use.slices[-1][1] += 1
        use.total += 1

    def reserve(self, client: str | None, now: float, capacity: int) -> float:
        """The part of each key's limits that ``client`` has to leave to others, from 0 to 1.

        ``capacity`` is how many requests all keys with such a limit may serve in a minute. If it is
        0, only tokens are limited: then requests are no measure of a share.
        """
        use = self._uses.get(client)
        if use is None or not capacity or use.total < SMALLEST_SHARE * _LITTLE:
            return 0.0
        if now >= self._sweep_at:
            self._sweep_at = now + 1.0
            self._forget_idle(now)
        use.forget(now)
        active = len(self._uses)
        share = max(SMALLEST_SHARE, capacity / max(2, active))
        if use.total < share * _LITTLE or max(self.configured, active) < 2:
            use.since = None
        elif use.since is None and use.total > share:
            use.since = now
        if use.since is None:
            return 0.0
        # In whole seconds, so that it changes at moments that are known.
        return max(LAST_RESERVE, FIRST_RESERVE * (1.0 - int(now - use.since) / _MINUTE))

    def next_change(self, client: str | None, now: float) -> float:
        """When the reserve of a flooding client will be smaller; infinity for any other."""
        use = self._uses.get(client)
        if use is None or use.since is None or now >= use.since + _MINUTE:
            return inf
        return use.since + int(now - use.since) + 1.0

    def _forget_idle(self, now: float) -> None:
        for client, use in list(self._uses.items()):
            use.forget(now)
            if not use.total:
                del self._uses[client]
