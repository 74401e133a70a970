"""What tests ask of a pool beside what the daemon asks of it."""

from collections.abc import Collection
from datetime import UTC, datetime
from itertools import islice

from gemproxy.pool.pool import KeyPool
from gemproxy.pool.status import SkippedKey, skipped_keys


def date(epoch: float) -> datetime:
    """As the pool reports a time."""
    return datetime.fromtimestamp(epoch, UTC)


def ineligible_keys(
    pool: KeyPool, model: str, now: float, tried: Collection[str] = (), limit: int = 99
) -> list[SkippedKey]:
    """The first keys, in the file's order, that are ineligible, each checked afresh."""
    found = skipped_keys(pool._entries.values(), pool._eligibility, model, now, tried=tried)
    return list(islice(found, limit))
