"""What clients can hold of a running daemon: memory, places, connections, descriptors."""

import json
import os
import resource
import signal
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from fakes.running import RunningDaemon, eventually, keys_of
from fakes.wire import CHAT, Wire, chat, request, said

MEGABYTE = 1024 * 1024
TOKEN = "a-client-token-of-the-tests"
ADMIN = "/admin/keys/alpha/weight"


def memory(daemon):
    """Bytes that the daemon has resident."""
    status = Path(f"/proc/{daemon.popen.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


def in_flight(daemon):
    return daemon.metric("gemproxy_requests_in_flight")


def send_what_is_taken(wire, data):
    """Send as much of ``data`` as the other side's buffers take, and no more."""
    wire.socket.setblocking(False)
    try:
        while data:
            data = data[wire.socket.send(data) :]
    except (BlockingIOError, ConnectionResetError, BrokenPipeError):
        pass
    finally:
        wire.socket.settimeout(20)


@pytest.fixture(scope="module")
def guarded_daemon(simulator, tmp_path_factory):
    """Asks its clients for a token."""
    folder = tmp_path_factory.mktemp("daemon")
    running = RunningDaemon(
        folder, simulator.url, keys_of("alpha", "beta"), proxy={"accessTokens": [TOKEN]}
    )
    yield running
    running.stop()


@pytest.mark.parametrize("path", [CHAT, "/v1/nowhere", ADMIN, "/livez"])
@pytest.mark.parametrize("chunked", [False, True])
def test_who_brings_no_token_cannot_fill_the_memory(guarded_daemon, path, chunked):
    daemon = guarded_daemon
    assert chat(daemon, authorization=f"Bearer {TOKEN}").status == 200
    before = memory(daemon)
    size = {"transfer_encoding": "chunked"} if chunked else {"content_length": str(9 * MEGABYTE)}
    method = "GET" if path == "/livez" else "PUT" if path == ADMIN else "POST"
    body = (b"%x\r\n" % (8 * MEGABYTE) if chunked else b"") + b"x" * 8 * MEGABYTE
    with ExitStack() as stack:
        wires = [stack.enter_context(Wire(daemon)) for _ in range(60)]
        for wire in wires:
            wire.send(request(method, path, **size))
        for wire in wires:
            send_what_is_taken(wire, body)
        assert {wire.receive().status for wire in wires} <= {401, 413}
        assert memory(daemon) - before < 30 * MEGABYTE
    assert chat(daemon, authorization=f"Bearer {TOKEN}").status == 200


def test_bodies_together_are_bounded(start_daemon):
    daemon = start_daemon(None, proxy={"maxBufferedBytes": 20 * MEGABYTE})
    body = json.dumps(said("hi", ignored="x" * 8 * MEGABYTE)).encode()
    with ExitStack() as stack:
        wires = [stack.enter_context(Wire(daemon)) for _ in range(3)]
        for wire in wires[:2]:
            wire.send(request("POST", CHAT, body)[:-1])
        eventually(lambda: in_flight(daemon) == 2)
        wires[2].send(request("POST", CHAT, body)[:1000])
        refused = wires[2].receive()
        assert refused.status == 503
        assert refused.headers["retry-after"] == "1"
        for wire in wires[:2]:
            wire.send(body[-1:])
            assert wire.receive().status == 200
    assert chat(daemon).status == 200


def test_a_place_is_taken_before_the_body_comes(start_daemon):
    daemon = start_daemon(keys_of("alpha"), proxy={"maxConcurrentRequests": 1})
    with Wire(daemon) as first, Wire(daemon) as second:
        first.send(request("POST", CHAT, said("hi"))[:-1])
        eventually(lambda: in_flight(daemon) == 1)
        second.send(request("POST", CHAT, said("hi"))[:-5])
        refused = second.receive()
        assert refused.status == 429
        assert refused.headers["retry-after"] == "1"
        first.send(b"}")
        assert first.receive().status == 200
    assert chat(daemon).status == 200


# -- connections -----------------------------------------------------------------------------------


def test_above_the_limit_the_longest_idle_connection_goes(start_daemon):
    daemon = start_daemon(keys_of("alpha"), proxy={"maxConnections": 5})
    with ExitStack() as stack:
        wires = [stack.enter_context(Wire(daemon)) for _ in range(5)]
        for wire in wires:
            assert wire.ask("GET", "/livez").status == 200
        assert wires[0].ask("GET", "/livez").status == 200
        another = stack.enter_context(Wire(daemon))
        assert another.ask("GET", "/livez").status == 200
        assert wires[1].rest() == b""
        assert wires[0].ask("GET", "/livez").status == 200


def test_who_opens_connections_and_says_nothing_keeps_nobody_out(start_daemon):
    daemon = start_daemon(keys_of("alpha"), proxy={"maxConnections": 20})
    with ExitStack() as stack:
        for _ in range(60):
            stack.enter_context(Wire(daemon))
        assert chat(daemon).status == 200
        assert daemon.metric("gemproxy_connections", state="idle") <= 20


@pytest.mark.parametrize("limit", [{"maxConnections": 4}, {"maxConnectionsPerAddress": 4}])
def test_where_none_is_idle_a_connection_more_is_closed_at_once(start_daemon, simulator, limit):
    daemon = start_daemon(
        keys_of("alpha"), proxy={**limit, "adminEndpoint": "tcp:0:interface=127.0.0.1"}
    )
    simulator.behave("alpha", "hang")
    with ExitStack() as stack:
        busy = [stack.enter_context(Wire(daemon)) for _ in range(4)]
        for wire in busy:
            wire.send(request("POST", CHAT, said("hi")))
        eventually(lambda: in_flight(daemon) == 4)
        refused = stack.enter_context(Wire(daemon))
        assert refused.rest() == b""
        reason = "limit" if "maxConnections" in limit else "address"
        assert daemon.metric("gemproxy_connections_refused_total", reason=reason) == 1
        assert daemon.metric("gemproxy_connections", state="active") == 4
    eventually(lambda: in_flight(daemon) == 0)
    simulator.reset()
    assert chat(daemon).status == 200


# -- taking turns ----------------------------------------------------------------------------------


def test_others_do_not_wait_for_a_long_pipeline(guarded_daemon):
    """Thousands of cheap requests in one write take seconds; a probe's answer must not."""
    daemon, count = guarded_daemon, 3000
    pipeline = b"".join(
        [request("GET", "/v1/models", authorization="Bearer wrong")] * (count - 1)
        + [request("GET", "/livez", connection="close")]
    )
    done = threading.Event()

    def flood():
        with Wire(daemon) as wire:
            sending = threading.Thread(target=wire.send, args=(pipeline,))
            sending.start()
            wire.rest()
            sending.join()
        done.set()

    flooding = [threading.Thread(target=flood) for _ in range(3)]
    started = time.monotonic()
    for each in flooding:
        each.start()
    waits = []
    with Wire(daemon) as wire:
        while not done.is_set():
            begun = time.monotonic()
            assert wire.ask("GET", "/livez").status == 200
            waits.append(time.monotonic() - begun)
            time.sleep(0.01)
    seconds = time.monotonic() - started
    for each in flooding:
        each.join()
    assert len(waits) > 10
    # The machine may be busy with other things, which lengthens both.
    assert sorted(waits)[len(waits) * 9 // 10] < seconds / 20


# -- descriptors -----------------------------------------------------------------------------------


def processor_seconds(daemon):
    fields = Path(f"/proc/{daemon.popen.pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def limit_files(daemon, spare):
    """Let the daemon open ``spare`` more files than it has open now; ``None``: as many as ever."""
    pid = daemon.popen.pid
    hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]
    numbers = [int(each.name) for each in Path(f"/proc/{pid}/fd").iterdir()]
    soft = hard if spare is None else max(numbers) + 1 + spare
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))


def is_let_in(wire):
    try:
        wire.send(request("GET", "/livez"))
        return wire.socket.recv(65536) != b""
    except ConnectionError:
        return False


def test_without_descriptors_clients_are_closed_and_nothing_turns_in_circles(start_daemon):
    daemon = start_daemon(keys_of("alpha"))
    with ExitStack() as stack:
        kept = stack.enter_context(Wire(daemon))
        assert kept.ask("POST", CHAT, said("hi")).status == 200
        limit_files(daemon, 0)
        connect = lambda: stack.enter_context(Wire(daemon))  # noqa: E731
        # Numbers below the highest one are free, and a file is read now and then.
        while [is_let_in(connect()) for _ in range(5)].count(True):
            pass
        lines, used = len(daemon.lines), processor_seconds(daemon)
        assert [is_let_in(connect()) for _ in range(20)].count(False) > 15
        time.sleep(1)
        assert processor_seconds(daemon) - used < 1
        assert len(daemon.lines) - lines <= 30
        answer = kept.ask("GET", "/livez")
        assert answer.status == 200, daemon.output
        limit_files(daemon, None)
    assert eventually(lambda: chat(daemon).status == 200)
    assert daemon.metric("gemproxy_connections_refused_total", reason="descriptors") > 20
    told = [event for event in daemon.events() if "no more files" in event["event"]]
    assert told
    assert told[0]["level"] in ("warn", "warning")


def test_a_crowd_that_takes_the_last_descriptors_is_one_line_of_the_log(start_daemon):
    daemon = start_daemon(keys_of("alpha"))
    with ExitStack() as stack:
        kept = stack.enter_context(Wire(daemon))
        assert kept.ask("POST", CHAT, said("hi")).status == 200
        before = len(daemon.events())
        limit_files(daemon, 3)
        daemon.popen.send_signal(signal.SIGSTOP)
        crowd = [stack.enter_context(Wire(daemon)) for _ in range(60)]
        daemon.popen.send_signal(signal.SIGCONT)
        assert [is_let_in(each) for each in crowd].count(False) > 30
        limit_files(daemon, None)
    assert eventually(lambda: chat(daemon).status == 200)
    refused = daemon.metric("gemproxy_connections_refused_total", reason="descriptors")
    assert refused > 30
    told = [event["event"] for event in daemon.events()[before:]]
    assert sum("clients were closed" in each for each in told) in range(1, 5)
    assert [each for each in told if "EMFILE" in each] == []
