"""Gauges of each key, read from the pool at the moment of a scrape."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator
from functools import partial
from itertools import chain

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from gemproxy.pool.status import KeyStatus
from gemproxy.telemetry.metric_families import PART, Labels, Sample, gauges, in_parts, kept

#: ``KeyStatus.status``, in the order of the contract.
_STATES = ("active", "disabled", "circuit_open", "circuit_half_open")

_Statuses = Callable[[float], Iterable[KeyStatus]]
_Forget = Callable[[Container[str]], None]


class KeyGauges(Collector):
    """Gauges of the configured keys.

    ``model_label`` bounds the number of model labels. ``mark_keys`` is called when a scrape begins
    and returns a function, which gets the names of all keys before other metrics are collected. So
    this must be first in its registry.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        model_label: Callable[[str], str],
        mark_keys: Callable[[], _Forget],
    ) -> None:
        self._model_label = model_label
        self._mark_keys = mark_keys
        self._watched: tuple[_Statuses, Callable[[], float], Callable[[], float]] | None = None
        registry.register(self)

    def watch(
        self,
        statuses: _Statuses,
        seconds: Callable[[], float],
        wall: Callable[[], float] | None = None,
    ) -> None:
        """Read from ``statuses`` from now on; ``seconds`` returns monotonic time.

        ``wall`` returns epoch time, in which a status has its times; by default the same.
        """
        self._watched = (statuses, seconds, wall or seconds)

    def describe(self) -> Iterable[Metric]:
        """Let the registry know the names."""
        return [make(()) for make in (_states, _HEALTH, _WEIGHT, _COOLDOWN, _ATTENTION)]

    def collect(self) -> Iterable[Metric]:
        """Every key's gauges, in parts; no samples before :meth:`watch`.

        All gauges of one key are of the same moment.
        """
        if self._watched is None:
            return self.describe()
        return self._collect(*self._watched)

    def _collect(
        self, ask: _Statuses, seconds: Callable[[], float], wall: Callable[[], float]
    ) -> Iterator[Metric]:
        now, wall_now = seconds(), wall()
        forget_others = self._mark_keys()
        asked: list[KeyStatus] = []
        yield from in_parts(_states, kept(ask(now), asked), PART // len(_STATES))
        forget_others({status.name for status in asked})
        yield from in_parts(_HEALTH, (((s.name,), s.health_score) for s in asked))
        yield from in_parts(_WEIGHT, (((s.name,), s.weight) for s in asked))
        # First skip the keys without any: skipping all of them takes milliseconds.
        cooling = [status for status in asked if status.cooldowns]
        cooldowns = (self._cooldowns(status, wall_now).items() for status in cooling)
        yield from in_parts(_COOLDOWN, chain.from_iterable(cooldowns))
        yield from in_parts(_ATTENTION, (((s.name,), s.needs_attention is not None) for s in asked))

    def _cooldowns(self, status: KeyStatus, now: float) -> dict[Labels, float]:
        """The longest cooldown for each label."""
        longest: dict[Labels, float] = {}
        for cooldown in status.cooldowns:
            model = cooldown.model
            labels = (status.name, model if model == "*" else self._model_label(model))
            longest[labels] = max(longest.get(labels, 0.0), cooldown.until.timestamp() - now)
        return longest


_Make = Callable[[Iterable[Sample]], Metric]

_HEALTH: _Make = partial(
    gauges,
    "gemproxy_key_health_score",
    "Successes among all outcomes in the window, from 0 to 1",
    ("key",),
)
_WEIGHT: _Make = partial(
    gauges, "gemproxy_key_weight", "Weight as configured, or as an operator has set it", ("key",)
)
_COOLDOWN: _Make = partial(
    gauges,
    "gemproxy_key_cooldown_seconds",
    "Time left until the key may use the model again; the model * stands for all",
    ("key", "model"),
)
_ATTENTION: _Make = partial(
    gauges,
    "gemproxy_key_needs_attention",
    "1 where a person must look at the key: it is invalid, expired, forbidden",
    ("key",),
)


def _states(statuses: Iterable[KeyStatus]) -> Metric:
    return gauges(
        "gemproxy_key_state",
        "1 for the state in which the key is",
        ("key", "state"),
        (
            ((status.name, state), status.status == state)
            for status in statuses
            for state in _STATES
        ),
    )
