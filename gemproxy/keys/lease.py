"""A key lent for one attempt, and the news of a key's breaker."""

from __future__ import annotations

from dataclasses import dataclass

from gemproxy.keys.breaker import Permit, State
from gemproxy.keys.key import Key
from gemproxy.keys.limits import Use
from gemproxy.keys.pooled import PooledKey


class Lease:
    """One key for one attempt at ``model``; ``time`` is when it was acquired.

    Belongs to the pool, which settles it once. ``entry`` and ``use`` are the pool's own.
    """

    __slots__ = ("entry", "key", "model", "permit", "settled", "time", "use")

    def __init__(
        self, entry: PooledKey, model: str, permit: Permit, time: float, use: Use | None
    ) -> None:
        self.entry = entry
        self.key: Key = entry.key
        self.model = model
        self.permit = permit
        self.time = time
        self.use = use
        self.settled = False


@dataclass(frozen=True, slots=True)
class Transition:
    """The breaker of the key named ``key`` went from one state to another."""

    key: str
    before: State
    after: State
