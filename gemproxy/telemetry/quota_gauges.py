"""Gauges of the quotas that are known, read from the pool at the moment of a scrape."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from gemproxy.pool.cooldowns import ALL_MODELS
from gemproxy.pool.quotas import QuotaStatus
from gemproxy.telemetry.metric_families import Labels, Sample, gauges, in_parts, kept

_Quotas = Callable[[float], Iterable[QuotaStatus]]
_Make = Callable[[Iterable[Sample]], Metric]

#: ``key`` is empty unless the limit is configured for that key.
_LABELS = ("project", "model", "dimension", "key")
_LIMIT: _Make = partial(
    gauges,
    "gemproxy_quota_limit",
    "Requests or tokens in a minute or day that Google, or the configuration, allows",
    _LABELS,
)
_USED: _Make = partial(
    gauges, "gemproxy_quota_used", "How much of a quota is used in its present window", _LABELS
)
_EXHAUSTED: _Make = partial(
    gauges,
    "gemproxy_quota_exhausted_seconds",
    "Time until a quota is used up at the pace of the last hour, if that is within its window",
    _LABELS,
)


class QuotaGauges(Collector):
    """Quotas by project and model; ``model_label`` bounds the number of model labels.

    A model without a label of its own is left out: values of several models cannot be added up.
    """

    def __init__(self, registry: CollectorRegistry, model_label: Callable[[str], str]) -> None:
        self._model_label = model_label
        self._watched: tuple[_Quotas, Callable[[], float], Callable[[], float]] | None = None
        registry.register(self)

    def watch(
        self,
        quotas: _Quotas,
        seconds: Callable[[], float],
        wall: Callable[[], float] | None = None,
    ) -> None:
        """Read from ``quotas`` from now on.

        ``seconds`` gives monotonic time, ``wall`` epoch time (by default the same).
        """
        self._watched = (quotas, seconds, wall or seconds)

    def describe(self) -> Iterable[Metric]:
        """Let the registry know the names."""
        return [make(()) for make in (_LIMIT, _USED, _EXHAUSTED)]

    def collect(self) -> Iterable[Metric]:
        """Every quota's gauges, in parts; no samples before :meth:`watch`.

        All gauges of one quota are of the same moment.
        """
        if self._watched is None:
            return self.describe()
        return self._collect(*self._watched)

    def _collect(
        self, ask: _Quotas, seconds: Callable[[], float], wall: Callable[[], float]
    ) -> Iterator[Metric]:
        now, wall_now = seconds(), wall()
        found: list[tuple[Labels, QuotaStatus]] = []
        each = kept(self._labelled(ask(now)), found)
        yield from in_parts(_LIMIT, ((at, quota.limit) for at, quota in each))
        yield from in_parts(_USED, ((at, quota.used) for at, quota in found))
        ending = (
            (at, max(0.0, quota.exhausted_at.timestamp() - wall_now))
            for at, quota in found
            if quota.exhausted_at is not None
        )
        yield from in_parts(_EXHAUSTED, ending)

    def _labelled(self, quotas: Iterable[QuotaStatus]) -> Iterator[tuple[Labels, QuotaStatus]]:
        for quota in quotas:
            model = quota.model
            if model == ALL_MODELS or self._model_label(model) == model:
                yield (quota.project, model, quota.dimension, quota.key or ""), quota
