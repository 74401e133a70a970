"""The public API on a connection in memory: odd hosts, and bodies that a thread translates."""

import gc
import json
import weakref

import pytest
from fakes.hostile_bodies import all_shapes, dumped, request, tool
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from gemproxy.api.openai.chat import CHAT, ChatEndpoint
from gemproxy.api.openai.embeddings import EmbeddingsEndpoint
from gemproxy.api.openai.errors import OPENAI
from gemproxy.api.openai.models import ModelEndpoint, ModelListEndpoint
from gemproxy.api.public import LARGE_BODY, PublicAPI
from gemproxy.api.visible_models import VisibleModels
from gemproxy.core.catalogue import ModelCatalogue
from gemproxy.core.dispatch import Dispatcher
from gemproxy.core.errors import FailureKind, UpstreamFailed
from gemproxy.core.events import RequestListener
from gemproxy.core.retry import RetrySettings
from gemproxy.http.auth import TokenAuth
from gemproxy.http.lifecycle import LifecycleSettings, RequestLifecycle
from gemproxy.http.probes import Probes
from gemproxy.http.routed_site import routed_site
from gemproxy.pool.key import Key
from gemproxy.pool.models import ModelBreakers
from gemproxy.pool.pool import KeyPool, PoolSettings
from gemproxy.providers.gemini.provider import GeminiProvider
from gemproxy.secret import Secret
from gemproxy.service.sharing import SharedWork
from gemproxy.translate.shared.model_names import ModelNames
from gemproxy.translate.shared.signatures import SignatureStore

SHAPES = all_shapes()


class Stage(RequestListener):
    """The API with one thread and an upstream that is silent."""

    def __init__(self, address=None):
        self.clock = Clock()
        self.clock.advance(1_790_000_000)
        self.told, self.asked, self.thread = [], [], []
        pool = KeyPool([Key("alpha", Secret("secret-of-alpha"), project="p")], PoolSettings())
        lifecycle = RequestLifecycle(
            self.clock,
            LifecycleSettings(heartbeat=0.0),
            TokenAuth([], None, anonymous=True),
            self,
            lambda: "req_fresh",
            OPENAI,
        )
        dispatcher = Dispatcher(
            RetrySettings(),
            provider=GeminiProvider(),
            pool=pool,
            models=ModelBreakers(),
            upstream=self,
            seconds=self.clock.seconds,
            sleep=lambda _: Deferred(),
            in_thread=lambda _: Deferred(),
            scrub=str,
        )
        catalogue = ModelCatalogue(
            GeminiProvider(),
            pool,
            self,
            cache_seconds=60.0,
            request_timeout=60.0,
            seconds=self.clock.seconds,
            scrub=str,
            share=SharedWork().join,
        )
        models = VisibleModels(catalogue, ModelNames(), pool.allowed_models)
        api = PublicAPI(
            lifecycle,
            dispatcher,
            [
                ChatEndpoint(ModelNames(), SignatureStore(), lambda: "call_1", str),
                EmbeddingsEndpoint(ModelNames()),
            ],
            [ModelListEndpoint(models), ModelEndpoint(models)],
            self.in_thread,
        )
        rows = [*api.rows(), *Probes(lifecycle, lambda: True, OPENAI).rows()]
        site = routed_site(self.clock, rows, lifecycle, None, OPENAI)
        self.site, self.address = site, address
        self.transport, self.channel = self.connect()

    def connect(self):
        transport = StringTransport(self.address)
        channel = self.site.buildProtocol(None)
        channel.makeConnection(transport)
        return transport, channel

    def request_ended(self, context, status, seconds):
        self.told.append((status, context.outcome, seconds))

    def send(self, request):
        """The upstream."""
        self.asked.append(request.path)
        self.answer = Deferred()
        return self.answer

    def fetch(self, request, _limit):
        return self.send(request)

    def in_thread(self, work):
        translated = Deferred()
        self.thread.append((work, translated))
        return translated

    def let_thread_work(self):
        work, translated = self.thread.pop()
        try:
            result = work()
        except Exception:  # noqa: BLE001 - as a thread would hand it over
            result = Failure()
        del work
        translated.callback(result)

    def post(self, content):
        self.post_body(json.dumps(content).encode())

    def post_body(self, body):
        head = (
            b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n"
        )
        self.channel.dataReceived(head % (CHAT.encode(), len(body)) + body)

    def leave(self):
        self.channel.connectionLost(Failure(ConnectionDone()))


@pytest.fixture
def stage():
    return Stage()


# -- the host --------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/readyz", "/v1/chat/completions", "/nowhere"])
@pytest.mark.parametrize("host", [".", ".x", "a..b", "x" * 64, "a,b", "[::1", "x" * 5000, ""])
def test_no_path_is_looked_up_by_the_host_that_a_client_names(stage, path, host):
    request = f"GET {path} HTTP/1.1\r\nHost: {{}}\r\nContent-Length: 0\r\n\r\n"
    stage.channel.dataReceived(request.format("x").encode())
    expected = stage.transport.value()
    stage.transport.clear()
    stage.channel.dataReceived(request.format(host).encode())
    assert stage.transport.value() == expected
    assert expected.startswith(b"HTTP/1.1 ")


def test_on_a_unix_socket_a_path_is_found_without_a_host():
    stage = Stage(UNIXAddress("/run/gemproxy.socket"))
    stage.channel.dataReceived(b"GET /readyz HTTP/1.0\r\n\r\n")
    assert stage.transport.value().startswith(b"HTTP/1.1 200 OK\r\n")


# -- the list of models ---------------------------------------------------------------------------


LIST = b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n"


class Listed:
    """An answer of the upstream with one model."""

    status, headers = 200, {}
    body = (
        b'{"models":[{"name":"models/gemini-3.8-flash",'
        b'"supportedGenerationMethods":["generateContent"]}]}'
    )


def test_forty_clients_at_once_make_one_request(stage):
    """Some leave, which the others do not notice, be it the one who was the first."""
    clients = [stage.connect() for _ in range(40)]
    for _, channel in clients:
        channel.dataReceived(LIST)
    assert len(stage.asked) == 1
    for _, channel in clients[:20]:
        channel.connectionLost(Failure(ConnectionDone()))
    stage.answer.callback(Listed())
    assert all(b"gemini-3.8-flash" in transport.value() for transport, _ in clients[20:])
    assert [status for status, *_ in stage.told] == [499] * 20 + [200] * 20
    assert len(stage.asked) == 1


def test_a_list_that_fails_fails_for_all_who_wait(stage):
    """The next one asks anew."""
    clients = [stage.connect() for _ in range(5)]
    for _, channel in clients:
        channel.dataReceived(LIST)
    stage.answer.errback(UpstreamFailed(FailureKind.RESET))
    assert all(b"HTTP/1.1 502 " in transport.value() for transport, _ in clients)
    assert len(stage.asked) == 1
    stage.channel.dataReceived(LIST)
    assert len(stage.asked) == 2


def test_when_the_last_one_leaves_the_upstream_is_not_waited_for(stage):
    """Nobody would take the list, and the next one begins anew."""
    clients = [stage.connect() for _ in range(3)]
    for _, channel in clients:
        channel.dataReceived(LIST)
    for _, channel in clients:
        assert not stage.answer.called
        channel.connectionLost(Failure(ConnectionDone()))
    assert stage.answer.called
    stage.channel.dataReceived(LIST)
    assert len(stage.asked) == 2


# -- large bodies ----------------------------------------------------------------------------------


def test_a_small_body_whose_schemas_take_long_goes_to_a_thread(stage):
    """It begins anew there, with the budget of a thread, and may be refused there as well."""
    honest = SHAPES["schema-names"](120_000)
    stage.post_body(honest)
    assert stage.asked == []
    stage.let_thread_work()
    assert stage.asked
    stage.transport.clear()
    stage = Stage()
    stage.post_body(SHAPES["schema-merged-enums"](69_000))
    stage.let_thread_work()
    assert stage.transport.value().startswith(b"HTTP/1.1 400 ")
    assert b"steps of work" in stage.transport.value()
    assert stage.asked == []


def test_a_small_body_with_the_schemas_of_an_agent_stays_in_the_reactor(stage):
    """A hundred tools of ten parameters each."""
    parameters = {f"p{k}": {"type": "string", "description": "What it is."} for k in range(10)}
    schema = {"type": "object", "properties": parameters, "required": ["p1", "p2"]}
    tools = [tool(f"f{k}", {**schema, "title": f"{k}"}) for k in range(100)]
    stage.post_body(dumped(request(tools=tools)))
    assert stage.thread == []
    assert stage.asked


CONTENT = {
    "model": "gemini-2.5-flash",
    "messages": [{"role": "user", "content": "x" * LARGE_BODY}],
}


def test_while_the_answer_is_awaited_nobody_holds_the_clients_body(stage):
    gc.disable()
    try:
        stage.post(CONTENT)
        (work,) = [weakref.ref(work) for work, _ in stage.thread]
        assert work() is not None
        stage.let_thread_work()
        assert stage.asked
        assert work() is None
    finally:
        gc.enable()


def test_for_a_client_that_leaves_during_the_translation_nothing_is_asked(stage):
    stage.post(CONTENT)
    stage.clock.advance(2.0)
    stage.leave()
    assert stage.told == [(499, "client_gone", 2.0)]
    stage.let_thread_work()
    assert stage.asked == []
    assert len(stage.told) == 1


def test_what_the_translation_refuses_is_told_to_the_client(stage):
    stage.post({**CONTENT, "messages": "x" * LARGE_BODY})
    stage.let_thread_work()
    assert stage.transport.value().startswith(b"HTTP/1.1 400 ")
    assert stage.asked == []
    assert stage.told[0][0] == 400
