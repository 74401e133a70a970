"""The state of the pool that is kept over a restart: frozen data, by key id, without secrets.

Times are epoch seconds, since a monotonic time has no meaning in another process.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from gemproxy.pool.breaker import BreakerSnapshot
from gemproxy.pool.cooldowns import Cooldown
from gemproxy.pool.limits import LedgerSnapshot
from gemproxy.pool.quota_ledger import QuotaSnapshot

Bucket = tuple[float, int, int]
"""Middle of a slice of the health window (a time), its successes, its failures."""


@dataclass(frozen=True, slots=True)
class LastError:
    """The latest failure that was charged to a key.

    ``message`` is the first sentence of the upstream's message, without what it quotes.
    """

    at: float
    outcome: str
    status: int | None
    message: str


@dataclass(frozen=True, slots=True)
class Override:
    """What an operator set for one key; ``None`` leaves it to the file."""

    enabled: bool | None = None
    weight: int | None = None


@dataclass(frozen=True, slots=True)
class KeySnapshot:
    """The history of one key, identified by ``id``. ``name`` is for people who read the store.

    A key that has not changed since the last snapshot gives the same object again, so a store
    compares identities to find what it has to write.
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

    def shifted(self, seconds: float) -> KeySnapshot:
        """The same history with every time ``seconds`` later, to convert between two clocks."""
        if not seconds:
            return self
        breaker, used, error, usage = self.breaker, self.last_used, self.last_error, self.usage
        # Constructors take half as long as replace(), and there are thousands of keys.
        if breaker.until is not None:
            breaker = BreakerSnapshot(
                breaker.until + seconds, breaker.cooldown, breaker.consecutive_failures
            )
        if usage is not None:
            uses = tuple((time + seconds, tokens) for time, tokens in usage.uses)
            usage = LedgerSnapshot(uses, usage.today, usage.day_ends + seconds)
        return KeySnapshot(
            self.id,
            self.name,
            breaker,
            tuple((middle + seconds, won, lost) for middle, won, lost in self.buckets),
            self.needs_attention,
            self.requests_total,
            None if used is None else used + seconds,
            error and replace(error, at=error.at + seconds),
            usage,
        )

    def no_later_than(self, now: float) -> KeySnapshot:
        """The same history with no time later than ``now``, in case a clock was wrong."""
        error = self.last_error
        return replace(
            self,
            buckets=tuple((min(middle, now), won, lost) for middle, won, lost in self.buckets),
            last_used=None if self.last_used is None else min(self.last_used, now),
            last_error=error and replace(error, at=min(error.at, now)),
        )


@dataclass(frozen=True, slots=True)
class PoolSnapshot:
    """The state of the whole pool at ``taken_at``, epoch seconds."""

    taken_at: float
    keys: tuple[KeySnapshot, ...] = ()
    cooldowns: tuple[Cooldown, ...] = ()
    #: Denials of projects, and of single keys (see ``cooldowns.FORBIDDEN``).
    denials: tuple[Cooldown, ...] = ()
    #: By key id; also of keys that are not in the file.
    overrides: tuple[tuple[str, Override], ...] = ()
    quotas: tuple[QuotaSnapshot, ...] = ()
