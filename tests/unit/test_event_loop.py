"""What the reactor does with its events once it skips the log context."""

import socket

import pytest
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import capturedLogs

from gemproxy.event_loop import skip_log_context

epollreactor = pytest.importorskip("twisted.internet.epollreactor")


class Shouting(Protocol):
    def dataReceived(self, data):
        self.factory.heard.append(data)
        if data == b"fail":
            raise RuntimeError("a defect")
        self.transport.write(data.upper())

    def connectionLost(self, reason):
        self.factory.heard.append(None)
        raise RuntimeError("a defect at the end")


@pytest.fixture
def serving():
    """A reactor of one's own, with a server, and a client's socket."""
    reactor = epollreactor.EPollReactor()
    skip_log_context(reactor)
    factory = Factory.forProtocol(Shouting)
    factory.noisy, factory.heard = False, []
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    with socket.create_connection(("127.0.0.1", port.getHost().port)) as client:
        client.settimeout(10)
        yield reactor, factory.heard, client
    port.connectionLost(None)


def run_until(reactor, condition):
    for _ in range(1000):
        if condition():
            return
        reactor.iterate(0.01)
    raise AssertionError("it did not come to pass")


def test_events_are_served_and_an_idle_reactor_waits_no_longer_than_asked(serving):
    reactor, heard, client = serving
    client.sendall(b"hello")
    run_until(reactor, lambda: heard)
    reactor.iterate(0.01)
    assert client.recv(100) == b"HELLO"
    client.close()
    run_until(reactor, lambda: None in heard)


def test_a_defect_ends_its_connection_and_is_logged_and_others_go_on(serving):
    reactor, heard, client = serving
    with socket.create_connection(client.getpeername()) as other, capturedLogs() as events:
        other.settimeout(10)
        client.sendall(b"fail")
        other.sendall(b"hello")
        run_until(reactor, lambda: {b"fail", b"hello", None} <= set(heard))
        reactor.iterate(0.01)
        assert other.recv(100) == b"HELLO"
    assert client.recv(100) == b""
    failures = [str(event["log_failure"].value) for event in events if "log_failure" in event]
    assert failures == ["a defect", "a defect at the end"]
