"""Why keys were not eligible for a request, for whoever asks afterwards."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import chain, islice

from gemproxy.keys.eligibility import Eligibility
from gemproxy.keys.pooled import PooledKey
from gemproxy.keys.rotations import Rotations
from gemproxy.keys.selection import Reason, Rotation
from gemproxy.keys.status import PassedOver


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
            yield PassedOver(entry.key.name, hindrance.reason, hindrance.until)
        elif entry.id in tried:
            yield PassedOver(entry.key.name, Reason.ALREADY_TRIED)


def suspects(
    entries: Mapping[str, PooledKey],
    rotation: Rotation[PooledKey],
    rotations: Rotations,
    tried: Collection[str],
    limit: int,
) -> Iterable[PooledKey]:
    """Where to look for hindered keys of a large pool without looking at all; each once."""
    if not (tried or any(rotation.counts().values()) or rotations.any_listed):
        return ()
    known = chain(rotation.parked(), rotations.listed())
    # Twice as many as are told, since some may be fit again or serve this model after all.
    found = chain(map(entries.get, tried), islice(known, 2 * limit))
    return dict.fromkeys(entry for entry in found if entry is not None)
