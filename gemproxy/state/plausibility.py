"""Check that the values of a loaded state are possible.

A damaged file may decode without an error into impossible numbers: a time outside every calendar, a
count too large for its column. The code that uses them would fail later.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from datetime import UTC
from typing import cast

from gemproxy.core.audit import AuditEvent
from gemproxy.core.client_registry import ClientRow
from gemproxy.core.clients import CLIENT_DEFAULTS, ClientValue, Priority, expiry_of
from gemproxy.core.limits import LimitCount
from gemproxy.core.stored_answers import AnswerRow
from gemproxy.pool.cooldowns import Cooldown
from gemproxy.pool.limits import LedgerSnapshot
from gemproxy.pool.quota_ledger import QuotaSnapshot
from gemproxy.pool.resources import Resource
from gemproxy.pool.snapshot import KeySnapshot, Override
from gemproxy.state.model import MetricsRow, RecordRow, SeenRow, UsageRow, usage_counts

#: Epoch seconds of the years 1 and 9999, the limits of a datetime.
_FIRST, _LAST = -62_135_596_800.0, 253_402_300_799.0
#: The longest duration or sum of durations, in seconds: 30,000 years.
_LONGEST = 1e12
#: Half of what a column can hold, so that counting can continue.
_MOST = 2**62
#: The maximum that the admin API accepts.
_HEAVIEST = 1000
#: Of clients: 16 random bytes, and a SHA-256.
_ID, _DIGEST = re.compile("[0-9a-f]{32}"), re.compile("[0-9a-f]{64}")


Judgements = Iterator[tuple[str, bool]]
"""What is looked at, by a name for the operator, and whether it makes sense."""


def judge_nothing(_row: object) -> Judgements:
    """Nothing to check."""
    return iter(())


def judge_cooldown(cooldown: Cooldown) -> Judgements:
    """Check a cooldown or a denial."""
    yield "the end of a cooldown", is_time(cooldown.until)


def judge_quota(kept: QuotaSnapshot) -> Judgements:
    """Check the quotas of a project and what is used of them."""
    yield "when a quota was seen", all(map(is_time, (kept.seen, kept.day_ends)))
    yield "a count of a quota", _are_counts((kept.requests_today, kept.served_today))
    yield "the tokens of a quota", abs(kept.tokens_today) <= _MOST
    for limit in kept.limits:
        yield (
            "the value of a quota",
            is_time(limit.seen) and _are_counts((limit.limit, limit.since)),
        )
        yield "the probes of a quota", _is_count(limit.confirmed)
    uses = kept.uses
    yield "the uses of a quota", all(is_time(at) and _are_counts(n) for at, *n in uses)


def judge_resource(resource: Resource) -> Judgements:
    """Check a resource."""
    yield "when a resource expires", is_time(resource.expires)


def judge_override(row: tuple[str, Override]) -> Judgements:
    """Check an operator's override."""
    weight = row[1].weight
    yield "a weight", weight is None or 1 <= weight <= _HEAVIEST


def judge_answer(row: AnswerRow) -> Judgements:
    """Check a stored answer."""
    yield "the time of an answer", is_time(row.created)


def judge_event(event: AuditEvent) -> Judgements:
    """Check an audit event."""
    yield "the time of an audit event", is_time(event.at)


def judge_key(kept: KeySnapshot) -> Judgements:
    """Check the state of a key."""
    breaker, error = kept.breaker, kept.last_error
    yield "the end of a breaker's cooldown", breaker.until is None or is_time(breaker.until)
    yield "a breaker's cooldown", _is_duration(breaker.cooldown)
    yield "a number of failures", _is_count(breaker.consecutive_failures)
    yield "a number of requests", _is_count(kept.requests_total)
    for middle, won, lost in kept.buckets:
        yield "a health window", is_time(middle) and _is_count(won) and _is_count(lost)
    yield "the time of a key's last use", kept.last_used is None or is_time(kept.last_used)
    if error is not None:
        yield "the time of a key's last error", is_time(error.at)
        yield "the status of a key's last error", error.status is None or _is_count(error.status)
    if kept.usage is not None:
        yield from _usage(kept.usage)


def _usage(usage: LedgerSnapshot) -> Judgements:
    yield "a day's count", _is_count(usage.today)
    yield "the end of a day", is_time(usage.day_ends)
    yield "the uses of a minute", all(is_time(at) and _is_count(n) for at, n in usage.uses)


def judge_metrics_row(row: MetricsRow) -> Judgements:
    """Check a row of metrics."""
    yield "the time of a row of metrics", abs(row.start) <= _MOST and _is_count(row.period)
    yield (
        "a count in a row of metrics",
        _are_counts(
            (
                row.requests,
                row.failures,
                row.retries,
                row.prompt_tokens,
                row.cached_tokens,
                row.completion_tokens,
                row.reasoning_tokens,
                row.first_chunks,
            )
        ),
    )
    # Negative ones were written before durations used the monotonic clock.
    sums = (abs(row.seconds), abs(row.first_chunk_seconds))
    yield "a sum of durations", all(map(_is_duration, sums))


def judge_usage_row(row: UsageRow) -> Judgements:
    """Check a row of usage."""
    yield "the time of a row of usage", abs(row.start) <= _MOST and _is_count(row.period)
    yield "a count in a row of usage", _are_counts(usage_counts(row))
    yield "a cost in a row of usage", _is_duration(row.cost)


def judge_limit_count(row: LimitCount) -> Judgements:
    """Check what a client has used of its limits."""
    yield "a count of a client's limits", _are_counts((row.requests, row.tokens))
    yield "a day of a client's limits", abs(row.start) <= _MOST
    yield "a cost of a client", _is_duration(row.cost)


def judge_record(row: RecordRow) -> Judgements:
    """Check the record of a request."""
    yield "the time of a request", _is_count(row.number) and _is_count(row.digest)
    yield "the status of a request", _is_count(row.status)


def judge_seen(row: SeenRow) -> Judgements:
    """Check when a client was seen."""
    yield "the time at which a client was seen", is_time(row.at)


def judge_client(row: ClientRow) -> Judgements:
    """Check a client that was made at run time."""
    yield "the times of a client", is_time(row.created) and is_time(row.changed)
    yield "the id of a client", _ID.fullmatch(row.id) is not None
    yield "the token of a client", row.is_deleted or _DIGEST.fullmatch(row.digest) is not None
    for former in row.former:
        sound = is_time(former.until) and _DIGEST.fullmatch(former.digest) is not None
        yield "a former token of a client", sound
    settings = row.settings.items()
    yield "the settings of a client", all(_is_setting(name, value) for name, value in settings)


def is_time(value: float) -> bool:
    """Whether it can be a datetime."""
    return _FIRST <= value <= _LAST


def _is_setting(name: str, value: ClientValue) -> bool:
    """Whether a setting of a client has a value of the right type, if it is known."""
    default = CLIENT_DEFAULTS.get(name, value)
    if name.startswith("limits."):
        return value is None or (type(value) is int and _is_count(value))
    if name.startswith("budget."):
        return value is None or (type(value) in (int, float) and _is_duration(cast("float", value)))
    if name == "expires" and value is not None:
        try:
            expiry_of(str(value), UTC)
        except (ValueError, OverflowError):
            return False
        return True
    if name == "priority":
        return value in {each.value for each in Priority}
    return type(value) is type(default)


def _is_duration(value: float) -> bool:
    return math.isfinite(value) and 0 <= value <= _LONGEST


def _is_count(value: int) -> bool:
    return 0 <= value <= _MOST


def _are_counts(values: Iterable[int]) -> bool:
    return all(map(_is_count, values))
