"""Reading Gemini's errors."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemproxy.providers.gemini.wire.errors import GeminiError, QuotaViolation, decode_error

RPC = "type.googleapis.com/google.rpc."
FULL = {
    "error": {
        "code": 429,
        "message": "Quota exceeded.",
        "status": "RESOURCE_EXHAUSTED",
        "details": [
            {
                "@type": RPC + "ErrorInfo",
                "reason": "RATE_LIMIT_EXCEEDED",
                "metadata": {"consumer": "projects/1", "odd": 3},
            },
            {
                "@type": RPC + "QuotaFailure",
                "violations": [
                    {
                        "quotaMetric": "g/requests",
                        "quotaId": "PerMinute",
                        "quotaValue": "5",
                        "quotaDimensions": {"model": "m", "location": "global"},
                    },
                    {"quotaId": "PerDay"},
                    "not a violation",
                ],
            },
            {"@type": RPC + "RetryInfo", "retryDelay": "34.5s"},
            {"@type": RPC + "RetryInfo", "retryDelay": "12s"},
            {
                "@type": RPC + "BadRequest",
                "fieldViolations": [{"field": "contents", "description": "is empty"}],
            },
            {"@type": RPC + "DebugInfo", "detail": "whatever"},
            "not a detail",
        ],
    }
}
DECODED = GeminiError(
    code=429,
    message="Quota exceeded.",
    status="RESOURCE_EXHAUSTED",
    reasons=("RATE_LIMIT_EXCEEDED",),
    metadata={"consumer": "projects/1", "odd": ""},
    violations=(QuotaViolation("g/requests", "PerMinute", 5, "m"), QuotaViolation(id="PerDay")),
    retry_delay=34.5,
    field_violations=(("contents", "is empty"),),
)


def encoded(document):
    return json.dumps(document).encode()


def test_all_parts_are_read():
    assert decode_error(encoded(FULL)) == DECODED


def test_array_around_it_is_accepted():
    assert decode_error(encoded([FULL, {"more": 1}])) == DECODED


def test_word_in_the_place_of_the_code():
    error = decode_error(b'{"error": {"code": "invalid_request", "message": "Unknown: foo."}}')
    assert error == GeminiError(message="Unknown: foo.")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>502</html>",
        b"{",
        b"[]",
        b"3",
        b"null",
        b'{"candidates": []}',
        b'{"error": "text"}',
        b'{"error": null}',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"error": {"code": ' + b"9" * 5000 + b"}}",
        b'{"error": {"message": "' + b"x" * 1_100_000 + b'"}}',
    ],
)
def test_what_is_no_error_is_none(body):
    assert decode_error(body) is None


@pytest.mark.parametrize("value", ["", "x", "1e999", "NaN", None, [], True])
def test_unreadable_numbers_are_absent(value):
    violation = {"quotaId": "i", "quotaValue": value}
    detail = {"@type": RPC + "QuotaFailure", "violations": [violation]}
    error = decode_error(encoded({"error": {"code": value, "details": [detail]}}))
    assert (error.code, error.violations) == (0, (QuotaViolation(id="i"),))


@pytest.mark.parametrize(
    "delay", ["", "5", "-5s", "1e3s", "5 s", "\u0663s", 5, None, "1" * 40 + "s"]
)
def test_unreadable_delays_are_absent(delay):
    detail = {"@type": RPC + "RetryInfo", "retryDelay": delay}
    error = decode_error(encoded({"error": {"details": [detail]}}))
    assert error.retry_delay is None


def test_sizes_are_bounded():
    details = [{"@type": RPC + "ErrorInfo", "reason": "R" * 5000}] * 100
    error = decode_error(encoded({"error": {"message": "m" * 9000, "details": details}}))
    assert len(error.message) == 2000
    assert len(error.reasons) == 64
    assert len(error.reasons[0]) == 2000


def test_half_a_surrogate_pair_does_not_survive():
    error = decode_error(rb'{"error": {"message": "a\ud800b"}}')
    assert error.message.encode() == b"a?b"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["code", "message", "details", "@type", "metadata", "violations"]),
            inner,
        )
    ),
    max_leaves=8,
)


@given(json_values)
def test_any_json_is_read_as_an_error(error):
    read = decode_error(encoded({"error": error}))
    if not isinstance(error, dict):
        assert read is None
    else:
        assert isinstance(read.code, int)
        assert isinstance(read.message, str)


@given(st.binary())
def test_bytes_that_are_no_json_are_none(body):
    assert decode_error(b"{" + body) is None
