"""Where the upstream's settings say to connect to."""

import pytest
import pytest_twisted
from fakes.scripted_server import ScriptedServer
from twisted.internet.protocol import Factory, Protocol

from gemproxy.config.settings import UpstreamSettings
from gemproxy.core.errors import FailureKind, UpstreamFailed
from gemproxy.core.interfaces import UpstreamRequest
from gemproxy.secret import Secret
from gemproxy.upstream.client import GeminiUpstream
from gemproxy.upstream.endpoint import UpstreamEndpoint
from gemproxy.upstream.resolver import Resolver
from gemproxy.upstream.tunnel import TunnelRefused


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("base_url", "target"),
    [
        ("https://example.com", b"example.com:443"),
        ("http://example.com:81/x", b"example.com:81"),
        ("https://[2001:db8::1]", b"[2001:db8::1]:443"),
        ("http://[2001:db8::1]:81", b"[2001:db8::1]:81"),
    ],
)
async def test_the_proxy_is_asked_for_host_and_port(base_url, target):
    from twisted.internet import reactor

    proxy = ScriptedServer(
        lambda connection, _: connection.transport.write(b"HTTP/1.1 407 No\r\n\r\n")
    )
    settings = UpstreamSettings(base_url=base_url, http_proxy=proxy.listen(reactor))
    endpoint = UpstreamEndpoint(reactor, settings, Resolver(reactor))
    with pytest.raises(TunnelRefused, match="407"):
        await endpoint.connect(Factory.forProtocol(Protocol))
    assert proxy.connections[0].requests[0].startswith(b"CONNECT %b HTTP/1.1\r\n" % target)
    await proxy.stop()


@pytest_twisted.ensureDeferred
async def test_a_request_goes_through_the_tunnel_and_its_connection_is_kept():
    from twisted.internet import reactor

    def script(connection, request):
        opened = b"HTTP/1.1 200 Connection established\r\n\r\n"
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
        connection.transport.write(opened if request.startswith(b"CONNECT") else answer)

    proxy = ScriptedServer(script)
    settings = UpstreamSettings(base_url="http://example.com", http_proxy=proxy.listen(reactor))
    client = GeminiUpstream(reactor, settings, "gemproxy/test")
    for _ in range(2):
        request = UpstreamRequest(b"POST", b"/x", Secret("test-key-0123456789abcdef"), b"{}")
        assert await (await client.send(request)).read(10) == b"{}"
    (connection,) = proxy.connections
    assert [request.split(b" ")[0] for request in connection.requests] == [
        b"CONNECT",
        b"POST",
        b"POST",
    ]
    await proxy.stop()


@pytest_twisted.ensureDeferred
async def test_a_proxy_that_refuses_is_a_refusal():
    from twisted.internet import reactor

    proxy = ScriptedServer(
        lambda connection, _: connection.transport.write(b"HTTP/1.1 403 No\r\n\r\n")
    )
    settings = UpstreamSettings(base_url="http://example.com", http_proxy=proxy.listen(reactor))
    request = UpstreamRequest(b"GET", b"/x", Secret("test-key-0123456789abcdef"))
    with pytest.raises(UpstreamFailed) as failed:
        await GeminiUpstream(reactor, settings, "gemproxy/test").fetch(request, 100)
    assert failed.value.kind is FailureKind.REFUSED
    assert failed.value.setting == "httpProxy"
    await proxy.stop()
