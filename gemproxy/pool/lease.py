"""A key lent for one attempt, and the news of a key's breaker."""

from __future__ import annotations

from dataclasses import dataclass

from msgspec import Struct

from gemproxy.pool.breaker import Permit, State
from gemproxy.pool.key import Key
from gemproxy.pool.key_state import KeyState
from gemproxy.pool.limits import Use
from gemproxy.pool.snapshot import LastError


class Lease(Struct, eq=False):
    """One key for one attempt at ``model``.

    Belongs to the pool, which settles it once. ``entry`` and ``use`` are the pool's own.
    """

    entry: KeyState
    key: Key
    model: str
    permit: Permit
    use: Use | None
    settled: bool = False


@dataclass(frozen=True, slots=True)
class Transition:
    """The breaker of the key named ``key`` went from one state to another.

    Where it opened, ``last_error`` is what opened it, and ``needs_attention`` says why a person
    must look at the key, if one must.
    """

    key: str
    before: State
    after: State
    needs_attention: str | None = None
    last_error: LastError | None = None
