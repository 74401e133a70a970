"""Circuit breakers of models.

When Google is out of order every key fails alike, and the fault is the model's: a failure that
follows a request to every key. The model's breaker opens after some such requests, rests for 1 s,
doubling to 10 s, and lets one trial through, so that traffic flows within seconds of the repair.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import count

from msgspec import Struct

from gemproxy.errors import ModelUnavailable
from gemproxy.keys.breaker import BreakerSettings, CircuitBreaker, Permit, State

_COOLDOWN = 1.0
_LONGEST_COOLDOWN = 10.0
# How far apart the generations of two breakers are that one model had, one after the other.
_GENERATIONS = 1 << 32


class ModelPermit(Struct, frozen=True):
    """Leave for one request; ``permit`` is ``None`` while the model has no failures."""

    model: str
    permit: Permit | None = None


class ModelBreakers:
    """A breaker for each model that fails.

    A model without failures costs nothing; of the others at most ``capacity`` are kept, since
    clients may name any model.
    """

    def __init__(self, failure_threshold: int = 3, capacity: int = 1024) -> None:
        self._capacity = capacity
        self._eras = count()
        self._breakers: OrderedDict[str, CircuitBreaker] = OrderedDict()
        self.configure(failure_threshold)

    def configure(self, failure_threshold: int) -> None:
        """Take another threshold; what has failed so far still counts."""
        self._settings = BreakerSettings(failure_threshold, _COOLDOWN, _LONGEST_COOLDOWN)
        for breaker in self._breakers.values():
            breaker.settings = self._settings

    def acquire(self, model: str, now: float) -> ModelPermit:
        """Leave for one request, to be recorded or released.

        Raises :class:`~gemproxy.errors.ModelUnavailable` while the model rests or is being tried.
        """
        breaker = self._breakers.get(model)
        if breaker is None:
            return ModelPermit(model)
        permit = breaker.try_acquire(now)
        if permit is None:
            delay = max(_COOLDOWN, (breaker.until or now) - now)
            raise ModelUnavailable(
                f"The model '{model}' failed with every key that was tried; it is tried again"
                f" in {delay:.0f} s.",
                retry_after=delay,
            )
        return ModelPermit(model, permit)

    def record(self, permit: ModelPermit, success: bool, now: float) -> None:
        """The request was served (with whatever key), or failed with every key."""
        if success:
            self._succeeded(permit)
        else:
            self._failed(permit, now)

    def release(self, permit: ModelPermit, now: float) -> None:  # noqa: ARG002 - as the pool's
        """The request said nothing about the model."""
        breaker = self._breakers.get(permit.model)
        if breaker is not None and permit.permit is not None:
            breaker.release(permit.permit)

    def unavailable(self, now: float) -> list[tuple[str, float]]:
        """The models that rest at ``now``, with the time of their next trial."""
        return [
            (model, breaker.until)
            for model, breaker in self._breakers.items()
            if breaker.until is not None and breaker.state_at(now) is State.OPEN
        ]

    def __len__(self) -> int:
        return len(self._breakers)

    def _succeeded(self, permit: ModelPermit) -> None:
        breaker = self._breakers.get(permit.model)
        if breaker is None:
            return
        if permit.permit is not None:
            breaker.record_success(permit.permit)
        elif breaker.state is State.CLOSED:
            breaker.consecutive_failures = 0
        if breaker.state is State.CLOSED and not breaker.consecutive_failures:
            del self._breakers[permit.model]

    def _failed(self, permit: ModelPermit, now: float) -> None:
        breaker = self._breakers.get(permit.model) or self._new_breaker(permit.model)
        if permit.permit is not None:
            breaker.record_failure(permit.permit, now)
        elif breaker.state is State.CLOSED:
            closed = breaker.try_acquire(now)
            if closed is not None:
                breaker.record_failure(closed, now)
        if permit.model in self._breakers:
            self._breakers.move_to_end(permit.model)

    def _new_breaker(self, model: str) -> CircuitBreaker:
        breaker = CircuitBreaker(self._settings, generation=next(self._eras) * _GENERATIONS)
        self._breakers[model] = breaker
        if len(self._breakers) > self._capacity:
            self._breakers.popitem(last=False)
        return breaker
