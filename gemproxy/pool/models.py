"""Circuit breakers of models.

When Google has an outage, a request fails with every key, and no key is at fault: the failure is
charged to the model. The model's breaker opens after several such requests. It stays open for 1 s,
doubling to 10 s, and admits one trial each time, so that requests are served again within seconds
after the outage.

One request that always fails must not look like an outage, however often it is sent. So a failure
counts once for each distinct body, and the breaker opens only after failures of at least two
bodies. A client that sends many different requests that fail must not look like one either: in an
outage the successes stop. So the breaker stays closed as long as other requests are served about as
often as before.
"""

from __future__ import annotations

from itertools import count

from msgspec import Struct

from gemproxy.core.errors import ModelUnavailable
from gemproxy.pool.breaker import BreakerSettings, BreakerState, CircuitBreaker, Permit

_COOLDOWN = 1.0
_LONGEST_COOLDOWN = 10.0
# The distance of the first generations of two breakers, so that a permit of an earlier breaker of a
# model never fits a later one.
_GENERATIONS = 1 << 32
#: Failures of fewer bodies are no outage, whatever the threshold.
_FEWEST_BODIES = 2
#: The latest digests of failed bodies that are kept for each model.
_BODIES = 64
#: Successes have stopped if none came for this multiple of the usual interval, or for this many
#: seconds.
_MISSING = 10.0
_LONGEST_SILENCE = 2.0
#: The weight of the latest interval in the usual one, an exponential moving average.
_SMOOTHING = 0.2


class ModelPermit(Struct, frozen=True):
    """Permission for one request; ``permit`` is ``None`` while the model has no failures."""

    model: str
    permit: Permit | None = None


class _Served(Struct, gc=False):
    """The time of a model's latest success, and the usual interval in seconds between two."""

    at: float
    #: A guess, until there is a second success.
    interval: float = 0.1

    def has_stopped(self, now: float) -> bool:
        """Whether there should have been another success by ``now``."""
        return now - self.at >= min(_MISSING * self.interval, _LONGEST_SILENCE)


class _Failing:
    """A model with failures: its breaker, and the digests of the bodies that failed."""

    __slots__ = ("bodies", "breaker")

    def __init__(self, breaker: CircuitBreaker) -> None:
        self.breaker = breaker
        self.bodies: dict[bytes, None] = {}

    def is_new(self, body: bytes | None) -> bool:
        """Whether ``body`` fails for the first time. Remembers it; ``None`` is always new."""
        if body is None:
            return True
        new = body not in self.bodies
        # Move it to the end: the first one is evicted when there is no room.
        self.bodies.pop(body, None)
        self.bodies[body] = None
        if len(self.bodies) > _BODIES:
            del self.bodies[next(iter(self.bodies))]
        return new


class ModelBreakers:
    """A breaker for each model that fails.

    A model without a success or a failure costs nothing. Of the others at most ``capacity`` are
    kept, since clients may name any model.
    """

    def __init__(self, failure_threshold: int = 3, capacity: int = 1024) -> None:
        self._capacity = capacity
        self._eras = count()
        #: In the order of the latest failures.
        self._failing: dict[str, _Failing] = {}
        self._served: dict[str, _Served] = {}
        self.configure(failure_threshold)

    def configure(self, failure_threshold: int) -> None:
        """Set the threshold. Failures so far still count."""
        threshold = max(failure_threshold, _FEWEST_BODIES)
        self._settings = BreakerSettings(threshold, _COOLDOWN, _LONGEST_COOLDOWN)
        for failing in self._failing.values():
            failing.breaker.settings = self._settings

    def acquire(self, model: str, now: float) -> ModelPermit:
        """Permission for one request, to be recorded or released.

        Raises :class:`~gemproxy.core.errors.ModelUnavailable` while the breaker is open or its
        trial is running.
        """
        failing = self._failing.get(model)
        if failing is None:
            return ModelPermit(model)
        permit = failing.breaker.try_acquire(now)
        if permit is None:
            delay = max(_COOLDOWN, self.delay(model, now))
            raise ModelUnavailable(
                f"The model '{model}' failed with every key that was tried; it is tried again"
                f" in {delay:.0f} s.",
                retry_after=delay,
            )
        return ModelPermit(model, permit)

    def record(
        self, permit: ModelPermit, success: bool, now: float, body: bytes | None = None
    ) -> None:
        """The request was served (with whatever key), or failed with every key.

        ``body`` is a digest of the request's body; without one the body counts as a new one.
        """
        if success:
            self.succeeded(permit, now)
        else:
            self._failed(permit, now, body)

    def succeeded(self, permit: ModelPermit, now: float) -> None:
        """As :meth:`record` of a success, which nearly every request is."""
        served = self._served.get(permit.model)
        if served is None:
            self._first_served(permit.model, now)
        else:
            served.interval += (now - served.at - served.interval) * _SMOOTHING
            served.at = now
        failing = self._failing.get(permit.model)
        if failing is None:
            return
        breaker = failing.breaker
        if permit.permit is not None:
            breaker.record_success(permit.permit)
        elif breaker.state is BreakerState.CLOSED:
            breaker.consecutive_failures = 0
        if breaker.state is BreakerState.CLOSED and not breaker.consecutive_failures:
            del self._failing[permit.model]

    def release(self, permit: ModelPermit, now: float) -> None:  # noqa: ARG002 - as the pool's
        """Settle a permit whose request said nothing about the model."""
        failing = self._failing.get(permit.model)
        if failing is not None and permit.permit is not None:
            failing.breaker.release(permit.permit)

    def delay(self, model: str, now: float) -> float:
        """Seconds until an open breaker admits its trial; 0 if it is not open."""
        failing = self._failing.get(model)
        until = failing.breaker.until if failing is not None else None
        return 0.0 if until is None else max(0.0, until - now)

    def unavailable(self, now: float) -> list[tuple[str, float]]:
        """The models whose breaker is open at ``now``, with the time of their next trial."""
        return [
            (model, failing.breaker.until)
            for model, failing in self._failing.items()
            if failing.breaker.until is not None
            and failing.breaker.state_at(now) is BreakerState.OPEN
        ]

    def __len__(self) -> int:
        return len(self._failing)

    def _first_served(self, model: str, now: float) -> None:
        self._served[model] = _Served(now)
        if len(self._served) > self._capacity:
            del self._served[next(iter(self._served))]

    def _failed(self, permit: ModelPermit, now: float, body: bytes | None) -> None:
        failing = self._failing.get(permit.model) or self._new(permit.model)
        breaker, new = failing.breaker, failing.is_new(body)
        if breaker.state is BreakerState.CLOSED:
            self._count(permit, breaker, now, new=new)
        elif permit.permit is not None:
            # A body that failed before may itself be at fault, so the next trial comes soon.
            breaker.record_failure(permit.permit, now, longer=new)
        if permit.model in self._failing:
            self._failing[permit.model] = self._failing.pop(permit.model)

    def _count(
        self, permit: ModelPermit, breaker: CircuitBreaker, now: float, *, new: bool
    ) -> None:
        """Count a failure while the breaker is closed; ``new``: the body has not failed before."""
        if permit.permit is not None and permit.permit.generation != breaker.generation:
            return
        breaker.consecutive_failures += new
        served = self._served.get(permit.model)
        if breaker.consecutive_failures < self._settings.failure_threshold:
            return
        if served is None or served.has_stopped(now):
            breaker.open(now, now + self._settings.cooldown)

    def _new(self, model: str) -> _Failing:
        breaker = CircuitBreaker(self._settings, generation=next(self._eras) * _GENERATIONS)
        failing = self._failing[model] = _Failing(breaker)
        if len(self._failing) > self._capacity:
            del self._failing[next(iter(self._failing))]
        return failing
