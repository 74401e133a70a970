"""Why keys were not eligible for a request, for whoever asks afterwards."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from gemproxy.pool.eligibility import Eligibility, Reason
from gemproxy.pool.key_state import KeyState
from gemproxy.pool.status import SkippedKey


def skipped_keys(
    entries: Iterable[KeyState],
    eligibility: Eligibility,
    model: str,
    now: float,
    *,
    tried: Collection[str],
    tokens: int = 0,
) -> Iterator[SkippedKey]:
    """Those of ``entries`` that are not eligible, each judged afresh; ``tried`` are ids."""
    for entry in entries:
        ineligible = eligibility.check(entry, model, now, tokens=tokens)
        if ineligible is not None:
            until = eligibility.calendar.optional_epoch(ineligible.until)
            yield SkippedKey(entry.key.name, ineligible.reason, until)
        elif entry.id in tried:
            yield SkippedKey(entry.key.name, Reason.ALREADY_TRIED)
