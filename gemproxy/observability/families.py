"""Counters and histograms that cost a request next to nothing.

The client library's own take a lock for each value and walk through the buckets, which comes to
several times as much; a request touches a dozen of them. These are written by the reactor's thread
only, and become the library's metrics when they are scraped. Whoever writes to one series again and
again may hold on to it, and spare the search for it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Container, Iterable, Sequence
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


class Count:
    """One series of a counter."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0


class Distribution:
    """One series of a histogram: how many durations fell into each bucket, and their sum."""

    __slots__ = ("_bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        """Count one duration."""
        self.counts[bisect_left(self._bounds, seconds)] += 1
        self.sum += seconds


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
        self._series = {values: Count() for values in at_zero}
        registry.register(self)

    def of(self, labels: Labels) -> Count:
        """The series with these labels; hold it no longer than until :meth:`keep`."""
        series = self._series.get(labels)
        if series is None:
            series = self._series[labels] = Count()
        return series

    def add(self, labels: Labels, amount: float = 1) -> None:
        """Count ``amount`` more."""
        self.of(labels).value += amount

    def keep(self, label: str, values: Container[str]) -> None:
        """Drop the series whose ``label`` is none of ``values``."""
        _prune(self._series, self._labels.index(label), values)

    def describe(self) -> Iterable[Metric]:
        """Let the registry know the name."""
        return [counters(self._name, self._about, self._labels, ())]

    def collect(self) -> Iterable[Metric]:
        """Everything counted."""
        samples = ((labels, series.value) for labels, series in self._series.items())
        return [counters(self._name, self._about, self._labels, samples)]


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
        self._series: dict[Labels, Distribution] = {}
        if not labels:
            self.of(())
        registry.register(self)

    def of(self, labels: Labels) -> Distribution:
        """The series with these labels; hold it no longer than until :meth:`keep`."""
        series = self._series.get(labels)
        if series is None:
            series = self._series[labels] = Distribution(self._bounds)
        return series

    def observe(self, labels: Labels, seconds: float) -> None:
        """Count one duration."""
        self.of(labels).observe(seconds)

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


def _prune(series: dict[Labels, _Value], position: int, values: Container[str]) -> None:
    for labels in [labels for labels in series if labels[position] not in values]:
        del series[labels]
