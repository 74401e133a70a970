"""Why the upstream could not be reached, in words, for each thing that can stand in the way."""

import os
import resource
import socket
import threading
from datetime import UTC, datetime, timedelta

import pytest
import pytest_twisted
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from fakes.scripted_server import ScriptedServer, ok
from OpenSSL import SSL
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import DefaultOpenSSLContextFactory
from twisted.internet.task import deferLater

from gemproxy.config.settings import UpstreamSettings
from gemproxy.core.client_errors import error_for
from gemproxy.core.errors import FailureKind, UpstreamFailed, UpstreamTrouble
from gemproxy.core.interfaces import UpstreamRequest
from gemproxy.pool.outcome import Verdict
from gemproxy.providers.base import classify_failure
from gemproxy.secret import Secret
from gemproxy.upstream.client import GeminiUpstream
from gemproxy.upstream.connection import UpstreamConnection
from gemproxy.upstream.resolver import Resolver

GET = UpstreamRequest(b"GET", b"/v1beta/models", Secret("test-key-0123456789abcdef"))
PASSWORD = "proxy-password-0123456789"


class Stage:
    """An upstream of one's own settings; ``listen`` starts what is in the way."""

    def __init__(self, reactor):
        self.reactor = reactor
        self.ports = []
        self.clients = []

    def client(self, names=None, **settings):
        made = GeminiUpstream(self.reactor, UpstreamSettings(**settings), "gemproxy/test", names)
        self.clients.append(made)
        return made

    def listen(self, factory, context=None):
        listen = self.reactor.listenTCP
        if context is not None:
            port = self.reactor.listenSSL(0, factory, context, interface="127.0.0.1")
        else:
            port = listen(0, factory, interface="127.0.0.1")
        self.ports.append(port)
        return port.getHost().port

    async def failure(self, names=None, **settings):
        with pytest.raises(UpstreamFailed) as caught:
            await self.client(names, **settings).fetch(GET, 100)
        assert caught.value.spares_key
        assert caught.value.detail
        return caught.value

    async def stop(self):
        for client in self.clients:
            client.stop()
        for port in self.ports:
            await port.stopListening()


@pytest.fixture
def stage():
    from twisted.internet import reactor

    made = Stage(reactor)
    yield made
    pytest_twisted.blockon(Deferred.fromCoroutine(made.stop()))


def silent():
    factory = Factory.forProtocol(Protocol)
    factory.noisy = False
    return factory


def script(answer, close=False):
    def write(connection, _request):
        connection.transport.write(answer)
        if close:
            connection.transport.loseConnection()

    return ScriptedServer(write)


# -- the HTTP proxy ------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("answer", "detail"),
    [
        (
            b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic x\r\n\r\n",
            "proxy answered 407 Proxy Authentication Required (it asks for Basic)",
        ),
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", "proxy answered 403 Forbidden"),
        (b"HTTP/1.0 502 Bad Gateway\r\n\r\n<html>", "proxy answered 502 Bad Gateway"),
        (b"", "proxy closed the connection before it answered"),
        (b"220 smtp\r\n\r\n", "proxy answered what is not HTTP: 220 smtp"),
    ],
)
async def test_a_proxy_that_refuses(stage, answer, detail):
    port = stage.listen(script(answer, close=not answer))
    failed = await stage.failure(
        base_url="https://example.com", http_proxy=f"http://127.0.0.1:{port}"
    )
    assert (failed.kind, failed.setting) == (FailureKind.REFUSED, "httpProxy")
    assert failed.detail == detail


@pytest_twisted.ensureDeferred
async def test_a_proxy_that_says_nothing_has_the_connect_timeout(stage):
    port = stage.listen(silent())
    failed = await stage.failure(
        base_url="https://example.com",
        http_proxy=f"http://127.0.0.1:{port}",
        connect_timeout_seconds=0.2,
    )
    assert (failed.kind, failed.setting) == (FailureKind.CONNECT_TIMEOUT, "connectTimeoutSeconds")
    assert failed.detail == (
        "the HTTP proxy's answer to CONNECT example.com:443 took longer than 0.2 s"
    )


@pytest_twisted.ensureDeferred
async def test_credentials_reach_the_proxy_and_nobody_else(stage):
    def write(connection, request):
        opened = b"HTTP/1.1 200 Connection established\r\n\r\n"
        connection.transport.write(opened if request.startswith(b"CONNECT") else ok(b"{}"))

    proxy = ScriptedServer(write)
    client = stage.client(
        base_url="http://example.com",
        http_proxy=f"http://127.0.0.1:{stage.listen(proxy)}",
        http_proxy_user="ann",
        http_proxy_password=Secret(PASSWORD),
    )
    assert (await client.fetch(GET, 10)).body == b"{}"
    connect, asked = proxy.connections[0].requests
    # base64 of ann:proxy-password-0123456789
    assert b"\r\nProxy-Authorization: Basic YW5uOnByb3h5LXBhc3N3b3JkLTAxMjM0NTY3ODk=\r\n" in connect
    assert b"x-goog-api-key" not in connect.lower()
    assert b"authorization" not in asked.lower()
    assert PASSWORD.encode() not in asked


@pytest_twisted.ensureDeferred
async def test_other_credentials_are_used_from_the_next_connection_on(stage):
    proxy = script(b"HTTP/1.1 407 No\r\n\r\n")
    settings = {
        "base_url": "http://example.com",
        "http_proxy": f"http://127.0.0.1:{stage.listen(proxy)}",
        "http_proxy_user": "ann",
    }
    client = stage.client(**settings)
    for password in (PASSWORD, "another-password-0123456"):
        client.apply(UpstreamSettings(**settings, http_proxy_password=Secret(password)))
        with pytest.raises(UpstreamFailed):
            await client.fetch(GET, 100)
    first, second = (connection.requests[0] for connection in proxy.connections)
    assert first != second


# -- TLS -----------------------------------------------------------------------------------------


def certificate(name, *, signed_by=None, since=-1, until=1):
    """A certificate and its key; ``since`` and ``until`` in days from now."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issuer, issuer_key = signed_by or (subject, key)
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + timedelta(days=since))
        .not_valid_after(now + timedelta(days=until))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )
    return made, key


@pytest.fixture
def context_of(tmp_path):
    """The context of a server that has the certificate; of TLS 1.1 at most where that is asked."""

    def make(made, key, *, old=False):
        pem = tmp_path / "server.pem"
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        pem.write_bytes(made.public_bytes(serialization.Encoding.PEM) + private)
        factory = DefaultOpenSSLContextFactory(str(pem), str(pem), SSL.TLS_METHOD)
        if old:
            factory.getContext().set_max_proto_version(SSL.TLS1_1_VERSION)
        return factory

    return make


@pytest.fixture(scope="module")
def root():
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a root of the tests")])
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=10))
        .not_valid_after(now + timedelta(days=10))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return name, key, made


@pytest.fixture
def ca_file(root, tmp_path):
    path = tmp_path / "root.pem"
    path.write_bytes(root[2].public_bytes(serialization.Encoding.PEM))
    return path


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("name", "dates", "detail"),
    [
        ("localhost", {"since": -5, "until": -2}, "certificate has expired"),
        ("localhost", {"since": 2, "until": 5}, "certificate is not yet valid"),
        (
            "somewhere.example",
            {},
            "host name mismatch: the certificate is not for localhost",
        ),
    ],
)
async def test_a_certificate_with_a_fault(stage, context_of, root, ca_file, name, dates, detail):
    context = context_of(*certificate(name, signed_by=root[:2], **dates))
    port = stage.listen(script(ok(b"{}")), context)
    failed = await stage.failure(base_url=f"https://localhost:{port}", ca_file=ca_file)
    assert (failed.kind, failed.detail) == (FailureKind.TLS, detail)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("own", [True, False], ids=["self-signed", "unknown authority"])
async def test_a_certificate_that_nobody_vouches_for(stage, context_of, root, own):
    made = certificate("localhost", signed_by=None if own else root[:2])
    port = stage.listen(script(ok(b"{}")), context_of(*made))
    failed = await stage.failure(base_url=f"https://localhost:{port}")
    assert failed.kind is FailureKind.TLS
    assert failed.detail == (
        "certificate is self-signed" if own else "certificate is of an unknown authority"
    )


@pytest_twisted.ensureDeferred
async def test_a_certificate_that_is_good_is_taken(stage, context_of, root, ca_file):
    context = context_of(*certificate("localhost", signed_by=root[:2]))
    port = stage.listen(script(ok(b"{}")), context)
    client = stage.client(base_url=f"https://localhost:{port}", ca_file=ca_file)
    assert (await client.fetch(GET, 10)).body == b"{}"
    # TCP watches below TLS as well.
    tcp = client._client.pool.idle[0].transport.transport.socket
    assert tcp.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    assert tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 35_000


@pytest_twisted.ensureDeferred
async def test_an_answer_that_is_not_tls_at_all(stage):
    class Plain(Protocol):
        def dataReceived(self, _data):
            self.transport.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    port = stage.listen(Factory.forProtocol(Plain))
    failed = await stage.failure(base_url=f"https://localhost:{port}")
    assert failed.kind is FailureKind.TLS
    assert failed.detail.startswith("the other side does not speak TLS (")


@pytest_twisted.ensureDeferred
async def test_a_server_that_wants_another_tls(stage, context_of, root):
    context = context_of(*certificate("localhost", signed_by=root[:2]), old=True)
    port = stage.listen(script(ok(b"{}")), context)
    failed = await stage.failure(base_url=f"https://localhost:{port}")
    assert failed.kind is FailureKind.TLS
    assert failed.detail.startswith("TLS handshake failed: ")
    assert "alert" in failed.detail or "unsupported" in failed.detail


@pytest_twisted.ensureDeferred
async def test_a_server_that_closes_during_the_handshake(stage):
    class Rude(Protocol):
        def dataReceived(self, _data):
            self.transport.loseConnection()

    port = stage.listen(Factory.forProtocol(Rude))
    failed = await stage.failure(base_url=f"https://localhost:{port}")
    assert failed.kind is FailureKind.RESET
    assert failed.detail == "connection closed during the TLS handshake"


@pytest_twisted.ensureDeferred
async def test_a_handshake_that_hangs_has_the_connect_timeout(stage):
    port = stage.listen(silent())
    failed = await stage.failure(base_url=f"https://localhost:{port}", connect_timeout_seconds=0.2)
    assert failed.kind is FailureKind.CONNECT_TIMEOUT
    assert failed.detail == "the TLS handshake took longer than 0.2 s"


@pytest_twisted.ensureDeferred
async def test_a_certificates_fault_is_seen_through_a_tunnel_as_well(
    stage, context_of, root, ca_file
):
    """The server speaks TLS behind its CONNECT, as a proxy on the way would hand it on."""
    context = context_of(*certificate("localhost", signed_by=root[:2], since=-5, until=-2))

    class Tunnel(Protocol):
        def dataReceived(self, _data):
            self.transport.write(b"HTTP/1.1 200 OK\r\n\r\n")
            self.transport.startTLS(context)

    port = stage.listen(Factory.forProtocol(Tunnel))
    failed = await stage.failure(
        base_url=f"https://localhost:{port}",
        ca_file=ca_file,
        http_proxy=f"http://127.0.0.1:{port}",
    )
    assert (failed.kind, failed.detail) == (FailureKind.TLS, "certificate has expired")


# -- names and addresses -------------------------------------------------------------------------


def looked_up(*addresses):
    families = [socket.AF_INET6 if ":" in each else socket.AF_INET for each in addresses]
    return [
        (family, socket.SOCK_STREAM, 6, "", (each, 0))
        for family, each in zip(families, addresses, strict=True)
    ]


def raising(error):
    def look_up(*_):
        raise error

    return look_up


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("number", "text"),
    [
        (socket.EAI_NONAME, "Name or service not known"),
        (socket.EAI_AGAIN, "Temporary failure in name resolution"),
    ],
)
async def test_a_name_without_an_address(stage, number, text):
    names = Resolver(stage.reactor, 60.0, raising(socket.gaierror(number, text)))
    failed = await stage.failure(names, base_url="https://nowhere.example")
    assert failed.kind is FailureKind.DNS
    assert failed.detail == f"name look-up of nowhere.example failed: {text}"


@pytest_twisted.ensureDeferred
async def test_a_name_server_that_hangs_has_the_connect_timeout(stage):
    release = threading.Event()
    names = Resolver(stage.reactor, 60.0, lambda *_: release.wait(60) and looked_up("127.0.0.1"))
    began = stage.reactor.seconds()
    failed = await stage.failure(
        names, base_url="https://slow.example", connect_timeout_seconds=0.3
    )
    assert stage.reactor.seconds() - began < 10
    assert failed.kind is FailureKind.CONNECT_TIMEOUT
    assert failed.detail == "the look-up of the name slow.example took longer than 0.3 s"
    release.set()


@pytest_twisted.ensureDeferred
async def test_whoever_leaves_during_a_look_up_leaves_nothing_behind(stage):
    release = threading.Event()
    names = Resolver(stage.reactor, 60.0, lambda *_: release.wait(60) and looked_up("127.0.0.1"))
    client = stage.client(names, base_url="http://slow.example")
    before = stage.reactor.getDelayedCalls()
    sent = client.fetch(GET, 100)
    await deferLater(stage.reactor, 0.02)
    sent.cancel()
    with pytest.raises(CancelledError):
        await sent
    client.stop()
    assert [call for call in stage.reactor.getDelayedCalls() if call not in before] == []
    release.set()


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_connection_that_is_given_up_is_closed_and_told_so(stage, scheme, monkeypatch):
    """And not left to whoever collects what nobody holds."""
    lost = []
    was = UpstreamConnection.connectionLost
    monkeypatch.setattr(
        UpstreamConnection,
        "connectionLost",
        lambda self, reason: (lost.append(reason), was(self, reason)),
    )
    port = stage.listen(silent())
    client = stage.client(base_url=f"{scheme}://127.0.0.1:{port}")
    sent = client.fetch(GET, 100)
    await deferLater(stage.reactor, 0.05)
    sent.cancel()
    with pytest.raises(CancelledError):
        await sent
    await deferLater(stage.reactor, 0.05)
    assert len(lost) == 1


def unused_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest_twisted.ensureDeferred
async def test_every_address_is_named_with_what_it_did(stage):
    names = Resolver(
        stage.reactor,
        60.0,
        lambda *_: looked_up("127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4"),
    )
    failed = await stage.failure(names, base_url=f"http://some.example:{unused_port()}")
    assert failed.kind is FailureKind.REFUSED
    assert failed.detail == (
        "127.0.0.1: Connection refused; 127.0.0.2: Connection refused; "
        "127.0.0.3: Connection refused; and 1 more"
    )


@pytest_twisted.ensureDeferred
async def test_the_next_address_is_tried_where_one_refuses(stage):
    server = script(ok(b"{}"))
    port = stage.listen(server)
    names = Resolver(stage.reactor, 60.0, lambda *_: looked_up("127.0.0.9", "127.0.0.1"))
    client = stage.client(names, base_url=f"http://some.example:{port}")
    assert (await client.fetch(GET, 10)).body == b"{}"
    assert b"Host: some.example:%d\r\n" % port in server.connections[0].requests[0]


@pytest_twisted.ensureDeferred
async def test_an_address_that_is_no_host_is_unreachable(stage):
    names = Resolver(stage.reactor, 60.0, lambda *_: looked_up("255.255.255.255"))
    failed = await stage.failure(names, base_url="http://some.example:81")
    assert failed.kind is FailureKind.UNREACHABLE
    assert failed.detail.startswith("255.255.255.255: ")


@pytest_twisted.ensureDeferred
async def test_an_address_that_has_ipv6_where_there_is_none_is_not_our_own_want(stage):
    """Connecting to IPv6 without IPv6 says that the address cannot be assigned."""
    names = Resolver(stage.reactor, 60.0, lambda *_: looked_up("2001:db8::1", "127.0.0.1"))
    failed = await stage.failure(names, base_url=f"http://some.example:{unused_port()}")
    assert failed.kind is FailureKind.REFUSED
    assert "127.0.0.1: Connection refused" in failed.detail


# -- this machine --------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_process_without_descriptors_says_so_and_recovers(stage):
    port = stage.listen(script(ok(b"{}")))
    client = stage.client(base_url=f"http://127.0.0.1:{port}")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    last = os.dup(0)
    resource.setrlimit(resource.RLIMIT_NOFILE, (last + 1, hard))
    try:
        with pytest.raises(UpstreamFailed) as caught:
            await client.fetch(GET, 100)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        os.close(last)
    failed = caught.value
    assert (failed.kind, failed.detail) == (FailureKind.EXHAUSTED, "out of file descriptors")
    outcome = classify_failure(failed)
    assert outcome.verdict is Verdict.HOST
    assert "out of file descriptors" in outcome.message
    assert (error_for(outcome).trouble, error_for(outcome).retry_after) == (
        UpstreamTrouble.UNAVAILABLE,
        1,
    )
    assert (await client.fetch(GET, 10)).body == b"{}"
