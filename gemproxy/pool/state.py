"""The state of one key: its configuration, breaker, health, limits and history."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from msgspec import Struct

from gemproxy.core.sentences import first_sentence
from gemproxy.pool.breaker import BreakerSettings, BreakerState, CircuitBreaker, Permit
from gemproxy.pool.cooldowns import Calendar
from gemproxy.pool.key import NO_MODEL, Key, Limits
from gemproxy.pool.limits import Ledger, Use
from gemproxy.pool.quota_ledger import QuotaUse
from gemproxy.pool.snapshot import Bucket, KeySnapshot, LastError, Override

STRIDE = 720_720 * 1_000_000
"""Stride of the weight 1; whole for every weight up to 16 and exact enough for the others."""

_BUCKETS = 10
_LATENCIES = 64
#: The number of latencies that are shown individually.
_LATENCIES_SHOWN = 24
# A score of 0.0 must not make a stride infinite.
_SMALLEST_SCORE = 0.01


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """The operator's ``monitoring`` settings that concern the pool; times in seconds."""

    #: Consecutive failures that open a key's breaker.
    failure_threshold: int = 3
    #: The first time that a breaker is open, and a project's cooldown after a 429 without a delay.
    cooldown: float = 30.0
    #: The longest time that a breaker is open, and the only one after a fatal failure.
    recovery_time: float = 300.0
    window: float = 300.0
    #: With fewer outcomes in the window the health score has no effect.
    minimum_requests: int = 10
    #: Below this score a key is chosen only if there is no better one.
    health_threshold: float = 0.2
    #: Half-open keys wait for a probe (:meth:`KeyPool.acquire_probe`), not for a client's request.
    probe: bool = False
    #: How much more than its share a key may get for conversations that prefer it; ``None`` if no
    #: request prefers a key.
    stickiness_share: float | None = None


class SlidingWindow:
    """Successes and failures of the last ``seconds``, counted in ten slices.

    Outcomes are forgotten slice by slice, so the window covers between nine tenths and all of its
    length. Empty slices are not stored: an idle key costs nothing.
    """

    __slots__ = ("_buckets", "_successes", "_width", "failures", "seconds")

    def __init__(self, seconds: float, buckets: Iterable[Bucket] = ()) -> None:
        self.seconds = seconds
        self._width = seconds / _BUCKETS
        self._buckets: deque[list[int]] = deque()  # slice number, successes, failures
        self._successes = 0
        #: How many outcomes are counted; some may have left the window.
        self.failures = 0
        for middle, successes, failures in buckets:
            latest = self._slice(middle)
            latest[1] += successes
            latest[2] += failures
            self._successes += successes
            self.failures += failures

    def record(self, *, success: bool, now: float) -> None:
        """Count one outcome."""
        latest = self._slice(now)
        if success:
            latest[1] += 1
            self._successes += 1
        else:
            latest[2] += 1
            self.failures += 1

    def tally(self, now: float) -> tuple[int, int]:
        """Successes and failures in the window."""
        self._forget(int(now // self._width))
        return self._successes, self.failures

    def score(self, now: float) -> float:
        """Successes / all, from 0.0 to 1.0; 1.0 when the window is empty."""
        successes, failures = self.tally(now)
        total = successes + failures
        return successes / total if total else 1.0

    def next_change(self, now: float) -> float:
        """When the oldest slice will leave the window; ``now`` when it is empty."""
        self._forget(int(now // self._width))
        return (self._buckets[0][0] + _BUCKETS) * self._width if self._buckets else now

    def buckets(self) -> tuple[Bucket, ...]:
        """The slices, oldest first, in the form that the constructor accepts."""
        # The middle, since rounding may put the start of a slice into the one before.
        return tuple(((slot + 0.5) * self._width, won, lost) for slot, won, lost in self._buckets)

    def _slice(self, now: float) -> list[int]:
        """The slice to count in at ``now``."""
        slot = now // self._width
        buckets = self._buckets
        if not buckets or buckets[-1][0] != slot:
            self._forget(int(slot))
            # A clock that was set back must not reorder the slices.
            if not buckets or slot > buckets[-1][0]:
                buckets.append([int(slot), 0, 0])
        return buckets[-1]

    def _forget(self, slot: int) -> None:
        buckets = self._buckets
        while buckets and buckets[0][0] <= slot - _BUCKETS:
            _, successes, failures = buckets.popleft()
            self._successes -= successes
            self.failures -= failures


class KeyState:
    """A key and its history. ``order`` is its serial number in the pool."""

    __slots__ = (
        "_calendar",
        "_latencies",
        "_latency_count",
        "breaker",
        "enabled",
        "forbidden_model",
        "full_stride",
        "id",
        "key",
        "last_error",
        "last_used",
        "ledger",
        "needs_attention",
        "order",
        "probe_waived",
        "removed",
        "requests_total",
        "stored",
        "weight",
        "window",
    )

    def __init__(
        self,
        key: Key,
        settings: PoolSettings,
        override: Override,
        order: int,
        on_transition: Callable[[KeyState, BreakerState, BreakerState], None],
        calendar: Calendar | None = None,
    ) -> None:
        self._calendar = calendar or Calendar()
        self.id = key.id
        self.order = order
        self.removed = False
        self.breaker = CircuitBreaker(
            BreakerSettings(), lambda before, after: on_transition(self, before, after)
        )
        self.window = SlidingWindow(settings.window)
        self.ledger: Ledger | None = None
        self.needs_attention: str | None = None
        #: The model for which Google refused this key since the key's last success.
        self.forbidden_model: str | None = None
        #: In this generation of the breaker a client's request may be the trial, even if probes are
        #: on.
        self.probe_waived = -1
        self.requests_total = 0
        self.last_used: float | None = None
        self.last_error: LastError | None = None
        #: The latest snapshot; ``None`` after a change.
        self.stored: KeySnapshot | None = None
        self._latencies = array("d")
        self._latency_count = 0
        self.configure(key, settings, override)

    def configure(self, key: Key, settings: PoolSettings, override: Override) -> None:
        """Take the configuration of the file and the operator's override; the history stays."""
        self.key = key
        self.enabled = key.enabled if override.enabled is None else override.enabled
        self.weight = key.weight if override.weight is None else override.weight
        self.full_stride = STRIDE // self.weight
        self.breaker.settings = BreakerSettings(
            settings.failure_threshold, self.cooldown(settings), settings.recovery_time
        )
        if self.window.seconds != settings.window:
            self.window = SlidingWindow(settings.window, self.window.buckets())
        if key.limits == Limits():
            if self.ledger is not None:
                self.ledger.close()
            self.ledger = None
        elif self.ledger is None:
            self.ledger = Ledger(key.limits, self._calendar)
        else:
            self.ledger.limits = key.limits
        self.stored = None

    def mark_removed(self) -> None:
        """The key was removed from the file. Its breaker reports no more transitions."""
        self.removed = True
        # The two would otherwise be a reference cycle, which is never freed after gc.freeze().
        self.breaker.on_transition = None

    def cooldown(self, settings: PoolSettings) -> float:
        """The key's first cooldown, in seconds."""
        own = self.key.cooldown_seconds
        return settings.cooldown if own is None else own

    def waits_for_probe(self, settings: PoolSettings) -> bool:
        """Whether only a probe may be the trial of its half-open breaker."""
        return settings.probe and self.probe_waived != self.breaker.generation

    def allows(self, model: str) -> bool:
        """Whether the operator lets this key serve ``model``."""
        return not self.key.models or model in self.key.models or model == NO_MODEL

    def effective_health(self, now: float, minimum_requests: int) -> float:
        """The health score, or 1.0 while there are too few outcomes."""
        successes, failures = self.window.tally(now)
        total = successes + failures
        return successes / total if total and total >= minimum_requests else 1.0

    def stride(self, now: float, minimum_requests: int) -> int:
        """The stride of this key now: the inverse of its effective weight."""
        if not self.window.failures:
            return self.full_stride
        score = self.effective_health(now, minimum_requests)
        if score == 1.0:
            return self.full_stride
        return int(STRIDE / (self.weight * max(score, _SMALLEST_SCORE)))

    def count_request(self, now: float) -> None:
        """Count a request that is about to be sent with this key."""
        self.requests_total += 1
        self.last_used = now
        self.stored = None

    def failed(self, error: LastError) -> None:
        """Count a failure against the key's health."""
        self.window.record(success=False, now=error.at)
        self.last_error = error

    def add_latency(self, latency: float) -> None:
        """Store the duration of an answer, in seconds; the oldest one is dropped."""
        if len(self._latencies) < _LATENCIES:
            self._latencies.append(latency)
        else:
            self._latencies[self._latency_count % _LATENCIES] = latency
        self._latency_count += 1

    def latencies_ms(self) -> tuple[float | None, float | None]:
        """Average and 95th percentile of the remembered answers, in milliseconds."""
        if not self._latencies:
            return None, None
        ordered = sorted(self._latencies)
        p95 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))]
        return 1000 * sum(ordered) / len(ordered), 1000 * p95

    def recent_latencies_ms(self) -> tuple[float, ...]:
        """The latest of the remembered answers, oldest first."""
        begin = self._latency_count % len(self._latencies) if self._latencies else 0
        ordered = self._latencies[begin:] + self._latencies[:begin]
        return tuple(round(1000 * latency, 1) for latency in ordered[-_LATENCIES_SHOWN:])

    def snapshot(self) -> KeySnapshot:
        """The state to keep over a restart; the same object until something changes."""
        if self.stored is None:
            self.stored = self.history().shifted(self._calendar.epoch_offset)
        return self.stored

    def history(self) -> KeySnapshot:
        """As :meth:`snapshot`, in the pool's own time."""
        return KeySnapshot(
            id=self.id,
            name=self.key.name,
            breaker=self.breaker.snapshot(),
            buckets=self.window.buckets(),
            needs_attention=self.needs_attention,
            requests_total=self.requests_total,
            last_used=self.last_used,
            last_error=self.last_error,
            usage=self.ledger.snapshot() if self.ledger else None,
        )

    def wall_clock_set(self, now: float) -> None:
        """The wall clock was set, so the times that are stored change."""
        self.stored = None
        if self.ledger is not None:
            self.ledger.wall_clock_set(now)

    def restore(self, snapshot: KeySnapshot, settings: PoolSettings, now: float) -> None:
        """Take back what :meth:`history` gave, or a snapshot in the pool's own time."""
        snapshot = snapshot.no_later_than(now)
        self.breaker.restore(snapshot.breaker, now)
        self.window = SlidingWindow(settings.window, snapshot.buckets)
        self.needs_attention = snapshot.needs_attention
        self.requests_total = snapshot.requests_total
        self.last_used = snapshot.last_used
        if (error := snapshot.last_error) is not None:
            # An earlier version stored whole messages.
            error = replace(error, message=first_sentence(error.message))
        self.last_error = error
        if self.ledger is not None and snapshot.usage is not None:
            self.ledger.restore(snapshot.usage, now)
        self.stored = None


class Lease(Struct, eq=False):
    """The right to use a key for one attempt at ``model``, settled once by the pool.

    ``entry``, ``use`` and ``quota_uses`` are for the pool only.
    """

    entry: KeyState
    key: Key
    model: str
    permit: Permit
    use: Use | None
    #: Whether the key was chosen because it has served the conversation before.
    sticky: bool = False
    settled: bool = False
    #: Where the request counts against quotas that Google has named.
    quota_uses: tuple[QuotaUse, ...] = ()
