"""The line of one request, on the real pool and translators, with an upstream in memory."""

import asyncio
import gc
import itertools
import json
import weakref
from dataclasses import replace

import pytest
from fakes.heads import FakeHead
from fakes.openai_errors import seen
from fakes.pools import date
from fakes.upstreams import (
    PER_DAY,
    PER_MINUTE,
    FakeGemini,
    RecordingWriter,
    Reply,
    answer,
    error,
    error_info,
    event,
    quota,
    streamed,
    whole,
)

from gemproxy.api.gemini.resources import download_endpoints
from gemproxy.api.openai.chat import ChatEndpoint
from gemproxy.api.openai.embeddings import EmbeddingsEndpoint
from gemproxy.core.context import RequestContext
from gemproxy.core.dispatch import Dispatcher
from gemproxy.core.errors import (
    ContextTooLong,
    FailureKind,
    InvalidRequest,
    ModelNotFound,
    ModelUnavailable,
    NoHealthyKeys,
    QuotaExhausted,
    UpstreamFailed,
    UpstreamRejected,
    UpstreamUnavailable,
)
from gemproxy.core.events import RequestListener
from gemproxy.core.retry import RetrySettings
from gemproxy.pool.key import Key, Limits
from gemproxy.pool.models import ModelBreakers
from gemproxy.pool.outcome import Charge, Verdict
from gemproxy.pool.pool import KeyPool, PoolSettings
from gemproxy.providers.gemini.provider import GeminiProvider
from gemproxy.secret import Secret
from gemproxy.translate.shared.model_names import ModelNames
from gemproxy.translate.shared.signatures import SignatureStore

NOON = 1_790_000_000.0
INVALID_KEY = error(400, "API key not valid.", "INVALID_ARGUMENT", [error_info("API_KEY_INVALID")])
OVERLOADED = error(503, "The model is overloaded.", "UNAVAILABLE")


class Proxy:
    """A forwarder with a pool of keys that are named as the upstream's scripts are."""

    def __init__(self, upstream: FakeGemini, events=None, **settings) -> None:
        self.upstream = upstream
        self.now = NOON
        self.slept: list[float] = []
        self.in_threads = 0
        self.pool = KeyPool(
            [Key(name, Secret(f"secret-of-{name}"), project=name) for name in upstream.scripts],
            PoolSettings(),
        )
        names = ModelNames(settings.pop("aliases", {}), tuple(settings.pop("allowed_models", ())))
        self.dispatcher = Dispatcher(
            RetrySettings(**settings),
            provider=GeminiProvider(),
            pool=self.pool,
            models=ModelBreakers(),
            upstream=upstream,
            seconds=lambda: self.now,
            sleep=self.sleep,
            in_thread=self.in_thread,
            scrub=self.scrub,
            events=events,
        )
        ids = map("call_{}".format, itertools.count())
        self.endpoint = ChatEndpoint(names, SignatureStore(), ids.__next__, self.scrub)

    @staticmethod
    def scrub(text: str) -> str:
        return text.replace("secret", "…")

    async def in_thread(self, work) -> None:
        self.in_threads += 1
        work()

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def ask(self, said="Hi", *, stream=False, model="gemini-2.5-flash", body=b"", more=b""):
        fields = b'"stream":true,' if stream else b""
        fields += more and more + b","
        raw = body or (
            b'{"model":"%b",%b"messages":[{"role":"user","content":"%b"}]}'
            % (model.encode(), fields, said.encode())
        )
        self.context = RequestContext("r", "/v1/chat/completions", self.now)
        writer = RecordingWriter()
        asyncio.run(self.serve(raw, self.context, writer))
        return writer

    async def serve(self, body, context, writer, *, brief=False):
        job = self.endpoint.decode(body, FakeHead(), context, brief=brief)
        await self.dispatcher.dispatch(job, context, writer)

    def status(self, name):
        return self.pool.status(name, self.now)

    @property
    def charges(self):
        return [attempt.charge for attempt in self.context.attempts]


@pytest.mark.parametrize("comes_later", [False, True])
def test_an_answer_is_translated_and_counted(comes_later):
    answer = whole("Hello.")
    answer.comes_later = comes_later
    proxy = Proxy(FakeGemini(a=[answer]))
    writer = proxy.ask()
    assert writer.json["choices"][0]["message"]["content"] == "Hello."
    assert writer.json["model"] == "gemini-2.5-flash"
    assert proxy.context.outcome == "success"
    assert proxy.context.usage.total == 10
    assert proxy.context.key_name == "a"
    _, request = proxy.upstream.requests[0]
    assert request.path == b"/v1beta/models/gemini-2.5-flash:generateContent"
    assert proxy.status("a").success_count == 1


def test_a_large_answer_is_translated_in_a_thread():
    """Of the longest answer with log probabilities it takes seconds, in which nobody is served."""
    likely = {"token": "Hi", "logProbability": -0.5}
    chosen = [likely] * 2000
    logprobs = {"chosenCandidates": chosen, "topCandidates": [{"candidates": [likely] * 20}] * 2000}
    proxy = Proxy(FakeGemini(a=[whole("Hi" * 2000, logprobsResult=logprobs), whole("Hi.")]))
    (choice,) = proxy.ask(more=b'"logprobs":true,"top_logprobs":20').json["choices"]
    assert len(choice["logprobs"]["content"]) == 2000
    assert proxy.in_threads == 1
    assert proxy.context.outcome == "success"
    assert proxy.ask().json["choices"][0]["message"]["content"] == "Hi."
    assert proxy.in_threads == 1


def test_a_large_answer_that_says_nothing_is_told_by_its_thread():
    """Whatever is wrong with an answer is known as before, and tried elsewhere."""
    empty = whole("", None, groundingMetadata={"webSearchQueries": ["q" * 1_100_000]})
    proxy = Proxy(FakeGemini(a=[empty], b=[whole("Hi.")]))
    assert proxy.ask().json["choices"][0]["message"]["content"] == "Hi."
    assert proxy.in_threads == 1
    assert len(proxy.context.attempts) == 2


def test_tokens_of_an_answer_are_used_by_the_key_that_gave_it():
    proxy = Proxy(FakeGemini(a=[OVERLOADED], b=[whole("Hello.")]))
    limited = Limits(tpm=1000)
    keys = [replace(key, limits=limited) for key in proxy.pool.healthy_keys(NOON)]
    proxy.pool.apply(keys, PoolSettings(), NOON)
    proxy.ask()
    assert proxy.charges == [Charge.KEY, Charge.KEY]
    used = {key.name: key.usage.uses[0][1] for key in proxy.pool.snapshot(NOON).keys}
    assert used["b"] == proxy.context.usage.total
    assert used["a"] == len(proxy.upstream.requests[0][1].body) // 4 != used["b"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("failure", [None, OVERLOADED])
def test_nothing_of_a_request_waits_for_the_garbage_collector(stream, failure):
    answer = streamed("Hello.") if stream else whole("Hello.")
    proxy = Proxy(FakeGemini(a=[failure or answer], b=[answer]))
    gc.collect()
    gc.disable()
    try:
        left = weakref.ref(proxy.ask(stream=stream))
    finally:
        gc.enable()
    assert proxy.context.outcome == "success"
    assert left() is None


def test_a_stream_is_relayed_event_by_event():
    proxy = Proxy(FakeGemini(a=[streamed("Hel", "lo", ".")]))
    writer = proxy.ask(stream=True)
    assert writer.text == "Hello."
    assert writer.events[-1] == "[DONE]"
    assert writer.finished
    assert proxy.upstream.requests[0][1].path.endswith(b":streamGenerateContent?alt=sse")


FAILURES = {
    "quota of a minute": quota(PER_MINUTE, "30s"),
    "quota of a day": quota(PER_DAY, "37s"),
    "bare 429": error(429, "Resource has been exhausted", "RESOURCE_EXHAUSTED"),
    "invalid key": INVALID_KEY,
    "401": error(401, "no", "UNAUTHENTICATED"),
    "leaked": error(403, "Your API key was reported as leaked.", "PERMISSION_DENIED"),
    "500": error(500, "An internal error has occurred", "INTERNAL"),
    "502 of a front end": Reply(502, b"<html>Bad Gateway</html>"),
    "503": OVERLOADED,
    "504": error(504, "Deadline expired", "DEADLINE_EXCEEDED"),
    "refused": FailureKind.REFUSED,
    "reset": FailureKind.RESET,
    "TLS": FailureKind.TLS,
    "DNS": FailureKind.DNS,
    "silent": FailureKind.FIRST_BYTE_TIMEOUT,
    "garbage": FailureKind.GARBAGE,
    "truncated": Reply(breaks=FailureKind.TRUNCATED, pieces=[b""]),
    "not JSON": Reply(body=b"<html>hello</html>"),
    "no candidates": Reply(body=b'{"usageMetadata":{}}', pieces=[event({"usageMetadata": {}})]),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("failure", FAILURES)
def test_a_failing_key_is_not_felt_by_the_client(failure, stream):
    good = streamed("Hello.") if stream else whole("Hello.")
    proxy = Proxy(FakeGemini(bad=[FAILURES[failure]], good=[good]))
    for _ in range(4):
        writer = proxy.ask(stream=stream)
        assert (writer.text if stream else writer.json["choices"][0]["message"]["content"]) == (
            "Hello."
        )
    assert "bad" in proxy.upstream.keys_used


def test_an_event_with_an_error_before_any_content_is_retried():
    bad = Reply(pieces=[event({"error": {"code": 503, "message": "x", "status": "UNAVAILABLE"}})])
    proxy = Proxy(FakeGemini(a=[bad], b=[streamed("Hello.")]))
    assert proxy.ask(stream=True).text == "Hello."


def test_only_a_stream_with_a_key_to_wait_for_may_get_its_head_early():
    proxy = Proxy(FakeGemini(a=[streamed("Hello."), whole()]))
    assert proxy.ask(stream=True).stream_awaited
    assert not proxy.ask().stream_awaited
    # What is refused without a wait keeps its status, whatever the settings say.
    proxy.pool.disable("a")
    body = b'{"model":"m","stream":true,"messages":[{"role":"user","content":"Hi"}]}'
    writer = RecordingWriter()
    with pytest.raises(NoHealthyKeys):
        asyncio.run(proxy.serve(body, RequestContext("r", "/", NOON), writer))
    assert not writer.stream_awaited


def test_without_first_chunk_retry_such_a_stream_fails():
    bad = Reply(pieces=[event({"error": {"code": 503, "message": "x", "status": "UNAVAILABLE"}})])
    proxy = Proxy(FakeGemini(a=[bad], b=[streamed("Hello.")]), first_chunk_retry=False)
    with pytest.raises(UpstreamUnavailable):
        proxy.ask(stream=True)
    assert proxy.upstream.keys_used == ["a"]


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (streamed("Hel", "lo", finish=None), "stream_incomplete"),
        (streamed("Hel", "lo", finish=None, breaks=FailureKind.TRUNCATED), "stream_incomplete"),
        (streamed("Hel", "lo", finish=None, breaks=FailureKind.IDLE_TIMEOUT), "upstream_timeout"),
    ],
)
def test_a_stream_that_breaks_says_so_and_is_not_begun_again(reply, code):
    proxy = Proxy(FakeGemini(a=[reply], b=[streamed("Never.")]))
    writer = proxy.ask(stream=True)
    assert writer.text.startswith("Hel")
    assert writer.events[-1]["error"]["code"] == code
    assert "[DONE]" not in writer.events
    assert proxy.upstream.keys_used == ["a"]


def test_an_error_in_mid_stream_keeps_what_came_before_it():
    failing = event({"error": {"code": 503, "message": "overloaded", "status": "UNAVAILABLE"}})
    reply = Reply(pieces=[streamed("Hel", finish=None).pieces[0] + failing])
    writer = Proxy(FakeGemini(a=[reply])).ask(stream=True)
    assert writer.text == "Hel"
    assert writer.events[-1]["error"]["message"] == "overloaded"


def test_the_clients_own_mistake_is_answered_at_once_and_changes_no_key():
    refused = error(400, "Request contains an invalid argument.", "INVALID_ARGUMENT")
    proxy = Proxy(FakeGemini(a=[refused], b=[whole()]))
    with pytest.raises(UpstreamRejected) as caught:
        proxy.ask()
    assert seen(caught.value).status == 400
    assert proxy.upstream.keys_used == ["a"]
    assert proxy.charges == [Charge.NOBODY]
    assert proxy.status("a").failure_count == 0


def test_a_mistake_found_here_reaches_no_upstream():
    proxy = Proxy(FakeGemini(a=[whole()]))
    with pytest.raises(InvalidRequest):
        proxy.ask(body=b'{"model":"gemini-2.5-flash","messages":[]}')
    assert proxy.upstream.requests == []


def test_every_keys_overload_is_the_models_and_opens_no_key():
    proxy = Proxy(FakeGemini(**{name: [OVERLOADED] for name in "abcd"}))
    for prompt in ("one", "two", "three"):
        with pytest.raises(UpstreamUnavailable) as caught:
            proxy.ask(prompt)
        assert seen(caught.value).status == 503
        assert caught.value.retry_after is not None
    assert {proxy.status(name).failure_count for name in "abcd"} == {0}
    with pytest.raises(ModelUnavailable):
        proxy.ask()
    proxy.upstream.scripts = {name: [whole()] for name in "abcd"}
    proxy.now += 1.5
    proxy.ask()
    assert proxy.context.outcome == "success"


@pytest.mark.parametrize("failure", [OVERLOADED, FailureKind.RESET, FailureKind.FIRST_BYTE_TIMEOUT])
def test_one_prompt_that_always_fails_takes_the_model_from_nobody(failure):
    proxy = Proxy(FakeGemini(**{name: [failure] for name in "abcd"}))
    for number in range(20):
        # Its stream and its retries are the same prompt.
        with pytest.raises(UpstreamUnavailable):
            proxy.ask("an odd one", stream=number % 2 == 1)
    proxy.upstream.scripts = {name: [whole()] for name in "abcd"}
    proxy.ask("another one")
    assert {proxy.status(name).status for name in "abcd"} == {"active"}


def test_the_request_that_opens_a_models_breaker_learns_when_it_is_tried_again():
    proxy = Proxy(FakeGemini(**{name: [OVERLOADED] for name in "abcd"}))
    prompts = map("prompt {}".format, itertools.count())

    def asked():
        with pytest.raises((UpstreamUnavailable, ModelUnavailable)) as caught:
            proxy.ask(next(prompts))
        return caught.value.retry_after

    assert [asked() for _ in range(3)] == [1.0, 1.0, 1.0]
    delays = []
    for _ in range(5):
        proxy.now += delays[-1] if delays else 1.0
        delays.append(asked())
        # Whoever is refused meanwhile is told the same moment.
        proxy.now += 0.5
        assert asked() == max(1.0, delays[-1] - 0.5)
        proxy.now -= 0.5
    assert delays == [2.0, 4.0, 8.0, 10.0, 10.0]


@pytest.mark.parametrize("failure", [FailureKind.REFUSED, FailureKind.CONNECT_TIMEOUT])
def test_so_does_the_one_that_nobody_answered(failure):
    proxy = Proxy(FakeGemini(a=[failure]), max_attempts=1)
    for prompt in ("one", "two", "three"):
        with pytest.raises(UpstreamUnavailable) as caught:
            proxy.ask(prompt)
    assert caught.value.retry_after == 1.0
    proxy.now += 1.0
    with pytest.raises(UpstreamUnavailable) as caught:
        proxy.ask("four")
    assert seen(caught.value).headers["Retry-After"] == "2"


def test_a_model_that_is_forbidden_to_one_key_is_served_by_another():
    forbidden = error(403, "The caller does not have permission", "PERMISSION_DENIED")
    proxy = Proxy(FakeGemini(a=[forbidden], b=[whole()]))
    for _ in range(4):
        proxy.ask()
    assert proxy.upstream.keys_used == ["a", "b", "b", "b", "b"]
    proxy.upstream.scripts["a"] = [whole()]
    proxy.ask(model="gemini-2.5-pro")
    proxy.ask(model="gemini-2.5-pro")
    assert proxy.upstream.keys_used[-2:] in (["a", "b"], ["b", "a"])
    assert proxy.status("a").needs_attention is None


def test_a_model_that_is_forbidden_to_every_key_is_not_found():
    forbidden = error(403, "The caller does not have permission", "PERMISSION_DENIED")
    proxy = Proxy(FakeGemini(a=[forbidden], b=[forbidden]))
    for _ in range(2):
        with pytest.raises(ModelNotFound):
            proxy.ask()
    assert proxy.upstream.keys_used == ["a", "b"]
    assert {proxy.status(name).status for name in "ab"} == {"active"}


def test_a_failure_that_another_key_made_good_is_the_keys():
    proxy = Proxy(FakeGemini(a=[OVERLOADED], b=[whole()]))
    proxy.ask()
    assert proxy.charges == [Charge.KEY, Charge.KEY]
    assert proxy.status("a").failure_count == 1
    assert proxy.status("b").success_count == 1


def test_the_only_key_is_tried_again_after_a_pause():
    proxy = Proxy(FakeGemini(a=[OVERLOADED, FailureKind.RESET, whole()]))
    proxy.ask()
    assert proxy.upstream.keys_used == ["a", "a", "a"]
    assert proxy.slept == [0.1, 0.2]


def test_attempts_end_where_the_setting_says():
    proxy = Proxy(FakeGemini(**{name: [OVERLOADED] for name in "abcde"}), max_attempts=2)
    with pytest.raises(UpstreamUnavailable):
        proxy.ask()
    assert len(proxy.upstream.requests) == 2


def test_attempts_end_with_the_requests_time():
    proxy = Proxy(FakeGemini(a=[OVERLOADED], b=[whole()]), request_timeout=0.0)
    with pytest.raises(UpstreamUnavailable):
        proxy.ask()
    assert proxy.upstream.keys_used == ["a"]


def test_with_all_keys_out_of_a_minutes_quota_the_client_learns_when_to_come_back():
    proxy = Proxy(FakeGemini(a=[quota(PER_MINUTE, "30s")], b=[quota(PER_MINUTE, "20s")]))
    with pytest.raises(QuotaExhausted) as caught:
        proxy.ask()
    assert seen(caught.value).code == "rate_limit_exceeded"
    assert caught.value.retry_after == pytest.approx(20.0)
    with pytest.raises(QuotaExhausted):
        proxy.ask()
    assert len(proxy.upstream.requests) == 2


def test_with_all_keys_out_of_a_days_quota_the_sdk_is_told_not_to_retry():
    proxy = Proxy(FakeGemini(a=[quota(PER_DAY, "37s")]))
    with pytest.raises(QuotaExhausted) as caught:
        proxy.ask()
    assert seen(caught.value).code == "insufficient_quota"
    assert caught.value.should_retry is False
    assert caught.value.retry_after > 60


def test_a_cooldown_is_for_one_model_only():
    proxy = Proxy(FakeGemini(a=[quota(PER_MINUTE, "30s"), whole()]))
    with pytest.raises(QuotaExhausted):
        proxy.ask()
    proxy.ask(model="gemini-2.5-pro")
    assert proxy.context.outcome == "success"


def test_bad_keys_are_never_shown_to_the_client_as_401():
    proxy = Proxy(FakeGemini(a=[INVALID_KEY]))
    with pytest.raises(NoHealthyKeys) as caught:
        proxy.ask()
    assert seen(caught.value).status == 503
    assert proxy.status("a").needs_attention == "invalid"


def test_a_prompt_that_can_never_fit_benches_no_key():
    big = b'{"model":"gemini-2.5-flash","messages":[{"role":"user","content":"%b"}]}'
    proxy = Proxy(
        FakeGemini(
            a=[quota("GenerateContentInputTokensPerModelPerMinute-FreeTier", "30s", "1000")],
            b=[whole()],
        )
    )
    with pytest.raises(ContextTooLong):
        proxy.ask(body=big % (b"word " * 2000))
    assert proxy.upstream.keys_used == ["a"]
    assert proxy.status("a").cooldowns == ()


def test_an_empty_answer_is_asked_for_once_more_and_then_believed():
    empty = Reply(body=b'{"candidates":[{"finishReason":"STOP"}]}')
    proxy = Proxy(FakeGemini(a=[empty], b=[empty]))
    writer = proxy.ask()
    assert writer.json["choices"][0]["finish_reason"] == "stop"
    assert len(proxy.upstream.requests) == 2
    assert proxy.status("a").failure_count == 0


@pytest.mark.parametrize("body", [b"{}", b"<html>", b"[1]"])
def test_what_is_not_geminis_counts_as_the_network(body):
    proxy = Proxy(FakeGemini(a=[Reply(body=body)], b=[Reply(body=body)], c=[whole()]))
    proxy.ask()
    assert proxy.upstream.keys_used == ["a", "b", "c"]
    assert proxy.charges == [Charge.KEY] * 3
    everywhere = Proxy(FakeGemini(**{name: [Reply(body=body)] for name in "abcd"}))
    with pytest.raises(UpstreamUnavailable) as caught:
        everywhere.ask()
    assert seen(caught.value).status == 502
    assert everywhere.charges == [Charge.MODEL] * 3


PORTAL = Reply(
    403, b"<html><title>Access denied by ACME</title>", headers={"Content-Type": "text/html"}
)


def test_a_middlebox_that_forbids_everything_opens_no_key():
    proxy = Proxy(FakeGemini(a=[PORTAL], b=[PORTAL], c=[PORTAL]))
    for _ in range(10):
        with pytest.raises(UpstreamUnavailable) as caught:
            proxy.ask()
        assert seen(caught.value).status in (502, 503)
    assert {proxy.status(name).status for name in "abc"} == {"active"}
    assert {proxy.status(name).failure_count for name in "abc"} == {0}


def test_what_a_middlebox_said_to_one_key_is_not_charged_to_it_though_another_served():
    proxy = Proxy(FakeGemini(a=[PORTAL], b=[whole()]))
    proxy.ask()
    assert proxy.charges == [Charge.NOBODY, Charge.KEY]
    said = proxy.context.attempts[0].outcome.message
    assert said == "answered 403 not in Google's form: Access denied by ACME"


@pytest.mark.parametrize("stream", [False, True])
def test_a_page_of_a_captive_portal_is_not_charged_to_a_key(stream):
    page = Reply(body=b"<html>Log in</html>", headers={"content-type": "text/html"})
    served = streamed("Hello.") if stream else whole()
    proxy = Proxy(FakeGemini(a=[page], b=[served]))
    assert proxy.ask(stream=stream).finished
    assert proxy.charges == [Charge.NOBODY, Charge.KEY]
    assert proxy.context.attempts[0].outcome.verdict is Verdict.NETWORK


def test_a_way_that_is_silent_is_tried_twice_and_not_with_every_key():
    lost = UpstreamFailed(FailureKind.CONNECT_TIMEOUT, spares_key=True)
    proxy = Proxy(FakeGemini(**{name: [lost] for name in "abcd"}), max_attempts=4)
    with pytest.raises(UpstreamUnavailable) as caught:
        proxy.ask()
    assert seen(caught.value).status == 504
    assert proxy.upstream.keys_used == ["a", "b"]
    assert proxy.charges == [Charge.MODEL] * 2
    slow = UpstreamFailed(FailureKind.FIRST_BYTE_TIMEOUT)
    reached = Proxy(FakeGemini(**{name: [slow] for name in "abcd"}), max_attempts=4)
    with pytest.raises(UpstreamUnavailable):
        reached.ask()
    assert reached.upstream.keys_used == ["a", "b", "c", "d"]


def test_a_machine_out_of_descriptors_is_told_at_once_and_charged_to_nobody():
    proxy = Proxy(FakeGemini(a=[FailureKind.EXHAUSTED], b=[whole()]))
    for _ in range(5):
        with pytest.raises(UpstreamUnavailable) as caught:
            proxy.ask()
        assert (seen(caught.value).status, caught.value.retry_after) == (503, 1)
        assert proxy.charges == [Charge.NOBODY]
        assert proxy.context.outcome == "host"
        proxy.upstream.scripts["b"] = [FailureKind.EXHAUSTED]
    assert proxy.status("a").failure_count == 0
    proxy.upstream.scripts = {"a": [whole()], "b": [whole()]}
    assert proxy.ask().finished


def test_malformed_calls_are_asked_for_once_more_and_charged_to_nobody():
    malformed = Reply(body=b'{"candidates":[{"finishReason":"MALFORMED_FUNCTION_CALL"}]}')
    proxy = Proxy(FakeGemini(**{name: [malformed] for name in "abcd"}))
    with pytest.raises(UpstreamUnavailable) as caught:
        proxy.ask()
    assert seen(caught.value).status == 502
    assert proxy.charges == [Charge.NOBODY] * 2


def test_a_missing_signature_that_is_told_in_a_200_is_the_requests_own():
    told = Reply(
        body=b'{"candidates":[{"finishReason":"MISSING_THOUGHT_SIGNATURE",'
        b'"finishMessage":"no signature, secret-of-a"}]}'
    )
    proxy = Proxy(FakeGemini(a=[told], b=[whole()]))
    with pytest.raises(UpstreamRejected) as caught:
        proxy.ask()
    assert (seen(caught.value).status, caught.value.param) == (400, "messages")
    assert "secret" not in caught.value.message
    assert proxy.upstream.keys_used == ["a"]
    assert proxy.context.outcome == "request"


def test_a_secret_in_the_words_of_a_block_is_scrubbed():
    blocked = Reply(
        body=b'{"promptFeedback":{"blockReason":"SAFETY","blockReasonMessage":"secret-of-a"}}'
    )
    message = Proxy(FakeGemini(a=[blocked])).ask().json["choices"][0]["message"]
    assert message["refusal"] == "Gemini blocked the prompt: SAFETY (…-of-a)"


def test_the_trial_of_a_model_is_over_with_the_first_chunk():
    proxy = Proxy(FakeGemini(a=[OVERLOADED]), max_attempts=1)
    for prompt in ("one", "two", "three"):
        with pytest.raises(UpstreamUnavailable):
            proxy.ask(prompt)
    proxy.now += 1.5

    class Slow(Reply):
        async def stream(self, receive):
            receive(streamed("Hel", finish=None).pieces[0])
            # A trial is under way, and the model has shown that it works.
            self.meanwhile = await proxy.another()
            receive(streamed("lo").pieces[0])

    async def another():
        proxy.upstream.scripts["a"] = [whole()]
        writer = RecordingWriter()
        body = b'{"model":"gemini-2.5-flash","messages":[{"role":"user","content":"Hi"}]}'
        context = RequestContext("s", "/", proxy.now)
        await proxy.serve(body, context, writer)
        return writer.json["choices"][0]["message"]["content"]

    slow = Slow()
    proxy.another = another
    proxy.upstream.scripts["a"] = [slow]
    assert proxy.ask(stream=True).text == "Hello"
    assert slow.meanwhile == "Hello."


def test_with_the_attempts_used_up_the_message_counts_the_keys_truly():
    proxy = Proxy(FakeGemini(**{name: [INVALID_KEY] for name in "abcde"}))
    with pytest.raises(NoHealthyKeys) as caught:
        proxy.ask()
    assert "3 with an open circuit breaker, 2 not tried" in caught.value.message


def test_a_plain_400_that_speaks_of_signatures_is_not_asked_again():
    odd = error(400, "thought_signature is odd", "INVALID_ARGUMENT")
    proxy = Proxy(FakeGemini(a=[odd]))
    with pytest.raises(UpstreamRejected):
        proxy.ask()
    assert len(proxy.upstream.requests) == 1


def test_a_long_answer_is_followed_hop_by_hop():
    first = whole("Once upon", "CONTINUATION", continuationToken="t1")
    proxy = Proxy(FakeGemini(a=[first, whole(" a time.")]))
    writer = proxy.ask(model="gemini-4-argon")
    assert writer.json["choices"][0]["message"]["content"] == "Once upon a time."
    assert writer.json["usage"]["completion_tokens"] == 6
    assert proxy.upstream.body(1)["continuationToken"] == "t1"
    assert proxy.upstream.body(1)["contents"] == proxy.upstream.body(0)["contents"]


@pytest.mark.parametrize("stream", [False, True])
def test_each_hop_counts_against_limits_and_known_quotas(stream):
    hops = [hop("One ", stream=stream), hop("two ", stream=stream)]
    hops.append(hop("three.", "STOP", stream=stream))
    proxy = Proxy(FakeGemini(a=[quota(PER_MINUTE, "1s"), *hops]))
    keys = [replace(key, limits=Limits(rpm=60)) for key in proxy.pool.healthy_keys(NOON)]
    proxy.pool.apply(keys, PoolSettings(), NOON)
    with pytest.raises(QuotaExhausted):
        proxy.ask()
    proxy.now += 70
    proxy.ask(stream=stream)
    used = {row.source: row.used for row in proxy.pool.each_quota(proxy.now)}
    assert used == {"learned": 3, "configured": 3}


def test_a_long_stream_is_followed_hop_by_hop():
    first = Reply(
        pieces=[
            event(
                {
                    "candidates": [
                        {
                            "content": {"role": "model", "parts": [{"text": "Once upon"}]},
                            "finishReason": "CONTINUATION",
                            "continuationToken": "t1",
                        }
                    ]
                }
            )
        ]
    )
    proxy = Proxy(FakeGemini(a=[first, streamed(" a", " time.")]))
    writer = proxy.ask(stream=True, model="gemini-4-argon")
    assert writer.text == "Once upon a time."
    assert writer.events[-1] == "[DONE]"
    assert len(writer.flows) == 2


SIGNATURE_REFUSED = error(
    400,
    "Function call is missing a thought_signature in functionCall parts.",
    "INVALID_ARGUMENT",
)
SIGNED = (
    b'{"model":"gemini-3-flash-preview","messages":[{"role":"user","content":"Hi"},'
    b'{"role":"assistant","tool_calls":[{"id":"c1","type":"function","function":'
    b'{"name":"f","arguments":"{}"},"extra_content":{"google":{"thought_signature":"b2xk"}}}]},'
    b'{"role":"tool","tool_call_id":"c1","content":"1"}]}'
)


def test_a_refused_signature_is_replaced_once_on_the_same_key():
    proxy = Proxy(FakeGemini(a=[SIGNATURE_REFUSED, whole()], b=[whole()]))
    proxy.ask(body=SIGNED)
    assert proxy.upstream.keys_used == ["a", "a"]
    signatures = [
        part["thoughtSignature"]
        for index in (0, 1)
        for content in proxy.upstream.body(index)["contents"]
        for part in content["parts"]
        if "functionCall" in part
    ]
    assert signatures == ["b2xk", "skip_thought_signature_validator"]
    # What a thread has translated, a thread translates again.
    assert proxy.in_threads == 1


def test_a_refused_dummy_signature_is_not_replaced_again():
    proxy = Proxy(FakeGemini(a=[SIGNATURE_REFUSED, SIGNATURE_REFUSED, whole()]), max_attempts=5)
    with pytest.raises(UpstreamRejected):
        proxy.ask(body=SIGNED)
    assert len(proxy.upstream.keys_used) == 2


def test_a_client_that_leaves_costs_no_key_anything():
    class Leaves(Exception):
        pass

    class Gone(FakeGemini):
        async def send(self, request):
            raise Leaves

    proxy = Proxy(Gone(a=[whole()]))
    with pytest.raises(Leaves):
        proxy.ask()
    assert proxy.context.attempts[0].outcome.verdict is Verdict.CLIENT_GONE
    assert proxy.charges == [Charge.NOBODY]
    assert proxy.status("a").failure_count == 0


def test_aliases_and_the_list_of_allowed_models():
    proxy = Proxy(
        FakeGemini(a=[whole()]),
        aliases={"gpt-4o": "gemini-2.5-pro"},
        allowed_models=frozenset({"gpt-4o"}),
    )
    assert proxy.ask(model="gpt-4o").json["model"] == "gpt-4o"
    assert b"gemini-2.5-pro:" in proxy.upstream.requests[0][1].path
    with pytest.raises(ModelNotFound):
        proxy.ask(model="gemini-2.5-flash")


def test_upstream_messages_are_scrubbed_before_anybody_sees_them():
    leaky = error(400, "the key secret-of-a is odd", "INVALID_ARGUMENT")
    proxy = Proxy(FakeGemini(a=[leaky]))
    with pytest.raises(UpstreamRejected) as caught:
        proxy.ask()
    assert "secret" not in caught.value.message


class TestSkippedKeys:
    """What the explanation of a request is made of."""

    @staticmethod
    def reasons(skipped_keys):
        return [(seen.key, seen.reason.value) for seen in skipped_keys]

    def of_attempts(self, proxy):
        return [self.reasons(attempt.skipped_keys) for attempt in proxy.context.attempts]

    def test_nobody_where_all_keys_are_well(self):
        proxy = Proxy(FakeGemini(a=[whole()], b=[whole()]))
        proxy.ask()
        assert self.of_attempts(proxy) == [[]]
        assert proxy.context.refused is None

    def test_each_attempt_knows_who_was_not_eligible(self):
        proxy = Proxy(
            FakeGemini(off=[whole()], a=[quota(PER_MINUTE, "30s")], b=[OVERLOADED], c=[whole()])
        )
        proxy.pool.disable("off")
        proxy.ask()
        off, a, b = ("off", "disabled"), ("a", "cooling_down"), ("b", "already_tried")
        assert proxy.upstream.keys_used == ["a", "b", "c"]
        assert self.of_attempts(proxy) == [[off], [off, a], [off, a, b]]
        assert proxy.context.attempts[1].skipped_keys[1].until == date(NOON + 30)
        assert proxy.context.refused is None

    def test_a_request_for_which_no_key_was_left_knows_why(self):
        proxy = Proxy(FakeGemini(a=[quota(PER_MINUTE, "30s")], b=[INVALID_KEY]))
        with pytest.raises(QuotaExhausted):
            proxy.ask()
        assert len(proxy.context.attempts) == 2
        assert proxy.context.refused.outcome == "rate_limit_exceeded"
        assert self.reasons(proxy.context.refused.skipped_keys) == [
            ("a", "cooling_down"),
            ("b", "circuit_open"),
        ]
        with pytest.raises(QuotaExhausted):
            proxy.ask()
        assert proxy.context.attempts == []
        assert self.reasons(proxy.context.refused.skipped_keys) == [
            ("a", "cooling_down"),
            ("b", "circuit_open"),
        ]

    def test_a_request_that_used_its_attempts_up_was_not_refused(self):
        proxy = Proxy(FakeGemini(**{name: [OVERLOADED] for name in "abcd"}), max_attempts=2)
        with pytest.raises(UpstreamUnavailable):
            proxy.ask()
        assert self.of_attempts(proxy) == [[], [("a", "already_tried")]]
        assert proxy.context.refused is None

    def test_neither_was_one_that_the_same_key_served_in_the_end(self):
        proxy = Proxy(FakeGemini(off=[whole()], a=[OVERLOADED, whole()]))
        proxy.pool.disable("off")
        proxy.ask()
        assert self.of_attempts(proxy) == [[("off", "disabled")]] * 2
        assert proxy.context.refused is None


# --- what a client should know of another try -----------------------------------------------------


def told(error):
    return seen(error).headers


def test_nobody_is_asked_to_try_again_while_all_keys_are_bad():
    proxy = Proxy(FakeGemini(a=[INVALID_KEY], b=[INVALID_KEY]))
    for _ in range(2):
        with pytest.raises(NoHealthyKeys) as caught:
            proxy.ask()
        assert told(caught.value) == {"Retry-After": "300", "x-should-retry": "false"}


@pytest.mark.parametrize("recovery_time", [1, 20, 60])
def test_nor_while_they_are_tried_again_soon(recovery_time):
    proxy = Proxy(FakeGemini(a=[INVALID_KEY], b=[INVALID_KEY]))
    settings = PoolSettings(recovery_time=recovery_time)
    proxy.pool.apply(list(proxy.pool.healthy_keys(NOON)), settings, NOON)
    for _ in range(2):
        with pytest.raises(NoHealthyKeys) as caught:
            proxy.ask()
        assert told(caught.value) == {
            "Retry-After": str(recovery_time),
            "x-should-retry": "false",
        }


def test_a_retry_that_cannot_help_is_not_asked_for_however_short_the_wait_is():
    proxy = Proxy(FakeGemini(a=[whole()]))
    disabled = [replace(key, enabled=False) for key in proxy.pool.healthy_keys(NOON)]
    proxy.pool.apply(disabled, PoolSettings(cooldown=5), NOON)
    with pytest.raises(NoHealthyKeys) as caught:
        proxy.ask()
    assert told(caught.value) == {"Retry-After": "5", "x-should-retry": "false"}


def test_a_spend_limit_is_not_to_be_asked_again_at_once():
    spent = error(429, "You have reached your spend limit for this project.", "RESOURCE_EXHAUSTED")
    proxy = Proxy(FakeGemini(a=[spent]))
    with pytest.raises(QuotaExhausted) as caught:
        proxy.ask()
    assert told(caught.value) == {"Retry-After": "600", "x-should-retry": "false"}


def test_a_short_wait_for_quota_is_left_to_the_client():
    proxy = Proxy(FakeGemini(a=[quota(PER_MINUTE, "30s")]))
    with pytest.raises(QuotaExhausted) as caught:
        proxy.ask()
    assert told(caught.value) == {"Retry-After": "30"}


# --- long answers whose hops fail -----------------------------------------------------------------


def hop(text, finish="CONTINUATION", *, stream, prompt=5, written=10):
    """An answer that goes on, as a whole or as a stream of one event for each word."""
    counts = {"promptTokenCount": prompt, "candidatesTokenCount": written}
    more = {"continuationToken": f"after {text}"} if finish == "CONTINUATION" else {}
    made = answer(text, finish, **more) | {"usageMetadata": counts}
    if not stream:
        return Reply(body=json.dumps(made).encode())
    first, _, rest = text.partition(" ")
    parts = [answer(first, None), answer(f" {rest}", finish, **more) | {"usageMetadata": counts}]
    return Reply(pieces=list(map(event, parts)))


def came(writer, *, stream):
    """The text and the finish reason that the client got."""
    if not stream:
        choice = writer.json["choices"][0]
        return choice["message"]["content"], choice["finish_reason"]
    *chunks, done = writer.events
    assert done == "[DONE]"
    (reason,) = {c["choices"][0]["finish_reason"] for c in chunks if c["choices"]} - {None}
    return writer.text, reason


def tokens_sent(proxy):
    return [
        proxy.upstream.body(n).get("continuationToken") for n in range(len(proxy.upstream.requests))
    ]


HOP_FAILURES = {
    "503": OVERLOADED,
    "500": error(500, "An internal error has occurred", "INTERNAL"),
    "reset": FailureKind.RESET,
    "silent": FailureKind.FIRST_BYTE_TIMEOUT,
    "no answer": Reply(body=b"{}", pieces=[event({})]),
    "malformed": Reply(
        body=json.dumps({"candidates": [{"finishReason": "MALFORMED_RESPONSE"}]}).encode(),
        pieces=[event({"candidates": [{"finishReason": "MALFORMED_RESPONSE"}]})],
    ),
    "an error event": Reply(
        body=json.dumps({"error": {"code": 503, "message": "x"}}).encode(),
        pieces=[event({"error": {"code": 503, "message": "x", "status": "UNAVAILABLE"}})],
    ),
    "broken": Reply(breaks=FailureKind.RESET, pieces=[b""]),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("failure", HOP_FAILURES)
def test_a_failed_hop_is_asked_for_again_and_not_the_whole_answer(failure, stream):
    last = hop("two.", "STOP", stream=stream, prompt=15, written=2)
    proxy = Proxy(FakeGemini(a=[hop("One ", stream=stream), HOP_FAILURES[failure], last]))
    writer = proxy.ask(stream=stream, model="gemini-4-argon", more=b'"max_tokens":9')
    assert came(writer, stream=stream) == ("One two." + " " * stream, "stop")
    assert tokens_sent(proxy) == [None, "after One ", "after One "]
    assert proxy.slept == [0.1]
    usage = proxy.context.usage
    assert (usage.input, usage.output, usage.total) == (5, 12, 17)
    assert proxy.context.outcome == "success"
    assert proxy.charges == [Charge.NOBODY, Charge.KEY]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("failure", [OVERLOADED, quota(PER_MINUTE, "30s"), INVALID_KEY])
def test_another_key_may_serve_a_later_hop(failure, stream):
    first, last = hop("One", stream=stream), hop("two.", "STOP", stream=stream)
    proxy = Proxy(FakeGemini(a=[first, failure], b=[last]))
    proxy.pool.apply(
        [
            replace(key, weight=100 if key.name == "a" else 1)
            for key in proxy.pool.healthy_keys(NOON)
        ],
        PoolSettings(),
        NOON,
    )
    assert came(proxy.ask(stream=stream), stream=stream)[1] == "stop"
    assert proxy.upstream.keys_used == ["a", "a", "b"]
    assert tokens_sent(proxy) == [None, "after One", "after One"]
    assert proxy.charges == [Charge.KEY, Charge.KEY]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "failure", [OVERLOADED, quota(PER_DAY), error(400, "Token expired.", "INVALID_ARGUMENT")]
)
def test_a_hop_that_fails_for_good_ends_the_answer_at_its_length(failure, stream):
    hops = [hop("One ", stream=stream), hop("two ", stream=stream), failure]
    proxy = Proxy(FakeGemini(a=hops))
    text, reason = came(proxy.ask(stream=stream), stream=stream)
    assert text.split() == ["One", "two"]
    assert reason == "length"
    assert proxy.context.usage.output == 20
    assert proxy.context.outcome not in {"success", "blocked"}
    assert proxy.context.attempts[-1].outcome.message
    # What failed is the hop, three times where that could help; and the model was not out of order.
    assert len(proxy.upstream.requests) == (5 if failure is OVERLOADED else 3)
    assert proxy.dispatcher._models.delay("gemini-2.5-flash", proxy.now) == 0


def test_a_hop_that_breaks_off_within_ends_the_stream_at_its_length():
    """What the client has of it cannot be sent twice."""
    broken = Reply(pieces=[event(answer("tw", None))], breaks=FailureKind.RESET)
    proxy = Proxy(FakeGemini(a=[hop("One", stream=True), broken]))
    text, reason = came(proxy.ask(stream=True), stream=True)
    assert (text.split(), reason) == (["One", "tw"], "length")
    assert proxy.context.outcome == "broken_off"
    assert proxy.context.attempts[-1].outcome.reason == "reset"


def test_a_call_that_breaks_off_in_a_further_hop_is_not_given():
    call = {"functionCall": {"name": "f", "willContinue": True}}
    begun = answer("", None)
    begun["candidates"][0]["content"]["parts"] = [{"text": "so"}, call]
    broken = Reply(pieces=[event(begun)], breaks=FailureKind.RESET)
    proxy = Proxy(FakeGemini(a=[hop("One", stream=True), broken]))
    writer = proxy.ask(stream=True)
    assert came(writer, stream=True)[1] == "length"
    assert b"tool_calls" not in writer.sent


@pytest.mark.parametrize("stream", [False, True])
def test_each_hop_has_its_own_deadline_and_its_own_attempts(stream):
    first, last = hop("One", stream=stream), hop("two", "STOP", stream=stream)
    proxy = Proxy(
        FakeGemini(a=[OVERLOADED, OVERLOADED, first, OVERLOADED, OVERLOADED, last]),
        request_timeout=100.0,
    )
    send = proxy.upstream.send

    async def slow(request):
        proxy.now += 30.0
        return await send(request)

    proxy.upstream.send = slow
    assert came(proxy.ask(stream=stream), stream=stream)[1] == "stop"
    deadlines = [request.deadline - NOON for _, request in proxy.upstream.requests]
    assert deadlines[:3] == [100.0] * 3
    # Three times 30 seconds, and two waits before the key was used again.
    assert deadlines[3:] == pytest.approx([190.3] * 3)


@pytest.mark.parametrize("stream", [False, True])
def test_a_block_in_a_further_hop_is_told(stream):
    blocked = hop("two", "SAFETY", stream=stream)
    proxy = Proxy(FakeGemini(a=[hop("One", stream=stream), blocked]))
    assert came(proxy.ask(stream=stream), stream=stream)[1] == "content_filter"


@pytest.mark.parametrize("stream", [False, True])
def test_nothing_of_a_long_answer_waits_for_the_garbage_collector(stream):
    hops = [hop("One", stream=stream), OVERLOADED, hop("two", "STOP", stream=stream)]
    proxy = Proxy(FakeGemini(a=hops))
    gc.collect()
    gc.disable()
    try:
        left = weakref.ref(proxy.ask(stream=stream))
    finally:
        gc.enable()
    assert left() is None


# --- log probabilities that a model refuses -------------------------------------------------------

LOGPROBS_REFUSED = (
    "Logprobs is not enabled for models/gemini-3-flash",
    "Logprobs is not enabled for this model",
    "LogProbs is not supported in streaming mode",
)
ASKS_FOR_LOGPROBS = b'"logprobs":true,"top_logprobs":5'


def asks_for_logprobs(proxy, index):
    config = proxy.upstream.body(index).get("generationConfig", {})
    return "responseLogprobs" in config or "logprobs" in config


@pytest.mark.parametrize("attempts", [1, 3])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("message", LOGPROBS_REFUSED)
def test_refused_log_probabilities_are_asked_for_once(message, stream, attempts):
    good = streamed("Hel", "lo.") if stream else whole("Hello.")
    refusal = error(400, message, "INVALID_ARGUMENT")
    proxy = Proxy(FakeGemini(a=[refusal, good, good]), max_attempts=attempts)
    writer = proxy.ask(stream=stream, more=ASKS_FOR_LOGPROBS)
    assert came(writer, stream=stream) == ("Hello.", "stop")
    chunks = writer.events[:-1] if stream else [writer.json]
    assert {repr(c["logprobs"]) for chunk in chunks for c in chunk["choices"]} == {"None"}
    assert [asks_for_logprobs(proxy, n) for n in (0, 1)] == [True, False]
    assert proxy.charges == [Charge.NOBODY, Charge.KEY]
    # The model is known to refuse them now.
    proxy.ask(stream=stream, more=ASKS_FOR_LOGPROBS)
    assert not asks_for_logprobs(proxy, 2)
    assert len(proxy.context.attempts) == 1


def test_a_refusal_of_log_probabilities_is_of_one_model_and_one_way_and_for_an_hour():
    refusal = error(400, LOGPROBS_REFUSED[2], "INVALID_ARGUMENT")
    proxy = Proxy(FakeGemini(a=[refusal, streamed("Hello."), whole("Hello.")]))
    proxy.ask(stream=True, more=ASKS_FOR_LOGPROBS)
    for model in ("gemini-2.5-flash", "gemini-2.5-pro"):
        proxy.ask(model=model, more=ASKS_FOR_LOGPROBS)
        assert asks_for_logprobs(proxy, -1)
    proxy.upstream.scripts["a"] = [streamed("Hello.")]
    proxy.ask(stream=True, more=ASKS_FOR_LOGPROBS)
    assert not asks_for_logprobs(proxy, -1)
    proxy.now += 3601
    proxy.ask(stream=True, more=ASKS_FOR_LOGPROBS)
    assert asks_for_logprobs(proxy, -1)


def test_a_model_that_gives_log_probabilities_keeps_them():
    given = {"chosenCandidates": [{"token": "Hello.", "logProbability": -0.5}]}
    proxy = Proxy(FakeGemini(a=[whole("Hello.", logprobsResult=given)]))
    writer = proxy.ask(more=ASKS_FOR_LOGPROBS)
    assert writer.json["choices"][0]["logprobs"]["content"][0]["token"] == "Hello."


def test_a_refusal_that_only_mentions_log_probabilities_is_the_clients():
    refusal = error(400, "Function logprobs is declared twice.", "INVALID_ARGUMENT")
    proxy = Proxy(FakeGemini(a=[refusal]))
    for more, asked in ((b'"seed":1', 1), (ASKS_FOR_LOGPROBS, 3)):
        with pytest.raises(UpstreamRejected):
            proxy.ask(more=more)
        assert len(proxy.upstream.requests) == asked
    # Nothing says that the model refuses them.
    proxy.upstream.scripts["a"] = [whole("Hello.")]
    proxy.ask(more=ASKS_FOR_LOGPROBS)
    assert asks_for_logprobs(proxy, -1)


def test_other_failures_after_the_refusal_are_tried_again():
    refusal = error(400, LOGPROBS_REFUSED[0], "INVALID_ARGUMENT")
    proxy = Proxy(FakeGemini(a=[refusal, OVERLOADED], b=[whole("Hello.")]))
    proxy.pool.apply(
        [
            replace(key, weight=100 if key.name == "a" else 1)
            for key in proxy.pool.healthy_keys(NOON)
        ],
        PoolSettings(),
        NOON,
    )
    assert came(proxy.ask(more=ASKS_FOR_LOGPROBS), stream=False) == ("Hello.", "stop")
    assert [asks_for_logprobs(proxy, n) for n in range(3)] == [True, False, False]


# --- what is reported meanwhile -------------------------------------------------------------------


class Told(RequestListener):
    def __init__(self):
        self.heard = []

    def attempt_started(self, context):
        self.heard.append(f"try {context.key_name}")

    def attempt_ended(self, context):
        self.heard.append(context.attempts[-1].outcome.verdict.value)

    def first_byte(self, context):
        assert context.first_byte is not None
        self.heard.append("first byte")


@pytest.mark.parametrize("stream", [False, True])
def test_listeners_hear_of_each_attempt_and_of_the_first_byte(stream):
    told = Told()
    served = streamed("Hello.") if stream else whole("Hello.")
    Proxy(FakeGemini(a=[OVERLOADED], b=[served]), events=told).ask(stream=stream)
    assert told.heard == ["try a", "service", "try b", "first byte", "success"]


def test_listeners_hear_of_the_jobs_of_one_request_and_of_one_first_byte():
    class Models(Told):
        def attempt_started(self, context):
            super().attempt_started(context)
            models.add((context.id, context.model))

    told, models = Models(), set()
    vectors = json.dumps({"embeddings": [{"values": [1.0]}] * 100}).encode()
    proxy = Proxy(FakeGemini(a=[Reply(body=vectors)] * 2), events=told)
    model = "gemini-embedding-001"
    body = json.dumps({"model": model, "input": ["text"] * 200}).encode()
    context = RequestContext("r", "/v1/embeddings", proxy.now)
    batches = EmbeddingsEndpoint(ModelNames({}, ())).decode(body, None, context, brief=True)
    asyncio.run(proxy.dispatcher.dispatch_all(batches, context, RecordingWriter()))
    assert told.heard == [*["try a", "success"] * 2, "first byte"]
    assert models == {("r", model)}


def test_a_key_that_is_divided_between_two_pieces_of_a_file_is_masked():
    class Learns:
        def learn(self, name, project, description=b""):
            pass

    (endpoint, _) = download_endpoints(Learns())
    proxy = Proxy(FakeGemini(alpha=[Reply(pieces=[b"<secret-of", b"-al", b"pha> secret-of-"])]))
    context = RequestContext("r", "/v1/files", NOON)
    head = FakeHead({}, method=b"GET", parameters={"version": "v1", "file": "x"})
    writer = RecordingWriter()
    job = endpoint.decode(b"", head, context, brief=True)
    asyncio.run(proxy.dispatcher.dispatch(job, context, writer))
    assert (writer.sent, writer.finished) == (b"<***************> secret-of-", True)
