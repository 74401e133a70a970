"""Clients behind a cable that is cut, in a network namespace, and clients that only do not read."""

import socket
import subprocess
import sys
import textwrap
import time

import pytest
from fakes.network import Island, why_not
from fakes.running import RunningDaemon, eventually, keys_of
from fakes.wire import CHAT, Wire, request, said

TOKEN = "a-client-token-of-the-tests"
#: With ``keepaliveSeconds: 2`` TCP gives up after 5 s; a look is taken every 5 s.
GIVEN_UP = 5.0
#: What the specification allows with the defaults.
ROOM = 60.0
HANG = "[simulate:hang] hi"
#: Each of eight choices repeats it: more than the buffers of a kernel take.
#: A model that gives several choices.
CHOOSING = "gemini-2.5-flash"
FLOOD = "[simulate:echo] [simulate:chunks n=3] a" + " " * (3 << 20) + "b"

CLIENT = textwrap.dedent("""
    import socket, sys, time
    host, port, request = sys.argv[1], int(sys.argv[2]), sys.stdin.read()
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    client.connect((host, port))
    client.sendall(request.encode())
    print("sent", flush=True)
    while "reads" in sys.argv:
        client.recv(65536)
    time.sleep(1000)
""")
pytestmark = pytest.mark.usefixtures("own_network")
needs_namespaces = pytest.mark.skipif(bool(why_not()), reason=why_not() or "there are namespaces")


def start(simulator, folder, **proxy):
    simulator.reset()
    return RunningDaemon(
        folder,
        simulator.url,
        keys_of("alpha"),
        proxy={"host": "0.0.0.0", "accessTokens": [TOKEN], **proxy},
        upstream={"keepaliveSeconds": 2},
        streaming={"heartbeatSeconds": 1, "headersAfterSeconds": 0},
    )


@pytest.fixture
def daemon(simulator, tmp_path):
    running = start(simulator, tmp_path)
    yield running
    running.stop()


@pytest.fixture
def island(tmp_path):
    made = Island(tmp_path)
    yield made
    made.close()


def in_flight(daemon):
    return daemon.metric("gemproxy_requests_in_flight")


def ask_from(island, daemon, message, *how, **more):
    """A client in the namespace, which has sent its request."""
    asked = request(
        "POST",
        CHAT,
        said(message, **more),
        authorization=f"Bearer {TOKEN}",
        x_request_id="from-the-island",
    )
    client = subprocess.Popen(
        ["ip", "netns", "exec", island.name, sys.executable, "-c", CLIENT, island.here]  # noqa: RUF005
        + [str(daemon.port), *how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    client.stdin.write(asked)
    client.stdin.close()
    assert client.stdout.readline() == b"sent\n"
    return client


@needs_namespaces
@pytest.mark.parametrize("stream", [False, True])
def test_a_client_whose_link_died_loses_its_place_and_its_upstream_request(
    island, daemon, simulator, stream
):
    """With nothing on its way to it, and with heartbeats that nobody acknowledges."""
    client = ask_from(island, daemon, HANG, "reads", stream=stream)
    try:
        eventually(lambda: in_flight(daemon) == 1)
        time.sleep(1)  # for the first heartbeats
        island.cut()
        began = time.monotonic()
        eventually(lambda: in_flight(daemon) == 0, ROOM)
        assert time.monotonic() - began > GIVEN_UP / 2
        line = daemon.request_line("from-the-island")
        assert (line["status"], line["outcome"]) == (499, "client_gone")
        assert daemon.metric("gemproxy_connections", state="active") == 1  # who asks
    finally:
        client.kill()
        client.stdout.close()
        client.wait()


@needs_namespaces
def test_a_client_whose_link_died_with_a_full_buffer_is_given_up_as_a_slow_one(
    island, simulator, tmp_path
):
    """Its window is shut, so that the kernel asks it ever more seldom."""
    (tmp_path / "daemon").mkdir()
    daemon = start(simulator, tmp_path / "daemon", slowReaderSeconds=8)
    client = ask_from(island, daemon, FLOOD, model=CHOOSING, stream=True, n=8)
    try:
        eventually(lambda: in_flight(daemon) == 1)
        time.sleep(2)
        island.cut()
        eventually(lambda: in_flight(daemon) == 0, ROOM)
        assert daemon.request_line("from-the-island")["status"] == 499
    finally:
        client.kill()
        client.stdout.close()
        client.wait()
        daemon.stop()


def test_unread_streams_of_one_token_do_not_hold_all_places_for_long(simulator, tmp_path):
    """TCP's own patience is shorter here than that with slow readers, which counts."""
    patience = 10
    daemon = start(simulator, tmp_path, maxConcurrentRequests=5, slowReaderSeconds=patience)
    headers = {"authorization": f"Bearer {TOKEN}"}
    wires = [Wire(daemon) for _ in range(5)]
    try:
        began = time.monotonic()
        for number, wire in enumerate(wires):
            wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
            wire.send(
                request(
                    "POST",
                    CHAT,
                    said(FLOOD, CHOOSING, stream=True, n=8),
                    x_request_id=f"unread-{number}",
                    **headers,
                )
            )
        eventually(lambda: in_flight(daemon) == 5)
        with Wire(daemon) as another:
            assert another.ask("POST", CHAT, said("hi"), **headers).status == 429
        eventually(lambda: in_flight(daemon) == 0, ROOM)
        assert time.monotonic() - began > patience - 0.5
        for number in range(5):
            line = daemon.request_line(f"unread-{number}")
            assert (line["status"], line["outcome"]) == (499, "slow_reader")
        with Wire(daemon) as another:
            assert another.ask("POST", CHAT, said("hi"), **headers).status == 200
    finally:
        for wire in wires:
            wire.socket.close()
        daemon.stop()
