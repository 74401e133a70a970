"""The list of models: paged, kept for a while, and still there while the upstream is not."""

import asyncio
import json

import pytest
from fakes.openai_errors import seen
from fakes.upstreams import PER_DAY, PER_MINUTE, FakeGemini, Reply, error, error_info, quota

from gemproxy.core.catalogue import MAX_ATTEMPTS, MAX_PAGES, ModelCatalogue
from gemproxy.core.context import RequestContext
from gemproxy.core.errors import (
    FailureKind,
    NoHealthyKeys,
    ProxyError,
    UpstreamRejected,
    UpstreamUnavailable,
)
from gemproxy.pool.key import Key
from gemproxy.pool.outcome import Outcome, Verdict
from gemproxy.pool.pool import KeyPool, PoolSettings
from gemproxy.providers.gemini.provider import GeminiProvider
from gemproxy.secret import Secret

NOON = 1_790_000_000.0
OVERLOADED = error(503, "The service is overloaded.", "UNAVAILABLE")
INVALID_KEY = error(400, "API key not valid.", "INVALID_ARGUMENT", [error_info("API_KEY_INVALID")])


def page(*names, more=None):
    models = [
        {"name": f"models/{name}", "supportedGenerationMethods": ["generateContent"]}
        for name in names
    ]
    body = {"models": models, **({"nextPageToken": more} if more else {})}
    return Reply(body=json.dumps(body).encode())


class Stage:
    def __init__(self, enabled=True, **scripts):
        self.upstream = FakeGemini(**scripts)
        self.now = NOON
        keys = [
            Key(name, Secret(f"secret-of-{name}"), project=name, enabled=enabled)
            for name in scripts
        ]
        self.pool = KeyPool(keys, PoolSettings())
        self.catalogue = ModelCatalogue(
            GeminiProvider(),
            self.pool,
            self.upstream,
            cache_seconds=300.0,
            request_timeout=60.0,
            seconds=lambda: self.now,
            scrub=lambda text: text.replace("secret-of-", "…"),
        )
        self.contexts = []

    def names(self):
        context = RequestContext("req_1", "/v1/models", self.now)
        self.contexts.append(context)
        return [model.id for model in asyncio.run(self.catalogue.models(context))]

    @property
    def paths(self):
        return [request.path.decode() for _, request in self.upstream.requests]


def test_all_pages_are_read_with_one_key_and_in_their_order():
    stage = Stage(
        a=[page("m1", "m2", more="t/2 &=?"), page("m3", more="t3"), page("m4")], b=[page()]
    )
    assert stage.names() == ["m1", "m2", "m3", "m4"]
    assert stage.upstream.keys_used == ["a", "a", "a"]
    assert stage.paths == [
        "/v1beta/models?pageSize=1000",
        "/v1beta/models?pageSize=1000&pageToken=t%2F2%20%26%3D%3F",
        "/v1beta/models?pageSize=1000&pageToken=t3",
    ]
    assert stage.upstream.requests[0][1].deadline == NOON + 60.0


def test_a_list_without_end_is_read_so_far_and_no_further():
    stage = Stage(a=[page("m", more="again")])
    assert len(stage.names()) == MAX_PAGES


def test_the_list_is_kept_for_a_while():
    stage = Stage(a=[page("old"), page("new")])
    assert stage.names() == ["old"]
    stage.now += 299
    assert stage.names() == ["old"]
    assert len(stage.paths) == 1
    stage.now += 1
    assert stage.names() == ["new"]


def test_the_last_list_stands_while_the_upstream_cannot_be_asked():
    stage = Stage(a=[page("m"), FailureKind.REFUSED, page("new")])
    stage.names()
    stage.now += 300
    assert stage.names() == ["m"]
    assert stage.names() == ["new"]


@pytest.mark.parametrize(
    "failure",
    [OVERLOADED, INVALID_KEY, FailureKind.RESET, Reply(body=b"<html>"), Reply(body=b"[]")],
)
def test_another_key_is_asked_where_one_fails(failure):
    stage = Stage(a=[failure], b=[page("m")])
    assert stage.names() == ["m"]
    assert stage.upstream.keys_used == ["a", "b"]
    assert len(stage.contexts[0].attempts) == 2


def test_what_listing_brings_says_nothing_of_a_key():
    stage = Stage(a=[INVALID_KEY], b=[page("m")])
    for _ in range(5):
        stage.names()
        stage.now += 300
    assert [key.name for key in stage.pool.healthy_keys(stage.now)] == ["a", "b"]


def test_a_large_pool_is_not_walked_through():
    stage = Stage(**{f"k{n}": [OVERLOADED] for n in range(10)})
    with pytest.raises(UpstreamUnavailable) as refused:
        stage.names()
    assert seen(refused.value).status == 503
    assert len(stage.upstream.requests) == MAX_ATTEMPTS


def test_a_refusal_that_is_about_the_request_is_final():
    stage = Stage(a=[error(400, "Bad page size.", "INVALID_ARGUMENT")], b=[page("m")])
    with pytest.raises(UpstreamRejected):
        stage.names()
    assert stage.upstream.keys_used == ["a"]


def test_a_list_that_is_forbidden_to_every_key_is_no_fault_of_whoever_asks():
    forbidden = error(403, "The caller does not have permission", "PERMISSION_DENIED")
    stage = Stage(a=[forbidden], b=[forbidden])
    with pytest.raises(NoHealthyKeys):
        stage.names()
    assert stage.upstream.keys_used == ["a", "b"]


def test_without_a_sound_key_nobody_is_asked():
    stage = Stage(enabled=False, a=[page("m")])
    with pytest.raises(NoHealthyKeys):
        stage.names()
    assert stage.upstream.requests == []


def test_an_upstream_that_echoes_a_key_is_not_quoted():
    stage = Stage(a=[error(403, "Key secret-of-a is suspended.", "PERMISSION_DENIED")])
    with pytest.raises(ProxyError) as refused:
        stage.names()
    assert "secret-of-a" not in refused.value.message
    (attempt,) = stage.contexts[0].attempts
    assert "secret-of-a" not in attempt.outcome.message
    assert attempt.outcome.verdict is not Verdict.SUCCESS


# --- what whoever asks is told while nothing was ever fetched -------------------------------------


def told(stage):
    with pytest.raises(ProxyError) as refused:
        stage.names()
    error = refused.value
    answer = seen(error)
    return answer.code, answer.message, answer.headers


REJECTED = {"Retry-After": "300", "x-should-retry": "false"}


def test_invalid_keys_are_told_as_a_chat_tells_them():
    assert told(Stage(a=[INVALID_KEY], b=[INVALID_KEY])) == (
        "no_healthy_keys",
        "No API key can serve this request: 2 with an open circuit breaker.",
        REJECTED,
    )


def test_invalid_keys_that_are_tried_again_soon_are_told_so():
    stage = Stage(a=[INVALID_KEY], b=[INVALID_KEY])
    stage.pool.apply(list(stage.pool.healthy_keys(NOON)), PoolSettings(recovery_time=20), NOON)
    _, _, names = told(stage)
    assert names == {"Retry-After": "20", "x-should-retry": "false"}
    lease = stage.pool.acquire("gemini", NOON)
    stage.pool.record(lease, Outcome(Verdict.KEY, 400, "invalid"), NOON)
    lease = stage.pool.acquire("gemini", NOON)
    stage.pool.record(lease, Outcome(Verdict.KEY, 400, "invalid"), NOON)
    stage.now += 5
    _, _, names = told(stage)
    assert names == {"Retry-After": "15", "x-should-retry": "false"}


def test_keys_that_a_chat_found_invalid_are_told_with_the_time_that_is_left():
    stage = Stage(a=[page("m")])
    lease = stage.pool.acquire("gemini", NOON)
    stage.pool.record(lease, Outcome(Verdict.KEY, 400, "invalid"), NOON)
    stage.now += 40
    code, message, names = told(stage)
    assert (code, names["Retry-After"]) == ("no_healthy_keys", "260")
    assert message == "No API key can serve this request: 1 with an open circuit breaker."
    assert stage.upstream.requests == []


def test_a_rate_limit_is_told_without_the_words_of_google():
    stage = Stage(a=[quota(PER_MINUTE, "42s")], b=[quota(PER_MINUTE, "30s")])
    assert told(stage) == (
        "rate_limit_exceeded",
        "The rate limit for the list of models is reached on every key.",
        {"Retry-After": "30"},
    )


def test_a_rate_limit_that_names_no_delay_is_told_with_the_pools():
    bare = error(429, "Resource has been exhausted (e.g. check quota).", "RESOURCE_EXHAUSTED")
    code, message, names = told(Stage(a=[bare]))
    assert (code, names) == ("rate_limit_exceeded", {"Retry-After": "30"})
    assert "check quota" not in message


def test_a_spend_limit_is_not_asked_again_at_once():
    spent = error(429, "You have reached your spend limit.", "RESOURCE_EXHAUSTED")
    code, _, names = told(Stage(a=[spent]))
    assert (code, names) == (
        "rate_limit_exceeded",
        {"Retry-After": "600", "x-should-retry": "false"},
    )


def test_a_days_quota_is_told_as_such():
    code, message, names = told(Stage(a=[quota(PER_DAY, "37s")]))
    assert code == "insufficient_quota"
    assert message == "The daily quota for the list of models is used up on every key."
    assert names["x-should-retry"] == "false"
    assert int(names["Retry-After"]) > 120


def test_a_key_in_quota_that_comes_back_decides_before_one_that_does_not():
    stage = Stage(a=[INVALID_KEY], b=[quota(PER_MINUTE, "30s")])
    code, _, names = told(stage)
    assert (code, names["Retry-After"]) == ("rate_limit_exceeded", "30")


def test_keys_that_were_not_asked_are_told_too():
    stage = Stage(**{f"k{n}": [INVALID_KEY] for n in range(MAX_ATTEMPTS + 2)})
    code, message, names = told(stage)
    assert (code, names) == ("no_healthy_keys", {"Retry-After": "1"})
    assert "2 not tried" in message


def test_disabled_keys_are_told_as_a_chat_tells_them():
    assert told(Stage(enabled=False, a=[page("m")])) == (
        "no_healthy_keys",
        "No API key can serve this request: 1 disabled.",
        {"Retry-After": "30", "x-should-retry": "false"},
    )
