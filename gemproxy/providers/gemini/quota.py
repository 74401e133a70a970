"""Find out from Gemini's 429 which quota was exceeded.

Google checks several limits at once: requests and input tokens, per minute and per day, for each
model of a project. ``QuotaFailure.violations[].quotaId`` names the exceeded ones. ``RetryInfo`` and
the text "Please retry in 37s" are sent for a daily limit too, and mean nothing then.

A value is known if the quota's id says what is counted (requests or input tokens) and for how long
(a minute or a day), and a plausible number is given. Quotas of a region are left out, since which
region answers is Google's choice, and so are those of countTokens and of what a model puts out.

Sources: ai.google.dev "Rate limits"; google.rpc ``error_details.proto``; recordings of both tiers.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from gemproxy.providers.gemini.wire.errors import GeminiError, QuotaViolation

_PER_DAY = re.compile(r"per_?day", re.IGNORECASE)
_PER_REGION = re.compile(r"per_?region", re.IGNORECASE)
_PER_MINUTE = re.compile(r"per_?minute", re.IGNORECASE)
_PER_MODEL = re.compile(r"per_?(?:base_?)?model", re.IGNORECASE)
_TOKENS = re.compile(r"token", re.IGNORECASE)
_REQUESTS = re.compile(r"requests", re.IGNORECASE)
#: Other things than the requests and the input tokens of what is asked for.
_NOT_COUNTED = re.compile(
    r"per_?region|count_?tokens|output|image|audio|video|enqueued|batch_?(?:job|mode)",
    re.IGNORECASE,
)
#: Characters of an id or a model's name.
_LONGEST_NAME = 200
#: A larger value is a mistake.
_LARGEST = 10**12
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


class KnownLimit(NamedTuple):
    """An exceeded quota whose value is known.

    ``dimension`` is ``rpm``, ``tpm``, ``rpd`` or ``tpd``. ``model`` is Google's name of the model,
    empty if it is not given, and ``*`` if the quota is not counted for each model by itself.
    """

    dimension: str
    limit: int
    id: str
    model: str


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
    known: tuple[KnownLimit, ...] = ()


def read_quota(error: GeminiError) -> QuotaEvidence:
    """Read the typed details of a 429, and its text for what they lack."""
    detailed, in_text = (*error.violations, *_in_metadata(error)), tuple(_in_text(error.message))
    violations = (*detailed, *in_text)
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
        known=tuple(_known(detailed, in_text)),
    )


def _known(
    detailed: Sequence[QuotaViolation], in_text: Sequence[QuotaViolation]
) -> Iterator[KnownLimit]:
    """The values that are given, in the details or else in the text for the same metric."""
    told = defaultdict(set)
    for line in in_text:
        told[line.metric].add(line.value)
    for violation in detailed:
        value = violation.value
        if value is None and len(told[violation.metric]) == 1:
            (value,) = told[violation.metric]
        dimension = _dimension(violation)
        if dimension is None or value is None or not 0 <= value <= _LARGEST:
            continue
        names = (violation.id, violation.model)
        if any(len(name) > _LONGEST_NAME or not name.isprintable() for name in names):
            continue
        model = violation.model.removeprefix("models/")
        if not _PER_MODEL.search(violation.id) and not model:
            model = "*"
        yield KnownLimit(dimension, value, violation.id, model)


def _dimension(violation: QuotaViolation) -> str | None:
    """What the quota counts; ``None`` if it is not counted here."""
    name = f"{violation.metric} {violation.id}"
    if not violation.id or _NOT_COUNTED.search(name):
        return None
    per_day, per_minute = (bool(each.search(violation.id)) for each in (_PER_DAY, _PER_MINUTE))
    if per_day is per_minute:
        return None
    if _TOKENS.search(name):
        return "tpd" if per_day else "tpm"
    if _REQUESTS.search(name):
        return "rpd" if per_day else "rpm"
    return None


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
