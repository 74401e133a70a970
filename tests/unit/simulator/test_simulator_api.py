"""Credentials, paths, models, counting, and which behaviour takes hold when."""

import pytest

from gemproxy.secret import Secret
from gemproxy.simulator import (
    DEMO_KEYS,
    Limits,
    SimulatedKey,
    SimulatorConfig,
    assignment,
    behaviour,
    demo_config,
)
from gemproxy.simulator.behaviours import CATALOGUE, Call, Kind
from gemproxy.simulator.script import End, Head

KEY = "test-key-one-0123456789abcdef"
HELLO = b'{"contents":[{"role":"user","parts":[{"text":"Hello"}]}]}'
URL = "/v1beta/models/gemini-3.8-flash:generateContent"


def details(reply, kind):
    return [d for d in reply.error.get("details", []) if d["@type"].endswith(f".{kind}")]


class TestCredentials:
    def test_key_in_the_header_is_served(self, client):
        assert client.request("POST", URL, HELLO, x_goog_api_key=KEY).status == 200

    def test_key_in_the_query_is_served(self, client):
        assert client.request("POST", f"{URL}?key={KEY}", HELLO).status == 200

    @pytest.mark.parametrize(
        ("url", "headers"),
        [
            (f"{URL}?key={KEY}", {"x_goog_api_key": KEY}),
            (URL, {"x_goog_api_key": KEY, "authorization": f"Bearer {KEY}"}),
        ],
    )
    def test_two_credentials_are_refused(self, client, url, headers):
        reply = client.request("POST", url, HELLO, **headers)
        assert reply.status == 400
        assert reply.message.startswith("Multiple authentication credentials received.")

    def test_bearer_alone_is_no_credential_here(self, client):
        reply = client.request("POST", URL, HELLO, authorization=f"Bearer {KEY}")
        assert (reply.status, reply.error["status"]) == (401, "UNAUTHENTICATED")
        assert details(reply, "ErrorInfo")[0]["reason"] == "ACCESS_TOKEN_TYPE_UNSUPPORTED"

    def test_no_credential_is_an_unregistered_caller(self, client):
        assert client.request("POST", URL, HELLO).status == 403

    def test_unknown_key_is_a_400_with_its_reason(self, client):
        reply = client.post(HELLO, key="test-key-nobody-knows")
        assert (reply.status, reply.error["status"]) == (400, "INVALID_ARGUMENT")
        assert details(reply, "ErrorInfo")[0]["reason"] == "API_KEY_INVALID"

    def test_any_key_is_taken_where_the_configuration_says_so(self, make_client):
        reply = make_client(accept_unknown_keys=True).post(HELLO, key="whatever-it-is")
        assert (reply.status, reply.exchange.key) == (200, "unknown")

    def test_what_is_recorded_shows_no_key(self, client):
        reply = client.request("POST", f"{URL}?key={KEY}", HELLO, x_goog_api_key=KEY)
        assert KEY not in repr(reply.exchange) + str(reply.exchange.describe())


class TestModels:
    def test_the_list_is_paged_to_its_end(self, client):
        names, token = [], ""
        while token is not None:
            page = client.get(f"/v1beta/models?pageSize=7&pageToken={token}").json
            names += [model["name"] for model in page["models"]]
            token = page.get("nextPageToken")
        assert len(names) == len(set(names)) > 14
        assert names == [m["name"] for m in client.get("/v1beta/models").json["models"]]

    def test_one_model_is_shown(self, client):
        model = client.get("/v1beta/models/gemini-2.5-pro").json
        assert model["name"] == "models/gemini-2.5-pro"
        assert "generateContent" in model["supportedGenerationMethods"]

    def test_a_page_token_of_somebody_else_is_refused(self, client):
        assert client.get("/v1beta/models?pageToken=%21%21").status == 400

    def test_unknown_model_is_a_404_that_names_the_method(self, client):
        reply = client.say("Hello", "gemini-0.1-nano")
        assert reply.status == 404
        assert reply.message.startswith(
            "models/gemini-0.1-nano is not found for API version v1beta, or is not supported for "
            "generateContent."
        )

    def test_an_embedding_model_does_not_generate(self, client):
        assert client.say("Hello", "gemini-embedding-001").status == 404

    def test_a_shut_down_model_names_its_successor(self, client):
        reply = client.say("Hello", "gemini-3-pro-preview")
        assert "is no longer available. Please update your code to use" in reply.message

    def test_a_model_can_be_closed_to_one_key_and_listed_all_the_same(self, client_of):
        keys = (
            SimulatedKey("old", Secret(KEY)),
            SimulatedKey("new", Secret("other-key"), closed_models=frozenset({"gemini-2.5-pro"})),
        )
        client = client_of(SimulatorConfig(keys))
        refused = client.post(HELLO, "gemini-2.5-pro", key="other-key")
        assert "no longer available to new users" in refused.message
        assert client.post(HELLO, "gemini-2.5-pro").status == 200
        assert client.get("/v1beta/models/gemini-2.5-pro", key="other-key").status == 200

    def test_an_alias_answers_with_the_resolved_version(self, client):
        assert client.say("Hello", "gemini-flash-latest").json["modelVersion"] == "gemini-3.8-flash"

    def test_a_strange_path_gets_the_front_ends_page(self, client):
        reply = client.get("/v1/chat/completions")
        assert reply.status == 404
        assert reply.data.startswith(b"<!DOCTYPE html>")


class TestCounting:
    def test_tokens_are_counted_by_modality(self, client):
        part = {"inlineData": {"mimeType": "image/png", "data": "QUJD"}}
        contents = [{"parts": [{"text": "one two three"}, part]}]
        counted = client.post({"contents": contents}, method="countTokens").json
        assert counted == {
            "totalTokens": 261,
            "promptTokensDetails": [
                {"modality": "TEXT", "tokenCount": 3},
                {"modality": "IMAGE", "tokenCount": 258},
            ],
        }

    def test_a_whole_request_is_counted(self, client):
        request = {
            "model": "models/gemini-3.8-flash",
            "contents": [{"parts": [{"text": "Hello"}]}],
            "systemInstruction": {"parts": [{"text": "Be brief now"}]},
        }
        counted = client.post({"generateContentRequest": request}, method="countTokens").json
        assert counted["totalTokens"] == 4

    def test_both_forms_at_once_are_refused(self, client):
        contents = [{"parts": [{"text": "Hello"}]}]
        body = {"contents": contents, "generateContentRequest": {"contents": contents}}
        assert client.post(body, method="countTokens").status == 400


class TestBehaviours:
    @pytest.mark.parametrize(
        "name", [n for n, e in CATALOGUE.items() if e.kind in {Kind.KEY_FAULT, Kind.ERROR}]
    )
    def test_every_error_comes_in_googles_envelope(self, client, name):
        client.keyring.by_name("one").assign(assignment(behaviour(name)), own=True)
        reply = client.say("Hello")
        assert reply.status == reply.error["code"] >= 400
        assert set(reply.error) - {"details"} == {"code", "message", "status"}
        assert reply.exchange.behaviour == name

    @pytest.mark.parametrize("name", CATALOGUE)
    @pytest.mark.parametrize("method", ["generateContent", "streamGenerateContent?alt=sse"])
    def test_every_behaviour_has_a_script_that_ends(self, client, name, method):
        reply = client.say(f"Hello [simulate:{name}]", "gemini-4-argon", method)
        assert isinstance(reply.end, End)
        assert sum(isinstance(step, End) for step in reply.steps) == 1

    def test_a_key_fault_holds_for_the_list_of_models_too(self, client):
        client.keyring.by_name("one").assign(assignment(behaviour("leaked")), own=True)
        assert client.get("/v1beta/models").status == 403

    def test_another_fault_leaves_the_list_of_models_alone(self, client):
        client.keyring.by_name("one").assign(assignment(behaviour("overloaded")), own=True)
        assert client.get("/v1beta/models").status == 200

    def test_calls_and_models_narrow_a_behaviour(self, client):
        told = assignment(
            behaviour("overloaded"),
            calls=frozenset({Call.STREAM}),
            models=frozenset({"gemini-2.5-pro"}),
        )
        client.keyring.by_name("one").assign(told, own=True)
        assert client.stream("Hello").status == 200
        assert client.say("Hello", "gemini-2.5-pro").status == 200
        assert client.stream("Hello", "gemini-2.5-pro").status == 503

    def test_times_run_out(self, client):
        told = assignment(behaviour("overloaded"), times=2)
        client.keyring.by_name("one").assign(told, own=True)
        assert [client.say("Hello").status for _ in range(4)] == [503, 503, 200, 200]

    def test_every_nth_fails_and_no_other(self, client):
        told = assignment(behaviour("flaky", {"everyNth": 3}))
        client.keyring.by_name("one").assign(told, own=True)
        assert [client.say("Hello").status for _ in range(6)] == [200, 200, 503, 200, 200, 503]

    def test_flaky_falls_the_same_with_the_same_seed_only(self, make_client):
        def run(seed):
            client = make_client(seed=seed, default=assignment(behaviour("flaky")))
            return [client.say("Hello").status for _ in range(40)]

        assert run(1) == run(1) != run(2)
        assert 8 < run(1).count(503) < 32

    def test_the_other_key_is_not_concerned(self, client):
        client.keyring.by_name("one").assign(assignment(behaviour("invalid")), own=True)
        assert client.post(HELLO).status == 400
        assert client.post(HELLO, key="test-key-two-0123456789abcdef").status == 200

    def test_the_default_is_for_keys_without_their_own(self, client):
        client.keyring.by_name("one").assign(assignment(behaviour("ok")), own=True)
        client.keyring.set_default(assignment(behaviour("internal-error")))
        assert client.post(HELLO).status == 200
        assert client.post(HELLO, key="test-key-two-0123456789abcdef").status == 500

    def test_a_trigger_overrules_the_key_for_one_request(self, client):
        client.keyring.by_name("one").assign(assignment(behaviour("overloaded")), own=True)
        assert client.say("[simulate:ok] Hello").status == 200
        assert client.say("Hello").status == 503

    def test_a_misspelt_trigger_is_told(self, client):
        reply = client.say("[simulate:trunkated]")
        assert reply.status == 400
        assert "did you mean 'truncated'" in reply.message

    def test_suspended_echoes_the_key_as_google_does(self, client):
        assert KEY in client.say("[simulate:suspended]").message

    def test_an_invalid_request_is_not_held_against_the_key(self, client):
        client.keyring.by_name("one").assign(assignment(behaviour("overloaded")), own=True)
        assert client.post({"contents": []}).status == 400


class TestQuotaBodies:
    def test_the_daily_one_says_a_short_delay_all_the_same(self, client):
        reply = client.say("[simulate:rate-limited-day limit=20]")
        violation = details(reply, "QuotaFailure")[0]["violations"][0]
        assert "PerDay" in violation["quotaId"]
        assert violation["quotaValue"] == "20"
        assert details(reply, "RetryInfo")[0]["retryDelay"] == "37s"

    def test_a_quota_of_zero_has_no_value(self, client):
        violations = details(client.say("[simulate:quota-zero]"), "QuotaFailure")[0]["violations"]
        assert len(violations) == 2
        assert all("quotaValue" not in violation for violation in violations)

    def test_bare_has_no_details(self, client):
        assert "details" not in client.say("[simulate:rate-limited-bare]").error

    def test_requests_a_minute_are_counted_and_come_back(self, client_of):
        keys = (SimulatedKey("one", Secret(KEY), limits=Limits(rpm=2)),)
        client = client_of(SimulatorConfig(keys))
        assert [client.say("Hello").status for _ in range(3)] == [200, 200, 429]
        client.now += 30
        reply = client.say("Hello")
        assert "PerMinute" in details(reply, "QuotaFailure")[0]["violations"][0]["quotaId"]
        assert details(reply, "RetryInfo")[0]["retryDelay"] == "30s"
        client.now += 30
        assert client.say("Hello").status == 200

    def test_keys_of_one_project_share_a_quota_and_models_do_not(self, client_of):
        keys = tuple(
            SimulatedKey(name, Secret(f"key-{name}"), project="p", limits=Limits(rpm=1))
            for name in ("a", "b")
        )
        client = client_of(SimulatorConfig(keys))
        assert client.post(HELLO, key="key-a").status == 200
        assert client.post(HELLO, key="key-b").status == 429
        assert client.post(HELLO, "gemini-2.5-pro", key="key-b").status == 200

    def test_the_day_ends_at_midnight_in_los_angeles(self, client_of):
        client = client_of(
            SimulatorConfig((SimulatedKey("one", Secret(KEY), limits=Limits(rpd=1)),))
        )
        client.now = 1_793_516_340.0  # 2026-10-31 23:59 there, with daylight saving
        assert client.say("Hello").status == 200
        assert client.say("Hello").status == 429
        client.now += 90
        assert client.say("Hello").status == 200

    def test_input_tokens_a_minute_are_counted(self, client_of):
        client = client_of(
            SimulatorConfig((SimulatedKey("one", Secret(KEY), limits=Limits(tpm=5)),))
        )
        assert client.say("one two three").status == 200
        reply = client.say("one two three")
        assert "InputTokens" in details(reply, "QuotaFailure")[0]["violations"][0]["quotaId"]


class TestFraming:
    def test_sse_has_crlf_and_no_done(self, client):
        data = client.stream("Hello").data
        assert data.endswith(b"}\r\n\r\n")
        assert b"[DONE]" not in data
        assert all(block.startswith(b"data: {") for block in data.split(b"\r\n\r\n")[:-1])

    def test_without_alt_sse_the_stream_is_one_array(self, client):
        chunks = client.say("Hello", method="streamGenerateContent").json
        assert chunks[-1]["candidates"][0]["finishReason"] == "STOP"

    def test_without_alt_sse_an_error_is_an_array_as_well(self, client):
        reply = client.say("Hello [simulate:overloaded]", method="streamGenerateContent")
        assert reply.json[0]["error"]["code"] == 503

    def test_an_error_before_the_first_byte_is_a_plain_object_in_sse(self, client):
        assert client.stream("Hello [simulate:overloaded]").error["code"] == 503

    def test_a_truncated_stream_ends_cleanly_without_a_finish_reason(self, client):
        reply = client.stream("Hello [simulate:truncated chunks=1]")
        assert len(reply.events) == 1
        assert "finishReason" not in reply.events[0]["candidates"][0]
        assert reply.end is End.FINISH

    def test_a_cut_stream_stops_inside_an_event(self, client):
        reply = client.stream("Hello [simulate:cut]")
        assert not reply.data.endswith(b"\r\n\r\n")
        assert reply.end is End.CLOSE

    def test_an_error_can_come_as_an_event_or_as_bare_json(self, client):
        event = client.stream("Hello [simulate:error-mid-stream chunks=1]")
        assert event.events[1]["error"] == {
            "code": 503,
            "message": event.events[1]["error"]["message"],
            "status": "UNAVAILABLE",
        }
        raw = client.stream("Hello [simulate:error-mid-stream-raw chunks=1]").data
        assert raw.split(b"\r\n\r\n")[1].startswith(b'{\n  "error"')

    def test_a_unary_answer_can_stop_half_way(self, client):
        reply = client.say("Hello [simulate:cut]")
        assert reply.end is End.CLOSE
        assert 0 < len(reply.data) < reply.steps[0].length

    def test_a_reset_has_no_head(self, client):
        reply = client.say("Hello [simulate:reset]")
        assert reply.steps == [End.RESET]

    def test_garbage_passes_http_by(self, client):
        reply = client.say("Hello [simulate:garbage]")
        assert b"HTTP/1." not in reply.raw
        assert not any(isinstance(step, Head) for step in reply.steps)

    def test_slow_waits_before_the_first_byte_and_between_chunks(self, client):
        reply = client.stream("Hello [simulate:slow delay=3 chunkDelay=0.5]")
        assert reply.waits[0] == 3
        assert set(reply.waits[1:]) == {0.5}
        assert len(reply.waits) == len(reply.events)

    def test_fragments_cut_characters_in_two(self, client):
        reply = client.stream("東京東京 [simulate:fragmented size=1] [simulate:echo]")
        sizes = {len(step.data) for step in reply.steps if hasattr(step, "data")}
        assert sizes == {1}
        assert "東京東京" in reply.data.decode()


def test_the_demo_has_a_steady_a_limited_and_a_flaky_key(client_of):
    client = client_of(demo_config())
    statuses = {
        name: [client.post(HELLO, key=secret).status for _ in range(12)]
        for name, secret in DEMO_KEYS
    }
    assert statuses["demo-steady"] == [200] * 12
    assert statuses["demo-rate-limited"] == [200] * 3 + [429] * 9
    assert set(statuses["demo-flaky"]) == {200, 503}


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"a": NaN}', b"\xff", b"[" * 100_000])
def test_what_is_no_json_object_is_a_400(client, body):
    assert client.post(body).status == 400


def test_an_overlong_prompt_is_refused_with_the_count(client):
    reply = client.say("word " * 20_000, "gemini-2.5-flash-image")
    assert reply.status == 200
    reply = client.say("word " * 60_000, "gemini-2.5-flash-image")
    assert reply.message.startswith("The input token count (")
