"""The outcome of an attempt, and what it does to the key and to the key's project.

The table of the product's page, column "effect". A used-up quota counts as a failure in the health
window, but not towards the breaker: it concerns one model, and a burst of 429s for that model must
not exclude the key from others. A trial that ends so is given back, for another attempt to make.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from gemproxy.core.sentences import first_sentence
from gemproxy.pool.breaker import Permit
from gemproxy.pool.cooldowns import ALL_MODELS, FORBIDDEN, Cooldown
from gemproxy.pool.eligibility import Eligibility
from gemproxy.pool.quota_ledger import ExceededQuota
from gemproxy.pool.snapshot import LastError
from gemproxy.pool.state import KeyState


class Verdict(Enum):
    """The kinds of outcome; ``docs/architecture.md`` has the table of their effects."""

    SUCCESS = "success"
    REQUEST = "request"  # the client's request is at fault: nobody is charged, no retry
    BLOCKED = "blocked"  # a safety block: the key did its work
    QUOTA_MINUTE = "quota_minute"
    QUOTA_DAY = "quota_day"
    KEY = "key"  # invalid, expired, leaked, forbidden
    MODEL_DENIED = "model_denied"  # this key's project may not use this model
    FORBIDDEN = "forbidden"  # this key may not use this model, and Google does not say why
    SERVICE = "service"  # the upstream answered 5xx
    NETWORK = "network"  # the upstream did not answer
    BROKEN_OFF = "broken_off"  # either of the two, after the client had seen the beginning
    REGION = "region"  # this host's address is refused, whatever the key
    UNUSABLE = "unusable"  # HTTP 200 without an answer in it: retried, charged to nobody
    HOST = "host"  # this machine is out of descriptors, ports or threads
    CLIENT_GONE = "client_gone"

    # Each member is one object, and Enum's own hash is Python code: some ten calls per request.
    __hash__ = object.__hash__


SERVED = frozenset({Verdict.SUCCESS, Verdict.BLOCKED})
"""The client has its answer."""


QUOTA = frozenset({Verdict.QUOTA_MINUTE, Verdict.QUOTA_DAY})
"""A quota of the key's project is used up."""


class Charge(Enum):
    """Whom an outcome is charged to."""

    KEY = "key"
    MODEL = "model"
    NOBODY = "nobody"

    __hash__ = object.__hash__


@dataclass(frozen=True)
class Outcome:
    """The judgement on one attempt.

    ``status`` is the HTTP status of the upstream, ``None`` if there was none. ``retry_after`` is
    the delay that the upstream named, in seconds from the outcome. ``until`` is an epoch time, if
    the calendar decides (a daily quota). ``reason`` is a fixed word for logs, metrics and
    ``needs_attention`` (``invalid``, ``expired``, ``leaked``, ``suspended``, ``forbidden``,
    ``service_disabled``, ``billing``, ``spend_limit``, ``thought_signature`` …).
    ``message`` is the text of the upstream, for the client; it may echo a secret, so it is scrubbed
    before it goes anywhere. If only the operator may see it (causes in the network), ``public`` is
    what the client sees instead.
    """

    verdict: Verdict
    status: int | None = None
    reason: str = ""
    message: str = ""
    retry_after: float | None = None
    until: float | None = None
    #: The cooldown is for every model of the project, not only for this one (a spend limit).
    all_models: bool = False
    #: The token quota that was exceeded, if it is known: a prompt may be larger than it.
    token_quota: int | None = None
    #: The exceeded quotas whose values are known.
    quotas: tuple[ExceededQuota, ...] = ()
    #: The failure was a timeout.
    timed_out: bool = False
    #: The key is not at fault, though another one may serve: the upstream was not reached, or
    #: something in front of it answered.
    spares_key: bool = False
    public: str = ""
    #: Google's canonical word for the status, its ``ErrorInfo.reason``, and the exceeded quota.
    google_status: str = ""
    google_reason: str = ""
    quota_id: str = ""
    #: OpenAI's error ``code`` and ``param`` for a refused request, if they are known.
    code: str | None = None
    param: str | None = None


def apply_outcome(
    entry: KeyState,
    permit: Permit,
    model: str,
    outcome: Outcome,
    now: float,
    eligibility: Eligibility,
) -> None:
    """Apply ``outcome`` of an attempt with ``model`` to ``entry`` and to its project."""
    effect = _EFFECTS.get(outcome.verdict)
    if effect is not None:
        effect(entry, permit, outcome, now)
        return
    forbidden = outcome.verdict is Verdict.FORBIDDEN
    if forbidden and entry.forbidden_model not in (None, model):
        # Another model was forbidden before, with no success since: the key itself is rejected.
        _rejected(entry, permit, outcome, now)
        return
    entry.breaker.release(permit)
    if outcome.verdict in QUOTA:
        _out_of_quota(entry, model, outcome, now, eligibility)
    elif forbidden or outcome.verdict is Verdict.MODEL_DENIED:
        _denied(entry, model, outcome, now, eligibility)


def _succeeded(entry: KeyState, permit: Permit, _outcome: Outcome, now: float) -> None:
    if entry.needs_attention and permit.generation == entry.breaker.generation:
        # A request that was sent before the breaker opened does not show that the key works.
        entry.needs_attention = None
    entry.forbidden_model = None
    entry.window.record(success=True, now=now)
    entry.breaker.record_success(permit)


def _failed(entry: KeyState, permit: Permit, outcome: Outcome, now: float) -> None:
    entry.failed(_error(outcome, now))
    entry.breaker.record_failure(permit, now)


def _broke_off(entry: KeyState, permit: Permit, outcome: Outcome, now: float) -> None:
    """It is unknown whether the key or Google failed: it counts for health, not for the breaker."""
    entry.failed(_error(outcome, now))
    entry.breaker.release(permit)


def _rejected(entry: KeyState, permit: Permit, outcome: Outcome, now: float) -> None:
    entry.failed(_error(outcome, now))
    entry.needs_attention = outcome.reason or "forbidden"
    entry.breaker.record_fatal(permit, now)


_EFFECTS: dict[Verdict, Callable[[KeyState, Permit, Outcome, float], None]] = {
    Verdict.SUCCESS: _succeeded,
    Verdict.BLOCKED: _succeeded,
    Verdict.KEY: _rejected,
    Verdict.SERVICE: _failed,
    Verdict.NETWORK: _failed,
    Verdict.BROKEN_OFF: _broke_off,
}
"""Those that concern the key, whatever the model."""


def _out_of_quota(
    entry: KeyState, model: str, outcome: Outcome, now: float, eligibility: Eligibility
) -> None:
    entry.failed(_error(outcome, now))
    until = quota_returns(entry, outcome, now, eligibility)
    models = ALL_MODELS if outcome.all_models else model
    cooldown = Cooldown(entry.key.project, models, until, outcome.verdict.value)
    eligibility.cool_down(eligibility.cooldowns, cooldown, now)


def _denied(
    entry: KeyState, model: str, outcome: Outcome, now: float, eligibility: Eligibility
) -> None:
    """The project may not use the model; or the key, if Google forbids it and does not say why."""
    entry.last_error = _error(outcome, now)
    until = now + eligibility.settings.recovery_time
    if outcome.verdict is Verdict.FORBIDDEN:
        entry.forbidden_model = model
        table, denial = eligibility.key_denials, Cooldown(entry.id, model, until, FORBIDDEN)
    else:
        if outcome.until is not None:
            until = eligibility.calendar.monotonic(outcome.until)
        table, denial = eligibility.denials, Cooldown(entry.key.project, model, until, "denied")
    eligibility.cool_down(table, denial, now)


def quota_returns(entry: KeyState, outcome: Outcome, now: float, eligibility: Eligibility) -> float:
    """When a used-up quota may be used again: as the upstream says, or after the key's cooldown."""
    if outcome.until is not None:
        return eligibility.calendar.monotonic(outcome.until)
    delay = outcome.retry_after
    return now + (entry.cooldown(eligibility.settings) if delay is None else delay)


def _error(outcome: Outcome, now: float) -> LastError:
    """The failure as the operator sees it, without quotes from the client's request."""
    message = first_sentence(outcome.message)
    return LastError(now, outcome.verdict.value, outcome.status, message)
