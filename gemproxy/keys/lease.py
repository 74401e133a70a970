"""A key lent for one attempt, and the news of a key's breaker."""

from __future__ import annotations

from dataclasses import dataclass

from msgspec import Struct

from gemproxy.keys.breaker import Permit, State
from gemproxy.keys.key import Key
from gemproxy.keys.limits import Use
from gemproxy.keys.pooled import PooledKey


class Lease(Struct, eq=False):
    """One key for one attempt at ``model``.

    Belongs to the pool, which settles it once. ``entry`` and ``use`` are the pool's own.
    """

    entry: PooledKey
    key: Key
    model: str
    permit: Permit
    use: Use | None
    settled: bool = False


@dataclass(frozen=True, slots=True)
class Transition:
    """The breaker of the key named ``key`` went from one state to another."""

    key: str
    before: State
    after: State
