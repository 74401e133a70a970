"""The simulator over a real socket: answers, faults, control calls, and the program itself."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import pytest_twisted
import treq
from twisted.internet import reactor
from twisted.internet.error import ConnectionLost
from twisted.internet.task import deferLater
from twisted.web.client import Agent, HTTPConnectionPool, ResponseFailed
from twisted.web.http import PotentialDataLoss

from gemproxy.simulator import Simulator, config_for

ROOT = Path(__file__).parents[2]
KEY = "test-key-one-0123456789abcdef"
STREAM = "gemini-2.5-flash:streamGenerateContent?alt=sse"
UNARY = "gemini-2.5-flash:generateContent"


class Served:
    """A listening simulator with a client for it."""

    def __init__(self, simulator, port):
        self.simulator = simulator
        self.port = port
        self.address = f"http://127.0.0.1:{port.getHost().port}"
        pool = HTTPConnectionPool(reactor, persistent=False)
        self.client = treq.client.HTTPClient(Agent(reactor, pool=pool))

    async def post(self, path, text, key=KEY):
        body = {"contents": [{"parts": [{"text": text}]}]}
        url = f"{self.address}/v1beta/models/{path}"
        headers = {"x-goog-api-key": key}
        return await self.client.post(url, json=body, headers=headers, timeout=10)

    async def control(self, method, path, body=None):
        url = f"{self.address}/_simulator/{path}"
        response = await self.client.request(method, url, json=body)
        return response.code, await response.json()


@pytest.fixture
def served():
    simulator = Simulator(reactor, config_for([("one", KEY), ("two", "test-key-two")]))
    port = pytest_twisted.blockon(simulator.listen())
    yield Served(simulator, port)
    simulator.abort_connections()
    pytest_twisted.blockon(port.stopListening())


@pytest_twisted.ensureDeferred
async def test_a_unary_answer(served):
    response = await served.post(UNARY, "Hello")
    assert response.code == 200
    assert response.headers.getRawHeaders("content-type") == ["application/json; charset=UTF-8"]
    body = await response.json()
    assert "Hello" in body["candidates"][0]["content"]["parts"][0]["text"]


@pytest_twisted.ensureDeferred
async def test_a_stream_of_events(served):
    response = await served.post(STREAM, "Hello [simulate:fragmented size=5]")
    assert response.headers.getRawHeaders("content-type") == ["text/event-stream"]
    data = await response.content()
    events = [json.loads(event[6:]) for event in data.split(b"\r\n\r\n") if event]
    assert events[-1]["candidates"][0]["finishReason"] == "STOP"


@pytest.mark.parametrize("text", ["[simulate:reset]", "[simulate:close]", "[simulate:garbage]"])
@pytest_twisted.ensureDeferred
async def test_no_answer_at_all(served, text):
    with pytest.raises(ResponseFailed):
        await served.post(UNARY, text)


@pytest.mark.parametrize("name", ["reset-mid-stream", "cut"])
@pytest_twisted.ensureDeferred
async def test_a_stream_that_breaks_after_its_first_events(served, name):
    response = await served.post(STREAM, f"[simulate:{name} chunks=1]")
    received = []
    with pytest.raises((ResponseFailed, ConnectionLost, PotentialDataLoss)):
        await treq.collect(response, received.append)
    assert b"".join(received).count(b"\r\n\r\n") == 1


@pytest_twisted.ensureDeferred
async def test_a_reset_is_a_reset_on_the_wire(served):
    """The kernel says ECONNRESET, and not an orderly end."""
    loop = socket.create_connection(("127.0.0.1", served.port.getHost().port))
    body = b'{"contents":[{"parts":[{"text":"[simulate:reset]"}]}]}'
    head = f"POST /v1beta/models/{UNARY} HTTP/1.1\r\nHost: x\r\nx-goog-api-key: {KEY}\r\n"
    loop.sendall(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    await deferLater(reactor, 0.3)
    with loop, pytest.raises(ConnectionResetError):
        loop.recv(100)


@pytest_twisted.ensureDeferred
async def test_what_came_is_recorded(served):
    await (await served.post(UNARY, "Hello")).content()
    (exchange,) = served.simulator.requests
    assert (exchange.key, exchange.model, exchange.call) == (
        "one",
        "gemini-2.5-flash",
        "generateContent",
    )
    assert exchange.body == {"contents": [{"parts": [{"text": "Hello"}]}]}
    assert [place for place, _ in exchange.credentials] == ["x-goog-api-key"]
    assert KEY not in repr(exchange)


class TestControl:
    @pytest_twisted.ensureDeferred
    async def test_a_key_is_told_what_to_do(self, served):
        told = {"behaviour": "rate-limited-day", "parameters": {"limit": 9}, "times": 1}
        code, state = await served.control("PUT", "keys/one", told)
        assert (code, state["behaviour"], state["timesLeft"]) == (200, "rate-limited-day", 1)
        assert (await served.post(UNARY, "Hello")).code == 429
        assert (await served.post(UNARY, "Hello")).code == 200
        _, listed = await served.control("GET", "keys")
        assert [(key["name"], key["behaviour"]) for key in listed["keys"]] == [
            ("one", "ok"),
            ("two", "ok"),
        ]

    @pytest_twisted.ensureDeferred
    async def test_the_default_is_changed_and_everything_is_reset(self, served):
        await served.control("PUT", "default", {"behaviour": "internal-error"})
        assert (await served.post(UNARY, "Hello")).code == 500
        assert (await served.control("POST", "reset"))[0] == 200
        assert (await served.post(UNARY, "Hello")).code == 200

    @pytest_twisted.ensureDeferred
    async def test_requests_are_listed_without_secrets(self, served):
        for text in ("one", "two", "three"):
            await (await served.post(UNARY, text)).content()
        _, body = await served.control("GET", "requests?limit=2")
        said = [r["body"]["contents"][0]["parts"][0]["text"] for r in body["requests"]]
        assert said == ["two", "three"]
        assert KEY not in json.dumps(body)

    @pytest.mark.parametrize(
        ("method", "path", "body", "code", "message"),
        [
            ("PUT", "keys/nobody", {"behaviour": "ok"}, 404, "the keys are: one, two"),
            ("PUT", "keys/one", {"behaviour": "okay-ish"}, 400, "no behaviour"),
            ("PUT", "keys/one", {"behavior": "ok"}, 400, "did you mean 'behaviour'?"),
            ("PUT", "keys/one", {"behaviour": "ok", "times": "2"}, 400, "times: expected int"),
            ("PUT", "keys/one", ["ok"], 400, "has to be an object"),
            ("GET", "requests?limit=-1", None, 400, "whole number"),
            ("GET", "nothing", None, 404, "no such control call"),
        ],
    )
    @pytest_twisted.ensureDeferred
    async def test_a_mistake_is_told(self, served, method, path, body, code, message):
        status, answer = await served.control(method, path, body)
        assert status == code
        assert message in answer["error"]

    @pytest_twisted.ensureDeferred
    async def test_the_catalogue_is_shown(self, served):
        _, body = await served.control("GET", "behaviours")
        shown = {entry["name"]: entry for entry in body["behaviours"]}
        assert shown["truncated"]["parameters"] == {"chunks": 2}
        assert shown["leaked"]["summary"].startswith("403")


@pytest.fixture
def program():
    command = [sys.executable, "-m", "gemproxy.simulator.main", "--port", "0", "--seed", "3"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=ROOT,
    )
    yield process
    process.kill()
    process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_program_says_its_address_serves_and_ends(program, number):
    line = program.stdout.readline()
    address = line.split("Gemini API at ")[1].split(";")[0]
    assert "curl -s" in line
    with urllib.request.urlopen(f"{address}/_simulator/keys", timeout=60) as answer:
        assert len(json.load(answer)["keys"]) == 3
    program.send_signal(number)
    assert program.wait(timeout=60) == 0


def test_a_taken_port_is_one_line_and_exit_status_1():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        started = time.monotonic()
        ended = subprocess.run(
            [sys.executable, "-m", "gemproxy.simulator.main", "--port", str(port)],
            capture_output=True,
            text=True,
            timeout=60,
            cwd=ROOT,
            check=False,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
    assert ended.returncode == 1
    assert f"127.0.0.1:{port}" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert time.monotonic() - started < 60
