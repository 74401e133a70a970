"""Whether a key may serve a model now, and if not, what hinders it."""

from __future__ import annotations

from collections.abc import Iterator

from gemproxy.keys.breaker import State
from gemproxy.keys.cooldowns import Cooldowns
from gemproxy.keys.limits import Shortage
from gemproxy.keys.pooled import PooledKey, PoolSettings
from gemproxy.keys.selection import Hindrance, Reason

_DISABLED = Hindrance(Reason.DISABLED)
_BUSY = Hindrance(Reason.HALF_OPEN_BUSY)
_NOT_ALLOWED = Hindrance(Reason.MODEL_NOT_ALLOWED)


class Eligibility:
    """Knows the rests of projects and asks keys for the remainder.

    ``cooldowns`` are projects whose quota for a model is used up, ``denials`` are projects that
    Google refuses a model.
    """

    def __init__(self, settings: PoolSettings) -> None:
        self.settings = settings
        self.cooldowns = Cooldowns()
        self.denials = Cooldowns()

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

        The first of several reasons is told, with the time at which the last of them is over.
        ``last_resort`` admits low health, ``probe`` a half-open key that waits for its probe.
        """
        shortage = key.ledger.shortage(now, tokens) if key.ledger is not None else None
        found = list(self._lasting(key, model, now, shortage, probe))
        if found:
            return found[0] if len(found) == 1 else _combined(found)
        if shortage is not None:
            return Hindrance(Reason.OVER_LIMIT, shortage.until, momentary=True)
        if not last_resort and self._is_weak(key, now):
            return Hindrance(Reason.LOW_HEALTH, key.window.next_change(now))
        return None

    def _lasting(
        self, key: PooledKey, model: str, now: float, shortage: Shortage | None, probe: bool
    ) -> Iterator[Hindrance]:
        """What would hinder any other request for the model as well, in order of precedence."""
        if not key.enabled:
            yield _DISABLED
        if key.breaker.state is not State.CLOSED:
            yield from self._breaker(key, now, probe)
        if not key.allows(model):
            yield _NOT_ALLOWED
        if self.denials and (denial := self.denials.find(key.key.project, model, now)):
            yield Hindrance(Reason.MODEL_NOT_ALLOWED, denial.until)
        if self.cooldowns and (rest := self.cooldowns.find(key.key.project, model, now)):
            yield Hindrance(Reason.COOLING_DOWN, rest.until, rest.reason == "quota_day")
        if shortage is not None and not shortage.momentary:
            yield Hindrance(Reason.OVER_LIMIT, shortage.until, shortage.for_the_day)

    def _breaker(self, key: PooledKey, now: float, probe: bool) -> Iterator[Hindrance]:
        if key.breaker.state_at(now) is State.OPEN:
            yield Hindrance(Reason.CIRCUIT_OPEN, key.breaker.until)
        elif key.breaker.trial_running or (self.settings.probe and not probe):
            yield _BUSY

    def _is_weak(self, key: PooledKey, now: float) -> bool:
        score = key.acted_score(now, self.settings.minimum_requests)
        return score < self.settings.health_threshold


def _combined(found: list[Hindrance]) -> Hindrance:
    first = found[0]
    if first.until is None:
        return first
    until = max(hindrance.until or 0.0 for hindrance in found)
    return Hindrance(first.reason, until, any(hindrance.for_the_day for hindrance in found))
