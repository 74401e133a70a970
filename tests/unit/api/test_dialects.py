"""The dialect of a request, and how each dialect encodes errors."""

import json

import pytest

from gemproxy.api.anthropic.errors import ANTHROPIC
from gemproxy.api.dialects import dialect_of
from gemproxy.api.errors import STATUSES
from gemproxy.api.gemini.errors import GEMINI, GEMINI_ARRAY
from gemproxy.api.offered_dialects import DIALECTS
from gemproxy.api.openai.errors import OPENAI
from gemproxy.core.errors import (
    Draining,
    InvalidRequest,
    MethodNotAllowed,
    MisdirectedRequest,
    ModelNotFound,
    NoHealthyKeys,
    QuotaExhausted,
    RequestTooLarge,
    Unauthorized,
    UnknownURL,
    UpstreamTrouble,
    UpstreamUnavailable,
)

BEARER = {b"authorization": b"Bearer t"}
OLD_ANTHROPIC = {b"x-api-key": b"t"}
ANTHROPIC_SDK = {**BEARER, b"anthropic-version": b"2026-10-21"}
GENAI = {b"x-goog-api-key": b"t", b"x-goog-api-client": b"google-genai-sdk/3.6.1"}
GEMINI_CLI = {**GENAI, **BEARER}


@pytest.mark.parametrize(
    ("target", "headers", "dialect"),
    [
        # The path decides, whatever the headers say.
        ("/v1/chat/completions", GENAI, OPENAI),
        ("/v1/chat/completions?key=t", {}, OPENAI),
        ("/v1/responses/resp_1/input_items", ANTHROPIC_SDK, OPENAI),
        ("/v1/embeddings", OLD_ANTHROPIC, OPENAI),
        ("/v1/messages", BEARER, ANTHROPIC),
        ("/v1/messages?beta=true", GENAI, ANTHROPIC),
        ("/v1/messages/count_tokens", {}, ANTHROPIC),
        ("/v1/messages/batches", BEARER, ANTHROPIC),
        ("/v1beta/models", BEARER, GEMINI),
        ("/v1alpha/anything", ANTHROPIC_SDK, GEMINI),
        ("/v1/models/gemini-x:generateContent", BEARER, GEMINI),
        ("/v1/models/models%2Fgemini-x%3AcountTokens", {}, GEMINI),
        ("/v1/models/gemini-x:streamGenerateContent?alt=sse", {}, GEMINI),
        ("/v1/models/gemini-x:streamGenerateContent?alt=sse&key=t", {}, GEMINI),
        ("/v1/models/gemini-x:streamGenerateContent", {}, GEMINI_ARRAY),
        ("/v1beta/models/gemini-x:streamGenerateContent?key=t", BEARER, GEMINI_ARRAY),
        ("/v1beta/models/gemini-x:streamGenerateContent?%61lt=sse", BEARER, GEMINI),
        ("/v1beta/models/gemini-x:streamGenerateContent?alt=%73se", BEARER, GEMINI),
        ("/v1beta/models/gemini-x:stream%47enerateContent", BEARER, GEMINI_ARRAY),
        ("/v1/models?%6Bey=t", {}, GEMINI),
        # A system parameter, which is not passed on.
        ("/v1beta/models/gemini-x:streamGenerateContent?$alt=sse", BEARER, GEMINI_ARRAY),
        ("/v1/files/abc:download?alt=media", OLD_ANTHROPIC, GEMINI),
        ("/v1/batches/abc:cancel", BEARER, GEMINI),
        ("/v1/cachedContents", BEARER, GEMINI),
        ("/upload/v1/files", BEARER, GEMINI),
        ("/download/v1beta/files/x:download", {}, GEMINI),
        ("/ws/google.ai.generativelanguage.v1.GenerativeService.Bidi", {}, GEMINI),
        ("/v1beta/openai/chat/completions", BEARER, OPENAI),
        # A colon alone is no method of Gemini's.
        ("/v1/models/ft:gpt-4o:org::id", BEARER, OPENAI),
        # The headers decide on paths of several dialects.
        ("/v1/models", BEARER, OPENAI),
        ("/v1/models", {}, OPENAI),
        ("/v1/models?limit=1000", ANTHROPIC_SDK, ANTHROPIC),
        ("/v1/models", OLD_ANTHROPIC, ANTHROPIC),
        ("/v1/models?pageSize=1", GENAI, GEMINI),
        ("/v1/models", GEMINI_CLI, GEMINI),
        ("/v1/models", {**OLD_ANTHROPIC, **GENAI}, GEMINI),
        ("/v1/models?key=t", {}, GEMINI),
        ("/v1/models?pageSize=1&key=t", BEARER, GEMINI),
        ("/v1/models?monkey=t", {}, OPENAI),
        ("/v1/files/file-1", GENAI, GEMINI),
        ("/v1/files/file-1/content", BEARER, OPENAI),
        ("/v1/batches", ANTHROPIC_SDK, ANTHROPIC),
        ("/v1/agents", BEARER, GEMINI),
        ("/v1/webhooks/w", {}, GEMINI),
        ("/v1/agents", ANTHROPIC_SDK, ANTHROPIC),
        ("/v1/environments/e", OLD_ANTHROPIC, ANTHROPIC),
        ("/v1/nothing", GENAI, GEMINI),
        ("/v1/nothing", ANTHROPIC_SDK, ANTHROPIC),
        ("/", {}, OPENAI),
        ("/v1", GENAI, GEMINI),
        ("/elsewhere?key=t", GENAI, OPENAI),
        ("/api/hello", ANTHROPIC_SDK, OPENAI),
        ("*", {}, OPENAI),
        ("", {}, OPENAI),
        ("/v1/%ff:generateContent", {}, GEMINI),
        # Pages of this program itself.
        ("/admin/keys", GENAI, OPENAI),
        ("/livez", ANTHROPIC_SDK, OPENAI),
    ],
)
def test_the_dialect_of_a_request(target, headers, dialect):
    assert DIALECTS.of(target.encode(), headers) is dialect


def test_a_long_path_is_told_like_a_short_one():
    path = b"/v1beta/models/" + b"x" * 5000
    assert dialect_of(path, b"", {}) == GEMINI.name


def told(dialect, error):
    answer = dialect.answer(error, "req_1")
    return answer.status, json.loads(answer.body)


#: Status, Google's status, Anthropic's status if it is another one, Anthropic's type.
FORMS = [
    (InvalidRequest("no", param="a.b"), 400, "INVALID_ARGUMENT", 400, "invalid_request_error"),
    (Unauthorized("no"), 401, "UNAUTHENTICATED", 401, "authentication_error"),
    (ModelNotFound("no"), 404, "NOT_FOUND", 404, "not_found_error"),
    (UnknownURL("no"), 404, "NOT_FOUND", 404, "not_found_error"),
    (MethodNotAllowed("no", ("GET",)), 405, "UNIMPLEMENTED", 405, "invalid_request_error"),
    (RequestTooLarge("no"), 413, "INVALID_ARGUMENT", 413, "request_too_large"),
    (MisdirectedRequest("no"), 421, "INVALID_ARGUMENT", 421, "invalid_request_error"),
    (QuotaExhausted("no", retry_after=7), 429, "RESOURCE_EXHAUSTED", 429, "rate_limit_error"),
    (NoHealthyKeys("no"), 503, "UNAVAILABLE", 503, "api_error"),
    (Draining("no"), 503, "UNAVAILABLE", 503, "api_error"),
    *[
        (UpstreamUnavailable("no", trouble), status, google, theirs, kind)
        for trouble, status, google, theirs, kind in (
            (UpstreamTrouble.INTERNAL, 500, "INTERNAL", 500, "api_error"),
            (UpstreamTrouble.BAD_ANSWER, 502, "UNAVAILABLE", 502, "api_error"),
            (UpstreamTrouble.UNAVAILABLE, 503, "UNAVAILABLE", 529, "overloaded_error"),
            (UpstreamTrouble.TIMEOUT, 504, "DEADLINE_EXCEEDED", 504, "timeout_error"),
        )
    ],
]


@pytest.mark.parametrize(("error", "status", "google", "anthropic_status", "kind"), FORMS)
def test_an_error_in_each_dialect(error, status, google, anthropic_status, kind):
    assert told(OPENAI, error)[0] == status
    code, body = told(GEMINI, error)
    assert code == body["error"]["code"] == status
    assert body["error"]["status"] == google
    assert body["error"]["message"] == "no"
    assert told(GEMINI_ARRAY, error) == (status, [body])
    assert told(ANTHROPIC, error) == (
        anthropic_status,
        {"type": "error", "error": {"type": kind, "message": "no"}, "request_id": "req_1"},
    )


def test_the_details_of_a_native_error():
    _, body = told(GEMINI, QuotaExhausted("no", retry_after=7.25))
    kinds = {each.pop("@type").rpartition(".")[2]: each for each in body["error"]["details"]}
    assert kinds == {
        "ErrorInfo": {"reason": "RATE_LIMIT_EXCEEDED", "domain": "gemproxy"},
        "RetryInfo": {"retryDelay": "7.25s"},
    }
    _, body = told(GEMINI, InvalidRequest("no", param="contents[0]"))
    assert body["error"]["details"][1]["fieldViolations"] == [
        {"field": "contents[0]", "description": "no"}
    ]


def test_the_headers_are_those_of_every_dialect():
    limit = QuotaExhausted("no", retry_after=300)
    first = OPENAI.answer(limit, "").headers
    assert (b"Retry-After", b"300") in first
    assert [each.answer(limit, "").headers for each in (GEMINI, ANTHROPIC)] == [first, first]


def test_the_last_event_of_a_broken_stream():
    error = UpstreamUnavailable("no", UpstreamTrouble.UNAVAILABLE)
    assert GEMINI.event(error, "r").startswith(b'data: {"error":{"code":503,')
    assert GEMINI.event(error, "r").endswith(b"}\r\n\r\n")
    assert ANTHROPIC.event(error, "r") == (
        b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error",'
        b'"message":"no"},"request_id":"r"}\n\n'
    )
    # An array cannot hold an error: the connection is closed.
    assert GEMINI_ARRAY.event(error, "r") == GEMINI_ARRAY.heartbeat == b""


def test_no_type_of_error_is_left_out():
    for kind in STATUSES:
        extra = {MethodNotAllowed: (("GET",),), UpstreamUnavailable: (UpstreamTrouble.TIMEOUT,)}
        error = kind("no", *extra.get(kind, ()))
        for dialect in (OPENAI, GEMINI, ANTHROPIC):
            assert told(dialect, error)[0] >= 400
