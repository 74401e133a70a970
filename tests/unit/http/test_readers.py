"""Clients that do not read what they asked for, on real sockets; the clock is the test's."""

import gc
import socket
import ssl
import weakref

import pytest
import pytest_twisted
import trustme
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater
from twisted.internet.threads import deferToThread
from twisted.web.resource import Resource

from gemproxy.api.base import Route
from gemproxy.api.openai.errors import OPENAI
from gemproxy.core.events import RequestListener
from gemproxy.http import connection as channel_module
from gemproxy.http.auth import TokenAuth
from gemproxy.http.client_progress import ClientProgress
from gemproxy.http.connection import CLOSE_SECONDS
from gemproxy.http.connection_limits import ConnectionLimits
from gemproxy.http.lifecycle import LifecycleSettings, RequestLifecycle
from gemproxy.http.site import LOOK_SECONDS, ProxySite
from gemproxy.http.tls import tls_factory
from gemproxy.http.upload_rate import IDLE_SECONDS

MEGABYTE = 1024 * 1024
PATIENCE = 60
REQUEST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n%b\r\n"

# Twisted's own way to make a context.
pytestmark = pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")


class Server(RequestListener):
    """Listens at ``kind`` of address; what it serves is ``serve``."""

    def __init__(self, kind, folder):
        from twisted.internet import reactor

        self.kind = kind
        self.clock = Clock()
        self.clock.advance(1000)
        self.told = []
        self.lifecycle = RequestLifecycle(
            self.clock,
            LifecycleSettings(heartbeat=15.0),
            TokenAuth([], None, anonymous=True),
            self,
            lambda: "req_fresh",
            OPENAI,
        )
        limits = ConnectionLimits(slow_reader_seconds=PATIENCE)
        self.site = ProxySite(Resource(), self.clock, self, OPENAI, limits=limits)
        self.site.fast_routes[b"POST", b"/"] = lambda request: self.lifecycle.handle(
            request, "/", self.serve
        )
        if kind == "unix":
            self.path = str(folder / "socket")
            self.port = reactor.listenUNIX(self.path, self.site)
        elif kind == "tls":
            cert, key = folder / "cert.pem", folder / "key.pem"
            authority = trustme.CA()
            issued = authority.issue_cert("localhost")
            issued.private_key_pem.write_to_path(str(key))
            for blob in issued.cert_chain_pems:
                blob.write_to_path(str(cert), append=True)
            self.context = ssl.create_default_context()
            authority.configure_trust(self.context)
            factory = tls_factory(self.site, cert, key)
            self.port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        else:
            self.port = reactor.listenTCP(0, self.site, interface="127.0.0.1")

    def check_head(self, request):
        self.lifecycle.check_head(request, Route("/", (b"POST",), OPENAI))

    def __getattr__(self, name):
        return getattr(self.lifecycle, name)

    def request_ended(self, context, status, _seconds):
        self.told.append((status, context.outcome))

    async def connect(self):
        if self.kind == "unix":
            client = socket.socket(socket.AF_UNIX)
            client.connect(self.path)
        else:
            client = socket.socket()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
            client.connect(("127.0.0.1", self.port.getHost().port))
            if self.kind == "tls":
                client = await deferToThread(
                    self.context.wrap_socket, client, server_hostname="localhost"
                )
        return client

    async def pass_time(self, seconds, act=lambda: None):
        """``act`` once each second."""
        for _ in range(seconds):
            act()
            await turns(3)
            self.clock.advance(1)
        await turns(5)

    async def close(self):
        await self.port.stopListening()
        for channel in list(self.site.channels):
            channel.transport.abortConnection()
        await turns(5)


async def settle(server):
    """Until the kernel has moved what it may: it asks a client without room ever more seldom."""
    from twisted.internet import reactor

    (channel,) = server.site.channels
    progress, steady = ClientProgress(channel.transport, 0.0), 0
    while steady < 12:
        before = progress.update(0.0)
        await deferLater(reactor, 0.1)
        steady = steady + 1 if before and progress.update(0.0) == before else 0


async def turns(count):
    from twisted.internet import reactor

    for _ in range(count):
        await deferLater(reactor, 0.001)


@pytest.fixture(params=["tcp", "unix", "tls"])
def server(request, tmp_path):
    made = Server(request.param, tmp_path)
    yield made
    pytest_twisted.blockon(Deferred.fromCoroutine(made.close()))


def unary(size):
    async def serve(context, writer):
        context.outcome = "success"
        writer.answer(b"x" * size)

    return serve


def stream(size, cancelled):
    """Writes ``size`` bytes and then waits for the upstream, which says no more."""

    async def serve(_context, writer):
        writer.begin_stream()
        for _ in range(size // 1000):
            writer.write(b"data: " + b"x" * 992 + b"\n\n")
        await Deferred(lambda _: cancelled.append(True))

    return serve


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("size", [150_000, 8 * MEGABYTE])
async def test_a_stream_that_nobody_reads_is_cut_off_and_its_upstream_cancelled(server, size):
    """Whether it waits in the kernel's buffer only, or in ours as well."""
    cancelled = []
    server.serve = stream(size, cancelled)
    client = await server.connect()
    client.sendall(REQUEST % b"")
    await turns(20)
    await settle(server)
    await server.pass_time(PATIENCE - 2)
    assert server.lifecycle.in_flight == 1
    await server.pass_time(int(2 * LOOK_SECONDS) + 4)
    assert server.told == [(499, "slow_reader")]
    assert cancelled == [True]
    assert server.lifecycle.in_flight == 0
    assert not server.site.channels
    client.close()


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("more", [b"", b"Connection: close\r\n"])
async def test_a_unary_answer_that_nobody_reads_holds_its_place_until_it_is_cut_off(server, more):
    server.serve = unary(16 * MEGABYTE)
    client = await server.connect()
    client.sendall(REQUEST % more)
    await turns(20)
    await settle(server)
    await server.pass_time(PATIENCE - 2)
    assert server.told == [(200, "success")]
    assert server.lifecycle.in_flight == 1
    await server.pass_time(int(2 * LOOK_SECONDS) + 4)
    assert server.lifecycle.in_flight == 0
    assert not server.site.channels
    client.close()


@pytest_twisted.ensureDeferred
async def test_a_unary_answer_that_was_read_frees_its_place(server):
    server.serve = unary(16 * MEGABYTE)
    client = await server.connect()
    client.sendall(REQUEST % b"")
    await server.pass_time(5)
    assert server.lifecycle.in_flight == 1
    await deferToThread(read, client, 16 * MEGABYTE)
    await server.pass_time(3)
    assert server.lifecycle.in_flight == 0
    assert len(server.site.channels) == 1
    client.close()


def read(client, size):
    while size > 0:
        size -= len(client.recv(65536))


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("kind", ["unary", "stream"])
async def test_who_reads_slowly_but_steadily_is_not_cut_off(server, kind):
    cancelled = []
    server.serve = unary(8 * MEGABYTE) if kind == "unary" else stream(8 * MEGABYTE, cancelled)
    client = await server.connect()
    client.sendall(REQUEST % b"")
    await turns(20)
    client.settimeout(5)
    for _ in range(6 * PATIENCE // 20):
        await server.pass_time(20)
        client.recv(40_000)
    assert server.lifecycle.in_flight == 1
    assert len(server.site.channels) == 1
    client.close()


@pytest_twisted.ensureDeferred
async def test_a_slow_reader_of_a_last_answer_is_not_cut_off_either(server):
    server.serve = unary(8 * MEGABYTE)
    client = await server.connect()
    client.sendall(REQUEST % b"Connection: close\r\n")
    await turns(20)
    client.settimeout(5)
    for _ in range(10):
        await server.pass_time(20)
        client.recv(40_000)
    assert server.site.channels
    client.close()


@pytest_twisted.ensureDeferred
async def test_who_waits_for_a_silent_upstream_is_not_cut_off(server):
    server.serve = stream(1000, [])
    client = await server.connect()
    client.sendall(REQUEST % b"")
    client.settimeout(5)
    for _ in range(5 * PATIENCE // 15):
        await server.pass_time(15)
        assert client.recv(65536)  # Heartbeats are taken.
    assert server.lifecycle.in_flight == 1
    client.close()


@pytest_twisted.ensureDeferred
async def test_what_waited_in_an_earlier_request_is_not_held_against_a_client(server):
    """A Unix socket does not count what was ever taken, only what waits now."""
    gates = []

    async def serve(context, writer):
        writer.begin_stream()
        writer.write(b"x" * 1000)
        gates.append(Deferred())
        await gates[-1]
        writer.finish()
        context.outcome = "success"

    client = await server.connect()
    client.settimeout(5)
    for pause in (PATIENCE // 2, PATIENCE // 2, 0):
        server.serve = serve
        client.sendall(REQUEST % b"")
        await server.pass_time(3)
        assert len(server.site.channels) == 1
        gates[-1].callback(None)
        await turns(5)
        while not (await deferToThread(client.recv, 65536)).endswith(b"0\r\n\r\n"):
            pass
        await server.pass_time(pause)
    assert [status for status, _ in server.told] == [200, 200, 200]
    client.close()


@pytest_twisted.ensureDeferred
async def test_a_client_that_has_vanished_is_cut_off_before_a_slow_one(server, monkeypatch):
    """The kernel is asked by ``is_unresponsive``; a network namespace tests it in earnest."""
    monkeypatch.setattr(channel_module, "is_unresponsive", lambda _, seconds: seconds < 60)
    server.serve = stream(8 * MEGABYTE, [])
    client = await server.connect()
    client.sendall(REQUEST % b"")
    await server.pass_time(20)
    assert server.told == [(499, "client_gone")]
    client.close()


# -- connections on which nothing begins -----------------------------------------------------------

#: The first bytes of a TLS record with a ClientHello of 512 bytes.
BEGUN_HANDSHAKE = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("begun", [b"", BEGUN_HANDSHAKE])
@pytest.mark.parametrize("drips", [False, True])
async def test_a_handshake_that_never_ends_is_cut_off(tmp_path, begun, drips):
    server = Server("tls", tmp_path)
    client = socket.create_connection(("127.0.0.1", server.port.getHost().port))
    client.sendall(begun)
    await turns(20)
    assert len(server.site.channels) == 1

    def drip():
        if drips and begun and server.site.channels:
            client.sendall(b"\0")

    await server.pass_time(int(IDLE_SECONDS) - 2, drip)
    assert len(server.site.channels) == 1
    await server.pass_time(int(CLOSE_SECONDS) + 4, drip)
    assert not server.site.channels
    client.close()
    await server.close()


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("kind", ["tcp", "unix"])
async def test_a_client_that_closes_its_half_after_the_request_has_left(tmp_path, kind):
    """A client that only stops sending looks the same as one that went."""
    server = Server(kind, tmp_path)
    cancelled = []
    server.serve = stream(1000, cancelled)
    client = await server.connect()
    client.sendall(REQUEST % b"")
    await turns(20)
    client.shutdown(socket.SHUT_WR)
    await turns(20)
    assert cancelled == [True]
    assert server.told == [(499, "client_gone")]
    assert not server.site.channels
    client.close()
    await server.close()


# -- nothing of a connection waits for the garbage collector ---------------------------------------


async def left(server, client):
    await turns(20)
    client.close()


async def asked_and_left(server, client):
    client.sendall(REQUEST % b"")
    await server.pass_time(12)
    client.close()


async def asked_and_read(server, client):
    client.sendall(REQUEST % b"Connection: close\r\n")
    await deferToThread(read_all, client)
    client.close()


async def never_read(server, client):
    server.serve = unary(8 * MEGABYTE)
    client.sendall(REQUEST % b"")
    await turns(50)
    await server.pass_time(PATIENCE // 2)
    client.close()


async def sent_half(server, client):
    client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel")
    await turns(20)
    client.close()


async def was_refused(server, client):
    server.lifecycle.draining = True
    client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhel")
    await turns(20)
    client.close()


def read_all(client):
    while client.recv(65536):
        pass


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    "live", [left, asked_and_left, asked_and_read, never_read, sent_half, was_refused]
)
async def test_a_connection_that_has_ended_leaves_nothing_behind(server, live):
    server.serve = unary(100)
    gc.collect()
    gc.disable()
    try:
        client = await server.connect()
        await turns(20)
        (channel,) = server.site.channels
        gone = weakref.ref(channel)
        del channel
        await live(server, client)
        for _ in range(50):
            await turns(4)
            if gone() is None:
                break
        assert gone() is None, [type(each) for each in gc.get_referrers(gone())]
    finally:
        gc.enable()
