"""Before the upstream has a request and after: who leaves, what comes early, what is left."""

import gc
import ssl
import weakref

import pytest
import pytest_twisted
import trustme
from fakes.scripted_server import ScriptedServer, ok
from fakes.threads import tls_upstream
from msgspec.structs import replace
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater

from gemproxy.buffer_list import BufferList
from gemproxy.config.settings import UpstreamSettings
from gemproxy.core.errors import ConfigError, FailureKind, UpstreamFailed
from gemproxy.core.interfaces import UpstreamRequest
from gemproxy.secret import Secret
from gemproxy.upstream.client import GeminiUpstream

POST = UpstreamRequest(b"POST", b"/x", Secret("test-key-0123456789abcdef"), b"{}")


def client_for(url, **settings):
    from twisted.internet import reactor

    return GeminiUpstream(reactor, UpstreamSettings(base_url=url, **settings), "gemproxy/test")


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("turns", [0, 1])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_leaving_during_the_connect_is_a_cancellation(host, turns):
    """At first the name is looked up, a turn of the reactor later TCP connects."""
    from twisted.internet import reactor

    server = ScriptedServer(lambda connection, _: connection.transport.write(ok(b"{}")))
    url = server.listen(reactor).replace("127.0.0.1", host)
    sent = client_for(url).send(POST)
    for _ in range(turns):
        await deferLater(reactor, 0)
    sent.cancel()
    with pytest.raises(CancelledError):
        await sent
    await server.stop()


class Silent(Protocol):
    """Accepts, and never says a word."""

    def connectionMade(self):
        self.lost = Deferred()
        self.factory.connected.callback(self)

    def connectionLost(self, reason):
        self.lost.callback(None)


@pytest_twisted.ensureDeferred
async def test_a_handshake_that_does_not_come_about_times_out_and_closes():
    from twisted.internet import reactor

    factory = Factory.forProtocol(Silent)
    factory.connected = Deferred()
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    url = f"https://localhost:{port.getHost().port}"
    sent = client_for(url, connect_timeout_seconds=0.1).send(POST)
    connection = await factory.connected
    with pytest.raises(UpstreamFailed) as failed:
        await sent
    assert failed.value.kind is FailureKind.CONNECT_TIMEOUT
    await connection.lost
    await port.stopListening()


@pytest_twisted.ensureDeferred
async def test_leaving_during_the_handshake_closes_the_connection():
    from twisted.internet import reactor

    factory = Factory.forProtocol(Silent)
    factory.connected = Deferred()
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    sent = client_for(f"https://localhost:{port.getHost().port}").send(POST)
    connection = await factory.connected
    sent.cancel()
    with pytest.raises(CancelledError):
        await sent
    await connection.lost
    await port.stopListening()


@pytest_twisted.ensureDeferred
async def test_a_certificate_of_nobody_is_a_tls_failure():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(context)
    with tls_upstream(context) as server:
        with pytest.raises(UpstreamFailed) as failed:
            await client_for(f"https://localhost:{server.server_port}").send(POST)
        assert failed.value.kind is FailureKind.TLS


class Media(bytearray):
    """Megabytes whose end can be seen."""


@pytest_twisted.ensureDeferred
async def test_a_large_body_over_tls_does_not_wait_for_the_garbage_collector(tmp_path):
    from twisted.internet import reactor

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority = trustme.CA()
    authority.issue_cert("localhost").configure_cert(context)
    trusted = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(trusted)
    media = Media(b"x" * 5_000_000)
    left = weakref.ref(media)
    request = replace(POST, body=BufferList([b'{"', memoryview(media), b'"}']))
    del media
    gc.disable()
    try:
        with tls_upstream(context) as server:
            client = client_for(f"https://localhost:{server.server_port}", ca_file=trusted)
            client.start()
            response = await client.send(request)
            await response.read(1024)
            del request, response
            client.stop()
            await deferLater(reactor, 0)  # What has read the answer is under way until then.
            assert left() is None
    finally:
        gc.enable()


def test_a_trust_root_that_is_none_is_a_mistake_of_the_configuration(tmp_path):
    rubbish = tmp_path / "rubbish.pem"
    rubbish.write_text("rubbish")
    with pytest.raises(ConfigError, match=r"upstream\.caFile"):
        client_for("https://localhost:9", ca_file=rubbish)


@pytest_twisted.ensureDeferred
async def test_what_a_proxy_says_before_the_request_left_is_no_answer_to_it():
    from twisted.internet import reactor

    def answer(connection, request):
        opening = b"HTTP/1.1 200 OK\r\n\r\n" if request.startswith(b"CONNECT") else b""
        connection.transport.write(opening + ok(b"of nobody"))

    proxy = ScriptedServer(answer)
    client = client_for("http://example.invalid", http_proxy=proxy.listen(reactor))
    with pytest.raises(UpstreamFailed) as failed:
        await client.send(POST)
    assert failed.value.kind is FailureKind.RESET
    (connection,) = proxy.connections
    await connection.closed
    await proxy.stop()
