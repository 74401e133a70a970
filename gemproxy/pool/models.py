"""Circuit breakers of models.

When Google is out of order every key fails alike, and the fault is the model's: a failure that
follows a request to every key. The model's breaker opens after some such requests, stays open for
1 s, doubling to 10 s, and lets one trial through, so that traffic flows within seconds of the
repair.

One odd request must not look like an outage, however often it is sent. So a failure counts once
for each distinct body, and the breaker opens only for failures of at least two. A client that
sends odd requests of which no two are the same must not look like one either: an outage is also
told by the successes that stop, so the breaker stays closed as long as others are served about as
often as before.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import count

from msgspec import Struct

from gemproxy.core.errors import ModelUnavailable
from gemproxy.pool.breaker import BreakerSettings, CircuitBreaker, Permit, State

_COOLDOWN = 1.0
_LONGEST_COOLDOWN = 10.0
# How far apart the generations of two breakers are that one model had, one after the other.
_GENERATIONS = 1 << 32
#: One body's failures are no outage, whatever the threshold.
_FEWEST_BODIES = 2
#: Digests of failed bodies that are told apart for each model, the latest.
_BODIES = 64
#: Successes have stopped when none came for so many times their usual distance, in any case after
#: so many seconds.
_MISSING = 10.0
_LONGEST_SILENCE = 2.0
#: How much the latest distance of two successes counts in the usual one.
_SMOOTHING = 0.2


class ModelPermit(Struct, frozen=True):
    """Leave for one request; ``permit`` is ``None`` while the model has no failures."""

    model: str
    permit: Permit | None = None


class _Served(Struct, gc=False):
    """When a model served last, and how many seconds usually lie between two successes."""

    at: float
    #: A guess, until there is a second success.
    apart: float = 0.1

    def has_stopped(self, now: float) -> bool:
        """Whether a success is missing at ``now``."""
        return now - self.at >= min(_MISSING * self.apart, _LONGEST_SILENCE)


class _Failing:
    """A model that fails: its breaker, and the digests of the bodies that it failed with."""

    __slots__ = ("bodies", "breaker")

    def __init__(self, breaker: CircuitBreaker) -> None:
        self.breaker = breaker
        self.bodies: dict[bytes, None] = {}

    def is_new(self, body: bytes | None) -> bool:
        """Whether ``body`` did not fail before; remembers it. Without one it is new."""
        if body is None:
            return True
        new = body not in self.bodies
        # At the end, since the one that failed longest ago makes room.
        self.bodies.pop(body, None)
        self.bodies[body] = None
        if len(self.bodies) > _BODIES:
            del self.bodies[next(iter(self.bodies))]
        return new


class ModelBreakers:
    """A breaker for each model that fails.

    A model that nobody was served by and that has no failures costs nothing; of the others at most
    ``capacity`` are kept, since clients may name any model.
    """

    def __init__(self, failure_threshold: int = 3, capacity: int = 1024) -> None:
        self._capacity = capacity
        self._eras = count()
        self._failing: OrderedDict[str, _Failing] = OrderedDict()
        self._served: OrderedDict[str, _Served] = OrderedDict()
        self.configure(failure_threshold)

    def configure(self, failure_threshold: int) -> None:
        """Take another threshold; what has failed so far still counts."""
        threshold = max(failure_threshold, _FEWEST_BODIES)
        self._settings = BreakerSettings(threshold, _COOLDOWN, _LONGEST_COOLDOWN)
        for failing in self._failing.values():
            failing.breaker.settings = self._settings

    def acquire(self, model: str, now: float) -> ModelPermit:
        """Leave for one request, to be recorded or released.

        Raises :class:`~gemproxy.core.errors.ModelUnavailable` while the breaker is open or on
        trial.
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

        ``body`` is a digest of the request's body; a failure without one counts as another body's.
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
            served.apart += (now - served.at - served.apart) * _SMOOTHING
            served.at = now
        failing = self._failing.get(permit.model)
        if failing is None:
            return
        breaker = failing.breaker
        if permit.permit is not None:
            breaker.record_success(permit.permit)
        elif breaker.state is State.CLOSED:
            breaker.consecutive_failures = 0
        if breaker.state is State.CLOSED and not breaker.consecutive_failures:
            del self._failing[permit.model]

    def release(self, permit: ModelPermit, now: float) -> None:  # noqa: ARG002 - as the pool's
        """The request said nothing about the model."""
        failing = self._failing.get(permit.model)
        if failing is not None and permit.permit is not None:
            failing.breaker.release(permit.permit)

    def delay(self, model: str, now: float) -> float:
        """Seconds until an open breaker lets a trial through; 0 where it is not open."""
        failing = self._failing.get(model)
        until = failing.breaker.until if failing is not None else None
        return 0.0 if until is None else max(0.0, until - now)

    def unavailable(self, now: float) -> list[tuple[str, float]]:
        """The models whose breaker is open at ``now``, with the time of their next trial."""
        return [
            (model, failing.breaker.until)
            for model, failing in self._failing.items()
            if failing.breaker.until is not None and failing.breaker.state_at(now) is State.OPEN
        ]

    def __len__(self) -> int:
        return len(self._failing)

    def _first_served(self, model: str, now: float) -> None:
        self._served[model] = _Served(now)
        if len(self._served) > self._capacity:
            self._served.popitem(last=False)

    def _failed(self, permit: ModelPermit, now: float, body: bytes | None) -> None:
        failing = self._failing.get(permit.model) or self._new(permit.model)
        breaker, new = failing.breaker, failing.is_new(body)
        if breaker.state is State.CLOSED:
            self._count(permit, breaker, now, new=new)
        elif permit.permit is not None:
            # A body that failed before may be at fault itself: somebody else's trial comes soon.
            breaker.record_failure(permit.permit, now, longer=new)
        if permit.model in self._failing:
            self._failing.move_to_end(permit.model)

    def _count(
        self, permit: ModelPermit, breaker: CircuitBreaker, now: float, *, new: bool
    ) -> None:
        """One more failure while the breaker is closed, of a ``new`` body or of one that failed."""
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
            self._failing.popitem(last=False)
        return failing
