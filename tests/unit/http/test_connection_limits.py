"""How many connections there may be, and which one goes for a new one."""

from ipaddress import ip_network

import pytest
from fakes.gates import OpenGate
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web.resource import Resource

from gemproxy.api.openai.errors import OPENAI
from gemproxy.http.connection import ClientConnection
from gemproxy.http.connection_limits import ConnectionLimits
from gemproxy.http.response_writer import write_whole
from gemproxy.http.site import ProxySite

REQUEST = b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"


class Transport(StringTransport):
    """Closes at once what is closed."""

    protocol = None
    aborted = False

    def loseConnection(self):
        super().loseConnection()
        self.protocol.connectionLost(Failure(ConnectionDone()))

    def abortConnection(self):
        self.aborted = True
        self.protocol.connectionLost(Failure(ConnectionDone()))


def peer(host):
    return (IPv6Address if ":" in host else IPv4Address)("TCP", host, 1234)


class Stage:
    def __init__(self, **limits):
        self.clock = Clock()
        self.clock.advance(1000)
        self.site = ProxySite(
            Resource(),
            self.clock,
            OpenGate(self.clock),
            OPENAI,
            limits=ConnectionLimits(**limits),
        )
        self.site.fast_routes[b"POST", b"/now"] = lambda request: write_whole(
            request, 200, b"", b"", self.clock.seconds()
        )
        self.site.fast_routes[b"POST", b"/later"] = lambda _: None

    def connect(self, address=None):
        """The transport of a new connection; whether it was let in is its ``is_in``."""
        address = peer(address) if isinstance(address, str) else address
        protocol = self.site.buildProtocol(address)
        transport = Transport(peerAddress=address)
        transport.protocol = protocol
        transport.is_in = isinstance(protocol, ClientConnection)
        if not transport.is_in:
            protocol.connectionLost = lambda _: None
        protocol.makeConnection(transport)
        return transport

    @property
    def refused(self):
        return {reason: count for reason, count in self.site.connections.refused.items() if count}


def test_at_the_limit_the_one_goes_that_is_idle_for_longest():
    stage = Stage(max_connections=3)
    first, second, third = stage.connect(), stage.connect(), stage.connect()
    stage.clock.advance(1)
    first.protocol.dataReceived(REQUEST % b"/now")
    stage.clock.advance(2)
    fourth = stage.connect()
    assert fourth.is_in
    assert first.connected
    assert [second.disconnecting, third.disconnecting].count(True) == 1
    assert len(stage.site.channels) == 3
    assert stage.connect().is_in
    assert second.disconnecting
    assert third.disconnecting
    assert not first.disconnecting  # It was used since.
    assert stage.refused == {}


@pytest.mark.parametrize("begun", [REQUEST % b"/later", b"POST / HT", b"\r"])
def test_where_none_is_idle_the_new_one_is_closed_and_counted(begun):
    stage = Stage(max_connections=2)
    busy = [stage.connect() for _ in range(2)]
    for transport in busy:
        transport.protocol.dataReceived(begun)
    refused = stage.connect()
    assert refused.disconnecting
    assert not refused.is_in
    assert not any(transport.disconnecting for transport in busy)
    assert stage.refused == {"limit": 1}
    busy[0].loseConnection()
    assert stage.connect().is_in


def test_who_has_yet_to_take_its_answer_is_not_idle():
    stage = Stage(max_connections=1)
    slow = stage.connect()
    slow.protocol.dataReceived(REQUEST % b"/later")
    slow.protocol.pauseProducing()
    (request,) = [slow.protocol._request]
    write_whole(request, 200, b"", b"much", stage.clock.seconds())
    assert not stage.connect().is_in
    slow.protocol.resumeProducing()
    stage.clock.advance(1)
    assert stage.connect().is_in


def test_thousands_of_refusals_do_not_look_through_the_connections_each_time(monkeypatch):
    looks = []
    stage = Stage(max_connections=1)
    stage.connect().protocol.dataReceived(REQUEST % b"/later")
    monkeypatch.setattr(
        ClientConnection, "is_idle", property(lambda _: looks.append(1)), raising=True
    )
    for _ in range(1000):
        assert not stage.connect().is_in
    assert len(looks) == 1


@pytest.mark.parametrize(
    ("addresses", "let_in"),
    [
        (["192.0.2.1"] * 3, 2),
        (["192.0.2.1", "192.0.2.2", "192.0.2.3"], 3),
        (["2001:db8:0:1::1", "2001:db8:0:1:ffff::2", "2001:db8:0:1::3"], 2),
        (["2001:db8:0:1::1", "2001:db8:0:2::1", "2001:db8:0:3::1"], 3),
        (["fe80::1%eth0", "fe80::2%eth0", "fe80::3%eth0"], 2),
        (["::ffff:192.0.2.1", "192.0.2.1", "::ffff:192.0.2.1"], 2),
        (["10.1.2.3"] * 3, 3),
        (["::ffff:10.1.2.3"] * 3, 3),
        (["2001:db8:ff::1"] * 3, 3),
        ([UNIXAddress(b"")] * 3, 3),
        ([None] * 3, 3),
    ],
)
def test_an_address_may_have_so_many(addresses, let_in):
    shared = (ip_network("10.0.0.0/8"), ip_network("2001:db8:ff::/48"))
    stage = Stage(max_per_address=2, shared_addresses=shared)
    connections = [stage.connect(address) for address in addresses]
    assert [each.is_in for each in connections].count(True) == let_in
    assert stage.refused == ({"address": 3 - let_in} if let_in < 3 else {})
    if let_in < 3:
        connections[0].loseConnection()
        assert stage.connect(addresses[0]).is_in


def test_other_limits_count_what_is_open_already():
    stage = Stage()
    first = [stage.connect("192.0.2.1") for _ in range(2)]
    stage.site.connections.apply(ConnectionLimits(max_per_address=2))
    assert not stage.connect("192.0.2.1").is_in
    assert stage.connect("192.0.2.2").is_in
    first[0].loseConnection()
    assert stage.connect("192.0.2.1").is_in
    stage.site.connections.apply(ConnectionLimits())
    assert stage.connect("192.0.2.1").is_in
    for channel in list(stage.site.channels):
        channel.transport.loseConnection()
    assert not stage.site.connections._by_address


def test_connections_are_counted_by_state():
    stage = Stage()
    stage.connect()
    stage.connect().protocol.dataReceived(REQUEST % b"/later")
    stage.connect().protocol.dataReceived(b"POST")
    stage.connect().protocol.dataReceived(REQUEST % b"/now")
    assert stage.site.connections.count_by_state() == {"active": 2, "idle": 2}
