"""The metrics of clients, made at a scrape from the counts of the usage ledger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gemproxy.core.limits import LimitShare
from gemproxy.telemetry.usage import OTHER, UsageCounts

#: Clients with a label of their own.
MAX_CLIENTS = 200

_Totals = Callable[[], Mapping[tuple[str, str], UsageCounts]]
_Refusals = Callable[[], Mapping[tuple[str, str, str], int]]
_Shares = Callable[[], Iterable[LimitShare]]
_FAILURES = ("theirs", "ours", "upstream")
_DIRECTIONS = ("input", "cached", "output", "reasoning")


class ClientMetrics(Collector):
    """Counters by client; ``totals`` is :meth:`gemproxy.telemetry.usage.UsageLedger.totals`.

    ``refusals`` are those by the clients' own limits, ``shares`` the used parts of these. The first
    200 clients have labels of their own.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.totals: _Totals = dict
        self.refusals: _Refusals = Counter
        self.shares: _Shares = tuple
        self._named: set[str] = set()
        registry.register(self)

    def describe(self) -> Iterable[Metric]:
        """Let the registry know the names."""
        return _families()

    def collect(self) -> Iterator[Metric]:
        """All metrics of clients."""
        requests, tokens, costs, unpriced, refused, used = _families()
        summed: dict[tuple[str, str], UsageCounts] = {}
        of_client: dict[str, UsageCounts] = {}
        for (client, endpoint), counts in self.totals().items():
            label = self._label(client)
            summed.setdefault((label, endpoint), UsageCounts()).add(counts)
            of_client.setdefault(label, UsageCounts()).add(counts)
        for (client, endpoint), counts in summed.items():
            failed = sum(getattr(counts, whose) for whose in _FAILURES)
            requests.add_metric((client, endpoint, "success"), counts.requests - failed)
            for whose in _FAILURES:
                requests.add_metric((client, endpoint, whose), getattr(counts, whose))
        for client, counts in of_client.items():
            for direction in _DIRECTIONS:
                tokens.add_metric((client, direction), getattr(counts, direction))
            costs.add_metric((client,), counts.cost)
            unpriced.add_metric((client,), counts.unpriced)
        refusals: Counter[tuple[str, str, str]] = Counter()
        for (client, endpoint, limit), number in self.refusals().items():
            refusals[self._label(client), endpoint, limit] += number
        for labels, number in refusals.items():
            refused.add_metric(labels, number)
        shares: dict[tuple[str, str], float] = {}
        for share in self.shares():
            labels_of_share = (self._label(share.client), share.limit)
            shares[labels_of_share] = max(share.used, shares.get(labels_of_share, 0.0))
        for labels_of_share, part in shares.items():
            used.add_metric(labels_of_share, part)
        yield from (requests, tokens, costs, unpriced, refused, used)

    def _label(self, client: str) -> str:
        if client not in self._named:
            if len(self._named) >= MAX_CLIENTS:
                return OTHER
            self._named.add(client)
        return client


def _families() -> tuple[
    CounterMetricFamily,
    CounterMetricFamily,
    CounterMetricFamily,
    CounterMetricFamily,
    CounterMetricFamily,
    GaugeMetricFamily,
]:
    return (
        CounterMetricFamily(
            "gemproxy_client_requests_total",
            "Requests by whose the failure was; success: answered, or the client left",
            labels=("client", "endpoint", "outcome"),
        ),
        CounterMetricFamily(
            "gemproxy_client_tokens_total",
            "Tokens as the upstream counts them; input includes cached, output includes reasoning",
            labels=("client", "direction"),
        ),
        CounterMetricFamily(
            "gemproxy_client_cost_usd_total",
            "Estimated cost in US dollars, of the requests whose price is known",
            labels=("client",),
        ),
        CounterMetricFamily(
            "gemproxy_client_unpriced_total",
            "Requests whose price is not known",
            labels=("client",),
        ),
        CounterMetricFamily(
            "gemproxy_client_limit_refusals_total",
            "Requests that a limit or budget of the client itself refused",
            labels=("client", "endpoint", "limit"),
        ),
        GaugeMetricFamily(
            "gemproxy_client_limit_used_ratio",
            "Part of a client's own limit or budget that is used; 1: nothing is left",
            labels=("client", "limit"),
        ),
    )
