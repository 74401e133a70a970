"""Judge the health of the service from its parts: one word, and a sentence for each reason."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from gemproxy.core.interfaces import StoreStatus
from gemproxy.pool.quotas import QuotaStatus
from gemproxy.pool.status import PoolCounts
from gemproxy.telemetry.recent import WINDOW, RecentRequests

Status = Literal["healthy", "degraded", "unhealthy"]

#: Fewer requests are not judged.
_FEW = 5
#: Degraded from one failure in ``_WORRYING`` requests, unhealthy above one in ``_BAD``.
_WORRYING, _BAD = 10, 2
_CAUSES_SHOWN = 3
_PERIOD = f"last {WINDOW // 60} minutes"
#: Words for reasons of ``needs_attention``, to follow a number of keys.
_WORDS = {"service_disabled": "with the API switched off", "billing": "without billing"}
_KEPT = {"sqlite": "in SQLite", "json": "in the JSON fallback", "none": "nowhere"}


NO_REQUESTS = RecentRequests()


class ConfigStatus(Protocol):
    """The configuration in force."""

    @property
    def generation(self) -> int:
        """Its number since the start, counted from 1."""

    @property
    def loaded_at(self) -> float:
        """Epoch seconds."""

    @property
    def last_error(self) -> str | None:
        """Why the last reload failed; ``None`` if it succeeded."""


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """The status of the parts other than the pool. ``started_at`` is monotonic.

    ``region_refused``: Google recently refused a request because of this host's location.
    ``requests`` are the results of the last minutes.
    """

    version: str
    started_at: float
    draining: bool
    in_flight: int
    region_refused: bool
    persistence: StoreStatus
    config: ConfigStatus
    requests: RecentRequests = NO_REQUESTS
    #: Models that were asked, and whose price is not known.
    unpriced_models: tuple[str, ...] = ()
    #: Daily quotas that will be used up before the day ends, the first one first.
    ending_quotas: Sequence[QuotaStatus] = ()


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The status word, one sentence for it, and the reasons; a healthy service has none."""

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
    """Judge the service, first by the results of requests.

    ``unavailable`` are the models whose breaker is open, each with the time of its next trial;
    ``cooling`` is the number of keys that are out of quota for some model.
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


def warnings(service: ServiceStatus) -> tuple[str, ...]:
    """Sentences about what the operator should know, and what leaves the status as it is."""
    return (*_unpriced(service.unpriced_models), *_ending(service.ending_quotas))


def _ending(quotas: Sequence[QuotaStatus]) -> Iterator[str]:
    if not quotas:
        return
    first = quotas[0]
    more = f", and {len(quotas) - 1} more" if len(quotas) > 1 else ""
    yield (
        "At the pace of the last hour daily quotas will be used up before midnight in Los Angeles:"
        f" {first.dimension} of {first.model} in the project {first.project} at"
        f" {first.exhausted_at:%H:%M} UTC{more}."
    )


def _unpriced(models: Sequence[str]) -> Iterator[str]:
    if not models:
        return
    noun = "the model" if len(models) == 1 else "the models"
    sentence = f"No price is known for {noun} {', '.join(models)}: such requests have no cost."
    yield f"{sentence} Add prices with pricing.file."


def _failing(requests: RecentRequests) -> Status | None:
    """The judgement on the share of failures; ``None`` if it is low."""
    total, failed = requests.total, requests.failed
    if total < _FEW or failed * _WORRYING < total:
        return None
    if failed * _BAD <= total:
        return "degraded"
    late, failed_late = requests.total_of_late, requests.failed_of_late
    # Many requests failed, but few of the latest.
    over = late >= _FEW and failed_late * _WORRYING < late
    return "degraded" if over else "unhealthy"


def _failures(requests: RecentRequests) -> tuple[str, str]:
    """For example ``198 of 200`` and `` (upstream 503)``."""
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
    """For example ``452 expired, 3 leaked``."""
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
    """The first line of ``text``, without its full stop, for use in a sentence."""
    first, *more = text.strip().splitlines() or [""]
    first = first.rstrip(".")
    return f"{first} (and {len(more)} more)" if more else first
