"""A circuit breaker: closed, open, half-open.

``failure_threshold`` consecutive failures open it. An open breaker admits nothing until its
cooldown is over; then it is half-open and admits one trial at a time. A trial that succeeds closes
it; one that fails opens it again for twice as long, at most ``recovery_time``.

Each admitted attempt has a :class:`Permit` with the breaker's generation, and each transition
begins a new generation. A result with an older permit is ignored: the answer to a request that was
sent before the breaker opened says nothing about now.

Terms: failsafe-go ``circuitbreaker``, resilience4j ``CircuitBreaker``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum


class BreakerState(Enum):
    """The states of a breaker."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


#: Looking up a member of an Enum costs more than a call, and every request needs the state.
_CLOSED, _OPEN, _HALF_OPEN = BreakerState


@dataclass(frozen=True, slots=True)
class BreakerSettings:
    """How many consecutive failures open a breaker, and for how many seconds."""

    failure_threshold: int = 3
    #: The first one; doubles each time that a trial fails.
    cooldown: float = 30.0
    #: The longest one.
    recovery_time: float = 300.0


@dataclass(frozen=True, slots=True)
class Permit:
    """Permission for one attempt, to be recorded or released once."""

    generation: int
    trial: bool = False


@dataclass(frozen=True, slots=True)
class BreakerSnapshot:
    """The state to keep over a restart. A half-open breaker is kept as open until a past time."""

    until: float | None = None
    cooldown: float = 0.0
    consecutive_failures: int = 0


class CircuitBreaker:
    """See the module. Times are monotonic.

    ``on_transition`` is called with the old and the new state, after the change.
    """

    __slots__ = (
        "_cooldown",
        "_generation",
        "_permit",
        "_trial_expires",
        "_trial_running",
        "_until",
        "consecutive_failures",
        "on_transition",
        "settings",
        "state",
    )

    def __init__(
        self,
        settings: BreakerSettings,
        on_transition: Callable[[BreakerState, BreakerState], None] | None = None,
        *,
        generation: int = 0,
    ) -> None:
        self.settings = settings
        self.state = _CLOSED
        self.consecutive_failures = 0
        self.on_transition = on_transition
        self._generation = generation
        self._permit = Permit(generation)
        self._trial_running = False
        self._until = -math.inf
        self._cooldown = 0.0
        #: When a trial that has not ended is given up.
        self._trial_expires = 0.0

    def state_at(self, now: float) -> BreakerState:
        """The state as it is at ``now``: an open breaker whose cooldown is over is half-open."""
        if self.state is _OPEN and now >= self._until:
            return _HALF_OPEN
        return self.state

    @property
    def until(self) -> float | None:
        """When an open breaker will admit its trial; ``None`` while it is not open."""
        return self._until if self.state is _OPEN else None

    @property
    def trial_running(self) -> bool:
        """Whether a half-open breaker has a trial in progress."""
        return self._trial_running

    def trial_running_at(self, now: float) -> bool:
        """As :attr:`trial_running`, but ``False`` if the trial takes too long."""
        return self._trial_running and now < self._trial_expires

    @property
    def generation(self) -> int:
        """How many transitions there were, plus the number that the breaker began with."""
        return self._generation

    def try_acquire(self, now: float) -> Permit | None:
        """A permit, or ``None`` while open or while another trial is running."""
        if self.state is _CLOSED:
            return self._permit
        if self.state_at(now) is _OPEN or self.trial_running_at(now):
            return None
        if self.state is _OPEN:
            self._enter(_HALF_OPEN)
        self._trial_running = True
        self._trial_expires = now + self._cooldown
        return Permit(self._generation, trial=True)

    def record_success(self, permit: Permit) -> None:
        """The attempt succeeded: clear the count of failures and close a half-open breaker."""
        if permit.generation != self._generation:
            return
        self.consecutive_failures = 0
        if self.state is _HALF_OPEN:
            self._enter(_CLOSED)

    def record_failure(self, permit: Permit, now: float, *, longer: bool = True) -> None:
        """The attempt failed, and the key or model of this breaker is at fault.

        If it was a trial, the cooldown doubles with ``longer``; without, it is the first one again.
        """
        if permit.generation != self._generation:
            return
        self.consecutive_failures += 1
        if self.state is _HALF_OPEN:
            self._open_for(now, self._cooldown * 2 if longer else self.settings.cooldown)
        elif self.consecutive_failures >= self.settings.failure_threshold:
            self._open_for(now, self.settings.cooldown)

    def record_fatal(self, permit: Permit, now: float) -> None:
        """One failure that is enough: open at once for ``recovery_time``.

        With an old permit it can only make the time of an open breaker longer. If the breaker has
        closed since, or a trial is running, that is newer evidence.
        """
        if permit.generation == self._generation or self.state is _OPEN:
            self.consecutive_failures += 1
            self.open(now, now + self.settings.recovery_time)

    def release(self, permit: Permit) -> None:
        """Release a permit whose attempt says nothing; another attempt may be the trial."""
        if permit.trial and permit.generation == self._generation:
            self._trial_running = False

    def open(self, now: float, until: float) -> None:
        """Open until ``until``, or for longer if the breaker is open for longer already."""
        if self.state is _OPEN:
            until = max(until, self._until)
        self._cooldown = until - now
        self._until = until
        if self.state is not _OPEN:
            self._enter(_OPEN)

    def close(self) -> None:
        """Close and clear all failures, for the operator."""
        self.consecutive_failures = 0
        if self.state is not _CLOSED:
            self._enter(_CLOSED)

    def snapshot(self) -> BreakerSnapshot:
        """The state to keep over a restart."""
        until = None if self.state is _CLOSED else self._until
        return BreakerSnapshot(until, self._cooldown, self.consecutive_failures)

    def restore(self, snapshot: BreakerSnapshot, now: float) -> None:
        """Restore a :meth:`snapshot`; no transition is reported.

        The breaker is not open for longer than ``recovery_time``, whatever the snapshot says.
        """
        longest = self.settings.recovery_time
        self.consecutive_failures = snapshot.consecutive_failures
        if snapshot.until is not None:
            self._until = min(snapshot.until, now + longest)
            self._cooldown = min(snapshot.cooldown, longest)
            self._enter(_OPEN, report=False)

    def _open_for(self, now: float, cooldown: float) -> None:
        self.open(now, now + min(cooldown, self.settings.recovery_time))

    def _enter(self, state: BreakerState, *, report: bool = True) -> None:
        """Change the state and begin a new generation. Nothing else sets the state."""
        previous, self.state = self.state, state
        self._generation += 1
        self._permit = Permit(self._generation)
        self._trial_running = False
        if state is _CLOSED:
            self._cooldown = 0.0
        if report and self.on_transition is not None:
            self.on_transition(previous, state)
