"""Find out from Gemini's 429 which quota was exceeded.

Google checks several limits at once: requests and input tokens, per minute and per day, for each
model of a project. ``QuotaFailure.violations[].quotaId`` names the exceeded ones. ``RetryInfo`` and
the text "Please retry in 37s" are sent for a daily limit too, and mean nothing then.

Sources: ai.google.dev "Rate limits"; google.rpc ``error_details.proto``; recordings of both tiers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gemproxy.providers.gemini.wire.errors import GeminiError, QuotaViolation

_PER_DAY = re.compile(r"per_?day", re.IGNORECASE)
_PER_REGION = re.compile(r"per_?region", re.IGNORECASE)
_TOKENS = re.compile(r"token", re.IGNORECASE)
_VIOLATION = re.compile(
    r"Quota exceeded for metric: ([^\s,]{1,200}), limit: (\d{1,15})(?:, model: ([^\s,]{1,200}))?"
)
_RETRY_IN = re.compile(
    r"retry in (?:(?P<h>\d{1,6})h)?(?:(?P<m>\d{1,6})m(?!s))?"
    r"(?:(?P<s>\d{1,9}(?:\.\d{1,12})?)s|(?P<ms>\d{1,9}(?:\.\d{1,12})?)ms)?"
)
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_SPENDING = re.compile(
    r"\b(?:spend|spending|billing)(?:[- ]based)?(?: rate)?[- _](?:limit|cap)", re.IGNORECASE
)


@dataclass(frozen=True)
class QuotaEvidence:
    """What a 429 says about the quota."""

    #: A daily limit was exceeded.
    per_day: bool
    #: The project has no quota for the model: the limit is zero.
    no_quota: bool
    #: The billing account's spending limit within ten minutes, for all models.
    spending: bool
    #: Not a quota: Google has no capacity for the model.
    no_capacity: bool
    #: Seconds until the next try, if given.
    delay: float | None
    #: The smallest exceeded token limit.
    token_quota: int | None
    #: The name of an exceeded limit, preferably a daily one; empty if none is given.
    id: str = ""


def read_quota(error: GeminiError) -> QuotaEvidence:
    """Read the typed details of a 429, and its text for what they lack."""
    violations = (*error.violations, *_in_metadata(error), *_in_text(error.message))
    tokens = [v.value for v in violations if v.value and _TOKENS.search(v.metric + v.id)]
    spending = any("SPEND" in reason for reason in error.reasons)
    return QuotaEvidence(
        per_day=any(_PER_DAY.search(f"{v.metric} {v.id}") for v in violations),
        no_quota=any(_is_zero(violation) for violation in violations),
        spending=spending or _SPENDING.search(error.message) is not None,
        no_capacity="MODEL_CAPACITY_EXHAUSTED" in error.reasons,
        delay=_delay_in_text(error.message) if error.retry_delay is None else error.retry_delay,
        token_quota=min(tokens, default=None),
        id=_name_of(violations),
    )


def _name_of(violations: Sequence[QuotaViolation]) -> str:
    names = [violation.id for violation in violations if violation.id]
    return next(filter(_PER_DAY.search, names), names[0] if names else "")


def _is_zero(violation: QuotaViolation) -> bool:
    """Whether the limit is explicitly zero.

    proto3 omits a zero, but shortened bodies omit values too: an absent value counts as unknown,
    since a wrong guess costs a day. A zero limit of a region depends on Google's routing and not on
    the project.
    """
    return violation.value == 0 and not _PER_REGION.search(violation.id)


def _in_metadata(error: GeminiError) -> Iterator[QuotaViolation]:
    """Read the older form: one violation in the metadata of an ErrorInfo."""
    limit = error.metadata.get("quota_limit")
    if limit:
        value = error.metadata.get("quota_limit_value", "")
        number = int(value) if value.isascii() and value.isdigit() else None
        yield QuotaViolation(error.metadata.get("quota_metric", ""), limit, number)


def _in_text(message: str) -> Iterator[QuotaViolation]:
    for metric, limit, model in _VIOLATION.findall(message):
        yield QuotaViolation(metric, "", int(limit), model.rstrip("."))


def _delay_in_text(message: str) -> float | None:
    match = _RETRY_IN.search(message)
    if match is None:
        return None
    parts = {unit: text for unit, text in match.groupdict().items() if text is not None}
    return sum(float(text) * _UNITS[unit] for unit, text in parts.items()) if parts else None
