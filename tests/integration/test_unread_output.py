"""Nobody reads what the daemon writes: it serves, stops in time, and tells afterwards."""

import contextlib
import fcntl
import json
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import termios
import time
from types import SimpleNamespace

import pytest
from fakes.running import (
    ADMIN_TOKEN,
    REPOSITORY,
    TWISTD,
    eventually,
    keys_of,
    write_configuration,
)
from fakes.wire import CHAT, Wire, said

#: Of lines with 300 bytes 1 MiB, and what a pipe's own buffer takes.
MANY = 3600
LONG_ID = "r" * 128
F_SETPIPE_SZ = 1031


def a_pipe():
    """As of ``twistd -n gemproxy | somebody-who-is-stopped``."""
    return os.pipe()


def a_socket():
    """As journald's, which is stopped."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    return ours.detach(), theirs.detach()


def a_terminal():
    """As one in scroll lock, or behind a connection that hangs."""
    return pty.openpty()


class Unread:
    """A daemon whose standard output and error go to where nobody reads."""

    def __init__(self, folder, upstream, make, *, one_for_both=True, **settings):
        self.reader, writer = make()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.host = "127.0.0.1"
        proxy = {"port": self.port, **settings.pop("proxy", {})}
        files = write_configuration(folder, upstream, keys_of("alpha"), proxy=proxy, **settings)
        self.popen = subprocess.Popen(
            [*TWISTD, "gemproxy", "--config", files[0], "--keys", files[1]],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), **self.environ(writer)},
            stdin=subprocess.DEVNULL,
            stdout=writer,
            stderr=writer if one_for_both else subprocess.DEVNULL,
        )
        os.close(writer)

    def environ(self, writer):
        return {}

    def wait_until_it_serves(self):
        def is_there():
            assert self.popen.poll() is None
            # One that only listens, and does not turn yet, would die of a signal.
            with contextlib.suppress(OSError), Wire(self) as wire:
                return wire.ask("GET", "/livez").status == 200
            return False

        eventually(is_there)

    def metric(self, name):
        with Wire(self) as wire:
            asked = wire.ask("GET", "/admin/metrics", authorization=f"Bearer {ADMIN_TOKEN}")
        lines = asked.body.decode().splitlines()
        return float(next(line for line in lines if line.startswith(name + " ")).split()[1])

    def read(self, until):
        """What was written, up to where ``until`` holds of it."""
        got = b""
        while not until(got):
            assert select.select([self.reader], [], [], 30)[0], got[-1000:]
            got += os.read(self.reader, 1 << 20)
        return got

    def events(self, got):
        return [json.loads(line) for line in got.splitlines() if line.startswith(b"{")]

    def stop(self, seconds=20):
        """Ask it to stop; how long it takes, and with which status."""
        begun = time.monotonic()
        self.popen.send_signal(signal.SIGTERM)
        try:
            status = self.popen.wait(seconds)
        finally:
            self.popen.kill()
        return SimpleNamespace(status=status, seconds=time.monotonic() - begun)


@pytest.fixture(params=[a_pipe, a_socket, a_terminal])
def unread(request, simulator, tmp_path):
    daemon = Unread(tmp_path, simulator.url, request.param)
    yield daemon
    daemon.popen.kill()
    daemon.popen.wait()
    os.close(daemon.reader)


# Whatever is full, what waits is the same (tests/unit/telemetry/test_output.py).
@pytest.mark.parametrize("unread", [a_pipe], indirect=True)
def test_it_serves_thousands_stops_in_time_and_tells_what_was_dropped(unread):
    unread.wait_until_it_serves()
    with Wire(unread) as wire:
        for _ in range(MANY):
            answer = wire.ask("POST", CHAT, said("Hello!"), **{"x-request-id": LONG_ID})
            assert answer.status == 200
    dropped = unread.metric("gemproxy_log_lines_dropped_total")
    assert dropped > 1000
    told = unread.events(unread.read(lambda got: b"log lines were dropped" in got))
    note = next(event for event in told if event["event"].startswith("log lines were dropped"))
    assert note["count"] == dropped
    assert note["level"] == "warn"
    served = [event for event in told if event["event"] == "request finished"]
    # In their order and whole, up to the gap.
    assert len(served) == MANY - dropped
    times = [event["time"] for event in served]
    assert times == sorted(times)
    with Wire(unread) as wire:
        assert wire.ask("POST", CHAT, said("Hello!"), **{"x-request-id": "again"}).status == 200
    unread.read(lambda got: b'"again"' in got)
    assert unread.stop().status == 0


def test_sigterm_ends_it_with_everything_unread(unread):
    unread.wait_until_it_serves()
    with Wire(unread) as wire:
        for _ in range(400):
            wire.ask("POST", CHAT, said("Hello!"), **{"x-request-id": LONG_ID})
    stopped = unread.stop()
    assert stopped.status == 0
    assert stopped.seconds < 10


def test_a_terminal_in_scroll_lock_goes_on_where_it_was(simulator, tmp_path):
    kept = []

    def make():
        reader, writer = pty.openpty()
        kept.append(os.dup(writer))
        return reader, writer

    unread = Unread(tmp_path, simulator.url, make)
    (terminal,) = kept
    try:
        unread.wait_until_it_serves()
        unread.read(lambda got: b"listening on" in got)
        # What Ctrl-S does.
        termios.tcflow(terminal, termios.TCOOFF)
        with Wire(unread) as wire:
            for number in range(100):
                assert wire.ask("POST", CHAT, said("x"), **{"x-request-id": f"n{number}"}).status
        assert not select.select([unread.reader], [], [], 0)[0]
        termios.tcflow(terminal, termios.TCOON)
        got = unread.read(lambda got: b'"n99"' in got and got.endswith(b"\n"))
        served = [e for e in unread.events(got) if e["event"] == "request finished"]
        assert [event["request_id"] for event in served] == [f"n{n}" for n in range(100)]
        assert unread.stop().status == 0
    finally:
        unread.popen.kill()


def test_the_shells_own_end_of_a_pipe_stays_as_it_is(simulator, tmp_path):
    """``O_NONBLOCK`` on it would be everybody's: ``cat`` beside the daemon would lose lines."""
    kept = []

    def make():
        reader, writer = os.pipe()
        fcntl.fcntl(writer, F_SETPIPE_SZ, 4096)
        kept.append(os.dup(writer))
        return reader, writer

    unread = Unread(tmp_path, simulator.url, make)
    try:
        unread.wait_until_it_serves()
        assert os.get_blocking(kept[0])
        assert unread.stop().status == 0
    finally:
        unread.popen.kill()


def full_pipe():
    """One into which nothing goes any more."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, b"x" * 4096)
    os.set_blocking(writer, True)
    return reader, writer


@pytest.mark.parametrize("program", ["demo", "simulator"])
def test_what_is_unread_from_the_start_on_hinders_no_start(tmp_path, program):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["serve", "--demo"] if program == "demo" else ["simulate"]
    reader, writer = full_pipe()
    popen = subprocess.Popen(
        [sys.executable, "-m", "gemproxy", *command, "--port", str(port)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdin=subprocess.DEVNULL,
        stdout=writer,
        stderr=writer,
    )
    os.close(writer)

    def answers():
        with contextlib.suppress(OSError), Wire(None, place=f"127.0.0.1:{port}") as wire:
            return wire.ask("GET", "/livez").status
        return None

    try:
        eventually(answers)
        popen.terminate()
        assert popen.wait(20) == 0
    finally:
        popen.kill()
        os.close(reader)


class UnderSystemd(Unread):
    """With standard output connected to the journal."""

    def environ(self, writer):
        seen = os.fstat(writer)
        return {"JOURNAL_STREAM": f"{seen.st_dev}:{seen.st_ino}"}


@pytest.mark.parametrize("form", ["json", "text"])
def test_lines_for_the_journal_begin_with_their_priority(simulator, tmp_path, form):
    logging = {"format": form, "level": "debug"}
    daemon = UnderSystemd(tmp_path, simulator.url, a_socket, logging=logging)
    try:
        daemon.wait_until_it_serves()
        with Wire(daemon) as wire:
            wire.ask("POST", CHAT, said("x"))
            wire.ask("GET", "/admin/keys", authorization="Bearer wrong")
            wire.ask("GET", "/admin/keys", authorization=f"Bearer {ADMIN_TOKEN}")
        assert daemon.stop().status == 0
        lines = b"".join(iter(lambda: os.read(daemon.reader, 1 << 20), b"")).splitlines()
    finally:
        daemon.popen.kill()
    priorities = {"debug": b"<7>", "info": b"<6>", "warn": b"<4>"}
    seen = set()
    for line in lines:
        rest = line[3:]
        level = json.loads(rest)["level"] if form == "json" else rest.split()[1].decode()
        assert line[:3] == priorities[level]
        seen.add(level)
    assert seen == set(priorities)
