"""Outcome by outcome: the evidence, the verdict, and what the client sees of it."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fakes.openai_errors import seen
from hypothesis import given
from hypothesis import strategies as st

from gemproxy.core import errors
from gemproxy.core.client_errors import error_for
from gemproxy.core.errors import FailureKind, UpstreamFailed
from gemproxy.pool.outcome import Outcome, Verdict
from gemproxy.pool.quota_ledger import ExceededQuota
from gemproxy.providers.base import PROMPT, classify_failure
from gemproxy.providers.gemini.classify import (
    classify_error_event,
    classify_page,
    classify_response,
)

SAMPLES = Path(__file__).resolve().parents[4] / "shared" / "samples"
# 2026-11-22 12:00 in Los Angeles (UTC-8); the next midnight there is 12 hours later.
NOON = datetime(2026, 11, 22, 20, tzinfo=UTC).timestamp()
MIDNIGHT = NOON + 12 * 3600

RPC = "type.googleapis.com/google.rpc."


def body(code, message="", status="", details=()):
    error = {"code": code, "message": message, "status": status, "details": list(details)}
    return json.dumps({"error": error}).encode()


def info(reason, **metadata):
    return {"@type": RPC + "ErrorInfo", "reason": reason, "metadata": metadata}


def quota(*violations):
    return {"@type": RPC + "QuotaFailure", "violations": list(violations)}


def retry(delay):
    return {"@type": RPC + "RetryInfo", "retryDelay": delay}


MINUTE = {"quotaId": "GenerateRequestsPerMinutePerProjectPerModel-FreeTier", "quotaValue": "5"}
DAY = {"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier", "quotaValue": "20"}


def classify(status, content=b"", headers=None, **options):
    return classify_response(status, headers or {}, content, now=NOON, **options)


def classify_429(*details, message=""):
    return classify(429, body(429, message, "RESOURCE_EXHAUSTED", details))


SAMPLE_VERDICTS = {
    "err_400_api_key_expired": (Verdict.KEY, "expired"),
    "err_400_api_key_invalid": (Verdict.KEY, "invalid"),
    "err_400_api_key_invalid_2": (Verdict.KEY, "invalid"),
    "err_400_api_key_not_found": (Verdict.KEY, "invalid"),
    "err_400_input_token_count": (Verdict.REQUEST, "context_length"),
    "err_400_json_mode_with_tools": (Verdict.REQUEST, "invalid_argument"),
    "err_400_missing_thought_signature": (Verdict.REQUEST, "thought_signature"),
    "err_400_multiple_credentials": (Verdict.UNUSABLE, "multiple_credentials"),
    "err_400_penalty_not_enabled": (Verdict.REQUEST, "invalid_argument"),
    "err_400_unknown_field_array_compat": (Verdict.REQUEST, "invalid_argument"),
    "err_400_user_location": (Verdict.REGION, "location"),
    "err_401_access_token_type_unsupported": (Verdict.KEY, "invalid"),
    "err_403_api_key_service_blocked": (Verdict.KEY, "blocked"),
    "err_403_caller_no_permission": (Verdict.FORBIDDEN, "forbidden"),
    "err_403_consumer_suspended": (Verdict.KEY, "suspended"),
    "err_403_leaked_key": (Verdict.KEY, "leaked"),
    "err_403_referrer_blocked": (Verdict.KEY, "blocked"),
    "err_403_service_disabled": (Verdict.KEY, "service_disabled"),
    "err_404_no_longer_available": (Verdict.REQUEST, "unknown_model"),
    "err_404_no_longer_available_new_users": (Verdict.MODEL_DENIED, "closed_to_new_users"),
    "err_404_unknown_model": (Verdict.REQUEST, "unknown_model"),
    "err_429_bare": (Verdict.QUOTA_MINUTE, "per_minute"),
    "err_429_bare_array_compat": (Verdict.QUOTA_MINUTE, "per_minute"),
    "err_429_free_multi_violation": (Verdict.QUOTA_DAY, "per_day"),
    "err_429_free_rpd": (Verdict.QUOTA_DAY, "per_day"),
    "err_429_free_rpm": (Verdict.QUOTA_MINUTE, "per_minute"),
    "err_429_help_only": (Verdict.QUOTA_MINUTE, "per_minute"),
    "err_429_limit_zero": (Verdict.QUOTA_DAY, "per_day"),
    "err_429_old_style_errorinfo": (Verdict.QUOTA_MINUTE, "per_minute"),
    "err_429_paid_input_tpm": (Verdict.QUOTA_MINUTE, "per_minute"),
    "err_429_retry_info_vercel": (Verdict.QUOTA_MINUTE, "per_minute"),
    "err_429_tpm_single": (Verdict.QUOTA_MINUTE, "per_minute"),
    "err_500_internal": (Verdict.SERVICE, "internal"),
    "err_503_deadline_expired": (Verdict.SERVICE, "unavailable"),
    "err_503_high_demand": (Verdict.SERVICE, "unavailable"),
    "err_503_overloaded": (Verdict.SERVICE, "unavailable"),
}


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the recorded samples are not beside this tree")
@pytest.mark.parametrize("name", sorted(SAMPLE_VERDICTS))
def test_recorded_errors_are_judged(name):
    content = (SAMPLES / f"{name}.json").read_bytes()
    outcome = classify(int(name.split("_")[1]), content)
    assert (outcome.verdict, outcome.reason) == SAMPLE_VERDICTS[name]
    assert outcome.message


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the recorded samples are not beside this tree")
def test_every_recorded_error_of_the_native_api_is_in_the_table():
    names = {path.stem for path in SAMPLES.glob("err_[0-9]*.json")}
    assert names == set(SAMPLE_VERDICTS)


class TestKey:
    @pytest.mark.parametrize(
        ("status", "content", "reason"),
        [
            (400, body(400, "x", "INVALID_ARGUMENT", [info("API_KEY_INVALID")]), "invalid"),
            (400, body(400, "API key not valid. Please pass another."), "invalid"),
            (400, body(400, "API Key not found."), "invalid"),
            (400, body(400, "API key expired. Renew it."), "expired"),
            (400, body(400, "x", "", [info("API_KEY_EXPIRED")]), "expired"),
            (401, body(401, "Request had invalid credentials.", "UNAUTHENTICATED"), "invalid"),
            (402, b"", "billing"),
            (403, body(403, "x", "", [info("API_KEY_SOMETHING_NEW")]), "blocked"),
            (403, body(403, "Your API key was reported as leaked. Use another."), "leaked"),
            (403, body(403, "x", "", [info("CONSUMER_SUSPENDED")]), "suspended"),
            (403, body(403, "x", "", [info("API_KEY_IP_ADDRESS_BLOCKED")]), "blocked"),
            (403, body(403, "x", "", [info("BILLING_DISABLED")]), "billing"),
            (
                400,
                body(
                    400,
                    "Gemini API free tier is not available in your country. Please enable billing.",
                    "FAILED_PRECONDITION",
                ),
                "billing",
            ),
        ],
    )
    def test_is_charged_with_a_reason(self, status, content, reason):
        outcome = classify(status, content)
        assert (outcome.verdict, outcome.reason) == (Verdict.KEY, reason)

    def test_is_never_the_clients_401_or_403(self):
        for status in (400, 401, 403):
            error = error_for(classify(status, body(status, "", "", [info("API_KEY_INVALID")])))
            assert isinstance(error, errors.NoHealthyKeys)
            assert seen(error).status == 503

    def test_a_request_that_quotes_googles_words_does_not_bench_the_key(self):
        message = 'Invalid value at "contents": "API key not valid. Your API key was leaked."'
        assert classify(400, body(400, message)).verdict is Verdict.REQUEST


class TestRequest:
    def test_keeps_its_status_and_googles_words(self):
        error = error_for(classify(400, body(400, "Budget 0 is invalid.", "INVALID_ARGUMENT")))
        assert (seen(error).status, error.message) == (400, "Budget 0 is invalid.")
        assert seen(error).type == "invalid_request_error"

    def test_too_many_tokens_name_the_messages(self):
        text = "The input token count (9) exceeds the maximum number of tokens allowed (8)."
        error = error_for(classify(400, body(400, text, "INVALID_ARGUMENT")))
        assert isinstance(error, errors.ContextTooLong)
        assert (seen(error).code, error.param) == ("context_length_exceeded", PROMPT)

    def test_missing_file_is_a_plain_404(self):
        error = error_for(classify(404, body(404, "File not found.", "NOT_FOUND")))
        assert (seen(error).status, seen(error).code) == (404, None)

    @pytest.mark.parametrize("status", [405, 406, 410, 413, 414, 415, 422, 431, 451])
    def test_other_client_errors_keep_their_status(self, status):
        outcome = classify(status)
        assert outcome.verdict is Verdict.REQUEST
        assert seen(error_for(outcome)).status == status

    def test_precondition_about_the_request_is_the_clients(self):
        content = body(400, "The file is not in an ACTIVE state.", "FAILED_PRECONDITION")
        assert classify(400, content).verdict is Verdict.REQUEST

    def test_foreign_file_is_the_requests_where_it_names_files(self):
        content = body(403, "The caller does not have permission", "PERMISSION_DENIED")
        assert classify(403, content, names_resources=True).verdict is Verdict.REQUEST
        assert classify(403, content).verdict is Verdict.FORBIDDEN

    def test_any_403_without_a_reason_is_the_requests_where_it_names_files(self):
        content = body(403, "Something new.", "PERMISSION_DENIED")
        assert classify(403, content, names_resources=True).verdict is Verdict.REQUEST
        leaked = body(403, "Your API key was reported as leaked. Use another.")
        assert classify(403, leaked, names_resources=True).verdict is Verdict.KEY

    def test_file_that_is_named_by_google_is_the_requests(self):
        text = "You do not have permission to access the File abc or it may not exist."
        assert classify(403, body(403, text, "PERMISSION_DENIED")).verdict is Verdict.REQUEST


class TestForbidden:
    @pytest.mark.parametrize(
        "content",
        [
            body(403, "The caller does not have permission", "PERMISSION_DENIED"),
            body(403, "Something new.", "PERMISSION_DENIED"),
            body(403, "Denied.", "PERMISSION_DENIED", [info("IAM_PERMISSION_DENIED")]),
        ],
    )
    def test_403_that_does_not_speak_of_the_key_is_about_key_and_model(self, content):
        outcome = classify(403, content)
        assert (outcome.verdict, outcome.reason) == (Verdict.FORBIDDEN, "forbidden")
        assert isinstance(error_for(outcome), errors.ModelNotFound)


class TestQuota:
    @pytest.mark.parametrize(
        ("delay", "expected"),
        [("34.074824224s", 34.074824224), ("0s", 1.0), ("0.2s", 1.0), ("900s", 120.0), ("x", None)],
    )
    def test_per_minute_waits_as_told_within_bounds(self, delay, expected):
        outcome = classify_429(quota(MINUTE), retry(delay))
        assert (outcome.verdict, outcome.retry_after) == (Verdict.QUOTA_MINUTE, expected)

    def test_unknown_limit_is_a_short_one(self):
        outcome = classify_429(quota({"quotaId": "SomethingNew"}), retry("20s"))
        assert (outcome.verdict, outcome.retry_after) == (Verdict.QUOTA_MINUTE, 20.0)

    @pytest.mark.parametrize("content", [b"", b"slow down", b"{}", b'{"error": 3}'])
    def test_without_details_leaves_the_delay_to_the_pool(self, content):
        outcome = classify(429, content)
        assert (outcome.verdict, outcome.retry_after) == (Verdict.QUOTA_MINUTE, None)

    def test_delay_may_be_in_the_text_or_in_the_header(self):
        assert classify_429(message="Please retry in 48.9s.").retry_after == 48.9
        assert classify_429(message="Please retry in 1m5.5s.").retry_after == 65.5
        assert classify_429(message="Please retry in 1870ms.").retry_after == 1.87
        assert classify(429, headers={"Retry-After": "7"}).retry_after == 7.0
        date = "Sun, 22 Nov 2026 20:00:09 GMT"
        assert classify(429, headers={"retry-after": date}).retry_after == 9.0
        assert classify(429, headers={"retry-after": "soon"}).retry_after is None

    def test_limit_zero_may_be_written_out(self):
        written_out = {**MINUTE, "quotaValue": "0"}
        assert classify_429(quota(written_out)).verdict is Verdict.QUOTA_DAY

    def test_metric_in_the_text_stands_in_for_missing_details(self):
        text = "Quota exceeded for metric: g/generate_requests_per_model_per_day, limit: 250"
        assert classify_429(message=text).verdict is Verdict.QUOTA_DAY

    def test_older_form_names_the_limit_in_metadata(self):
        limit = {"quota_limit_value": "60", "quota_metric": "g/requests"}
        day = info("RATE_LIMIT_EXCEEDED", quota_limit="RequestsPerDayPerProject", **limit)
        minute = info("RATE_LIMIT_EXCEEDED", quota_limit="RequestsPerMinutePerProject", **limit)
        assert classify_429(day).verdict is Verdict.QUOTA_DAY
        assert classify_429(minute).verdict is Verdict.QUOTA_MINUTE

    def test_smallest_token_quota_is_told(self):
        small = {"quotaId": "InputTokensPerMinute", "quotaValue": "1000"}
        large = {"quotaMetric": "g/input_token_count", "quotaValue": "5000"}
        assert classify_429(quota(large, small, MINUTE)).token_quota == 1000
        assert classify_429(quota(MINUTE)).token_quota is None

    def test_values_of_all_exceeded_quotas_are_told(self):
        tokens = {
            "quotaMetric": "g/generate_content_paid_tier_input_token_count",
            "quotaId": "GenerateContentPaidTierInputTokensPerModelPerMinute",
            "quotaDimensions": {"model": "gemini-3.8-flash", "location": "global"},
            "quotaValue": "250000",
        }
        outcome = classify_429(quota(MINUTE, DAY, tokens))
        assert outcome.verdict is Verdict.QUOTA_DAY
        assert outcome.quotas == (
            ExceededQuota("rpm", 5, MINUTE["quotaId"]),
            ExceededQuota("rpd", 20, DAY["quotaId"]),
            ExceededQuota("tpm", 250_000, tokens["quotaId"], "gemini-3.8-flash"),
        )

    def test_quota_that_is_not_for_each_model_is_for_all(self):
        of_all = {**MINUTE, "quotaId": "GenerateRequestsPerMinutePerProject"}
        (told,) = classify_429(quota(of_all)).quotas
        assert told.model == "*"

    def test_value_may_be_in_the_text(self):
        metric = "g/generate_content_free_tier_requests"
        nameless = {"quotaMetric": metric, "quotaId": DAY["quotaId"]}
        text = f"* Quota exceeded for metric: {metric}, limit: 0, model: gemini-3-pro"
        (told,) = classify_429(quota(nameless), message=text).quotas
        assert (told.dimension, told.limit) == ("rpd", 0)

    @pytest.mark.parametrize("value", ["-5", "1e300", "NaN", "many", "", None, True, [], "9" * 40])
    def test_absurd_value_is_not_told(self, value):
        assert classify_429(quota({**MINUTE, "quotaValue": value})).quotas == ()

    @pytest.mark.parametrize(
        "quota_id",
        [
            "",
            "SomethingNew",
            "GenerateRequestsPerHourPerProject",
            "GenerateRequestsPerMinutePerProjectPerRegion",
            "CountTokensRequestsPerMinutePerProject",
            "GenerateImagesPerDayPerProjectPerModel",
            "OutputTokensPerMinutePerModel",
            "BatchEnqueuedTokensPerModelPerDay",
            "RequestsPerMinute" + "x" * 300,
            "RequestsPerMinute\n",
        ],
    )
    def test_value_of_what_is_not_counted_here_is_not_told(self, quota_id):
        assert classify_429(quota({**MINUTE, "quotaId": quota_id})).quotas == ()

    @pytest.mark.parametrize(
        "text",
        [
            "Your project has exceeded its spending cap.",
            "Spend-based rate limit reached for this billing account.",
            "The billing cap is reached.",
        ],
    )
    def test_spend_limit_concerns_all_models_for_ten_minutes(self, text):
        outcome = classify_429(message=text)
        assert (outcome.verdict, outcome.reason) == (Verdict.QUOTA_MINUTE, "spend_limit")
        assert (outcome.retry_after, outcome.all_models) == (600.0, True)

    def test_no_capacity_is_the_services(self):
        outcome = classify_429(info("MODEL_CAPACITY_EXHAUSTED"))
        assert outcome.verdict is Verdict.SERVICE
        assert seen(error_for(outcome)).status == 503

    def test_shown_as_429(self):
        minute = error_for(classify_429(quota(MINUTE), retry("9s")))
        assert (seen(minute).status, seen(minute).code, minute.retry_after) == (
            429,
            "rate_limit_exceeded",
            9.0,
        )
        day = error_for(classify_429(quota(DAY)))
        assert (seen(day).status, seen(day).code, day.should_retry) == (
            429,
            "insufficient_quota",
            False,
        )


class TestService:
    @pytest.mark.parametrize("status", [500, 502, 503, 504])
    def test_keeps_its_status_and_says_when_to_retry(self, status):
        outcome = classify(status, body(status, "Overloaded."))
        assert outcome.verdict is Verdict.SERVICE
        error = error_for(outcome)
        assert (seen(error).status, error.message, error.retry_after) == (
            status,
            "Overloaded.",
            1.0,
        )

    @pytest.mark.parametrize("status", [408, 409, 425, 499, 505, 599, 700])
    def test_other_statuses_become_a_bad_gateway(self, status):
        outcome = classify(status)
        assert outcome.verdict is Verdict.SERVICE
        assert seen(error_for(outcome)).status == 502

    def test_deadline_is_a_timeout(self):
        outcome = classify(504, body(504, "Deadline exceeded.", "DEADLINE_EXCEEDED"))
        assert outcome.timed_out
        assert seen(error_for(outcome)).code == "upstream_timeout"

    @pytest.mark.parametrize("status", [429, 502, 503])
    def test_html_is_no_keys_fault_and_is_not_shown(self, status):
        page = b"<!DOCTYPE html><title>Sorry</title>"
        outcome = classify(status, page, {"Content-Type": "text/html"})
        assert (outcome.verdict, outcome.spares_key) == (Verdict.SERVICE, True)
        assert outcome.message == (
            f"The upstream answered with HTTP status {status} and no explanation."
        )
        assert classify(status, b"\n" + page).verdict is Verdict.SERVICE

    @pytest.mark.parametrize("status", [400, 404, 413])
    def test_googles_page_that_refuses_the_request_is_the_clients(self, status):
        page = b"<!DOCTYPE html><html lang=en><title>Error %d (Whatever)!!1</title>" % status
        assert classify(status, page).verdict is Verdict.REQUEST

    def test_a_body_that_a_gateway_finds_too_large_is_the_clients(self):
        page = b"<html><head><title>413 Request Entity Too Large</title></head>"
        outcome = classify(413, page, {"Content-Type": "text/html"})
        assert outcome.verdict is Verdict.REQUEST


class TestStranger:
    """Something between us and Google answers in its place: never a key's fault."""

    @pytest.mark.parametrize(
        ("status", "content", "headers", "said"),
        [
            (401, b"", {}, ""),
            (403, b"", {}, ""),
            (403, b"RBAC: access denied", {}, ": RBAC: access denied"),
            (403, b'{"message": "Forbidden"}', {}, ': {"message": "Forbidden"}'),
            (401, b'{"error": "no token"}', {}, ': {"error": "no token"}'),
            (403, body(403, "Not from here."), {}, ": Not from here."),
            (
                403,
                b"<html><TITLE>\n Blocked by\tACME </TITLE><p>Call 1234.",
                {"Content-Type": "text/html"},
                ": Blocked by ACME",
            ),
            (400, b"<h1>400 Bad Request</h1><hr>nginx", {}, ": 400 Bad Request nginx"),
            (404, b" <!doctype html><title>404 Not Found</title>", {}, ": 404 Not Found"),
            (
                302,
                b"",
                {"Location": "http://portal.example/in?x=1"},
                ": redirects to http://portal.example/in",
            ),
            (307, b"", {}, ""),
            (511, b"<title>Log in</title>", {}, ": Log in"),
            (407, b"Who are you?", {}, ": Who are you?"),
        ],
    )
    def test_is_the_networks_and_told_as_such(self, status, content, headers, said):
        outcome = classify(status, content, headers)
        assert (outcome.verdict, outcome.status) == (Verdict.NETWORK, status)
        assert outcome.spares_key
        assert outcome.message == f"answered {status} not in Google's form{said}"
        error = error_for(outcome)
        assert (seen(error).status, seen(error).code) == (502, "upstream_error")
        assert said.strip(": ") not in error.message or not said

    @pytest.mark.parametrize("status", [401, 403])
    @pytest.mark.parametrize(
        "content",
        [
            body(403, "x", "PERMISSION_DENIED"),
            body(401, "x", "UNAUTHENTICATED"),
            body(403, "x", "", [info("SERVICE_DISABLED")]),
            body(403, "Your API key was reported as leaked."),
        ],
    )
    def test_googles_form_is_googles(self, status, content):
        outcome = classify(status, content)
        assert not outcome.spares_key
        assert outcome.verdict is not Verdict.NETWORK

    def test_what_it_says_is_one_line_and_bounded(self):
        outcome = classify(403, b"<title>" + b"a\x07\n" * 300 + b"</title>")
        assert outcome.message.isprintable()
        assert len(outcome.message) < 250

    def test_a_page_with_status_200_is_no_answer(self):
        outcome = classify_page({"content-type": "text/html; charset=utf-8"})
        assert (outcome.verdict, outcome.status, outcome.spares_key) == (
            Verdict.NETWORK,
            200,
            True,
        )
        assert classify_page({"content-type": "application/json"}) is None
        assert classify_page({}) is None


class TestErrorEvent:
    def test_code_inside_the_stream_counts(self):
        outcome = classify_error_event(body(503, "Overloaded.", "UNAVAILABLE"), now=NOON)
        assert (outcome.verdict, outcome.status) == (Verdict.SERVICE, 503)
        outcome = classify_error_event(body(429, "", "", [quota(DAY)]), now=NOON)
        assert (outcome.verdict, outcome.until) == (Verdict.QUOTA_DAY, MIDNIGHT)

    def test_name_stands_in_for_a_missing_code(self):
        payload = b'{"error": {"status": "RESOURCE_EXHAUSTED", "message": "Slow down."}}'
        assert classify_error_event(payload, now=NOON).verdict is Verdict.QUOTA_MINUTE

    @pytest.mark.parametrize("payload", [b"", b"oops", b'{"error": {}}', b'{"error": "x"}'])
    def test_unreadable_error_is_the_services(self, payload):
        outcome = classify_error_event(payload, now=NOON)
        assert (outcome.verdict, outcome.status) == (Verdict.SERVICE, 502)


class TestFailure:
    @pytest.mark.parametrize("kind", sorted(FailureKind, key=str))
    def test_is_the_networks(self, kind):
        outcome = classify_failure(UpstreamFailed(kind))
        others = {FailureKind.TOO_LARGE: Verdict.UNUSABLE, FailureKind.EXHAUSTED: Verdict.HOST}
        expected = others.get(kind, Verdict.NETWORK)
        assert (outcome.verdict, outcome.timed_out) == (expected, kind.is_timeout)
        error = error_for(outcome)
        if kind is FailureKind.EXHAUSTED:
            assert (seen(error).status, error.retry_after) == (503, 1)
            return
        assert (seen(error).status, seen(error).code) == (
            (504, "upstream_timeout") if kind.is_timeout else (502, "upstream_error")
        )

    def test_the_cause_is_for_the_operator_and_the_kind_for_the_client(self):
        failure = UpstreamFailed(
            FailureKind.REFUSED, "httpProxy", detail="proxy answered 407 No", spares_key=True
        )
        outcome = classify_failure(failure)
        assert outcome.message == (
            "The upstream could not be used: connection refused (upstream.httpProxy): "
            "proxy answered 407 No"
        )
        assert outcome.spares_key
        assert error_for(outcome).message == (
            "The upstream could not be used: connection refused (upstream.httpProxy)."
        )

    def test_names_the_setting(self):
        failure = UpstreamFailed(FailureKind.FIRST_BYTE_TIMEOUT, "firstByteTimeoutSeconds")
        assert "upstream.firstByteTimeoutSeconds" in classify_failure(failure).message


def test_message_is_bounded():
    assert len(classify(400, body(400, "x" * 9000)).message) == 2000


@pytest.mark.parametrize("verdict", sorted(Verdict, key=str))
def test_every_verdict_has_an_error(verdict):
    error = error_for(Outcome(verdict, message="m"))
    assert seen(error).status not in (401, 403)
    assert seen(error).status >= 400


@given(
    st.integers(100, 999),
    st.dictionaries(st.text(max_size=12), st.text(max_size=20), max_size=3),
    st.binary(max_size=60)
    | st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["error", "code", "message", "status", "details", "@type", "violations"]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    ).map(lambda value: json.dumps({"error": value}).encode()),
)
def test_never_raises(status, headers, content):
    outcome = classify_response(status, headers, content, now=NOON)
    assert outcome.status == status
    assert error_for(outcome).message.encode()
    classify_error_event(content, now=NOON)


class TestGooglesWords:
    @pytest.mark.parametrize("word", ["two words", "x" * 1000, "<b>", "a\nb", ""])
    def test_what_is_no_word_is_not_kept(self, word):
        outcome = classify(503, body(503, "x", word, [info(word)]))
        assert outcome.google_status == outcome.google_reason == ""
