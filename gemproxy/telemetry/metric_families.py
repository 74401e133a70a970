"""Counters and histograms that cost a request next to nothing.

The client library's own take a lock for each value and walk through the buckets, which comes to
several times as much; a request touches a dozen of them. These are written by the reactor's thread
only, and become the library's metrics when they are scraped. Whoever writes to one series again and
again may hold on to it, and spare the search for it, until the family says that it has dropped
series.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from functools import partial
from itertools import accumulate, islice
from typing import Final, Generic, Self, TypeVar

import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

_Item = TypeVar("_Item")
_Series = TypeVar("_Series", "Count", "Distribution")

#: Samples of one part of a metric: less than a millisecond to make and to write.
PART: Final = 120

Labels = tuple[str, ...]
"""The values of a family's labels, in their order."""

Sample = tuple[Labels, float]


class Count(msgspec.Struct, gc=False):
    """One series of a counter.

    As those of histograms a leaf that the garbage collector need not visit: there are thousands.
    """

    value: float = 0.0
    #: See :meth:`Family.mark`.
    born: int = 0


class Distribution(msgspec.Struct, gc=False):
    """One series of a histogram: how many durations fell into each bucket, and their sum."""

    bounds: tuple[float, ...]
    counts: list[int]
    sum: float = 0.0
    born: int = 0

    @classmethod
    def empty(cls, bounds: tuple[float, ...]) -> Self:
        """Nothing observed yet."""
        return cls(bounds, [0] * (len(bounds) + 1))

    def observe(self, seconds: float) -> None:
        """Count one duration."""
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.sum += seconds


class Family(Collector, Generic[_Series]):
    """A series for each combination of labels that has occurred."""

    def __init__(
        self,
        registry: CollectorRegistry,
        name: str,
        about: str,
        labels: Sequence[str],
        make: Callable[[], _Series],
    ) -> None:
        self._name = name
        self._about = about
        self._labels = tuple(labels)
        self._make: Callable[[], _Series] = make
        self._series: dict[Labels, _Series] = {}
        self._age = 0
        self._kept: tuple[int, Container[str], int] | None = None
        #: Called after a series was dropped, for those who hold on to some.
        self.dropped: Callable[[], None] = _nothing
        registry.register(self)

    def of(self, labels: Labels) -> _Series:
        """The series with these labels."""
        series = self._series.get(labels)
        if series is None:
            series = self._series[labels] = self._make()
            series.born = self._age
        return series

    def mark(self) -> int:
        """A mark between the series that there are and those that come later."""
        self._age += 1
        return self._age

    def keep(self, label: str, values: Container[str], mark: int) -> None:
        """Drop the series from before ``mark`` whose ``label`` is none of ``values``.

        That happens while the family is collected, since looking at all of them may take a while.
        """
        self._kept = (self._labels.index(label), values, mark)

    def _each(self) -> Iterator[tuple[Labels, _Series]]:
        """Series by series; others may come up meanwhile."""
        kept = self._kept
        for labels in list(self._series):
            series = self._series.get(labels)
            if series is None:
                continue
            if kept and series.born < kept[2] and labels[kept[0]] not in kept[1]:
                del self._series[labels]
                self.dropped()
            else:
                yield labels, series


class CounterFamily(Family[Count]):
    """A counter for each combination of labels that has occurred, or was named at the start."""

    def __init__(
        self,
        registry: CollectorRegistry,
        name: str,
        about: str,
        labels: Sequence[str] = (),
        at_zero: Iterable[Labels] = (),
    ) -> None:
        super().__init__(registry, name, about, labels, Count)
        for values in at_zero:
            self.of(values)

    def add(self, labels: Labels, amount: float = 1) -> None:
        """Count ``amount`` more."""
        self.of(labels).value += amount

    def describe(self) -> Iterable[Metric]:
        """Let the registry know the name."""
        return [self._metric(())]

    def collect(self) -> Iterable[Metric]:
        """Everything counted, in parts."""
        return in_parts(self._metric, ((labels, series.value) for labels, series in self._each()))

    def _metric(self, samples: Iterable[Sample]) -> Metric:
        return counters(self._name, self._about, self._labels, samples)


class HistogramFamily(Family[Distribution]):
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
        super().__init__(registry, name, about, labels, partial(Distribution.empty, tuple(bounds)))
        self._ends = [*map(floatToGoString, bounds), "+Inf"]
        if not labels:
            self.of(())

    def observe(self, labels: Labels, seconds: float) -> None:
        """Count one duration."""
        self.of(labels).observe(seconds)

    def describe(self) -> Iterable[Metric]:
        """Let the registry know the name."""
        return [self._metric(())]

    def collect(self) -> Iterable[Metric]:
        """Everything observed, in parts."""
        # A series is a line for each bucket, and two for sum and count.
        return in_parts(self._metric, self._each(), PART // (len(self._ends) + 2))

    def _metric(self, some: Iterable[tuple[Labels, Distribution]]) -> Metric:
        family = HistogramMetricFamily(self._name, self._about, labels=self._labels)
        for labels, series in some:
            buckets = list(zip(self._ends, accumulate(series.counts), strict=True))
            family.add_metric(labels, buckets, series.sum)
        return family


def _nothing() -> None:
    """What nobody wants to know."""


def in_parts(
    make: Callable[[Iterable[_Item]], Metric], items: Iterable[_Item], size: int = PART
) -> Iterator[Metric]:
    """One metric as several of the same name, each made of ``size`` items when it is asked for."""
    left = iter(items)
    yield make(islice(left, size))
    while some := list(islice(left, size)):
        yield make(some)


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
