"""How the whole is doing, judged from its parts: one word, and a sentence for each reason."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from gemproxy.interfaces import StoreStatus
from gemproxy.keys.status import PoolCounts

Status = Literal["healthy", "degraded", "unhealthy"]

_KEPT = {"sqlite": "in SQLite", "json": "in the JSON fallback", "none": "nowhere"}


class ConfigStatus(Protocol):
    """Which configuration is in force."""

    @property
    def generation(self) -> int:
        """Which one since the start, counted from 1."""

    @property
    def loaded_at(self) -> float:
        """Epoch seconds."""

    @property
    def last_error(self) -> str | None:
        """Why the last reload failed; ``None`` once one succeeded."""


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """What the parts other than the pool say of themselves. ``started_at`` is monotonic.

    ``region_refused``: Google refused a request of late for where this host is.
    """

    version: str
    started_at: float
    draining: bool
    in_flight: int
    region_refused: bool
    persistence: StoreStatus
    config: ConfigStatus


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The word and its reasons; a healthy service has none."""

    status: Status
    reasons: tuple[str, ...]


def diagnose(
    service: ServiceStatus,
    counts: PoolCounts,
    unavailable: Sequence[tuple[str, float]],
    *,
    can_serve: bool,
    resting: int = 0,
) -> Diagnosis:
    """Judge.

    ``unavailable`` are the models that rest, each with the time of its next trial; ``resting`` is
    how many keys are out of quota for some model.
    """
    reasons = (
        *(() if can_serve else ("No key can serve.",)),
        *_key_reasons(counts, resting),
        *(
            f"The model {model} fails with every key; it is tried again within seconds."
            for model, _ in unavailable
        ),
        *_service_reasons(service),
    )
    if not can_serve:
        return Diagnosis("unhealthy", reasons)
    return Diagnosis("degraded" if reasons else "healthy", reasons)


def _key_reasons(counts: PoolCounts, resting: int) -> Iterator[str]:
    for number, words in (
        (counts.unhealthy - counts.recovering, "taken out because they failed"),
        (counts.recovering, "on trial after they failed"),
        (counts.disabled, "disabled"),
        (resting, "out of quota for a model"),
    ):
        if number:
            yield f"Keys that are {words}: {number} of {counts.total}."


def _service_reasons(service: ServiceStatus) -> Iterator[str]:
    persistence, config = service.persistence, service.config
    if persistence.degraded_since is not None:
        why = f": {_line(persistence.last_error)}" if persistence.last_error else ""
        yield f"The state is kept {_KEPT[persistence.backend]}{why}."
    if config.last_error is not None:
        yield f"The last reload of the configuration failed: {_line(config.last_error)}."
    if service.region_refused:
        yield "Google refuses requests from this host's location; no key is at fault."


def _line(text: str) -> str:
    """The first line of ``text``, fit for the middle of a sentence."""
    first, *more = text.strip().splitlines() or [""]
    first = first.rstrip(".")
    return f"{first} (and {len(more)} more)" if more else first
