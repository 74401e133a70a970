"""Whether a key may serve a model now, and if not, what hinders it."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

from gemproxy.pool.breaker import State
from gemproxy.pool.calendar import Calendar
from gemproxy.pool.cooldowns import Cooldowns
from gemproxy.pool.key import Key
from gemproxy.pool.key_diff import Difference
from gemproxy.pool.key_state import PooledKey, PoolSettings
from gemproxy.pool.limits import Shortage
from gemproxy.pool.stride import Hindrance, Reason

#: To look a member of an Enum up costs more than a call.
_CLOSED, _OPEN = State.CLOSED, State.OPEN
_CIRCUIT_OPEN = Reason.CIRCUIT_OPEN
_MODEL_NOT_ALLOWED = Reason.MODEL_NOT_ALLOWED
_COOLING_DOWN = Reason.COOLING_DOWN
_OVER_LIMIT = Reason.OVER_LIMIT
_LOW_HEALTH = Reason.LOW_HEALTH

DISABLED = Hindrance(Reason.DISABLED)
"""Goes before every other hindrance, and ends with the operator's word only."""

_BUSY = Hindrance(Reason.HALF_OPEN_BUSY)
_NOT_ALLOWED = Hindrance(_MODEL_NOT_ALLOWED)


class Eligibility:
    """Knows the rests of projects and asks keys for the remainder.

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

    def hindrance(
        self,
        key: PooledKey,
        model: str,
        now: float,
        *,
        tokens: int = 0,
        last_resort: bool = False,
        probe: bool = False,
    ) -> Hindrance | None:
        """What keeps ``key`` from serving ``model`` at ``now``; ``None`` where nothing does.

        Of several reasons the one that lasts longest is told.
        ``last_resort`` admits low health, ``probe`` a half-open key that waits for its probe.
        """
        if self.beyond_doubt(key, model):
            return None
        shortage = key.ledger.shortage(now, tokens) if key.ledger is not None else None
        found = self._lasting(key, model, now, shortage, probe)
        if found:
            return found[0] if len(found) == 1 else _longest(found)
        if shortage is not None:
            return Hindrance(_OVER_LIMIT, shortage.until, momentary=True)
        if not last_resort and self._is_weak(key, now):
            return Hindrance(_LOW_HEALTH, key.window.next_change(now))
        return None

    def beyond_doubt(self, key: PooledKey, model: str) -> bool:
        """Whether nothing at all could keep ``key`` from ``model``, seen at a glance."""
        return _is_spotless(key) and not self.may_rest(key, model)

    def may_rest(self, key: PooledKey, model: str) -> bool:
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

    def forget(self, key: PooledKey) -> None:
        """End every rest of a key and of its project."""
        for rests in (self.cooldowns, self.denials):
            rests.forget_project(key.key.project)
        self.key_denials.forget_project(key.id)

    def denied_models(self, key: PooledKey, now: float) -> tuple[str, ...]:
        """The models that Google refuses to a key or to its project, sorted."""
        if not (self.denials.size or self.key_denials.size):
            return ()
        found = self.denials.of_project(key.key.project, now)
        found += self.key_denials.of_project(key.id, now)
        return tuple(sorted({denial.model for denial in found}))

    @property
    def rests(self) -> bool:
        """Whether any project is kept from any model."""
        return self.cooldowns.size > 0 or self.denials.size > 0 or self.key_denials.size > 0

    def doubtful(
        self, keys: Iterable[PooledKey], model: str, tried: Collection[str]
    ) -> Collection[PooledKey]:
        """Those of ``keys`` that may be hindered or were ``tried``: none of many sound ones."""
        return [key for key in keys if key.id in tried or not self.beyond_doubt(key, model)]

    def follow_names(
        self, difference: Difference, entries: Iterable[PooledKey], now: float
    ) -> None:
        """Let rests go with the secret that earned them, where its project is only its own name.

        ``entries`` are the keys from now on, those whose file entry changed still with the old one.
        A key that is renamed takes its rests along, and another secret under its old name begins
        without them.
        """
        moves = [(old, new) for _, old, new in difference.updated if old.project != new.project]
        gone = (*(entry.key for entry in difference.removed), *(old for old, _ in moves))
        left = {key.project for key in gone if is_alone(key)}
        if left:
            # Only now, since it looks at every key.
            left -= {entry.key.project for entry in difference.staying(entries)}
        for rests in (self.cooldowns, self.denials):
            carried = [
                replace(rest, project=new.project)
                for old, new in moves
                if is_alone(old) and is_alone(new)
                for rest in rests.of_project(old.project, now)
            ]
            for project in left:
                rests.forget_project(project)
            for rest in carried:
                rests.add(rest, now)

    def _lasting(
        self, key: PooledKey, model: str, now: float, shortage: Shortage | None, probe: bool
    ) -> list[Hindrance]:
        """What would hinder any other request for the model as well, in order of precedence."""
        found: list[Hindrance] = []
        if not key.enabled:
            found.append(DISABLED)
        if key.breaker.state is not _CLOSED and (opened := self._breaker(key, now, probe)):
            found.append(opened)
        if not key.allows(model):
            found.append(_NOT_ALLOWED)
        if self.denials.size and (denial := self.denials.find(key.key.project, model, now)):
            found.append(Hindrance(_MODEL_NOT_ALLOWED, denial.until))
        if self.key_denials.size and (denial := self.key_denials.find(key.id, model, now)):
            found.append(Hindrance(_MODEL_NOT_ALLOWED, denial.until))
        if self.cooldowns.size and (rest := self.cooldowns.find(key.key.project, model, now)):
            found.append(Hindrance(_COOLING_DOWN, rest.until, rest.reason == "quota_day"))
        if shortage is not None and not shortage.momentary:
            found.append(Hindrance(_OVER_LIMIT, shortage.until, shortage.for_the_day))
        return found

    def _breaker(self, key: PooledKey, now: float, probe: bool) -> Hindrance | None:
        if key.breaker.state_at(now) is _OPEN:
            return Hindrance(_CIRCUIT_OPEN, key.breaker.until)
        busy = key.breaker.trial_running or (not probe and key.waits_for_probe(self.settings))
        return _BUSY if busy else None

    def _is_weak(self, key: PooledKey, now: float) -> bool:
        score = key.acted_score(now, self.settings.minimum_requests)
        return score < self.settings.health_threshold


def _is_spotless(key: PooledKey) -> bool:
    """Whether nothing of the key itself could hinder it, whatever the model and the time."""
    return (
        key.enabled
        and key.breaker.state is _CLOSED
        and not key.window.failures
        and key.ledger is None
        and not key.key.models
    )


def _longest(found: list[Hindrance]) -> Hindrance:
    """The one that ends last, the first of several without an end; a trial ends soonest of all.

    So a key that is told to be out of quota until some moment is free at that moment, and what a
    rotation remembers of a parked key stays true until then.
    """
    found = [hindrance for hindrance in found if hindrance is not _BUSY]
    endless = [hindrance for hindrance in found if hindrance.until is None]
    return endless[0] if endless else max(found, key=lambda hindrance: hindrance.until or 0.0)


def is_alone(key: Key) -> bool:
    """Whether its project is what stands for it where the file names none."""
    return key.project == key.name
