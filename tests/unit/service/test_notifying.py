"""What systemd is told, read from a real notify socket."""

import os
import socket

import pytest
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import LogLevel, capturedLogs

from gemproxy.pool.status import PoolCounts
from gemproxy.service.notifying import (
    NotifySocket,
    SystemdNotifier,
    status_line,
    watchdog_seconds,
)


class Manager:
    """systemd's end of the socket."""

    def __init__(self, address):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.setblocking(False)

    def messages(self):
        """What has come since the last time, each as its lines."""
        found = []
        while True:
            try:
                found.append(self.socket.recv(4096).decode().split("\n"))
            except BlockingIOError:
                return found


@pytest.fixture
def manager(tmp_path):
    made = Manager(str(tmp_path / "notify"))
    yield made
    made.socket.close()


class Stage:
    def __init__(self, manager, **environ):
        self.manager = manager
        self.reactor = MemoryReactorClock()
        self.status = "3 of 3 keys healthy"
        self.drain = 30.0
        address = {"NOTIFY_SOCKET": manager.socket.getsockname()} if manager else {}
        self.notifier = SystemdNotifier(
            self.reactor,
            {**address, **environ},
            status=lambda: self.status,
            drain_seconds=lambda: self.drain,
            monotonic_ns=lambda: 1_234_567_890,
        )

    def started(self):
        """Past the first message, and serving."""
        self.notifier.startService()
        self.notifier.ready()
        self.manager.messages()
        return self

    def shut_down(self):
        """What the reactor does first when it is asked to stop."""
        for act, args, kwargs in self.reactor.triggers["before"]["shutdown"]:
            act(*args, **kwargs)


def test_ready_is_told_when_requests_are_served_and_not_before(manager):
    stage = Stage(manager)
    stage.notifier.startService()
    assert manager.messages() == [["STATUS=3 of 3 keys healthy"]]
    stage.notifier.ready()
    assert manager.messages() == [["READY=1"]]


def test_a_reload_is_told_with_the_monotonic_time_and_ends_with_ready(manager):
    stage = Stage(manager).started()
    stage.notifier.reloading()
    assert manager.messages() == [["RELOADING=1", "MONOTONIC_USEC=1234567"]]
    stage.status = "4 of 4 keys healthy"
    stage.notifier.ready()
    assert manager.messages() == [["READY=1", "STATUS=4 of 4 keys healthy"]]


def test_a_reload_before_the_service_is_ready_is_no_news(manager):
    stage = Stage(manager)
    stage.notifier.reloading()
    assert manager.messages() == []


def test_the_stop_is_told_before_the_drain_and_nothing_takes_it_back(manager):
    stage = Stage(manager).started()
    stage.notifier.reloading()
    stage.status = "Draining"
    stage.shut_down()
    stage.notifier.ready()
    assert manager.messages()[1:] == [
        ["STOPPING=1", "EXTEND_TIMEOUT_USEC=20000000", "STATUS=Draining"]
    ]


def test_more_time_is_asked_for_while_the_drain_goes_on_but_not_for_ever(manager):
    stage = Stage(manager).started()
    stage.drain = 100.0
    stage.shut_down()
    manager.messages()
    extensions = []
    for _ in range(40):
        stage.reactor.advance(5)
        extensions += [int(line[20:]) for (line,) in manager.messages()]
    assert extensions[:2] == [20_000_000, 20_000_000]
    assert extensions[-4:] == [20_000_000, 15_000_000, 10_000_000, 5_000_000]
    assert len(extensions) * 5 < 130


def test_the_status_is_told_when_it_changes(manager):
    stage = Stage(manager).started()
    stage.reactor.advance(60)
    assert manager.messages() == []
    stage.status = "2 of 3 keys healthy\n(1 open)"
    stage.reactor.pump([5, 5, 5])
    assert manager.messages() == [["STATUS=2 of 3 keys healthy (1 open)"]]


@pytest.mark.parametrize(("usec", "every"), [(30_000_000, 5.0), (4_000_000, 2.0)])
def test_the_watchdog_is_told_at_least_twice_in_its_time_from_the_reactor(manager, usec, every):
    stage = Stage(manager, WATCHDOG_USEC=str(usec)).started()
    stage.reactor.pump([every] * 3)
    assert manager.messages() == [["WATCHDOG=1"]] * 3


def test_the_watchdog_is_told_until_the_very_end(manager):
    stage = Stage(manager, WATCHDOG_USEC="10000000").started()
    stage.shut_down()
    manager.messages()
    stage.reactor.advance(5)
    assert manager.messages()[0][0] == "WATCHDOG=1"
    stage.notifier.stopService()
    stage.reactor.pump([5, 5])
    assert manager.messages() == []
    assert stage.reactor.getDelayedCalls() == []


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_may_be_for_another_process(environ, seconds):
    assert watchdog_seconds(environ, 7) == seconds


def test_an_abstract_address_works_too():
    name = f"gemproxy-test-{os.getpid()}"
    manager = Manager(f"\0{name}")
    NotifySocket(f"@{name}").send("READY=1", "STATUS=fine")
    assert manager.messages() == [["READY=1", "STATUS=fine"]]
    manager.socket.close()


@pytest.mark.parametrize("address", [None, "", "vsock:2:1234"])
def test_without_an_address_that_can_be_spoken_to_nothing_is_sent(address):
    with capturedLogs() as events:
        NotifySocket(address).send("READY=1")
    assert events == []


def test_a_manager_that_is_gone_costs_a_warning(tmp_path):
    with capturedLogs() as events:
        NotifySocket(str(tmp_path / "gone")).send("READY=1")
    assert [event["log_level"] for event in events] == [LogLevel.warn]
    assert events[0]["reason"] == "No such file or directory"


def test_outside_of_systemd_nothing_runs():
    stage = Stage(None, WATCHDOG_USEC="30000000")
    stage.notifier.startService()
    for act in (stage.notifier.ready, stage.notifier.reloading, stage.notifier.stopping):
        act()
    stage.notifier.stopService()
    assert isinstance(stage.reactor, Clock)
    assert stage.reactor.getDelayedCalls() == []


@pytest.mark.parametrize(
    ("counts", "more", "line"),
    [
        (PoolCounts(3, 3, 0, 0, 0), {}, "3 of 3 keys healthy"),
        (
            PoolCounts(9, 3, 4, 2, 1),
            {"reload_failed": True},
            "3 of 9 keys healthy (1 recovering, 3 open, 2 disabled); the last reload failed",
        ),
        (
            PoolCounts(500, 45, 455, 0, 0, (("expired", 452), ("leaked", 3))),
            {},
            "45 of 500 keys healthy (455 open); Google rejects 452 expired, 3 leaked",
        ),
        (
            PoolCounts(2, 1, 1, 0, 0),
            {"draining": True},
            "Draining, 7 requests in flight; 1 of 2 keys healthy (1 open)",
        ),
        (
            PoolCounts(2, 2, 0, 0, 0),
            {"leaving": True},
            "Serving until the drain begins, 7 requests in flight; 2 of 2 keys healthy",
        ),
        (
            PoolCounts(2, 2, 0, 0, 0),
            {"leaving": True, "draining": True},
            "Draining, 7 requests in flight; 2 of 2 keys healthy",
        ),
    ],
)
def test_the_status_line_counts_the_keys(counts, more, line):
    assert status_line(counts, 7, **more) == line
