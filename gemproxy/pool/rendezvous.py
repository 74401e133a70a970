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
from collections.abc import Iterable, Sequence
from math import log
from operator import itemgetter
from typing import Final

from gemproxy.pool.state import KeyState

#: Keys that are hashed for one conversation.
CANDIDATES: Final = 16
#: Keys that are offered: the preferred one, and those to fall back on.
PREFERENCES: Final = 3

#: The fractional part of the golden ratio in 64 bits (Knuth, volume 3, section 6.4).
_GOLDEN: Final = 0x9E3779B97F4A7C15
_64_BITS: Final = (1 << 64) - 1


class Preferences:
    """The keys that conversations prefer. ``keys`` are all keys of the pool."""

    def __init__(self, keys: Iterable[KeyState]) -> None:
        #: By their places on the ring.
        placed = sorted(((_place(key), key) for key in keys), key=itemgetter(0))
        self._places = [place for place, _ in placed]
        self._keys = [key for _, key in placed]

    def of(self, conversation: int) -> list[KeyState]:
        """The keys that ``conversation``, any number, prefers, the first one most."""
        candidates: Sequence[KeyState] = self._keys
        if len(candidates) > CANDIDATES:
            start = bisect(self._places, _mixed(conversation))
            candidates = self._keys[start : start + CANDIDATES]
            candidates += self._keys[: CANDIDATES - len(candidates)]
        if len(candidates) == 1:
            return list(candidates)
        scored = [(_score(conversation, key), key.order, key) for key in candidates]
        scored.sort()
        return [key for _, _, key in scored[:PREFERENCES]]


def _place(key: KeyState) -> int:
    return _mixed(int(key.id, 16))


def _score(conversation: int, key: KeyState) -> float:
    drawn = _mixed(conversation ^ int(key.id, 16))
    # A float has 53 bits. The half keeps the logarithm of 0 away.
    return -log(((drawn >> 11) + 0.5) / (1 << 53)) / key.weight


def _mixed(number: int) -> int:
    """A hash of 64 bits, the same in each process."""
    mixed = number * _GOLDEN & _64_BITS
    return (mixed ^ (mixed >> 32)) * _GOLDEN & _64_BITS
