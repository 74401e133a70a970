"""The limits of clients, as requests of every dialect meet them."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from msgspec.structs import astuple
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from gemproxy.api.anthropic.count_tokens import COUNT_TOKENS, CountTokensEndpoint
from gemproxy.api.anthropic.messages import MESSAGES, MessagesEndpoint
from gemproxy.api.gemini.native import NativeEndpoint
from gemproxy.api.my_usage import MyUsageEndpoint, OwnUsage
from gemproxy.api.offered_dialects import DIALECTS
from gemproxy.api.openai.chat import CHAT, ChatEndpoint
from gemproxy.api.openai.embeddings import EMBEDDINGS, EmbeddingsEndpoint
from gemproxy.api.public import PublicAPI
from gemproxy.api.rate_limits import openai_limit_headers
from gemproxy.core.admission import AdmissionLimits
from gemproxy.core.clients import Budget, Client, Limits
from gemproxy.core.dispatch import Dispatcher
from gemproxy.core.events import RequestEvents
from gemproxy.core.limits import ClientLimits, Standing, WindowState
from gemproxy.core.retry import RetrySettings
from gemproxy.http.lifecycle import LifecycleSettings, RequestLifecycle
from gemproxy.http.routed_site import routed_site
from gemproxy.pool.key import Key
from gemproxy.pool.models import ModelBreakers
from gemproxy.pool.pool import KeyPool, PoolSettings
from gemproxy.pricing.prices import Price, PriceList
from gemproxy.providers.gemini.provider import GeminiProvider
from gemproxy.secret import Secret
from gemproxy.telemetry.history import RequestHistory
from gemproxy.telemetry.ledger import MetricsLedger
from gemproxy.telemetry.recent import RecentOutcomes
from gemproxy.telemetry.records import RecordBuffer
from gemproxy.telemetry.usage import UsageLedger
from gemproxy.translate.shared.model_names import ModelNames
from gemproxy.translate.shared.signatures import SignatureStore

MODEL = "gemini-3.8-flash"
START = datetime(2026, 11, 30, 12, tzinfo=UTC).timestamp()
#: A million tokens of either kind cost 1 dollar; one answer costs 20 cents.
PRICES = PriceList([Price((MODEL, "gemini-embedding-*"), 1.0, 1.0)])
USAGE = {"promptTokenCount": 150_000, "candidatesTokenCount": 50_000, "totalTokenCount": 200_000}
ANSWER = {
    "candidates": [{"content": {"parts": [{"text": "Hi"}]}, "finishReason": "STOP"}],
    "usageMetadata": USAGE,
}
EMBEDDED = {"promptTokenCount": 3}
NATIVE = f"/v1beta/models/{MODEL}:generateContent"
SAID = [{"role": "user", "content": "Hello"}]
BODIES = {
    CHAT: {"model": MODEL, "messages": SAID},
    MESSAGES: {"model": MODEL, "messages": SAID, "max_tokens": 9},
    NATIVE: {"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]},
    EMBEDDINGS: {"model": "gemini-embedding-001", "input": "Hello"},
    COUNT_TOKENS: {"model": MODEL, "messages": SAID},
}


class Stage:
    """The public API with one client; the upstream answers at once, unless it is on hold."""

    def __init__(self, *, limits=None, budget=None, name="ci", most=100, **options):
        self.clock = Clock()
        self.clock.advance(START)
        self.unknown = None
        self.asker = Client(name, limits=limits or Limits(), budget=budget or Budget())
        self.pool = KeyPool([Key("alpha", Secret("secret-of-alpha"), project="p")], PoolSettings())
        self.limits = ClientLimits(**options)
        self.usage = UsageLedger(PRICES, {})
        self.records = RecordBuffer(str)
        self.recent, self.ledger = RecentOutcomes(), MetricsLedger()
        history = RequestHistory(keep=self.records.keep)
        self.events = RequestEvents((self.usage, history, self.ledger, self.recent), print)
        self.held, self.is_held = [], False
        lifecycle = RequestLifecycle(
            self.clock,
            LifecycleSettings(AdmissionLimits(max_in_flight=most), heartbeat=0.0),
            self,
            self.events,
            lambda: "req_fresh",
            DIALECTS,
            client_limits=self.limits,
        )
        dispatcher = Dispatcher(
            RetrySettings(),
            provider=GeminiProvider(),
            pool=self.pool,
            models=ModelBreakers(),
            upstream=self,
            seconds=self.clock.seconds,
            sleep=lambda _: Deferred(),
            in_thread=lambda _: Deferred(),
            scrub=str,
        )
        names, signatures = ModelNames(), SignatureStore()
        api = PublicAPI(
            lifecycle,
            dispatcher,
            [
                ChatEndpoint(names, signatures, lambda: "call_1", str),
                MessagesEndpoint(names, signatures, lambda: "0" * 24, lambda _: None, str),
                NativeEndpoint(names),
                EmbeddingsEndpoint(names),
                CountTokensEndpoint(names, signatures, exact=False),
            ],
            [MyUsageEndpoint(self.read_usage, self.used)],
            lambda _: Deferred(),
        )
        self.site = routed_site(self.clock, list(api.rows()), lifecycle, None, DIALECTS)
        self.channel = None

    # -- the parts that are no parts of the daemon --

    def client(self, _token):
        return self.asker

    async def read_usage(self, _client):
        return OwnUsage({}, {})

    def used(self, client=None):
        now = self.clock.seconds()
        return self.limits.used(client or self.asker, now, now)

    def counts(self):
        """Requests and tokens of the minute, and of the day."""
        return astuple(self.used())[:4]

    def send(self, request):
        self.path, self.body = request.path, request.body
        answered = Deferred()
        self.held.append(answered)
        if not self.is_held:
            self.answer()
        return answered

    def answer(self, answer=ANSWER, status=200):
        content = answer
        if b"mbed" in self.path:
            number = bytes(self.body).count(b'"content"')
            content = {"embeddings": [{"values": [0.5]}] * number, "usageMetadata": EMBEDDED}
        if b"alt=sse" in self.path:
            content = b"data: %b\r\n\r\n" % json.dumps(content).encode()
        self.held.pop(0).callback(Response(content, status))

    # -- what a client sees --

    def ask(self, path=CHAT, body=None, *, method=b"POST", length=None, **more):
        """Send a request on a connection of its own; gives the answer, if there is one."""
        content = b"" if method == b"GET" else json.dumps(body or BODIES[path] | more).encode()
        transport = Transport()
        self.channel = self.site.buildProtocol(None)
        self.channel.makeConnection(transport)
        self.channel.dataReceived(
            b"%b %b HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%b"
            % (method, path.encode(), len(content) if length is None else length, content)
        )
        self.clock.advance(0)
        return Answer(transport)

    def leave(self):
        self.channel.connectionLost(Failure(ConnectionDone()))


class Transport(StringTransport):
    def loseWriteConnection(self):
        pass


class Response:
    def __init__(self, content, status):
        self.status, self.headers = status, {}
        self.content = content if isinstance(content, bytes) else json.dumps(content).encode()

    def header(self, name):
        return None

    def take(self, _limit):
        return self.content

    async def read(self, _limit):
        return self.content

    async def stream(self, receive):
        receive(self.content)

    def pause(self):
        pass

    resume = pause


class Answer:
    def __init__(self, transport):
        self.transport = transport

    @property
    def head(self):
        return self.transport.value().partition(b"\r\n\r\n")[0].decode().split("\r\n")

    @property
    def status(self):
        return int(self.head[0].split()[1])

    @property
    def headers(self):
        return {
            name.lower(): value for name, value in (line.split(": ", 1) for line in self.head[1:])
        }

    def limits(self):
        """The headers that tell what is left."""
        return {
            name.replace("anthropic-", "").replace("x-", ""): value
            for name, value in self.headers.items()
            if "ratelimit" in name
        }

    @property
    def json(self):
        return json.loads(self.transport.value().partition(b"\r\n\r\n")[2])


@pytest.mark.parametrize("path", [CHAT, MESSAGES, NATIVE, EMBEDDINGS])
def test_as_many_pass_and_the_next_one_at_the_stated_moment(path):
    stage = Stage(limits=Limits(rpm=3))
    assert [stage.ask(path).status for _ in range(3)] == [200] * 3
    stage.clock.advance(20.5)
    refused = stage.ask(path)
    assert (refused.status, refused.headers["retry-after"]) == (429, "40")
    stage.clock.advance(39)
    assert stage.ask(path).headers["retry-after"] == "1"
    stage.clock.advance(1)
    assert stage.ask(path).status == 200


class TestDialects:
    def test_openai(self):
        stage = Stage(limits=Limits(rpm=1))
        stage.ask()
        error = stage.ask().json["error"]
        assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
        assert "'ci'" in error["message"]
        assert "rpm 1" in error["message"]

    def test_anthropic(self):
        stage = Stage(limits=Limits(rpm=1))
        stage.ask()
        body = stage.ask(MESSAGES).json
        assert (body["type"], body["error"]["type"]) == ("error", "rate_limit_error")
        assert "rpm 1" in body["error"]["message"]

    def test_gemini(self):
        stage = Stage(limits=Limits(rpm=1))
        stage.ask()
        error = stage.ask(NATIVE).json["error"]
        assert (error["code"], error["status"]) == (429, "RESOURCE_EXHAUSTED")
        assert error["details"][0]["reason"] == "RATE_LIMIT_EXCEEDED"
        assert error["details"][1]["retryDelay"] == "60s"

    def test_a_spent_budget(self):
        stage = Stage(budget=Budget(usd_per_day=0.3))
        assert [stage.ask().status for _ in range(2)] == [200] * 2
        refused = stage.ask()
        assert (refused.status, refused.json["error"]["code"]) == (429, "insufficient_quota")
        assert "2026-12-01" in refused.json["error"]["message"]
        assert refused.headers["x-should-retry"] == "false"
        assert stage.ask(NATIVE).json["error"]["details"][0]["reason"] == "INSUFFICIENT_QUOTA"
        assert "2026-12-01" in stage.ask(MESSAGES).json["error"]["message"]
        stage.clock.advance(12 * 3600)
        assert stage.ask().status == 200

    def test_a_model_without_a_price(self):
        stage = Stage(budget=Budget(usd_per_day=1), is_unpriced=lambda model: model != MODEL)
        assert stage.ask().status == 200
        refused = stage.ask(CHAT, model="gemini-0-odd")
        assert (refused.status, refused.json["error"]["code"]) == (403, "model_not_allowed")


class TestHeaders:
    def test_openais_names(self):
        stage = Stage(limits=Limits(rpm=10, tpm=500_000))
        stage.ask()
        stage.clock.advance(50.25)
        assert stage.ask().limits() == {
            "ratelimit-limit-requests": "10",
            "ratelimit-remaining-requests": "8",
            "ratelimit-reset-requests": "1m0s",
            "ratelimit-limit-tokens": "500000",
            "ratelimit-remaining-tokens": "100000",
            "ratelimit-reset-tokens": "1m0s",
        }

    def test_anthropics_names(self):
        answer = Stage(limits=Limits(rpm=10, tpd=500_000)).ask(MESSAGES)
        assert answer.limits() == {
            "ratelimit-requests-limit": "10",
            "ratelimit-requests-remaining": "9",
            "ratelimit-requests-reset": "2026-11-30T12:01:00Z",
            "ratelimit-tokens-limit": "500000",
            "ratelimit-tokens-remaining": "300000",
            "ratelimit-tokens-reset": "2026-12-01T00:00:00Z",
        }
        assert all(name.startswith("anthropic-") for name in answer.headers if "limit" in name)

    @pytest.mark.parametrize(
        ("seconds", "written"),
        [
            (-1, "0ms"), (0.0161, "17ms"), (8.64, "8.64s"), (59.9995, "1m0s"), (360, "6m0s"),
            (3723.5, "1h2m3.5s"), (86400, "24h0m0s"),
        ],
    )  # fmt: skip
    def test_durations_are_written_as_openai_does(self, seconds, written):
        told = openai_limit_headers(Standing(requests=WindowState(3, 1, seconds)), 0.0)
        assert told.decode().split("\r\n")[2] == f"x-ratelimit-reset-requests: {written}"

    def test_refusals_have_them_too(self):
        stage = Stage(limits=Limits(rpm=1))
        stage.ask()
        stage.clock.advance(0.5)
        assert stage.ask().limits() == {
            "ratelimit-limit-requests": "1",
            "ratelimit-remaining-requests": "0",
            "ratelimit-reset-requests": "59.5s",
        }
        assert stage.ask(CHAT, {"model": 7}).limits()["ratelimit-remaining-requests"] == "0"

    def test_a_streams_hold_the_estimate(self):
        stage = Stage(limits=Limits(tpm=500_000))
        answer = stage.ask(stream=True)
        assert (answer.status, answer.headers["content-type"]) == (
            200, "text/event-stream; charset=utf-8",
        )  # fmt: skip
        assert 499_900 < int(answer.limits()["ratelimit-remaining-tokens"]) < 500_000
        assert stage.used().tokens_minute == 200_000

    def test_absent_without_limits(self):
        assert Stage().ask().limits() == {}
        assert Stage(budget=Budget(usd_per_day=1), limits=Limits(concurrent=3)).ask().limits() == {}


class TestWhatCounts:
    def test_tokens_are_those_of_the_answer(self):
        stage = Stage(limits=Limits(tpm=400_000, tpd=10**6))
        stage.ask()
        stage.ask(NATIVE)
        refused = stage.ask(MESSAGES)
        assert (refused.status, refused.headers["retry-after"]) == (429, "60")
        assert "tpm 400000" in refused.json["error"]["message"]
        assert stage.counts() == (2, 400_000, 2, 400_000)

    def test_a_bad_request_counts_as_a_request(self):
        stage = Stage(limits=Limits(rpm=2))
        assert stage.ask(CHAT, {"model": 7}).status == 400
        assert stage.used().requests_minute == 1

    def test_what_is_refused_before_it_is_served_does_not(self):
        stage = Stage(limits=Limits(rpm=9, concurrent=9), most=1)
        stage.is_held = True
        stage.ask()
        assert stage.ask().json["error"]["message"].startswith("The proxy serves 1 requests")
        stage.answer()
        assert stage.ask(length=10**9).status == 413
        stage.ask(length=1000)
        stage.leave()
        assert stage.counts() == (1, 200_000, 1, 200_000)
        assert stage.used().concurrent == 0

    def test_a_client_that_leaves_gives_back_what_was_reserved(self):
        stage = Stage(limits=Limits(tpm=1000, tpd=1000, concurrent=1))
        stage.is_held = True
        stage.ask()
        asked = stage.channel
        assert 0 < stage.used().tokens_minute == stage.used().tokens_day
        assert stage.ask().headers["retry-after"] == "1"
        asked.connectionLost(Failure(ConnectionDone()))
        assert stage.counts() == (1, 0, 1, 0)
        assert stage.used().concurrent == 0

    def test_a_place_is_free_as_soon_as_the_answer_is_sent(self):
        """A client may have sent its next request on the same connection."""
        stage = Stage(limits=Limits(concurrent=1))
        stage.is_held = True
        first = stage.ask()
        body = json.dumps(BODIES[CHAT]).encode()
        stage.channel.dataReceived(
            b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (CHAT.encode(), len(body), body)
        )
        stage.answer()
        stage.clock.advance(0)
        stage.answer()
        assert first.transport.value().count(b"HTTP/1.1 200") == 2

    def test_a_request_of_several_calls_is_one(self):
        stage = Stage(limits=Limits(rpm=1))
        assert stage.ask(EMBEDDINGS, input=["word"] * 250).status == 200
        assert stage.used().requests_minute == 1
        assert stage.used().concurrent == 0

    def test_an_estimate_of_tokens_is_a_request_without_tokens(self):
        stage = Stage(limits=Limits(rpm=2, tpm=1))
        answer = stage.ask(COUNT_TOKENS)
        assert answer.json["input_tokens"] > 1
        assert answer.limits()["ratelimit-requests-remaining"] == "1"
        assert stage.counts() == (1, 0, 1, 0)

    def test_a_request_that_fails_counts_what_it_used(self):
        stage = Stage(limits=Limits(tpm=10**6))
        stage.is_held = True
        answer = stage.ask()
        stage.answer({"error": {"code": 400, "message": "No.", "status": "INVALID_ARGUMENT"}}, 400)
        assert answer.status == 400
        assert stage.counts() == (1, 0, 1, 0)

    def test_questions_about_the_own_usage_count_against_nothing(self):
        stage = Stage(limits=Limits(rpm=2, tpd=10**6, concurrent=4), budget=Budget(usd_per_month=1))
        stage.ask()
        for _ in range(5):
            answer = stage.ask("/v1/usage/me", method=b"GET")
        assert answer.json == {
            "client": "ci",
            "limits": {"rpm": 2, "tpm": None, "rpd": None, "tpd": 10**6, "concurrent": 4},
            "remaining": {
                "rpm": 1, "tpm": None, "rpd": None, "tpd": 800_000, "concurrent": 4,
                "usdPerDay": None, "usdPerMonth": 0.8,
            },
            "budget": {"usdPerDay": None, "usdPerMonth": 1},
            "today": {},
            "month": {},
        }  # fmt: skip
        assert answer.limits()["ratelimit-remaining-requests"] == "1"


class TestWhoseFault:
    @pytest.mark.parametrize("name", ["ci", None])
    def test_the_clients(self, name):
        """Neither a key nor the service is charged; all are counted, sixty are recorded."""
        stage = Stage(limits=Limits(rpm=1, tpd=1), name=name)
        stage.ask()
        before = stage.pool.snapshot(stage.clock.seconds()).keys
        for _ in range(100):
            assert stage.ask().status == 429
        stage.clock.advance(60)
        assert "tpd 1" in stage.ask().json["error"]["message"]
        assert stage.pool.snapshot(stage.clock.seconds()).keys[0].buckets == before[0].buckets
        rows = [row for row in stage.usage.rows() if row.period == 86400]
        assert {row.client for row in rows} == {name or "anonymous"}
        assert sum(row.theirs for row in rows) == 101
        assert sum(row.requests for row in rows) == 102
        assert not any(row.ours or row.upstream for row in rows)
        assert stage.usage.limit_refusals == {(name or "anonymous", "chat", "tpd"): 101}
        assert stage.recent.summary(stage.clock.seconds()).failed == 0
        assert not any(row.failures for row in stage.ledger.rows())
        recorded = [row for row in stage.records.take() if row.outcome == "rate_limit_exceeded"]
        assert len(recorded) == 61
