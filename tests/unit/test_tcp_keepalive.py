"""Which options a connection gets, so that the kernel notices a peer that vanished."""

import socket
from types import SimpleNamespace

import pytest

from gemproxy.tcp_keepalive import gone_after, notice_silence


def options(connection):
    return {
        "on": connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
        "idle": connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
        "interval": connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL),
        "probes": connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT),
        "timeout": connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT),
    }


@pytest.fixture(params=[socket.AF_INET, socket.AF_INET6], ids=["IPv4", "IPv6"])
def connection(request):
    try:
        made = socket.socket(request.param)
    except OSError:
        pytest.skip("no sockets of this family here")
    with made:
        yield made


def test_the_default_notices_a_silent_peer_well_under_a_minute(connection):
    notice_silence(connection, 20.0)
    assert options(connection) == {
        "on": 1,
        "idle": 20,
        "interval": 5,
        "probes": 3,
        "timeout": 35_000,
    }


@pytest.mark.parametrize("seconds", [1.0, 1.5, 7.3, 20.0, 3600.0])
def test_no_probe_may_be_lost_in_vain(connection, seconds):
    """With a user timeout below the probes' whole time the first lost one would end it."""
    notice_silence(connection, seconds)
    told = options(connection)
    assert told["idle"] + told["probes"] * told["interval"] == gone_after(seconds)
    assert told["timeout"] == gone_after(seconds) * 1000
    assert told["idle"] >= seconds


def test_more_patience_with_a_peer_that_lives_is_taken(connection):
    notice_silence(connection, 20.0, stalled_seconds=60.0)
    told = options(connection)
    assert (told["idle"], told["timeout"]) == (20, 60_000)
    notice_silence(connection, 20.0, stalled_seconds=10.0)
    assert options(connection)["timeout"] == 35_000


def test_a_connection_below_tls_is_found(connection):
    tcp = SimpleNamespace(socket=connection)
    notice_silence(SimpleNamespace(transport=SimpleNamespace(transport=tcp)), 20.0)
    assert options(connection)["on"] == 1


def test_what_is_no_tcp_connection_is_left_alone():
    one, other = socket.socketpair(socket.AF_UNIX)
    with one, other:
        notice_silence(one, 20.0)
        assert one.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 0
    for nothing in (None, object(), SimpleNamespace(transport=None)):
        notice_silence(nothing, 20.0)


def test_a_closed_connection_raises_nothing(connection):
    connection.close()
    notice_silence(connection, 20.0)
