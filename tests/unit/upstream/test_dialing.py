"""Several addresses of one host: when each is tried, who wins, and what is told of the losers."""

import errno
import os
import socket

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectError, ConnectionRefusedError, NoRouteError  # noqa: A004
from twisted.internet.task import Clock

from gemproxy.upstream import dialing
from gemproxy.upstream.dialing import STAGGER_SECONDS, AddressesEndpoint, AllAddressesFailed
from gemproxy.upstream.exhaustion import Exhausted

ADDRESSES = [
    (socket.AF_INET6, "2001:db8::1"),
    (socket.AF_INET, "192.0.2.1"),
    (socket.AF_INET, "192.0.2.2"),
]


class Host:
    """A host whose addresses do what the test says."""

    def __init__(self):
        self.clock = Clock()
        self.tried = {}
        self.connected = []
        self.results = []
        endpoint = AddressesEndpoint(
            self.clock, ADDRESSES, 443, 10.0, lambda: self.connected.append(True)
        )
        self.connecting = endpoint.connect(None)
        self.connecting.addBoth(self.results.append)

    def attempt(self, address):
        attempt = self.tried[address[1]] = Deferred()
        return attempt

    @property
    def error(self):
        (failure,) = self.results
        return failure.value


@pytest.fixture
def host(monkeypatch):
    hosts = []

    class Endpoint:
        def __init__(self, address):
            self.address = address

        def connect(self, _factory):
            return hosts[0].attempt(self.address)

    class Late(Host):
        def __init__(self):
            hosts.append(self)
            super().__init__()

    monkeypatch.setattr(dialing, "_endpoint", lambda _, address, *__: Endpoint(address))
    return Late()


def os_error(number, kind=ConnectError):
    return kind(number, os.strerror(number))


def test_the_next_address_is_tried_beside_one_that_is_slow(host):
    assert list(host.tried) == ["2001:db8::1"]
    host.clock.advance(STAGGER_SECONDS)
    assert list(host.tried) == ["2001:db8::1", "192.0.2.1"]
    host.tried["192.0.2.1"].callback("protocol")
    assert (host.results, host.connected) == (["protocol"], [True])
    with_failure = []
    host.tried["2001:db8::1"].addErrback(with_failure.append)
    host.clock.advance(10)
    assert list(host.tried) == ["2001:db8::1", "192.0.2.1"]
    assert host.clock.getDelayedCalls() == []


def test_a_slow_address_may_win_all_the_same(host):
    host.clock.advance(STAGGER_SECONDS)
    host.tried["2001:db8::1"].callback("protocol")
    assert host.results == ["protocol"]


def test_the_next_address_is_tried_at_once_after_one_that_refuses(host):
    host.tried["2001:db8::1"].errback(os_error(errno.ENETUNREACH, NoRouteError))
    host.clock.advance(0)
    assert list(host.tried) == ["2001:db8::1", "192.0.2.1"]
    host.tried["192.0.2.1"].errback(os_error(errno.ECONNREFUSED, ConnectionRefusedError))
    host.clock.advance(0)
    host.tried["192.0.2.2"].errback(os_error(errno.EHOSTUNREACH))
    assert isinstance(host.error, AllAddressesFailed)
    (told,) = host.error.args
    assert told.split("; ") == [
        "2001:db8::1: Network is unreachable",
        "192.0.2.1: Connection refused",
        "192.0.2.2: No route to host",
    ]
    assert host.clock.getDelayedCalls() == []


def test_whoever_leaves_takes_all_attempts_along(host):
    host.clock.advance(STAGGER_SECONDS)
    host.connecting.cancel()
    assert isinstance(host.error, CancelledError)
    assert all(attempt.called for attempt in host.tried.values())
    host.clock.advance(10)
    assert len(host.tried) == 2


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (errno.EMFILE, "out of file descriptors"),
        (errno.ENFILE, "out of file descriptors in the whole system"),
        (errno.ENOBUFS, "out of memory for sockets"),
    ],
)
def test_a_machine_without_resources_tries_no_other_address(host, number, text):
    host.tried["2001:db8::1"].errback(os_error(number))
    assert isinstance(host.error, Exhausted)
    assert host.error.args == (text,)
    host.clock.advance(10)
    assert len(host.tried) == 1


def test_an_address_that_cannot_be_assigned_is_a_want_of_ports_in_ipv4_only(host):
    host.tried["2001:db8::1"].errback(os_error(errno.EADDRNOTAVAIL))
    host.clock.advance(0)
    assert host.results == []
    host.tried["192.0.2.1"].errback(os_error(errno.EADDRNOTAVAIL))
    assert isinstance(host.error, Exhausted)
    assert host.error.args == ("out of local ports",)
