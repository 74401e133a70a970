"""How the whole is doing, judged from its parts: one word, and a sentence for each reason."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from gemproxy.core.interfaces import StoreStatus
from gemproxy.pool.status import PoolCounts
from gemproxy.telemetry.recent import WINDOW, RecentRequests

Status = Literal["healthy", "degraded", "unhealthy"]

#: So few requests say nothing.
_FEW = 5
#: One failure in so many worries, more than one in so many is bad.
_WORRYING, _BAD = 10, 2
_CAUSES_SHOWN = 3
_PERIOD = f"last {WINDOW // 60} minutes"
#: Reasons of ``needs_attention``, behind a number of keys.
_WORDS = {"service_disabled": "with the API switched off", "billing": "without billing"}
_KEPT = {"sqlite": "in SQLite", "json": "in the JSON fallback", "none": "nowhere"}


NO_REQUESTS = RecentRequests()


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

    ``region_refused``: Google refused a request of late for where this host is. ``requests`` is
    what clients got in the last minutes.
    """

    version: str
    started_at: float
    draining: bool
    in_flight: int
    region_refused: bool
    persistence: StoreStatus
    config: ConfigStatus
    requests: RecentRequests = NO_REQUESTS


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The word, one sentence for it, and its reasons; a healthy service has none."""

    status: Status
    reasons: tuple[str, ...]
    headline: str = ""


def diagnose(
    service: ServiceStatus,
    counts: PoolCounts,
    unavailable: Sequence[tuple[str, float]],
    *,
    can_serve: bool,
    cooling: int = 0,
) -> Diagnosis:
    """Judge, first of all by what clients get.

    ``unavailable`` are the models whose breaker is open, each with the time of its next trial;
    ``cooling`` is how many keys are out of quota for some model.
    """
    failing = _failing(service.requests)
    share, why = _failures(service.requests)
    reasons = (
        *((f"Requests that failed in the {_PERIOD}: {share}{why}.",) if failing else ()),
        *(() if can_serve else ("No key can serve.",)),
        *_key_reasons(counts, cooling),
        *(
            f"The model {model} fails with every key; it is tried again within seconds."
            for model, _ in unavailable
        ),
        *_service_reasons(service),
    )
    if not can_serve:
        rejected = f": {_rejected(counts)}" if counts.needs_attention else ""
        words = f"No key can serve{rejected}." if counts.total else "There are no keys."
        return Diagnosis("unhealthy", reasons, words)
    if failing == "unhealthy":
        words = f"Failing: {share} requests in the {_PERIOD} failed{why}."
        return Diagnosis("unhealthy", reasons, words)
    if failing is not None:
        words = f"Serving, but {share} requests in the {_PERIOD} failed{why}."
        return Diagnosis("degraded", reasons, words)
    return Diagnosis("degraded" if reasons else "healthy", reasons, _serving(counts, reasons))


def _failing(requests: RecentRequests) -> Status | None:
    """The judgement on the share of failures; ``None`` where it is no reason to worry."""
    total, failed = requests.total, requests.failed
    if total < _FEW or failed * _WORRYING < total:
        return None
    if failed * _BAD <= total:
        return "degraded"
    late, failed_late = requests.total_of_late, requests.failed_of_late
    # It was bad and is not any more.
    over = late >= _FEW and failed_late * _WORRYING < late
    return "degraded" if over else "unhealthy"


def _failures(requests: RecentRequests) -> tuple[str, str]:
    """``198 of 200`` and `` (upstream 503)``."""
    shown = requests.causes[:_CAUSES_SHOWN]
    causes = [cause if len(requests.causes) == 1 else f"{n} {cause}" for cause, n in shown]
    if len(requests.causes) > len(shown):
        causes.append("others")
    why = f" ({', '.join(causes)})" if causes else ""
    return f"{requests.failed} of {requests.total}", why


def _serving(counts: PoolCounts, reasons: Sequence[str]) -> str:
    if counts.healthy < counts.total:
        keys = "1 key" if counts.total == 1 else f"{counts.total} keys"
        return f"Serving with {counts.healthy} of {keys}."
    if reasons:
        return "Serving, and something is not as it should be."
    return "The only key serves." if counts.total == 1 else f"All {counts.total} keys serve."


def _rejected(counts: PoolCounts) -> str:
    """``452 expired, 3 leaked``."""
    return ", ".join(f"{number} {_WORDS.get(why, why)}" for why, number in counts.needs_attention)


def _key_reasons(counts: PoolCounts, cooling: int) -> Iterator[str]:
    if counts.needs_attention:
        number = sum(number for _, number in counts.needs_attention)
        yield f"Keys that need a person: {number} of {counts.total} ({_rejected(counts)})."
    for number, words in (
        (counts.unhealthy - counts.recovering, "taken out because they failed"),
        (counts.recovering, "on trial after they failed"),
        (counts.disabled, "disabled"),
        (cooling, "out of quota for a model"),
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
