"""The types of the admin API's bodies, and the conversion of internal values to them.

Statuses of keys and records of requests are sent as the pool and the history have them. The other
types use the names of the internal fields, so :func:`msgspec.convert` does the whole conversion.
Times are epoch seconds in the arguments (except those of :func:`health`); a ``datetime`` is encoded
as RFC 3339 in UTC with ``Z``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any, TypeVar

import msgspec

from gemproxy.admin.health import Diagnosis, ServiceStatus, Status, warnings
from gemproxy.config.changes import SettingsChange
from gemproxy.core.decode_errors import malformed
from gemproxy.core.errors import InvalidRequest
from gemproxy.core.sentences import first_sentence
from gemproxy.pool.outcome import Outcome, Verdict
from gemproxy.pool.pool import KeyStatus, PoolCounts
from gemproxy.telemetry.recent import WINDOW


class _Answer(msgspec.Struct, frozen=True):
    """A JSON object of the admin API."""


class KeyCountsAnswer(_Answer, frozen=True):
    """The number of keys in each state."""

    total: int
    healthy: int
    unhealthy: int
    disabled: int
    recovering: int
    #: The number of enabled keys that Google rejects, by reason.
    needs_attention: dict[str, int]


class CauseAnswer(_Answer, frozen=True):
    """A reason why requests failed, and the number of them."""

    cause: str
    count: int


class RecentRequestsAnswer(_Answer, frozen=True):
    """What clients got in the last ``seconds``; their own faults are not counted."""

    seconds: int
    total: int
    failed: int
    causes: tuple[CauseAnswer, ...]


class ModelAnswer(_Answer, frozen=True):
    """A model whose breaker is open."""

    model: str
    status: str
    until: datetime


class PersistenceAnswer(_Answer, frozen=True):
    """Where the state is kept."""

    backend: str
    last_checkpoint: datetime | None
    last_error: str | None


class ConfigAnswer(_Answer, frozen=True):
    """The configuration in force."""

    generation: int
    loaded_at: datetime
    last_error: str | None


class HealthAnswer(_Answer, frozen=True):
    """Schema ``Health``; ``uptime`` in seconds."""

    status: Status
    headline: str
    timestamp: datetime
    uptime: int
    version: str
    draining: bool
    in_flight: int
    keys: KeyCountsAnswer
    requests: RecentRequestsAnswer
    reasons: tuple[str, ...]
    models: tuple[ModelAnswer, ...]
    persistence: PersistenceAnswer
    config: ConfigAnswer
    #: What the operator should know, and what leaves the status as it is.
    warnings: tuple[str, ...] = ()


class KeyOperationAnswer(_Answer, frozen=True):
    """The result of a change of one key, and the key's state after it."""

    success: bool
    message: str
    key_id: str
    key: KeyStatus


class BulkAnswer(_Answer, frozen=True):
    """The result of a change of many keys; ``names`` are the first twenty."""

    success: bool
    message: str
    changed: int
    names: tuple[str, ...]


class KeyTestAnswer(_Answer, frozen=True):
    """The result of a test: ``ok``, ``rejected``, or ``unclear`` if Google's answer shows neither.

    The other fields are those of an attempt; ``recorded`` tells that the pool has noted a
    rejection.
    """

    key_id: str
    name: str
    verdict: str
    recorded: bool
    duration_ms: float
    outcome: str
    status: int | None
    reason: str | None
    google_status: str | None
    google_reason: str | None
    message: str | None


class ChangesAnswer(_Answer, frozen=True, omit_defaults=True):
    """The changes of a reload: numbers of keys, of clients if any changed, paths of settings."""

    keys_added: int
    keys_removed: int
    keys_updated: int
    settings: tuple[str, ...]
    restart_required: tuple[str, ...]
    clients_added: int = 0
    clients_removed: int = 0
    clients_updated: int = 0


class ReloadAnswer(_Answer, frozen=True):
    """Schema ``Reload``."""

    success: bool
    timestamp: datetime
    changes: ChangesAnswer


class MinuteAnswer(_Answer, frozen=True):
    """The requests that ended in one minute; ``passed`` seconds of it have passed."""

    start: datetime
    passed: float = msgspec.field(name="seconds")
    requests: int
    failures: int
    retries: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    avg_duration_ms: float | None
    first_chunks: int
    avg_first_chunk_ms: float | None


class SeriesAnswer(_Answer, frozen=True):
    """The last hour by minute, oldest first; the last minute is incomplete."""

    timestamp: datetime
    minutes: tuple[MinuteAnswer, ...]


class WeightBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of ``PUT /admin/keys/{keyId}/weight``; ``None`` restores the configured weight."""

    weight: Annotated[int, msgspec.Meta(ge=1, le=1000)] | None


def health(
    service: ServiceStatus,
    counts: PoolCounts,
    unavailable: Sequence[tuple[str, float]],
    diagnosis: Diagnosis,
    now: float,
    wall: float,
) -> HealthAnswer:
    """The health of the service; ``unavailable`` are models with the time of their next trial.

    That time and ``now`` are monotonic, ``wall`` is the epoch time of ``now``.
    """
    return _convert(
        {
            "status": diagnosis.status,
            "headline": diagnosis.headline,
            "timestamp": wall,
            "uptime": int(max(0.0, now - service.started_at)),
            "version": service.version,
            "draining": service.draining,
            "in_flight": service.in_flight,
            "keys": {**asdict(counts), "needs_attention": dict(counts.needs_attention)},
            "requests": {
                "seconds": WINDOW,
                "total": service.requests.total,
                "failed": service.requests.failed,
                "causes": [
                    {"cause": cause, "count": number} for cause, number in service.requests.causes
                ],
            },
            "reasons": diagnosis.reasons,
            "models": [
                {"model": model, "status": "unavailable", "until": wall + until - now}
                for model, until in unavailable
            ],
            "persistence": service.persistence,
            "config": service.config,
            "warnings": warnings(service),
        },
        HealthAnswer,
    )


def key_operation(message: str, status: KeyStatus) -> KeyOperationAnswer:
    """The result of a change of one key, and the key's state after it."""
    return KeyOperationAnswer(True, message, status.id, status)


def key_test(key: KeyStatus, outcome: Outcome, seconds: float, *, recorded: bool) -> KeyTestAnswer:
    """The result of a test of a key."""
    return KeyTestAnswer(
        key_id=key.id,
        name=key.name,
        verdict=_TEST_WORDS.get(outcome.verdict, "unclear"),
        recorded=recorded,
        duration_ms=round(1000 * seconds, 1),
        outcome=outcome.verdict.value,
        status=outcome.status,
        reason=outcome.reason or None,
        google_status=outcome.google_status or None,
        google_reason=outcome.google_reason or None,
        message=first_sentence(outcome.message) or None,
    )


_TEST_WORDS = {Verdict.SUCCESS: "ok", Verdict.KEY: "rejected"}


def reload(change: SettingsChange, now: float) -> ReloadAnswer:
    """The changes of a reload."""
    changes = {
        "keys_added": len(change.keys_added),
        "keys_removed": len(change.keys_removed),
        "keys_updated": len(change.keys_updated),
        "settings": change.settings,
        "restart_required": change.restart_required,
        "clients_added": len(change.clients_added),
        "clients_removed": len(change.clients_removed),
        "clients_updated": len(change.clients_updated),
    }
    return _convert({"success": True, "timestamp": now, "changes": changes}, ReloadAnswer)


def series(minutes: Sequence[object], now: float) -> SeriesAnswer:
    """The series of the last hour; ``minutes`` have the attributes of :class:`MinuteAnswer`."""
    return _convert({"timestamp": now, "minutes": minutes}, SeriesAnswer)


def decode_weight(body: bytes) -> int | None:
    """The weight in the body. Raises :class:`~gemproxy.core.errors.InvalidRequest`."""
    try:
        return _WEIGHT_DECODER.decode(body).weight
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        unknown = _UNKNOWN_FIELD.search(str(error))
        if unknown is not None:
            field = unknown["field"][:100]
            raise InvalidRequest(
                f"{field}: unknown field; only weight is known.", param=field
            ) from None
        raise malformed(error) from None


_T = TypeVar("_T")
_WEIGHT_DECODER = msgspec.json.Decoder(WeightBody)
_UNKNOWN_FIELD = re.compile(r"unknown field `(?P<field>.*?)`", re.DOTALL)


def _convert(value: Any, shape: type[_T]) -> _T:
    # Not strict, because a datetime is made from a number. The values are ours and typed.
    return msgspec.convert(value, shape, strict=False, from_attributes=True)
