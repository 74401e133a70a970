"""The real daemon tells a real notify socket how it goes, also while files change under it."""

import signal
import socket
import time

import pytest
from fakes.running import RunningDaemon, keys_of, write_configuration
from fakes.wire import MODEL, PATIENCE, chat


class Manager:
    """systemd's end of the socket; ``heard`` are the messages so far."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.settimeout(PATIENCE)
        self.heard = []

    def wait_for(self, wanted):
        """The next message with a line that begins so."""
        while True:
            lines = self.socket.recv(4096).decode().split("\n")
            self.heard.append(lines)
            if any(line.startswith(wanted) for line in lines):
                return lines


class Stage:
    def __init__(self, folder, upstream, **settings):
        self.folder, self.upstream = folder, upstream
        self.manager = Manager(folder / "notify")
        self.daemon = RunningDaemon(
            folder,
            upstream,
            keys_of("alpha"),
            environ={"NOTIFY_SOCKET": str(folder / "notify"), "WATCHDOG_USEC": "1000000"},
            **settings,
        )
        self.manager.wait_for("READY=1")

    def write(self, *names, **settings):
        write_configuration(self.folder, self.upstream, keys_of(*names), **settings)

    def served_by(self):
        return chat(self.daemon, authorization="Bearer an-admin-token-for-the-tests").headers[
            "x-gemproxy-key"
        ]


@pytest.fixture
def stage(tmp_path, simulator):
    simulator.reset()
    made = Stage(tmp_path, simulator.url)
    yield made
    made.daemon.stop()
    made.manager.socket.close()


def test_from_ready_to_stopping_and_the_watchdog_all_along(stage):
    assert stage.served_by() == "alpha"
    stage.manager.wait_for("WATCHDOG=1")
    stage.manager.wait_for("WATCHDOG=1")
    stage.daemon.popen.terminate()
    stopping = stage.manager.wait_for("STOPPING=1")
    assert any(line.startswith("EXTEND_TIMEOUT_USEC=") for line in stopping)
    assert stage.daemon.wait() == 0
    told = [line for lines in stage.manager.heard for line in lines]
    assert any(line.startswith("STATUS=") and "keys healthy" in line for line in told)


def test_the_time_before_the_drain_is_told_and_asked_for(tmp_path, simulator):
    lame = {"lameDuckSeconds": 1.5, "drainSeconds": 0}
    stage = Stage(tmp_path, simulator.url, proxy=lame)
    try:
        stage.daemon.popen.terminate()
        stopping = stage.manager.wait_for("STOPPING=1")
        (asked,) = [line for line in stopping if line.startswith("EXTEND_TIMEOUT_USEC=")]
        assert 19e6 < int(asked.partition("=")[2]) <= 20e6
        status = stage.manager.wait_for("STATUS=Serving until the drain begins")
        assert status
        stage.manager.wait_for("WATCHDOG=1")
        assert stage.daemon.wait() == 0
    finally:
        stage.daemon.stop()
        stage.manager.socket.close()


def test_a_changed_file_is_applied_within_two_seconds(stage):
    begin = time.monotonic()
    stage.write("beta")
    reloading = stage.manager.wait_for("RELOADING=1")
    assert reloading[1].startswith("MONOTONIC_USEC=")
    assert abs(int(reloading[1][15:]) / 1e6 - time.monotonic()) < PATIENCE
    stage.manager.wait_for("READY=1")
    assert time.monotonic() - begin < 2.0 + 1.0  # a busy machine may be late
    assert stage.served_by() == "beta"


def test_a_file_with_a_mistake_changes_nothing_and_a_reload_by_signal_finds_it(stage):
    (stage.folder / "keys.yaml").write_text("keys: [\n")
    stage.daemon.popen.send_signal(signal.SIGHUP)
    stage.daemon.wait_for_line("configuration not applied")
    stage.manager.wait_for("READY=1")
    assert stage.served_by() == "alpha"
    stage.write("beta", models={"aliases": {"other": MODEL}})
    stage.daemon.wait_for_line("configuration applied")
    assert stage.served_by() == "beta"
