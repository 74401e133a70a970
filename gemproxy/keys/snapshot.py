"""What of the pool outlives a restart. Plain frozen data, by key id, without any secret."""

from __future__ import annotations

from dataclasses import dataclass

from gemproxy.keys.breaker import BreakerSnapshot
from gemproxy.keys.cooldowns import Cooldown
from gemproxy.keys.health import Bucket
from gemproxy.keys.limits import LedgerSnapshot
from gemproxy.keys.status import LastError


@dataclass(frozen=True, slots=True)
class Override:
    """The operator's word on one key; ``None`` leaves it to the file."""

    enabled: bool | None = None
    weight: int | None = None


@dataclass(frozen=True, slots=True)
class KeySnapshot:
    """One key's history. Names are for people who look into the store; the id counts.

    A key that nothing happened to since the last snapshot gives the very same object again, so a
    store can tell by identity what it has to write.
    """

    id: str
    name: str
    breaker: BreakerSnapshot
    buckets: tuple[Bucket, ...]
    needs_attention: str | None
    requests_total: int
    last_used: float | None
    last_error: LastError | None
    usage: LedgerSnapshot | None


@dataclass(frozen=True, slots=True)
class PoolSnapshot:
    """The state of the whole pool at ``taken_at``, epoch seconds."""

    taken_at: float
    keys: tuple[KeySnapshot, ...] = ()
    cooldowns: tuple[Cooldown, ...] = ()
    #: Models that projects were refused, and single keys (see ``cooldowns.FORBIDDEN``).
    denials: tuple[Cooldown, ...] = ()
    #: By key id; also of keys that are not in the file at present.
    overrides: tuple[tuple[str, Override], ...] = ()
