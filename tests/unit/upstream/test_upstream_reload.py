"""What a reload changes about the way to the upstream, and what it leaves alone."""

import pytest
import pytest_twisted
from fakes.scripted_server import ScriptedServer, ok
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from gemproxy.config.settings import UpstreamSettings
from gemproxy.core.errors import ConfigError, FailureKind, UpstreamFailed
from gemproxy.core.interfaces import UpstreamRequest
from gemproxy.secret import Secret
from gemproxy.upstream.client import GeminiUpstream

KEY = Secret("test-key-0123456789abcdef")
GET = UpstreamRequest(b"GET", b"/v1beta/models", KEY)


class Stage:
    """Two servers; the second can be switched to. ``held`` are answers that wait."""

    def __init__(self, reactor):
        self.reactor = reactor
        self.hold = False
        self.held = []
        self.servers = [ScriptedServer(self.answer_with(name)) for name in (b"one", b"two")]
        self.urls = [server.listen(reactor) for server in self.servers]
        self.client = GeminiUpstream(reactor, self.settings(0), "gemproxy/test")
        self.client.start()

    def answer_with(self, body):
        def script(connection, _request):
            def give():
                connection.transport.write(ok(body))

            self.held.append(give) if self.hold else give()

        return script

    def settings(self, server, **more):
        return UpstreamSettings(base_url=self.urls[server], **more)

    async def ask(self):
        return (await self.client.fetch(GET, 100)).body

    async def pause(self):
        """Time for what was asked for to reach the other side."""
        await deferLater(self.reactor, 0.05)

    def closing(self, server):
        """Waits until the first connection to ``server`` is closed; fails where it stays open."""
        return self.servers[server].connections[0].closed.addTimeout(30, self.reactor)

    async def stop(self):
        self.client.stop()
        for server in self.servers:
            await server.stop()


@pytest.fixture
def stage():
    from twisted.internet import reactor

    made = Stage(reactor)
    yield made
    pytest_twisted.blockon(Deferred.fromCoroutine(made.stop()))


@pytest_twisted.ensureDeferred
async def test_another_base_url_is_used_from_the_next_request_on(stage):
    assert await stage.ask() == b"one"
    stage.client.apply(stage.settings(1))
    assert await stage.ask() == b"two"
    assert b"Host: " + stage.urls[1].encode()[7:] in stage.servers[1].connections[0].requests[0]


@pytest_twisted.ensureDeferred
async def test_a_request_in_flight_ends_on_the_connection_it_began_on(stage):
    stage.hold = True
    asked = Deferred.fromCoroutine(stage.ask())
    await stage.pause()
    stage.client.apply(stage.settings(1))
    await stage.pause()
    stage.held[0]()
    assert await asked == b"one"
    await stage.closing(0)
    assert stage.servers[1].connections == []


@pytest_twisted.ensureDeferred
async def test_idle_connections_of_the_old_way_are_closed(stage):
    await stage.ask()
    stage.client.apply(stage.settings(1))
    await stage.closing(0)


@pytest_twisted.ensureDeferred
async def test_timeouts_are_taken_over_at_once_and_connections_stay(stage):
    await stage.ask()
    stage.hold = True
    stage.client.apply(stage.settings(0, first_byte_timeout_seconds=0.05))
    with pytest.raises(UpstreamFailed) as caught:
        await stage.ask()
    assert caught.value.kind is FailureKind.FIRST_BYTE_TIMEOUT
    assert len(stage.servers[0].connections) == 1


@pytest_twisted.ensureDeferred
async def test_a_trust_root_that_cannot_be_used_changes_nothing(stage, tmp_path):
    rubbish = tmp_path / "rubbish.pem"
    rubbish.write_text("rubbish")
    wrong = UpstreamSettings(base_url="https://localhost:9", ca_file=rubbish)
    with pytest.raises(ConfigError, match="caFile"):
        stage.client.apply(wrong)
    assert await stage.ask() == b"one"


@pytest_twisted.ensureDeferred
async def test_what_was_taken_over_is_closed_at_the_end_as_well(stage):
    stage.client.apply(stage.settings(1))
    await stage.ask()
    stage.client.stop()
    await stage.closing(1)
