"""Whether a key may serve a model now, and if not, what makes ineligible it."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

from gemproxy.pool.breaker import State
from gemproxy.pool.calendar import Calendar
from gemproxy.pool.cooldowns import Cooldowns
from gemproxy.pool.key import Key
from gemproxy.pool.key_diff import KeyDiff
from gemproxy.pool.key_state import KeyState, PoolSettings
from gemproxy.pool.limits import Shortage
from gemproxy.pool.stride import Ineligible, Reason

#: To look a member of an Enum up costs more than a call.
_CLOSED, _OPEN = State.CLOSED, State.OPEN
_CIRCUIT_OPEN = Reason.CIRCUIT_OPEN
_MODEL_NOT_ALLOWED = Reason.MODEL_NOT_ALLOWED
_COOLING_DOWN = Reason.COOLING_DOWN
_OVER_LIMIT = Reason.OVER_LIMIT
_LOW_HEALTH = Reason.LOW_HEALTH

DISABLED = Ineligible(Reason.DISABLED)
"""Goes before every other reason, and ends with the operator's word only."""

_BUSY = Ineligible(Reason.HALF_OPEN_BUSY)
_NOT_ALLOWED = Ineligible(_MODEL_NOT_ALLOWED)


class Eligibility:
    """Knows the cooldowns of projects and asks keys for the remainder.

    ``cooldowns`` are projects whose quota for a model is used up, ``denials`` are projects that
    Google refuses a model, ``key_denials`` are single keys, by their ids, to which it does.
    ``calendar`` relates the pool's time to the wall clock's.
    """

    def __init__(self, settings: PoolSettings) -> None:
        self.settings = settings
        self.calendar = Calendar()
        self.cooldowns = Cooldowns()
        self.denials = Cooldowns()
        self.key_denials = Cooldowns()

    def check(
        self,
        key: KeyState,
        model: str,
        now: float,
        *,
        tokens: int = 0,
        last_resort: bool = False,
        probe: bool = False,
    ) -> Ineligible | None:
        """What keeps ``key`` from serving ``model`` at ``now``; ``None`` where nothing does.

        Of several reasons the one that lasts longest is told.
        ``last_resort`` admits low health, ``probe`` a half-open key that waits for its probe.
        """
        if self.trivially_eligible(key, model):
            return None
        shortage = key.ledger.shortage(now, tokens) if key.ledger is not None else None
        found = self._lasting(key, model, now, shortage, probe)
        if found:
            return found[0] if len(found) == 1 else _longest(found)
        if shortage is not None:
            return Ineligible(_OVER_LIMIT, shortage.until, momentary=True)
        if not last_resort and self._is_weak(key, now):
            return Ineligible(_LOW_HEALTH, key.window.next_change(now))
        return None

    def trivially_eligible(self, key: KeyState, model: str) -> bool:
        """Whether nothing at all could keep ``key`` from ``model``, seen at a glance."""
        return _is_unrestricted(key) and not self.may_cool(key, model)

    def may_cool(self, key: KeyState, model: str) -> bool:
        """Whether ``key`` or its project is kept from ``model``, or was until a moment ago."""
        cooldowns, denials, key_denials = self.cooldowns, self.denials, self.key_denials
        return (
            (cooldowns.size > 0 and cooldowns.may_find(key.key.project, model))
            or (denials.size > 0 and denials.may_find(key.key.project, model))
            or (key_denials.size > 0 and key_denials.may_find(key.id, model))
        )

    def concern(self, model: str) -> bool:
        """Whether any key may be kept from ``model`` in particular."""
        return (
            self.cooldowns.concern(model)
            or self.denials.concern(model)
            or self.key_denials.concern(model)
        )

    def forget(self, key: KeyState) -> None:
        """End every cooldown of a key and of its project."""
        for cooldowns in (self.cooldowns, self.denials):
            cooldowns.forget_project(key.key.project)
        self.key_denials.forget_project(key.id)

    def denied_models(self, key: KeyState, now: float) -> tuple[str, ...]:
        """The models that Google refuses to a key or to its project, sorted."""
        if not (self.denials.size or self.key_denials.size):
            return ()
        found = self.denials.of_project(key.key.project, now)
        found += self.key_denials.of_project(key.id, now)
        return tuple(sorted({denial.model for denial in found}))

    @property
    def any_cooldowns(self) -> bool:
        """Whether any project is kept from any model."""
        return self.cooldowns.size > 0 or self.denials.size > 0 or self.key_denials.size > 0

    def doubtful(
        self, keys: Iterable[KeyState], model: str, tried: Collection[str]
    ) -> Collection[KeyState]:
        """Those of ``keys`` that may be hindered or were ``tried``: none of many sound ones."""
        return [key for key in keys if key.id in tried or not self.trivially_eligible(key, model)]

    def follow_names(self, diff: KeyDiff, entries: Iterable[KeyState], now: float) -> None:
        """Move the cooldowns of keys that are renamed, where the project is only the key's name.

        ``entries`` are the keys from now on; those whose file entry changed still have the old one.
        A renamed key keeps its cooldowns, and another secret under its old name begins without
        them.
        """
        moves = [(old, new) for _, old, new in diff.updated if old.project != new.project]
        gone = (*(entry.key for entry in diff.removed), *(old for old, _ in moves))
        left = {key.project for key in gone if is_alone(key)}
        if left:
            # Only now, since it looks at every key.
            left -= {entry.key.project for entry in diff.staying(entries)}
        for cooldowns in (self.cooldowns, self.denials):
            carried = [
                replace(cooldown, project=new.project)
                for old, new in moves
                if is_alone(old) and is_alone(new)
                for cooldown in cooldowns.of_project(old.project, now)
            ]
            for project in left:
                cooldowns.forget_project(project)
            for cooldown in carried:
                cooldowns.add(cooldown, now)

    def _lasting(
        self, key: KeyState, model: str, now: float, shortage: Shortage | None, probe: bool
    ) -> list[Ineligible]:
        """What would hinder any other request for the model as well, in order of precedence."""
        found: list[Ineligible] = []
        if not key.enabled:
            found.append(DISABLED)
        if key.breaker.state is not _CLOSED and (opened := self._breaker(key, now, probe)):
            found.append(opened)
        if not key.allows(model):
            found.append(_NOT_ALLOWED)
        if self.denials.size and (denial := self.denials.find(key.key.project, model, now)):
            found.append(Ineligible(_MODEL_NOT_ALLOWED, denial.until))
        if self.key_denials.size and (denial := self.key_denials.find(key.id, model, now)):
            found.append(Ineligible(_MODEL_NOT_ALLOWED, denial.until))
        if self.cooldowns.size and (cooldown := self.cooldowns.find(key.key.project, model, now)):
            found.append(Ineligible(_COOLING_DOWN, cooldown.until, cooldown.reason == "quota_day"))
        if shortage is not None and not shortage.momentary:
            found.append(Ineligible(_OVER_LIMIT, shortage.until, shortage.for_the_day))
        return found

    def _breaker(self, key: KeyState, now: float, probe: bool) -> Ineligible | None:
        if key.breaker.state_at(now) is _OPEN:
            rejected = key.needs_attention is not None
            return Ineligible(_CIRCUIT_OPEN, key.breaker.until, rejected=rejected)
        busy = key.breaker.trial_running or (not probe and key.waits_for_probe(self.settings))
        return _BUSY if busy else None

    def _is_weak(self, key: KeyState, now: float) -> bool:
        score = key.effective_health(now, self.settings.minimum_requests)
        return score < self.settings.health_threshold


def _is_unrestricted(key: KeyState) -> bool:
    """Whether nothing of the key itself could hinder it, whatever the model and the time."""
    return (
        key.enabled
        and key.breaker.state is _CLOSED
        and not key.window.failures
        and key.ledger is None
        and not key.key.models
    )


def _longest(found: list[Ineligible]) -> Ineligible:
    """The one that ends last, the first of several without an end; a trial ends soonest of all.

    So a key that is told to be out of quota until some moment is free at that moment, and what a
    scheduler remembers of a suspended key stays true until then.
    """
    found = [ineligible for ineligible in found if ineligible is not _BUSY]
    endless = [ineligible for ineligible in found if ineligible.until is None]
    return endless[0] if endless else max(found, key=lambda ineligible: ineligible.until or 0.0)


def is_alone(key: Key) -> bool:
    """Whether its project is what stands for it where the file names none."""
    return key.project == key.name
