"""How each key stands, read from the pool at the moment of a scrape and never kept up to date."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from gemproxy.keys.status import KeyStatus
from gemproxy.observability.families import gauges

#: ``KeyStatus.status``, in the order of the contract.
_STATES = ("active", "disabled", "circuit_open", "circuit_half_open")

_Statuses = Callable[[float], Sequence[KeyStatus]]


class KeyGauges(Collector):
    """Gauges of the keys that are configured now.

    ``model_label`` bounds the models that are named. ``on_names`` hears at each scrape which keys
    there are, before anything else is collected from a registry in which this stands first.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        model_label: Callable[[str], str],
        on_names: Callable[[frozenset[str]], None],
    ) -> None:
        self._model_label = model_label
        self._on_names = on_names
        self._watched: tuple[_Statuses, Callable[[], float]] | None = None
        registry.register(self)

    def watch(self, statuses: _Statuses, seconds: Callable[[], float]) -> None:
        """Ask ``statuses`` from now on, with the epoch time from ``seconds``."""
        self._watched = (statuses, seconds)

    def describe(self) -> Iterable[Metric]:
        """Let the registry know the names."""
        return self._families([], 0.0)

    def collect(self) -> Iterable[Metric]:
        """Every key's gauges; no samples before :meth:`watch`."""
        if self._watched is None:
            return self.describe()
        ask, seconds = self._watched
        now = seconds()
        statuses = ask(now)
        self._on_names(frozenset(status.name for status in statuses))
        return self._families(statuses, now)

    def _families(self, statuses: Sequence[KeyStatus], now: float) -> list[Metric]:
        return [
            gauges(
                "gemproxy_key_state",
                "1 for the state in which the key is",
                ("key", "state"),
                (
                    ((status.name, state), float(status.status == state))
                    for status in statuses
                    for state in _STATES
                ),
            ),
            gauges(
                "gemproxy_key_health_score",
                "Successes among all outcomes in the window, from 0 to 1",
                ("key",),
                (((status.name,), status.health_score) for status in statuses),
            ),
            gauges(
                "gemproxy_key_weight",
                "Weight as configured, or as an operator has set it",
                ("key",),
                (((status.name,), status.weight) for status in statuses),
            ),
            gauges(
                "gemproxy_key_cooldown_seconds",
                "Time left until the key may use the model again; the model * stands for all",
                ("key", "model"),
                self._cooldowns(statuses, now).items(),
            ),
            gauges(
                "gemproxy_key_needs_attention",
                "1 where a person must look at the key: it is invalid, expired, forbidden",
                ("key",),
                (
                    ((status.name,), float(status.needs_attention is not None))
                    for status in statuses
                ),
            ),
        ]

    def _cooldowns(self, statuses: Sequence[KeyStatus], now: float) -> dict[tuple[str, str], float]:
        """The longest of those that share a label."""
        longest: dict[tuple[str, str], float] = {}
        for status in statuses:
            for cooldown in status.cooldowns:
                model = cooldown.model
                labels = (status.name, model if model == "*" else self._model_label(model))
                longest[labels] = max(longest.get(labels, 0.0), cooldown.until - now)
        return longest
