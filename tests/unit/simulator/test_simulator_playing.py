"""Time, back-pressure and leaving, with a clock and a transport in memory."""

import json

import pytest
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from gemproxy.simulator import Simulator, config_for

KEY = "test-key-one-0123456789abcdef"


class Transport(StringTransport):
    """Remembers whether it was aborted."""

    aborting = False

    def abortConnection(self):
        self.aborting = True


class Peer:
    """A client that is connected to a simulator by a string."""

    def __init__(self, **settings):
        self.clock = Clock()
        self.simulator = Simulator(self.clock, config_for([("one", KEY)], **settings))
        self.transport = Transport()
        self.protocol = self.simulator.factory().buildProtocol(None)
        self.protocol.makeConnection(self.transport)

    def send(self, text, method="streamGenerateContent?alt=sse", model="gemini-2.5-flash"):
        body = json.dumps({"contents": [{"parts": [{"text": text}]}]}).encode()
        self.protocol.dataReceived(
            f"POST /v1beta/models/{model}:{method} HTTP/1.1\r\nHost: x\r\nx-goog-api-key: {KEY}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body
        )

    def leave(self):
        self.protocol.connectionLost(Failure(ConnectionDone()))

    @property
    def events(self):
        return self.transport.value().count(b"data: ")


@pytest.fixture
def make_peer():
    return Peer


def test_nothing_is_sent_before_the_first_delay(make_peer):
    peer = make_peer(first_byte_delay=2.0)
    peer.send("Hello")
    peer.clock.advance(1.9)
    assert peer.transport.value() == b""
    peer.clock.advance(0.2)
    assert peer.transport.value().startswith(b"HTTP/1.1 200 OK")


def test_chunks_come_in_their_pace(make_peer):
    peer = make_peer(chunk_delay=1.0)
    peer.send("Hello [simulate:chunks n=5]")
    seen = []
    for _ in range(3):
        seen.append(peer.events)
        peer.clock.advance(1.0)
    assert seen == [1, 2, 3]


def test_a_full_socket_stops_the_stream_and_an_empty_one_continues_it(make_peer):
    peer = make_peer(chunk_delay=1.0)
    peer.send("Hello [simulate:chunks n=5]")
    peer.transport.producer.pauseProducing()
    peer.clock.pump([1.0] * 10)
    assert peer.events == 1
    peer.transport.producer.resumeProducing()
    assert peer.events == 2
    peer.clock.pump([1.0] * 10)
    assert peer.transport.value().endswith(b"0\r\n\r\n")


def test_resuming_does_not_shorten_a_wait(make_peer):
    peer = make_peer(chunk_delay=1.0)
    peer.send("Hello [simulate:chunks n=5]")
    peer.transport.producer.pauseProducing()
    peer.transport.producer.resumeProducing()
    assert peer.events == 1


def test_a_client_that_leaves_is_seen_and_costs_nothing_more(make_peer):
    peer = make_peer(chunk_delay=1.0)
    peer.send("Hello [simulate:chunks n=50]")
    (exchange,) = peer.simulator.requests
    assert (peer.simulator.in_flight, exchange.finished) == (1, False)
    peer.leave()
    assert (peer.simulator.in_flight, exchange.closed_early, exchange.finished) == (0, True, True)
    assert not peer.clock.getDelayedCalls()


def test_a_stalled_client_that_leaves_left_early(make_peer):
    peer = make_peer()
    peer.send("[simulate:hang]")
    peer.clock.advance(3600)
    assert peer.transport.value() == b""
    assert peer.simulator.in_flight == 1
    peer.leave()
    (exchange,) = peer.simulator.requests
    assert (exchange.closed_early, exchange.status, exchange.behaviour) == (True, None, "hang")


def test_a_complete_answer_was_not_left_early(make_peer):
    peer = make_peer()
    peer.send("Hello")
    (exchange,) = peer.simulator.requests
    assert (exchange.closed_early, exchange.finished, exchange.status) == (False, True, 200)
    assert peer.simulator.in_flight == 0


@pytest.mark.parametrize("name", ["reset", "reset-mid-stream"])
def test_a_reset_aborts_the_connection(make_peer, name):
    peer = make_peer()
    peer.send(f"[simulate:{name}]")
    peer.clock.advance(1)
    assert peer.transport.aborting
    peer.leave()
    (exchange,) = peer.simulator.requests
    assert not exchange.closed_early


def test_a_body_over_the_limit_is_refused_and_not_kept(make_peer):
    peer = make_peer(max_body_size=100)
    peer.send("x" * 5000)
    assert b"Request payload size exceeds the limit: 100 bytes." in peer.transport.value()
    (exchange,) = peer.simulator.requests
    assert exchange.size <= 100


def test_aborting_ends_everything_in_flight(make_peer):
    peer = make_peer()
    peer.send("[simulate:hang]")
    peer.simulator.abort_connections()
    assert peer.transport.aborting


def test_it_listens_on_loopback_only():
    simulator = Simulator(Clock(), config_for([]))
    with pytest.raises(ValueError, match="loopback only"):
        simulator.listen(0, "0.0.0.0")


def test_a_behaviour_can_be_set_by_name_and_by_secret(make_peer):
    peer = make_peer()
    peer.simulator.set_behaviour("one", "overloaded", times=1)
    peer.send("Hello")
    peer.simulator.set_behaviour(KEY, "rate-limited-minute", limit=9)
    peer.send("Hello")
    assert [exchange.status for exchange in peer.simulator.requests] == [503, 429]
    peer.simulator.reset()
    assert len(peer.simulator.requests) == 0
    peer.send("Hello")
    assert peer.simulator.requests[0].status == 200
    with pytest.raises(KeyError):
        peer.simulator.set_behaviour("nobody", "ok")
