"""Counters and histograms that cost a request next to nothing.

The client library's own take a lock for each value and walk through the buckets, which comes to
several times as much; a request touches a dozen of them. These are written by the reactor's thread
only, and become the library's metrics when they are scraped.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from itertools import accumulate
from typing import TypeVar

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

_Value = TypeVar("_Value")

Labels = tuple[str, ...]
"""The values of a family's labels, in their order."""

Sample = tuple[Labels, float]


class CounterFamily(Collector):
    """A counter for each combination of labels that has occurred, or was named at the start."""

    def __init__(
        self,
        registry: CollectorRegistry,
        name: str,
        about: str,
        labels: Sequence[str] = (),
        at_zero: Iterable[Labels] = (),
    ) -> None:
        self._name = name
        self._about = about
        self._labels = tuple(labels)
        self._values: defaultdict[Labels, float] = defaultdict(float, dict.fromkeys(at_zero, 0.0))
        registry.register(self)

    def add(self, labels: Labels, amount: float = 1) -> None:
        """Count ``amount`` more."""
        self._values[labels] += amount

    def keep(self, label: str, values: Container[str]) -> None:
        """Drop the series whose ``label`` is none of ``values``."""
        _prune(self._values, self._labels.index(label), values)

    def describe(self) -> Iterable[Metric]:
        """Let the registry know the name."""
        return [self._family({})]

    def collect(self) -> Iterable[Metric]:
        """Everything counted."""
        return [self._family(self._values)]

    def _family(self, values: Mapping[Labels, float]) -> Metric:
        return counters(self._name, self._about, self._labels, values.items())


class HistogramFamily(Collector):
    """A histogram of seconds for each combination of labels.

    ``bounds`` are the upper ends of the buckets, inclusive and ascending; one more takes the rest.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        name: str,
        about: str,
        bounds: Sequence[float],
        labels: Sequence[str] = (),
    ) -> None:
        self._name = name
        self._about = about
        self._bounds = tuple(bounds)
        self._ends = [*map(floatToGoString, bounds), "+Inf"]
        self._labels = tuple(labels)
        self._series: dict[Labels, _Distribution] = {}
        if not labels:
            self._series[()] = _Distribution(len(self._ends))
        registry.register(self)

    def observe(self, labels: Labels, seconds: float) -> None:
        """Count one duration."""
        series = self._series.get(labels)
        if series is None:
            series = self._series[labels] = _Distribution(len(self._ends))
        series.counts[bisect_left(self._bounds, seconds)] += 1
        series.sum += seconds

    def keep(self, label: str, values: Container[str]) -> None:
        """Drop the series whose ``label`` is none of ``values``."""
        _prune(self._series, self._labels.index(label), values)

    def describe(self) -> Iterable[Metric]:
        """Let the registry know the name."""
        return [self._family()]

    def collect(self) -> Iterable[Metric]:
        """Everything observed."""
        family = self._family()
        for labels, series in self._series.items():
            buckets = list(zip(self._ends, accumulate(series.counts), strict=True))
            family.add_metric(labels, buckets, series.sum)
        return [family]

    def _family(self) -> HistogramMetricFamily:
        return HistogramMetricFamily(self._name, self._about, labels=self._labels)


def counters(name: str, about: str, labels: Sequence[str], samples: Iterable[Sample]) -> Metric:
    """Counters as they are in this moment."""
    family = CounterMetricFamily(name, about, labels=labels)
    for values, value in samples:
        family.add_metric(values, value)
    return family


def gauges(name: str, about: str, labels: Sequence[str], samples: Iterable[Sample]) -> Metric:
    """Gauges as they are in this moment."""
    family = GaugeMetricFamily(name, about, labels=labels)
    for values, value in samples:
        family.add_metric(values, value)
    return family


class _Distribution:
    """How many durations fell into each bucket, and their sum."""

    __slots__ = ("counts", "sum")

    def __init__(self, buckets: int) -> None:
        self.counts = [0] * buckets
        self.sum = 0.0


def _prune(series: dict[Labels, _Value], position: int, values: Container[str]) -> None:
    for labels in [labels for labels in series if labels[position] not in values]:
        del series[labels]
