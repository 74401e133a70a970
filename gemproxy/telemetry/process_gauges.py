"""The ``process_*`` metrics, read from ``/proc``, with the client library's names.

The library's own collector lists the open files to count them, which blocks the reactor for 20 ms
with ten thousand connections. Since version 6.2 Linux gives their number at once.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterable, Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = resource.getpagesize()


class ProcessGauges(Collector):
    """See the module. Gives nothing without ``/proc``."""

    def __init__(self, registry: CollectorRegistry) -> None:
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        """The current values."""
        try:
            return list(_metrics())
        except OSError:
            return []


def _metrics() -> Iterator[Metric]:
    # proc(5): fields from the third on, after the name, which may hold spaces and brackets.
    stat = (_PROC / "self/stat").read_bytes().rpartition(b")")[2].split()
    yield GaugeMetricFamily(
        "process_virtual_memory_bytes", "Virtual memory size in bytes.", float(stat[20])
    )
    yield GaugeMetricFamily(
        "process_resident_memory_bytes", "Resident memory size in bytes.", float(stat[21]) * _PAGE
    )
    yield GaugeMetricFamily(
        "process_start_time_seconds",
        "Start time of the process since unix epoch in seconds.",
        _boot_time() + float(stat[19]) / _TICKS,
    )
    yield CounterMetricFamily(
        "process_cpu_seconds_total",
        "Total user and system CPU time spent in seconds.",
        (float(stat[11]) + float(stat[12])) / _TICKS,
    )
    yield GaugeMetricFamily(
        "process_open_fds", "Number of open file descriptors.", _open_files(_PROC / "self/fd")
    )
    yield GaugeMetricFamily(
        "process_max_fds",
        "Maximum number of open file descriptors.",
        resource.getrlimit(resource.RLIMIT_NOFILE)[0],
    )


def _boot_time() -> float:
    lines = (_PROC / "stat").read_bytes().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(b"btime "))


def _open_files(folder: Path) -> int:
    """The number of open files. Before Linux 6.2 the folder has no size, and they are counted."""
    return folder.stat().st_size or sum(1 for _ in folder.iterdir())
