"""The listener, and the drain with which it stops."""

import errno
from socket import gaierror

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock

from gemproxy.service.listening import Draining, LameDuck, Listener


class Port:
    """A port that takes its time to close."""

    def __init__(self):
        self.closed = Deferred()

    def getHost(self):
        return self

    host, port = "127.0.0.1", 4242

    def stopListening(self):
        return self.closed


class Endpoint:
    def __init__(self, result):
        self.result = result

    def listen(self, factory):
        self.factory = factory
        return self.result


def listener(result):
    reactor = MemoryReactorClock()
    reactor.hasRun = False
    return reactor, Listener(reactor, Endpoint(result), object(), "127.0.0.1:4242")


def test_it_tells_that_it_listens_once_the_reactor_runs():
    """Before that nobody would be served, and a signal would kill."""
    port = Port()
    reactor, service = listener(succeed(port))
    service.privilegedStartService()
    assert not service.listening.called
    for run, args, named in reactor.whenRunningHooks:
        run(*args, **named)
    assert service.listening.result is port


def test_it_has_stopped_when_the_port_is_closed():
    port = Port()
    _, service = listener(succeed(port))
    service.privilegedStartService()
    stopped = service.stopService()
    assert not stopped.called
    port.closed.callback(None)
    assert stopped.called
    assert service.stopService().called


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (
            CannotListenError("127.0.0.1", 4242, OSError(errno.EADDRINUSE, "in use")),
            "another process listens there",
        ),
        (
            CannotListenError("127.0.0.1", 4242, OSError(errno.EACCES, "no")),
            "no permission; a port below 1024 needs CAP_NET_BIND_SERVICE",
        ),
        (OSError(errno.ENOENT, "no such file"), "there is no such folder"),
        (
            CannotListenError("nosuchhost.invalid", 4242, gaierror(-2, "Name not known")),
            "the name of the host cannot be resolved (Name not known)",
        ),
        (OSError(errno.EADDRNOTAVAIL, "no"), "this machine has no such address"),
        (OSError("AF_UNIX path too long"), "AF_UNIX path too long"),
        (OSError(errno.EEXIST, "something that is no socket"), "something that is no socket"),
        (OverflowError("bind(): port must be 0-65535."), "bind(): port must be 0-65535."),
        (ValueError("two\nlines"), "two lines"),
        (ValueError("an odd endpoint"), "an odd endpoint"),
    ],
)
def test_a_place_that_cannot_be_had_ends_the_process_with_a_line(failure, told):
    _, service = listener(fail(failure))
    with pytest.raises(SystemExit) as ended:
        service.privilegedStartService()
    assert ended.value.code == 1
    assert ended.value.reason == f"cannot listen on 127.0.0.1:4242: {told}"


class Requests:
    """Requests in flight, and the connections that they came by."""

    def __init__(self, in_flight):
        self.in_flight = in_flight
        self.draining = False
        self.idle = Deferred()
        self.closed = Deferred()
        self.story = []
        if not in_flight:
            self.idle.callback(None)

    def when_idle(self):
        return self.idle

    def abort(self):
        self.story.append("abort")
        self.idle.callback(None)

    def close(self):
        self.story.append("close")
        return self.closed


def test_a_lame_duck_says_at_once_that_it_leaves_and_takes_its_time():
    clock, said = Clock(), []
    stopped = LameDuck(clock, lambda: said.append("leaving"), lambda: 20.0).stopService()
    assert said == ["leaving"]
    clock.advance(19.9)
    assert not stopped.called
    clock.advance(0.2)
    assert stopped.called


def test_without_a_time_it_says_so_and_is_over():
    clock, said = Clock(), []
    assert LameDuck(clock, lambda: said.append("leaving"), lambda: 0.0).stopService().called
    assert said == ["leaving"]
    assert clock.getDelayedCalls() == []


def drain(requests, seconds=30.0):
    clock = Clock()
    return clock, Draining(clock, requests, requests.close, lambda: seconds).stopService()


def test_a_drain_waits_for_requests_and_then_for_their_answers_to_leave():
    requests = Requests(2)
    clock, stopped = drain(requests)
    assert requests.draining
    clock.advance(29)
    assert requests.story == []
    requests.idle.callback(None)
    assert requests.story == ["close"]
    assert not stopped.called
    requests.closed.callback(None)
    assert stopped.called
    assert clock.getDelayedCalls() == []


def test_a_drain_cuts_off_what_takes_too_long():
    requests = Requests(1)
    clock, stopped = drain(requests, 5.0)
    clock.advance(4.9)
    assert requests.story == []
    clock.advance(0.2)
    assert requests.story == ["abort", "close"]
    requests.closed.callback(None)
    assert stopped.called


def test_an_idle_daemon_drains_at_once():
    requests = Requests(0)
    requests.closed.callback(None)
    _, stopped = drain(requests)
    assert stopped.called
