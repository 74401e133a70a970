"""Why keys were not eligible for a request, for whoever asks afterwards."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from gemproxy.pool.eligibility import Eligibility
from gemproxy.pool.key_state import PooledKey
from gemproxy.pool.status import PassedOver
from gemproxy.pool.stride import Reason


def passed_over(
    entries: Iterable[PooledKey],
    eligibility: Eligibility,
    model: str,
    now: float,
    *,
    tried: Collection[str],
    tokens: int = 0,
) -> Iterator[PassedOver]:
    """Those of ``entries`` that are not eligible, each judged afresh; ``tried`` are ids."""
    for entry in entries:
        hindrance = eligibility.hindrance(entry, model, now, tokens=tokens)
        if hindrance is not None:
            until = eligibility.calendar.optional_epoch(hindrance.until)
            yield PassedOver(entry.key.name, hindrance.reason, until)
        elif entry.id in tried:
            yield PassedOver(entry.key.name, Reason.ALREADY_TRIED)
