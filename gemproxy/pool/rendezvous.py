"""Which key a conversation prefers: weighted rendezvous hashing.

Each pair of a conversation and a key has a pseudo-random number ``u`` in (0, 1), and the key with
the lowest ``-ln(u) / weight`` is preferred (Thaler and Ravishankar, 1998; with weights:
Schindelhauer and Schomaker, 2005). So conversations are spread by the keys' weights, nothing is
remembered, each process prefers the same keys, and a key that is added or removed moves only the
conversations that prefer it.

To hash all of ten thousand keys would take milliseconds. In a large pool only the
:data:`CANDIDATES` keys that follow the conversation on a ring are hashed. The shares are then
inexact, and a key whose weight is many times the others' gets less than its share of conversations;
the balance between keys does not depend on it (see :mod:`gemproxy.pool.stride`).
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterable, Iterator
from math import log
from operator import itemgetter
from typing import Final

from gemproxy.pool.state import KeyState

#: Up to so many keys all of them are hashed for a conversation.
SMALL_POOL: Final = 16
#: Keys of a larger pool that are hashed.
CANDIDATES: Final = 8
#: Keys that are offered: the preferred one, and those to fall back on.
PREFERENCES: Final = 3

#: The fractional part of the golden ratio in 64 bits (Knuth, volume 3, section 6.4).
_GOLDEN: Final = 0x9E3779B97F4A7C15
_64_BITS: Final = (1 << 64) - 1


class Preferences:
    """The keys that conversations prefer. ``keys`` are all keys of the pool, with their weights."""

    def __init__(self, keys: Iterable[KeyState]) -> None:
        #: The keys behind their places on the ring.
        self._ring = sorted(((_mixed(int(key.id, 16)), key) for key in keys), key=itemgetter(0))
        self._places = [place for place, _ in self._ring]
        self._weighted = len({key.weight for _, key in self._ring}) > 1

    def of(self, conversation: int) -> Iterator[KeyState]:
        """Yield the keys that ``conversation``, any number, prefers, the first one most."""
        own = _mixed(conversation)
        candidates = self._ring
        if len(candidates) > SMALL_POOL:
            start = bisect(self._places, own)
            candidates = self._ring[start : start + CANDIDATES]
            candidates += self._ring[: CANDIDATES - len(candidates)]
        # Both numbers are mixed well, so that one multiplication makes their pair random.
        drawn = [((own ^ place) * _GOLDEN & _64_BITS, key) for place, key in candidates]
        if self._weighted:
            scored = [(log((number + 1) / _SPAN) / key.weight, key) for number, key in drawn]
        else:
            scored = drawn  # type: ignore[assignment]
        best = max(scored, key=_SCORE, default=None)
        if best is None:
            return
        yield best[1]
        scored.sort(key=_SCORE, reverse=True)
        for _, key in scored[1:PREFERENCES]:
            yield key


_SCORE: Final = itemgetter(0)
_SPAN: Final = 2.0**64


def _mixed(number: int) -> int:
    """A hash of 64 bits, the same in each process."""
    mixed = number * _GOLDEN & _64_BITS
    return (mixed ^ (mixed >> 32)) * _GOLDEN & _64_BITS
