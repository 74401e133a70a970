"""What each outcome does to the key that it was had with, and to the key's project.

The table of the product's page, column "effect". A quota that is used up counts as a failure in the
health window but never towards the breaker: it concerns one model, and a burst of 429s for it must
not bench the key for the others. A trial that ends so is given back, for another model to make.
"""

from __future__ import annotations

from collections.abc import Callable

from gemproxy.pool.breaker import Permit
from gemproxy.pool.cooldowns import ALL_MODELS, FORBIDDEN, Cooldown
from gemproxy.pool.eligibility import Eligibility
from gemproxy.pool.key_state import KeyState
from gemproxy.pool.outcome import Outcome, Verdict

Effect = Callable[[KeyState, Permit, str, Outcome, float, Eligibility], None]


def apply_outcome(
    entry: KeyState,
    permit: Permit,
    model: str,
    outcome: Outcome,
    now: float,
    eligibility: Eligibility,
) -> None:
    """Let ``entry`` and its project bear ``outcome``, had at ``now`` with ``model``."""
    _EFFECTS.get(outcome.verdict, _nothing)(entry, permit, model, outcome, now, eligibility)


def _nothing(
    entry: KeyState, permit: Permit, _model: str, _outcome: Outcome, _now: float, _: Eligibility
) -> None:
    entry.breaker.release(permit)


def _succeeded(
    entry: KeyState, permit: Permit, _model: str, _outcome: Outcome, now: float, _: Eligibility
) -> None:
    if entry.needs_attention and permit.generation == entry.breaker.generation:
        # What was sent before the breaker opened does not show that the key is well again.
        entry.needs_attention = None
    entry.forbidden_model = None
    entry.window.record(success=True, now=now)
    entry.breaker.record_success(permit)


def _failed(
    entry: KeyState, permit: Permit, _model: str, outcome: Outcome, now: float, _: Eligibility
) -> None:
    entry.failed(outcome, now)
    entry.breaker.record_failure(permit, now)


def _broke_off(
    entry: KeyState, permit: Permit, _model: str, outcome: Outcome, now: float, _: Eligibility
) -> None:
    """Nobody knows whether it was the key or Google: its health suffers, its breaker does not."""
    entry.failed(outcome, now)
    entry.breaker.release(permit)


def _rejected(
    entry: KeyState, permit: Permit, _model: str, outcome: Outcome, now: float, _: Eligibility
) -> None:
    entry.failed(outcome, now)
    entry.needs_attention = outcome.reason or "forbidden"
    entry.breaker.record_fatal(permit, now)


def _out_of_quota(
    entry: KeyState,
    permit: Permit,
    model: str,
    outcome: Outcome,
    now: float,
    eligibility: Eligibility,
) -> None:
    entry.failed(outcome, now)
    entry.breaker.release(permit)
    if outcome.until is not None:
        until = eligibility.calendar.monotonic(outcome.until)
    else:
        delay = outcome.retry_after
        until = now + (entry.cooldown(eligibility.settings) if delay is None else delay)
    concerned = ALL_MODELS if outcome.all_models else model
    cooldown = Cooldown(entry.key.project, concerned, until, outcome.verdict.value)
    eligibility.cooldowns.add(cooldown, now)


def _denied(
    entry: KeyState,
    permit: Permit,
    model: str,
    outcome: Outcome,
    now: float,
    eligibility: Eligibility,
) -> None:
    entry.note(outcome, now)
    entry.breaker.release(permit)
    if outcome.until is not None:
        until = eligibility.calendar.monotonic(outcome.until)
    else:
        until = now + eligibility.settings.recovery_time
    eligibility.denials.add(Cooldown(entry.key.project, model, until, "denied"), now)


def _forbidden(
    entry: KeyState,
    permit: Permit,
    model: str,
    outcome: Outcome,
    now: float,
    eligibility: Eligibility,
) -> None:
    """Google forbids the model without a word about the key.

    So the key is kept from this model only. A second model that is forbidden, without a success of
    the key between the two, says that the key itself is meant.
    """
    if entry.forbidden_model not in (None, model):
        _rejected(entry, permit, model, outcome, now, eligibility)
        return
    entry.forbidden_model = model
    entry.note(outcome, now)
    entry.breaker.release(permit)
    until = now + eligibility.settings.recovery_time
    eligibility.key_denials.add(Cooldown(entry.id, model, until, FORBIDDEN), now)


_EFFECTS: dict[Verdict, Effect] = {
    Verdict.SUCCESS: _succeeded,
    Verdict.BLOCKED: _succeeded,
    Verdict.QUOTA_MINUTE: _out_of_quota,
    Verdict.QUOTA_DAY: _out_of_quota,
    Verdict.KEY: _rejected,
    Verdict.MODEL_DENIED: _denied,
    Verdict.FORBIDDEN: _forbidden,
    Verdict.SERVICE: _failed,
    Verdict.NETWORK: _failed,
    Verdict.BROKEN_OFF: _broke_off,
}
