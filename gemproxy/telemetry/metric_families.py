"""Counters and histograms that cost a request very little.

The client library takes a lock for each value and walks through the buckets, which costs several
times as much; a request updates a dozen of them. These are written only by the reactor's thread and
converted to the library's metrics at a scrape. A caller may keep a series to avoid the lookup,
until the family reports that it has dropped series.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from functools import partial
from itertools import accumulate, islice
from operator import add
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

#: Samples in one part of a metric; they take less than a millisecond.
PART: Final = 120

Labels = tuple[str, ...]
"""The values of a family's labels, in their order."""

Sample = tuple[Labels, float]


class Count(msgspec.Struct, gc=False):
    """One series of a counter.

    Not tracked by the garbage collector, like those of histograms: there are thousands.
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

    def add(self, counts: Sequence[int], seconds: float) -> None:
        """Count durations that are counted already; ``seconds`` is their sum."""
        self.counts = list(map(add, self.counts, counts))
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
        #: Called after a series was dropped, for callers that keep series.
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
        """A number that tells the present series from later ones; see :meth:`keep`."""
        self._age += 1
        return self._age

    def keep(self, label: str, values: Container[str], mark: int) -> None:
        """Drop series from before ``mark`` whose ``label`` is not in ``values``.

        This is done during collection, since visiting all of them may take long.
        """
        self._kept = (self._labels.index(label), values, mark)

    def _each(self) -> Iterator[tuple[Labels, _Series]]:
        """Iterate over the series; new ones may be added in between."""
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
    """A counter for each combination of labels that occurred or was declared."""

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
    """Does nothing."""


def in_parts(
    make: Callable[[Iterable[_Item]], Metric], items: Iterable[_Item], size: int = PART
) -> Iterator[Metric]:
    """Split one metric into several of the same name, each built of ``size`` items on demand."""
    left = iter(items)
    yield make(islice(left, size))
    while some := list(islice(left, size)):
        yield make(some)


def kept(items: Iterable[_Item], there: list[_Item]) -> Iterator[_Item]:
    """``items``, each of which is appended to ``there`` when it is read."""
    for item in items:
        there.append(item)
        yield item


def counters(name: str, about: str, labels: Sequence[str], samples: Iterable[Sample]) -> Metric:
    """The current values of counters."""
    family = CounterMetricFamily(name, about, labels=labels)
    for values, value in samples:
        family.add_metric(values, value)
    return family


def gauges(name: str, about: str, labels: Sequence[str], samples: Iterable[Sample]) -> Metric:
    """The current values of gauges."""
    family = GaugeMetricFamily(name, about, labels=labels)
    for values, value in samples:
        family.add_metric(values, value)
    return family
