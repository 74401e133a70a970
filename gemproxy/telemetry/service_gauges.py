"""Gauges of the service apart from its keys, read at a scrape."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from gemproxy.core.interfaces import StoreStatus
from gemproxy.telemetry.metric_families import Labels, counters, gauges

_BACKENDS = ("sqlite", "json", "none")
_ALONE: Labels = ()


class ConfigurationStatus(Protocol):
    """The history of reloads. ``loaded_at``: when the configuration was applied, epoch seconds."""

    @property
    def generation(self) -> int:
        """Number of the configuration in force."""

    @property
    def loaded_at(self) -> float:
        """See the class."""

    @property
    def successes(self) -> int:
        """Reloads that succeeded."""

    @property
    def failures(self) -> int:
        """Reloads that failed."""

    @property
    def last_error(self) -> str | None:
        """The mistakes in the files; ``None`` if there are none."""


class ServiceGauges(Collector):
    """Reads the sources. Before a store is set, the backend is ``none``."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.in_flight: Callable[[], int] = int
        self.queue_length: Callable[[], int] = int
        self.log_lines_dropped: Callable[[], int] = int
        self.connections: Callable[[], Mapping[str, int]] = dict
        self.refused: Callable[[], Mapping[str, int]] = dict
        self.buffered_bytes: Callable[[], int] = int
        self.store: Callable[[], StoreStatus] = lambda: StoreStatus("none")
        self.configuration: Callable[[], ConfigurationStatus] | None = None
        registry.register(self)

    def describe(self) -> Iterable[Metric]:
        """Let the registry know the names."""
        return self.collect()

    def collect(self) -> Iterable[Metric]:
        """The current values."""
        yield gauges(
            "gemproxy_requests_in_flight",
            "Requests that are being served",
            (),
            [(_ALONE, self.in_flight())],
        )
        yield gauges(
            "gemproxy_queue_length",
            "Requests that wait for a key",
            (),
            [(_ALONE, self.queue_length())],
        )
        yield counters(
            "gemproxy_log_lines_dropped_total",
            "Lines of the log that were not written, since nothing took them",
            (),
            [(_ALONE, self.log_lines_dropped())],
        )
        yield gauges(
            "gemproxy_connections",
            "Clients' connections: active in the middle of a request, idle between two",
            ("state",),
            [((state,), float(count)) for state, count in self.connections().items()],
        )
        yield counters(
            "gemproxy_connections_refused_total",
            "Clients' connections that were closed at once, by the limit that was reached",
            ("reason",),
            [((reason,), count) for reason, count in self.refused().items()],
        )
        yield gauges(
            "gemproxy_buffered_bytes",
            "Bytes of request bodies that are incomplete or not yet answered",
            (),
            [(_ALONE, self.buffered_bytes())],
        )
        yield from _of_store(self.store())
        yield from _of_configuration(self.configuration() if self.configuration else None)


def _of_store(store: StoreStatus) -> Iterable[Metric]:
    yield gauges(
        "gemproxy_persistence_backend",
        "1 for the place where the state is kept",
        ("backend",),
        [((backend,), float(store.backend == backend)) for backend in _BACKENDS],
    )
    yield counters(
        "gemproxy_persistence_errors_total",
        "Times that the state could not be read or written",
        ("backend",),
        [((name,), store.errors.get(name, 0)) for name in ("sqlite", "json")],
    )


def _of_configuration(configuration: ConfigurationStatus | None) -> Iterable[Metric]:
    known = [] if configuration is None else [configuration]
    yield counters(
        "gemproxy_config_reloads_total",
        "Reloads of the configuration",
        ("result",),
        [
            ((result,), number)
            for status in known
            for result, number in (("success", status.successes), ("failure", status.failures))
        ],
    )
    yield gauges(
        "gemproxy_config_last_reload_successful",
        "Whether the files were in order when they were last read",
        (),
        [(_ALONE, float(status.last_error is None)) for status in known],
    )
    yield gauges(
        "gemproxy_config_last_reload_timestamp_seconds",
        "When the configuration in force was applied",
        (),
        [(_ALONE, status.loaded_at) for status in known],
    )
    yield gauges(
        "gemproxy_config_generation",
        "Number of the configuration in force",
        (),
        [(_ALONE, status.generation) for status in known],
    )
