"""The upstream client over connections in memory, with a clock of the test's own."""

from __future__ import annotations

from fakes.scripted_server import ok
from fakes.upstream_wire import WireEndpoint
from twisted.internet.task import Clock

from gemproxy.core.errors import UpstreamFailed
from gemproxy.core.interfaces import UpstreamRequest
from gemproxy.deadlines import Deadlines
from gemproxy.secret import Secret
from gemproxy.upstream.client import UpstreamClient
from gemproxy.upstream.pool import ConnectionPool
from gemproxy.upstream.pooled_response import ResponseLimits

KEY = Secret("test-key-0123456789abcdef")


class Stage:
    """A client of an upstream that is a list of wires."""

    def __init__(self, keep=2, **options):
        self.clock, self.endpoint = Clock(), WireEndpoint()
        self.pool = ConnectionPool(self.clock, self.endpoint, keep, **options)
        self.pool.start()
        self.client = UpstreamClient(
            self.clock, self.pool, "http://h/v1/", b"gemproxy/test", Deadlines(self.clock)
        )

    def send(self, body=b"{}", first_byte=10.0, idle=5.0, deadline=100.0):
        request = UpstreamRequest(b"POST", b"/x", KEY, body, self.clock.seconds() + deadline)
        return Told(self.client.send(request, ResponseLimits(first_byte, idle)))

    @property
    def wires(self):
        return self.endpoint.wires

    def ask(self, answer=None):
        """One whole exchange; gives its body."""
        sent = self.send()
        used = next(wire for wire in reversed(self.wires) if wire.value())
        used.clear()
        used.says(answer or ok(b"{}"))
        return Told(sent.result.read(1000)).result


class Told:
    """What a Deferred has told so far."""

    def __init__(self, deferred):
        self.deferred, self.results = deferred, []
        deferred.addBoth(self.results.append)

    @property
    def result(self):
        (result,) = self.results
        return result

    @property
    def error(self):
        return self.result.value

    @property
    def kind(self):
        assert isinstance(self.result.value, UpstreamFailed), self.result
        return self.result.value.kind
