"""The way through an HTTP proxy, byte by byte."""

from base64 import b64encode

import pytest
from twisted.internet.defer import CancelledError, succeed
from twisted.internet.error import ConnectionLost, TimeoutError  # noqa: A004
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from gemproxy.upstream.tunnel import TunnelEndpoint, TunnelLost, TunnelRefused, basic


class Inner(Protocol):
    """What uses the tunnel."""

    def __init__(self):
        self.received = b""
        self.lost = None

    def dataReceived(self, data):
        self.received += data

    def connectionLost(self, reason):
        self.lost = reason


class Transport(StringTransport):
    aborted = False

    def abortConnection(self):
        self.aborted = True


class Proxy:
    """An endpoint that is connected at once."""

    def __init__(self):
        self.transport = Transport()

    def connect(self, factory):
        self.protocol = factory.buildProtocol(None)
        self.protocol.makeConnection(self.transport)
        return succeed(self.protocol)


class Stage:
    def __init__(self, authorization=b""):
        self.clock, self.proxy = Clock(), Proxy()
        endpoint = TunnelEndpoint(self.clock, self.proxy, "example.com:443", 10.0, authorization)
        self.results = []
        self.opening = endpoint.connect(Factory.forProtocol(Inner))
        self.opening.addBoth(self.results.append)

    def hears(self, data):
        self.proxy.protocol.dataReceived(data)

    @property
    def failure(self):
        (failure,) = self.results
        return failure.value


@pytest.fixture
def stage():
    return Stage()


OK = b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n"


def test_the_proxy_is_asked_for_the_target_and_for_nothing_else(stage):
    assert stage.proxy.transport.value() == (
        b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n"
    )


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_an_open_tunnel_carries_bytes_as_they_are_also_those_that_came_with_the_answer(stage, size):
    sent = OK + b"\x16\x03first\r\n\r\nbytes"
    for place in range(0, len(sent), size):
        stage.hears(sent[place : place + size])
    (inner,) = stage.results
    assert inner.received == b"\x16\x03first\r\n\r\nbytes"
    inner.transport.write(b"hello")
    assert stage.proxy.transport.value().endswith(b"\r\n\r\nhello")


def test_any_2xx_opens(stage):
    stage.hears(b"HTTP/1.0 204 Fine\r\n\r\n")
    assert isinstance(stage.results[0], Inner)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 5\r\n\r\nnever", "403 Forbidden"),
        (
            b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n",
            "407 Proxy Authentication Required",
        ),
        (
            b"HTTP/1.1 407 No\r\nProxy-Authenticate: NTLM\r\nproxy-authenticate: X y\r\n\r\n",
            "407 No (it asks for NTLM, X)",
        ),
        (b"HTTP/1.0 502\r\n\r\n", "502"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\n\r\n", "302 Found"),
        (b"HTTP/1.1\r\n\r\n", "what is not HTTP: HTTP/1.1"),
        (b"\r\n\r\n", "what is not HTTP: "),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "what is not HTTP: SSH-2.0-OpenSSH"),
        (b"HTTP/1.1 503 " + b"x" * 9000 + b"\r\n\r\n", "503 " + "x" * 146),
    ],
)
def test_anything_else_is_a_refusal_that_quotes_the_status_line(stage, answer, told):
    stage.hears(answer)
    assert isinstance(stage.failure, TunnelRefused)
    assert stage.failure.args == (f"proxy answered {told}",)
    assert stage.proxy.transport.aborted


def test_an_endless_answer_is_a_refusal(stage):
    for _ in range(16):
        stage.hears(b"a" * 1024)
    assert stage.results == []
    stage.hears(b"a")
    assert isinstance(stage.failure, TunnelRefused)
    assert stage.proxy.transport.aborted


def test_a_proxy_that_closes_without_an_answer_is_named(stage):
    stage.hears(b"HTTP/1.1 200")
    stage.proxy.protocol.connectionLost(Failure(ConnectionLost()))
    assert isinstance(stage.failure, TunnelLost)
    assert stage.failure.args == ("proxy closed the connection before it answered",)


def test_credentials_go_to_the_proxy_and_stay_out_of_what_it_says():
    authorization = basic("ann", "p:ß")
    stage = Stage(authorization)
    assert stage.proxy.transport.value() == (
        b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n"
        b"Proxy-Authorization: Basic " + b64encode("ann:p:ß".encode()) + b"\r\n\r\n"
    )
    stage.hears(b"HTTP/1.1 407 Not with " + authorization + b"\r\n\r\n")
    assert stage.failure.args == ("proxy answered 407 Not with Basic …",)


def test_a_silent_proxy_times_out(stage):
    stage.clock.advance(9)
    assert stage.results == []
    stage.clock.advance(2)
    assert isinstance(stage.failure, TimeoutError)
    assert stage.proxy.transport.aborted


def test_a_tunnel_that_opened_in_time_has_no_deadline(stage):
    stage.hears(OK)
    stage.clock.advance(1000)
    assert not stage.proxy.transport.aborted


def test_whoever_leaves_closes_the_connection(stage):
    stage.opening.cancel()
    assert isinstance(stage.failure, CancelledError)
    assert stage.proxy.transport.aborted


def test_the_end_of_the_connection_is_told_to_who_uses_it(stage):
    stage.hears(OK)
    (inner,) = stage.results
    stage.proxy.protocol.connectionLost(Failure(ConnectionLost()))
    assert inner.lost.check(ConnectionLost)
