"""What the description of an endpoint says."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock

from gemproxy.config import endpoints
from gemproxy.config.endpoints import with_socket_mode


@pytest.mark.parametrize(
    ("description", "opened"),
    [
        ("unix:/run/g.sock", "unix:/run/g.sock:mode=660"),
        ("unix:address=/run/g.sock", "unix:address=/run/g.sock:mode=660"),
        (r"unix:/run/a\:b", r"unix:/run/a\:b:mode=660"),
        (r"unix:/run/a\=b", r"unix:/run/a\=b:mode=660"),
        ("unix:/run/g.sock:lockfile=0", "unix:/run/g.sock:lockfile=0:mode=660"),
        ("unix:/run/g.sock:backlog=9", "unix:/run/g.sock:backlog=9:mode=660"),
        ("haproxy:unix:/run/g.sock", "haproxy:unix:/run/g.sock:mode=660"),
        ("unix:/run/g.sock:mode=666", None),
        ("unix:mode=600:address=/run/g.sock", None),
        ("unix:/run/g.sock:600", None),
        ("tcp:80", None),
        ("systemd:domain=UNIX:name=g", None),
    ],
)
def test_a_unix_socket_is_for_its_group_unless_it_says_otherwise(description, opened):
    assert with_socket_mode(description) == (opened or description)


#: Parts of descriptions, some of which no person would write.
PIECES = (
    *("", "4806", "0", "50", "127.0.0.1", "0.0.0.0", "10.0.0.1", "::1", r"\:\:1", "address=x"),
    *("backlog=5", "port=4806", "interface=", "interface=127.0.0.1", "interface=10.0.0.1"),
    *(r"interface=\:\:1", r"interface=\1\27.0.0.1", "interface=localhost", r"interface\=127.0.0.1"),
    *("Interface=127.0.0.1", "interface=127.0.0.1=", "interface=127.0.0.1\\"),
)


@settings(max_examples=1000)
@given(
    st.sampled_from(["tcp", "tcp6", "haproxy:tcp", "haproxy:tcp6", "TCP", "t\\cp"]),
    st.lists(st.sampled_from(PIECES), max_size=5),
)
def test_what_is_said_to_be_local_is_what_twisted_binds(kind, pieces):
    """Whatever stands in whichever order: what is taken here listens where it is said to."""
    description = ":".join([kind, *pieces])
    if not endpoints.is_description(description) or endpoints.gives_twice(description):
        return
    reactor = MemoryReactorClock()
    try:
        serverFromString(reactor, description).listen(Factory())
    except (ValueError, TypeError):  # told at the start, as a fault of this setting
        return
    ((*_, interface),) = reactor.tcpServers
    if kind.startswith("haproxy:") and "\\=" in description:
        # Twisted reads what is wrapped twice, the second time without this escape.
        assert endpoints.is_loopback(interface) or not endpoints.is_local(description)
    else:
        assert endpoints.is_local(description) == endpoints.is_loopback(interface)


@pytest.mark.parametrize(
    "description",
    [
        "tcp:4806:interface=127.0.0.1:interface=0.0.0.0",
        "tcp:interface=127.0.0.1:4806:interface=0.0.0.0",
        "tcp:4806:127.0.0.1:interface=0.0.0.0",
        "tcp:4806:port=1:interface=127.0.0.1",
        "tcp6:4806:50:0.0.0.0:interface=127.0.0.1",
        "haproxy:tcp:4806:interface=127.0.0.1:interface=0.0.0.0",
        "unix:/run/a.sock:mode=600:mode=666",
        "unix:/run/a.sock:600:mode=666",
        "unix:600:address=/run/g.sock",
        "systemd:domain=INET:index=0:index=1",
    ],
)
def test_an_argument_is_given_once(description):
    """Twisted would take the last one, or break at the start."""
    assert endpoints.gives_twice(description)


def test_a_place_counts_as_the_argument_that_it_is_for():
    """Twisted's types have orders of their own."""
    assert endpoints.is_local("tcp:4806:127.0.0.1")
    assert endpoints.is_local("tcp6:4806:50:\\:\\:1")
    assert not endpoints.is_local("tcp6:4806:127.0.0.1")
    assert not endpoints.is_local("tcp:4806:interface\\=127.0.0.1")
    assert endpoints.with_socket_mode("unix:/run/a.sock:600") == "unix:/run/a.sock:600"


@pytest.mark.parametrize(
    ("description", "usable"),
    [
        ("unix:/run/g.sock:mode=660", True),
        ("unix:/run/g.sock:0660:50:0", True),
        ("unix:/run/g.sock:mode=9", False),
        ("unix:/run/g.sock:mode=-1", False),
        ("unix:/run/g.sock:mode=77777", False),
        ("unix:/run/g.sock:mode=rw", False),
        ("unix:/run/g.sock:mode=", False),
        ("unix:/run/g.sock:lockfile=no", False),
        ("haproxy:unix:/run/g.sock:mode=9", False),
        ("tcp:4806:backlog=50", True),
        ("tcp:4806:backlog=many", False),
        ("tcp6:4806:many", False),
    ],
)
def test_a_number_that_twisted_cannot_read_is_a_mistake_of_the_file(description, usable):
    """Else `check` says good of a file with which no start succeeds."""
    assert endpoints.is_description(description) is usable
