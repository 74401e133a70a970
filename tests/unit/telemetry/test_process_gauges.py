"""What the process says of itself, against the client library's own collector."""

import os
from contextlib import ExitStack
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, ProcessCollector

from gemproxy.telemetry.process_gauges import ProcessGauges

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc here")


def own():
    registry = CollectorRegistry()
    ProcessGauges(registry)
    return list(registry.collect())


def librarys():
    return list(ProcessCollector(registry=CollectorRegistry()).collect())


def values(families):
    return {sample.name: sample.value for family in families for sample in family.samples}


def test_names_types_and_words_are_the_librarys():
    def told(families):
        return {(family.name, family.type, family.documentation) for family in families}

    assert told(own()) == told(librarys())


def test_values_are_the_librarys():
    ours, theirs = values(own()), values(librarys())
    for name in ("process_start_time_seconds", "process_max_fds"):
        assert ours[name] == theirs[name]
    for name in ("process_virtual_memory_bytes", "process_resident_memory_bytes"):
        assert ours[name] == pytest.approx(theirs[name], rel=0.2)
    assert ours["process_cpu_seconds_total"] == pytest.approx(
        theirs["process_cpu_seconds_total"], abs=0.5
    )


def test_open_files_are_counted():
    before = values(own())["process_open_fds"]
    with ExitStack() as files:
        for _ in range(20):
            files.enter_context(Path(os.devnull).open())
        assert values(own())["process_open_fds"] - before == 20
