"""Requests that wait for a key, at real sockets."""

import signal
import threading
import time
from contextlib import ExitStack

import pytest
from fakes.running import RunningDaemon, eventually, keys_of
from fakes.wire import CHAT, Wire, chat, request, said

CLIENTS = {"flood": "a-token-of-the-flood-client", "calm": "a-token-of-the-calm-client"}
TOKENS = [{"name": name, "token": token} for name, token in CLIENTS.items()]


def token_of(name):
    return f"Bearer {CLIENTS[name]}"


def queued(daemon):
    return daemon.metric("gemproxy_queue_length")


def cool_down(simulator, seconds):
    """Google refuses the only key, and says for how long."""
    simulator.behave("alpha", "rate-limited-minute", times=1, parameters={"retryDelay": seconds})


@pytest.fixture(scope="module")
def patient_daemon(simulator, tmp_path_factory):
    """One key; requests wait for a minute, and streams have their headers at once."""
    running = RunningDaemon(
        tmp_path_factory.mktemp("daemon"),
        simulator.url,
        keys_of("alpha"),
        admission={"maxWaitSeconds": 60},
        streaming={"headersAfterSeconds": 0, "heartbeatSeconds": 0.1},
    )
    yield running
    running.stop()


def test_a_429_is_not_felt_by_the_client_and_its_wait_is_told(patient_daemon, simulator):
    daemon = patient_daemon
    assert daemon.request_line(chat(daemon).headers["x-request-id"])["queue_ms"] == 0
    cool_down(simulator, 1)
    began = time.monotonic()
    answer = chat(daemon, x_request_id="waited")
    took = time.monotonic() - began
    assert answer.status == 200
    assert answer.headers["x-gemproxy-attempts"] == "2"
    line = daemon.request_line("waited")
    assert 900 < line["queue_ms"] < 1000 * took
    explained = daemon.admin("GET", "requests/waited").json
    assert explained["request"]["queue_ms"] == line["queue_ms"]
    assert [each["outcome"] for each in explained["attempts"]] == ["quota_minute", "success"]
    assert sum(each["duration_ms"] for each in explained["attempts"]) < line["ms"] - 900
    assert daemon.metric("gemproxy_queue_wait_seconds_count", priority="normal") == 1
    overhead = daemon.metric("gemproxy_overhead_seconds_sum", route=CHAT)
    assert overhead < 0.9
    # One that is refused at once has not waited. The reset forgets the quota that was learned.
    daemon.admin("POST", "keys/alpha/reset")
    cool_down(simulator, 100)
    assert chat(daemon, x_request_id="refused").status == 429
    assert daemon.request_line("refused")["queue_ms"] == 0
    daemon.admin("POST", "keys/alpha/reset")


def test_a_client_that_leaves_gives_its_place_back(patient_daemon, simulator):
    daemon = patient_daemon
    cool_down(simulator, 50)
    with Wire(daemon) as wire:
        wire.send(request("POST", CHAT, said("Hello!")))
        eventually(lambda: queued(daemon) == 1)
    eventually(lambda: queued(daemon) == 0)
    # An operator's command wakes those that wait.
    with Wire(daemon) as wire:
        wire.send(request("POST", CHAT, said("Hello!")))
        eventually(lambda: queued(daemon) == 1)
        assert daemon.admin("POST", "keys/alpha/reset").status == 200
        assert wire.receive().status == 200


def test_streams_get_their_headers_and_heartbeats_while_they_wait(patient_daemon, simulator):
    daemon = patient_daemon
    cool_down(simulator, 50)
    with Wire(daemon) as wire:
        wire.send(request("POST", CHAT, said("Hello!", stream=True)))
        assert wire.until(b"\r\n\r\n").startswith(b"HTTP/1.1 200")
        for _ in range(3):
            wire.until(b": ")
        assert queued(daemon) == 1
        daemon.admin("POST", "keys/alpha/reset")
        assert wire.until(b"data: [DONE]")


def test_a_reload_and_a_stop_find_them_waiting(start_daemon, simulator):
    daemon = start_daemon(keys_of("alpha"), admission={"maxWaitSeconds": 60})
    cool_down(simulator, 50)
    with Wire(daemon) as first, Wire(daemon) as second:
        first.send(request("POST", CHAT, said("Hello!")))
        eventually(lambda: queued(daemon) == 1)
        # A key that is added serves it.
        daemon.configure(keys_of("alpha", "beta"), admission={"maxWaitSeconds": 60})
        assert daemon.reload().status == 200
        assert first.receive().status == 200
        daemon.configure(keys_of("alpha"), admission={"maxWaitSeconds": 60})
        assert daemon.reload().status == 200
        second.send(request("POST", CHAT, said("Hello!")))
        eventually(lambda: queued(daemon) == 1)
        daemon.configure(
            keys_of("alpha"), admission={"maxWaitSeconds": 0}, proxy={"drainSeconds": 1}
        )
        assert daemon.reload().status == 200
        # It goes on waiting; a new one does not.
        assert chat(daemon).status == 429
        assert queued(daemon) == 1
        daemon.popen.send_signal(signal.SIGTERM)
        assert second.receive().status == 503
    assert daemon.wait() == 0


def test_a_flood_delays_no_other_client(start_daemon):
    """One client sends 200 at a time, another one asks twice a second; keys with ``rpm: 60``."""
    daemon = start_daemon(
        keys_of("alpha", "beta", limits={"rpm": 60}), proxy={"accessTokens": TOKENS}
    )
    flood = request("POST", CHAT, said("Hello!"), authorization=token_of("flood"))
    over, statuses = threading.Event(), []

    def send_again_and_again(wires):
        while not over.is_set():
            for wire in wires:
                wire.send(flood)
            statuses.extend(wire.receive().status for wire in wires)

    with ExitStack() as stack:
        wires = [stack.enter_context(Wire(daemon)) for _ in range(200)]
        flooding = threading.Thread(target=send_again_and_again, args=(wires,))
        flooding.start()
        eventually(lambda: statuses)
        waits, longest = [], 0
        for _ in range(6):
            answer = chat(daemon, authorization=token_of("calm"))
            assert answer.status == 200
            waits.append(daemon.request_line(answer.headers["x-request-id"])["queue_ms"])
            longest = max(longest, queued(daemon))
            over.wait(0.4)
        over.set()
        flooding.join()
    assert max(waits) <= 2000
    assert longest <= 200
    assert statuses.count(200) >= 60
    assert set(statuses) == {200, 429}
