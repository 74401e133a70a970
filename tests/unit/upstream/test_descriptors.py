"""Connections come and go by the thousand, in all the ways that they can end; none stays behind."""

from itertools import cycle
from pathlib import Path

import pytest
import pytest_twisted
from fakes.scripted_server import ScriptedServer, chunked, ok
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.task import deferLater

from gemproxy.config.settings import UpstreamSettings
from gemproxy.core.errors import UpstreamFailed
from gemproxy.core.interfaces import UpstreamRequest
from gemproxy.secret import Secret
from gemproxy.upstream.client import GeminiUpstream

KEY = Secret("test-key-0123456789abcdef")
ENDS = [
    ok(b"{}", b"Connection: close"),
    ok(b"{}"),
    b"no HTTP\r\n\r\n",
    b"",
    chunked(b"one", end=False),
    b"HTTP/1.0 200 OK\r\n\r\n{}",
]


def descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux's /proc")
@pytest_twisted.ensureDeferred
async def test_a_thousand_connections_leave_no_descriptor_behind():
    from twisted.internet import reactor

    ends = cycle(ENDS)

    def script(connection, _request):
        connection.transport.write(next(ends))
        connection.transport.loseConnection()

    server = ScriptedServer(script)
    settings = UpstreamSettings(base_url=server.listen(reactor), max_connections_per_host=1)
    client = GeminiUpstream(reactor, settings, "gemproxy/test")
    client.start()

    async def exchange(number):
        sent = client.send(UpstreamRequest(b"POST", b"/x", KEY, b"{}"))
        if number % 7 == 0:
            reactor.callLater(0, sent.cancel)
        try:
            return await (await sent).read(100)
        except (UpstreamFailed, CancelledError):
            return None

    before = descriptors()
    answers = []
    for start in range(0, 1200, 50):
        numbers = range(start, start + 50)
        answers += await gatherResults([Deferred.fromCoroutine(exchange(n)) for n in numbers])
    client.stop()
    assert len(server.connections) >= 1000
    assert len([answer for answer in answers if answer == b"{}"]) > 200
    for _ in range(200):
        if descriptors() <= before:
            break
        await deferLater(reactor, 0.01)
    assert descriptors() <= before
    await server.stop()
