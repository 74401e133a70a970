"""The admin API: what an operator sees and changes, and who is kept out."""

import io
import json
from collections import Counter
from dataclasses import replace

import pytest
from fakes.admin import (
    CLIENT_TOKEN,
    LOADED,
    NOON,
    TOKEN,
    AdminStage,
    all_of,
    context,
    key,
)
from fakes.wire import request
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.python.failure import Failure

from gemproxy.core.audit import Actor
from gemproxy.core.errors import ConfigError, Fault
from gemproxy.core.interfaces import StoreStatus
from gemproxy.pool.outcome import Outcome, Verdict
from gemproxy.pool.pool import PoolSettings
from gemproxy.telemetry.history import Finished
from gemproxy.telemetry.recent import RecentRequests

READS = [
    "/admin/health",
    "/admin/keys",
    "/admin/metrics",
    "/admin/metrics/series",
    "/admin/requests",
    "/admin/requests/req_1",
]
CHANGES = [
    ("POST", "/admin/keys/alpha/enable"),
    ("POST", "/admin/keys/alpha/disable"),
    ("POST", "/admin/keys/alpha/reset"),
    ("PUT", "/admin/keys/alpha/weight"),
    ("POST", "/admin/config/reload"),
]
EVERYTHING = [("GET", path) for path in READS] + CHANGES
NOTHING = [
    "/admin/nothing",
    "/admin/page/",
    "/admin/page/nothing.js",
    "/admin/keys/alpha",
    "/admin//health",
    "/",
    "/v1",
]


def stage_of(*keys, **options):
    clock = Clock()
    clock.advance(NOON)
    return AdminStage(clock, *keys, **options)


@pytest.fixture
def stage():
    return stage_of()


def health(stage):
    return stage.ask("GET", "/admin/health").json


# -- who comes in ----------------------------------------------------------------------------------


@pytest.mark.parametrize("token", [None, "wrong", CLIENT_TOKEN, TOKEN[:-1], TOKEN + "x", "é"])
def test_without_the_operators_token_nothing_is_told(stage, token):
    answer = stage.ask("GET", "/admin/health", token=token)
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.error["code"] == "invalid_api_key"


@pytest.mark.parametrize("path", [*READS, *NOTHING])
def test_without_a_token_nobody_learns_what_is_there(stage, path):
    for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "FANCY"):
        answer = stage.ask(method, path, token=None)
        assert answer.status == 401
        assert "allow" not in answer.headers
        if method != "HEAD":
            assert "allowed" not in answer.error["message"]


@pytest.mark.parametrize(("method", "path"), CHANGES)
def test_without_the_operators_token_nothing_is_changed(stage, method, path):
    before = stage.pool.statuses(NOON)
    assert stage.ask(method, path, {"weight": 9}, token=CLIENT_TOKEN).status == 401
    assert stage.pool.statuses(NOON) == before
    assert stage.audited == []


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_an_address_is_no_permission(stage, address):
    answer = stage.ask("GET", "/admin/health", token=None, address=address)
    assert answer.status == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": f"Basic {TOKEN}"},
        {"authorization": TOKEN},
        {"x_api_key": TOKEN},
        {"cookie": f"token={TOKEN}"},
        {"x_forwarded_for": "127.0.0.1"},
    ],
)
def test_the_token_counts_as_a_bearer_token_only(stage, headers):
    assert stage.ask("GET", "/admin/health", token=None, **headers).status == 401
    assert stage.ask("GET", f"/admin/health?token={TOKEN}", token=None).status == 401


def test_an_open_admin_api_asks_for_no_token():
    stage = stage_of(admin_open=True)
    assert stage.ask("GET", "/admin/health", token=None).status == 200
    assert stage.ask("POST", "/admin/keys/alpha/disable", token="wrong").status == 200
    assert stage.audited[0].actor == Actor("192.0.2.1", "anonymous")
    assert stage.ask("GET", "/admin/nothing", token=None).status == 404


def test_an_open_admin_api_does_not_serve_pages_of_another_site():
    stage = stage_of(admin_open=True)
    path = "/admin/keys/alpha/disable"
    for origin in ("https://pages.example", "null", "http://localhost:1"):
        answer = stage.ask("POST", path, token=None, origin=origin)
        assert answer.status == 403
        assert answer.error["code"] == "forbidden"
    assert stage.audited == []
    assert stage.ask("POST", path, token=None, origin="http://localhost").status == 200


def test_no_page_of_another_origin_is_told_that_it_may_read(stage):
    answer = stage.ask("GET", "/admin/health", origin="https://pages.example")
    assert answer.status == 200
    assert not [name for name in answer.headers if name.startswith("access-control")]


# -- who guesses -----------------------------------------------------------------------------------


def test_ten_wrong_tokens_lock_an_address_out(stage):
    for n in range(10):
        assert stage.ask("GET", "/admin/health", token=f"guess-{n}").status == 401
    answer = stage.ask("GET", "/admin/health", token="guess-10")
    assert answer.status == 429
    assert answer.error["code"] == "too_many_wrong_tokens"
    assert answer.headers["retry-after"] == "60"
    assert stage.ask("GET", "/admin/health", token=None).status == 429
    assert stage.ask("GET", "/admin/nothing", token="guess-10").status == 429
    assert stage.ask("GET", "/admin/health", token="guess", address="192.0.2.2").status == 401


def test_the_right_token_is_let_in_from_a_locked_address(stage):
    for n in range(11):
        stage.ask("GET", "/admin/health", token=f"guess-{n}")
    assert stage.ask("GET", "/admin/health").status == 200


def test_a_locked_address_is_asked_again_when_the_time_is_over(stage):
    for n in range(11):
        stage.ask("GET", "/admin/health", token=f"guess-{n}")
    stage.clock.advance(59)
    assert stage.ask("GET", "/admin/health", token="guess").headers["retry-after"] == "1"
    stage.clock.advance(1)
    assert stage.ask("GET", "/admin/health", token="guess").status == 401


def test_a_forwarded_address_does_not_count(stage):
    for n in range(10):
        stage.ask("GET", "/admin/health", token="guess", x_forwarded_for=f"192.0.2.{n + 10}")
    assert stage.ask("GET", "/admin/health", token="guess").status == 429


def test_the_addresses_of_one_ipv6_network_count_together(stage):
    for n in range(10):
        stage.ask("GET", "/admin/health", token="guess", address=f"2001:db8:1:2::{n}")
    assert (
        stage.ask("GET", "/admin/health", token="guess", address="2001:db8:1:2:f::").status == 429
    )
    assert stage.ask("GET", "/admin/health", token="guess", address="2001:db8:1:3::1").status == 401


def test_a_missing_token_is_no_wrong_one(stage):
    for _ in range(20):
        assert stage.ask("GET", "/admin/health", token=None).status == 401


def test_another_scheme_is_no_wrong_token_either(stage):
    for _ in range(20):
        answer = stage.ask("GET", "/admin/health", token=None, authorization="Basic b3A6b3A=")
        assert answer.status == 401


def test_who_was_refused_is_counted_and_logged_without_the_token(stage):
    with capturedLogs() as events:
        stage.ask("GET", "/admin/health", token="a-guess-that-is-wrong")
        stage.ask("GET", "/admin/health", token=None)
    assert stage.refused == 2
    (event,) = [event for event in events if event["log_namespace"].startswith("gemproxy")]
    assert event["log_format"] == "wrong token for the admin API"
    assert event["address"] == "192.0.2.1"
    assert "a-guess-that-is-wrong" not in str(event)


# -- paths and methods -----------------------------------------------------------------------------


@pytest.mark.parametrize("path", NOTHING)
def test_a_path_that_is_not_served_is_404_behind_the_token(stage, path):
    answer = stage.ask("GET", path)
    assert answer.status == 404
    assert answer.error["code"] == "unknown_url"


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("POST", "/admin/health", "GET, HEAD"),
        ("OPTIONS", "/admin/keys", "GET, HEAD"),
        ("GET", "/admin/keys/alpha/enable", "POST"),
        ("HEAD", "/admin/keys/alpha/enable", "POST"),
        ("POST", "/admin/keys/alpha/weight", "PUT"),
        ("GET", "/admin/config/reload", "POST"),
        ("DELETE", "/admin/requests/req_1", "GET, HEAD"),
    ],
)
def test_a_wrong_method_is_told_which_ones_there_are(stage, method, path, allow):
    answer = stage.ask(method, path)
    assert answer.status == 405
    assert answer.headers["allow"] == allow
    assert stage.audited == []


@pytest.mark.parametrize("path", READS)
def test_head_is_get_without_a_body(stage, path):
    whole, head = stage.ask("GET", path), stage.ask("HEAD", path)
    assert head.status == whole.status == 200
    assert head.body == b""
    assert head.headers["content-length"] == whole.headers["content-length"]


@pytest.mark.parametrize(("method", "path"), [*EVERYTHING, ("GET", "/admin/nothing")])
def test_nobody_keeps_or_guesses_at_an_answer(stage, method, path):
    for token in (TOKEN, None):
        answer = stage.ask(method, path, {"weight": 3}, token=token)
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-request-id"] == "req_fresh"


def test_every_visit_is_told_by_its_template(stage):
    stage.ask("GET", "/admin/health", x_request_id="mine")
    stage.ask("POST", "/admin/keys/alpha/enable", x_request_id="not one of ours!")
    stage.ask("GET", "/admin/nothing")
    stage.ask("GET", "/admin/keys", token=None)
    assert stage.told.requests == [
        ("mine", "/admin/health", 200, "success"),
        ("req_fresh", "/admin/keys/{keyId}/enable", 200, "success"),
        ("req_fresh", "/admin/*", 404, "unknown_url"),
        ("req_fresh", "/admin/keys", 401, "invalid_api_key"),
    ]


def test_an_answer_that_is_written_in_pieces_is_whole(stage):
    stage.metrics = b"".join(b"gemproxy_number_%06d 1.0\n" % number for number in range(100_000))
    connection = stage.connect()
    asked = request("GET", "/admin/metrics", authorization=f"Bearer {TOKEN}")
    connection.channel.dataReceived(asked)
    assert len(connection.transport.value()) < len(stage.metrics)
    stage.clock.advance(0)
    assert connection.answer().body == stage.metrics
    # The connection goes on.
    connection.transport.clear()
    connection.channel.dataReceived(asked)
    stage.clock.advance(0)
    assert connection.answer().body == stage.metrics


def test_a_body_that_nobody_needs_may_not_be_large(stage):
    big = b"x" * 4097
    answer = stage.ask("POST", "/admin/keys/alpha/disable", big)
    assert answer.status == 413
    assert stage.status("alpha").enabled
    disable = "/admin/keys/{keyId}/disable"
    assert stage.told.requests[-1][1:] == (disable, 413, "request_too_large")
    assert stage.ask("POST", "/admin/keys/alpha/disable", b"x" * 4097, token=None).status == 401


@pytest.mark.parametrize("name", ["%ff", "%0a", "al%0Apha"])
def test_a_path_that_is_no_line_of_text_is_a_400(stage, name):
    answer = stage.ask("POST", f"/admin/keys/{name}/enable")
    assert answer.status == 400
    assert answer.error["type"] == "invalid_request_error"


# -- health ----------------------------------------------------------------------------------------


def test_a_healthy_service(stage):
    assert health(stage) == {
        "status": "healthy",
        "timestamp": "2026-11-22T20:00:00Z",
        "uptime": 3600,
        "version": "1.2.3",
        "headline": "All 3 keys serve.",
        "draining": False,
        "in_flight": 7,
        "keys": {
            "total": 3,
            "healthy": 3,
            "unhealthy": 0,
            "disabled": 0,
            "recovering": 0,
            "needs_attention": {},
        },
        "requests": {"seconds": 300, "total": 0, "failed": 0, "causes": []},
        "reasons": [],
        "models": [],
        "persistence": {
            "backend": "sqlite",
            "last_checkpoint": "2026-11-22T19:59:58Z",
            "last_error": None,
        },
        "config": {"generation": 1, "loaded_at": "2026-11-22T19:00:00Z", "last_error": None},
        "warnings": [],
    }


def test_a_model_without_a_price_is_a_warning_and_leaves_the_status_alone(stage):
    stage.set(unpriced_models=("gemini-9", "gemini-8"))
    answer = health(stage)
    assert answer["status"] == "healthy"
    (warning,) = answer["warnings"]
    assert "gemini-9, gemini-8" in warning


def test_health_follows_the_keys(stage):
    stage.break_key("alpha")
    assert health(stage)["status"] == "degraded"
    for name in ("beta", "gamma"):
        stage.ask("POST", f"/admin/keys/{name}/disable")
    found = health(stage)
    assert found["status"] == "unhealthy"
    assert found["keys"]["unhealthy"] == 1
    assert found["keys"]["disabled"] == 2
    assert found["reasons"][0] == "No key can serve."
    stage.ask("POST", "/admin/keys/alpha/reset")
    assert health(stage)["status"] == "degraded"


def test_health_judges_by_what_clients_get(stage):
    stage.set(requests=RecentRequests(200, 198, causes=(("upstream 503", 198),)))
    found = health(stage)
    assert found["status"] == "unhealthy"
    assert found["headline"] == (
        "Failing: 198 of 200 requests in the last 5 minutes failed (upstream 503)."
    )
    assert found["requests"] == {
        "seconds": 300,
        "total": 200,
        "failed": 198,
        "causes": [{"cause": "upstream 503", "count": 198}],
    }


def test_health_counts_why_keys_need_a_person(stage):
    for name in ("alpha", "beta", "gamma"):
        lease = stage.pool.acquire("m", NOON)
        reason = "leaked" if name == "gamma" else "expired"
        stage.pool.record(lease, Outcome(Verdict.KEY, 400, reason=reason), NOON)
    found = health(stage)
    assert found["keys"]["needs_attention"] == {"expired": 2, "leaked": 1}
    assert found["headline"] == "No key can serve: 2 expired, 1 leaked."


def test_health_follows_the_models(stage):
    for _ in range(2):
        permit = stage.models.acquire("gemini-3.8-flash", NOON)
        stage.models.record(permit, False, NOON)
    found = health(stage)
    assert found["status"] == "degraded"
    (model,) = found["models"]
    assert model["model"] == "gemini-3.8-flash"
    assert model["status"] == "unavailable"
    assert model["until"].startswith("2026-11-22T20:00:01")
    stage.clock.advance(60)
    assert health(stage)["models"] == []


def test_health_shows_what_the_other_parts_say(stage):
    stage.set(
        draining=True,
        persistence=StoreStatus("json", None, "disk full", NOON, NOON),
        config=replace(LOADED, last_error="keys.yaml:7: no"),
    )
    found = health(stage)
    assert found["status"] == "degraded"
    assert found["draining"] is True
    assert found["persistence"] == {
        "backend": "json",
        "last_checkpoint": None,
        "last_error": "disk full",
    }
    assert found["config"]["last_error"] == "keys.yaml:7: no"
    assert len(found["reasons"]) == 2


# -- keys ------------------------------------------------------------------------------------------


def test_keys_are_shown_in_the_files_order(stage):
    shown = stage.ask("GET", "/admin/keys").json["keys"]
    assert [each["name"] for each in shown] == ["alpha", "beta", "gamma"]
    assert shown[0] == {
        "id": stage.keys[0].id,
        "name": "alpha",
        "project": "alpha",
        "masked": "test…cdef",
        "status": "active",
        "enabled": True,
        "needs_attention": None,
        "weight": 2,
        "effective_weight": 2.0,
        "health_score": 1.0,
        "success_count": 0,
        "failure_count": 0,
        "consecutive_failures": 0,
        "requests_total": 0,
        "avg_latency_ms": None,
        "p95_latency_ms": None,
        "last_used": None,
        "last_error": None,
        "next_retry": None,
        "cooldowns": [],
        "denied_models": [],
        "recent_latencies_ms": [],
    }


@pytest.mark.parametrize("number", [1, 99, 100, 101, 250])
def test_many_keys_are_shown_in_turns_and_none_is_lost(number):
    stage = stage_of(*[key(f"key-{n}") for n in range(number)])
    shown = stage.ask("GET", "/admin/keys").json["keys"]
    assert [each["name"] for each in shown] == [f"key-{n}" for n in range(number)]
    assert stage.pauses >= number // 100


def test_a_pool_without_keys_has_an_empty_list(stage):
    stage.pool.apply([], PoolSettings(), NOON)
    assert stage.ask("GET", "/admin/keys").json == {"keys": []}
    assert health(stage)["status"] == "unhealthy"


def test_a_key_in_trouble_tells_why_and_until_when(stage):
    stage.break_key("alpha")
    stage.let("beta", Verdict.QUOTA_DAY, status=429, until=NOON + 7200, message="Quota.")
    alpha, beta, _ = stage.ask("GET", "/admin/keys").json["keys"]
    assert alpha["status"] == "circuit_open"
    assert alpha["needs_attention"] == "invalid"
    assert alpha["next_retry"] == "2026-11-22T20:05:00Z"
    assert alpha["last_used"] == "2026-11-22T20:00:00Z"
    assert alpha["last_error"] == {
        "at": "2026-11-22T20:00:00Z",
        "outcome": "key",
        "status": 400,
        "message": "API key not valid.",
    }
    assert beta["cooldowns"] == [
        {"model": "m", "until": "2026-11-22T22:00:00Z", "reason": "quota_day"}
    ]


def test_no_answer_holds_a_secret(stage):
    secret = stage.keys[0].secret.reveal()
    stage.let("alpha", Verdict.KEY, status=400, reason="invalid", message=f"{secret} is bad")
    for method, path in EVERYTHING:
        answer = stage.ask(method, path, {"weight": 3})
        assert answer.status == 200
        assert secret not in all_of(answer)
        assert TOKEN not in all_of(answer)
    assert secret not in all_of(stage.ask("GET", f"/admin/{secret}"))
    assert secret not in str(stage.audited)


@pytest.mark.parametrize("by", ["id", "name"])
def test_a_key_is_disabled_and_enabled(stage, by):
    named = getattr(stage.keys[1], by)
    answer = stage.ask("POST", f"/admin/keys/{named}/disable").json
    assert answer["success"] is True
    assert answer["key_id"] == stage.keys[1].id
    assert answer["key"]["status"] == "disabled"
    assert answer["message"] == "The key beta is disabled until it is enabled again."
    assert not stage.status("beta").enabled
    answer = stage.ask("POST", f"/admin/keys/{named}/enable").json
    assert answer["key"]["status"] == "active"
    assert answer["message"] == "The key beta is enabled."
    assert stage.status("beta").enabled


def test_a_key_is_reset(stage):
    stage.break_key("alpha")
    answer = stage.ask("POST", "/admin/keys/alpha/reset").json
    assert answer["key"]["status"] == stage.status("alpha").status == "active"
    assert answer["key"]["needs_attention"] is None


def test_a_key_gets_another_weight_and_the_files_back(stage):
    answer = stage.ask("PUT", "/admin/keys/alpha/weight", {"weight": 5}).json
    assert answer["key"]["weight"] == stage.status("alpha").weight == 5
    assert answer["message"] == "The key alpha weighs 5."
    answer = stage.ask("PUT", "/admin/keys/alpha/weight", {"weight": None}).json
    assert answer["key"]["weight"] == stage.status("alpha").weight == 2


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b'{"weight": 0}', "weight"),
        (b'{"weight": 1001}', "weight"),
        (b'{"weight": -1}', "weight"),
        (b'{"weight": 1.5}', "weight"),
        (b'{"weight": "2"}', "weight"),
        (b'{"weight": true}', "weight"),
        (b'{"weight": [2]}', "weight"),
        (b'{"weight": 99999999999999999999999}', "weight"),
        (b'{"weight": 2, "wieght": 3}', "wieght"),
        (b"{}", "weight"),
        (b"[2]", None),
        (b"2", None),
        (b"null", None),
        (b"", None),
        (b'{"weight": 2', None),
        (b'{"weight": NaN}', None),
        (b'{"weight": "\xff"}', "weight"),
        (b'{"\xff": 2}', None),
        (b"[" * 4000, None),
    ],
)
def test_a_weight_that_is_none_is_refused(stage, body, param):
    answer = stage.ask("PUT", "/admin/keys/alpha/weight", body)
    assert answer.status == 400
    assert answer.error["type"] == "invalid_request_error"
    assert answer.error["param"] == param
    assert stage.status("alpha").weight == 2
    assert stage.audited == []


@pytest.mark.parametrize("weight", [1, 1000])
def test_the_least_and_the_most_weight(stage, weight):
    answer = stage.ask("PUT", "/admin/keys/alpha/weight", {"weight": weight})
    assert answer.json["key"]["weight"] == weight


def test_a_body_that_says_it_is_no_json_is_refused(stage):
    answer = stage.ask("PUT", "/admin/keys/alpha/weight", b"weight=2", content_type="text/plain")
    assert answer.status == 400
    assert "Content-Type" in answer.error["message"]


@pytest.mark.parametrize("operation", ["enable", "disable", "reset", "weight"])
def test_an_unknown_key_is_404_and_its_name_is_not_repeated(stage, operation):
    method = "PUT" if operation == "weight" else "POST"
    answer = stage.ask(method, f"/admin/keys/delta/{operation}", {"weight": 2})
    assert answer.status == 404
    assert answer.error["code"] == "key_not_found"
    assert "delta" not in answer.error["message"]
    assert stage.audited == []


@pytest.mark.parametrize(
    ("name", "encoded"),
    [
        ("team a", "team%20a"),
        ("team/a", "team%2Fa"),
        ("schlüssel", "schl%C3%BCssel"),
        ("100%", "100%25"),
        ("a+b", "a+b"),
        ("enable", "enable"),
        ("{key.secret}", "%7Bkey.secret%7D"),
    ],
)
def test_every_name_of_a_key_can_be_used(name, encoded):
    stage = stage_of(key(name))
    answer = stage.ask("POST", f"/admin/keys/{encoded}/disable")
    assert answer.status == 200
    assert answer.json["key"]["name"] == name
    assert answer.json["message"].startswith(f"The key {name} is")
    assert not stage.status(name).enabled


def test_a_key_found_by_its_id_goes_before_one_with_that_name():
    first = key("first")
    stage = stage_of(key(first.id), first)
    stage.ask("POST", f"/admin/keys/{first.id}/disable")
    assert not stage.status("first").enabled


# -- audit -----------------------------------------------------------------------------------------


def test_every_change_is_told_with_who_before_and_after(stage):
    stage.ask("POST", "/admin/keys/alpha/disable", address="192.0.2.7")
    stage.ask("PUT", "/admin/keys/alpha/weight", {"weight": 5})
    stage.ask("POST", "/admin/keys/alpha/enable")
    disabled, weighed, enabled = stage.audited
    assert disabled.actor == Actor("192.0.2.7", "admin")
    assert disabled.at == NOON
    assert disabled.action == "key.disable"
    assert (disabled.target, disabled.target_id) == ("alpha", stage.keys[0].id)
    assert disabled.before == {"enabled": True, "status": "active"}
    assert disabled.after == {"enabled": False, "status": "disabled"}
    assert (weighed.action, weighed.before, weighed.after) == (
        "key.weight",
        {"weight": 2},
        {"weight": 5},
    )
    assert (enabled.action, enabled.after["enabled"]) == ("key.enable", True)


def test_a_reset_tells_what_was_forgotten(stage):
    stage.let("alpha", Verdict.QUOTA_MINUTE, status=429, retry_after=30.0)
    stage.break_key("beta")
    stage.ask("POST", "/admin/keys/alpha/reset")
    stage.ask("POST", "/admin/keys/beta/reset")
    alpha, beta = stage.audited
    assert (alpha.before["cooldowns"], alpha.after["cooldowns"]) == (("m",), ())
    assert (beta.before["status"], beta.after["status"]) == ("circuit_open", "active")
    assert (beta.before["needs_attention"], beta.after["needs_attention"]) == ("invalid", None)


def test_reading_is_no_change(stage):
    for path in READS:
        stage.ask("GET", path)
    assert stage.audited == []


# -- metrics ---------------------------------------------------------------------------------------


def test_metrics_come_as_they_were_rendered(stage):
    answer = stage.ask("GET", "/admin/metrics", accept="application/openmetrics-text")
    assert answer.body == b"gemproxy_config_generation 1.0\n"
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    stage.ask("GET", "/admin/metrics")
    assert stage.accepted == ["application/openmetrics-text", ""]


def test_many_metrics_are_written_in_turns_and_none_is_lost(stage):
    stage.metrics = b"".join(b"metric_%d %d\n" % (n, n) for n in range(20_000)) + b"# EOF"
    assert stage.ask("GET", "/admin/metrics").body == stage.metrics
    assert stage.pauses >= len(stage.metrics) // (64 * 1024)
    stage.metrics = b""
    assert stage.ask("GET", "/admin/metrics").body == b""


# -- reload ----------------------------------------------------------------------------------------


def test_a_reload_tells_what_it_changed(stage):
    answer = stage.ask("POST", "/admin/config/reload")
    assert answer.json == {
        "success": True,
        "timestamp": "2026-11-22T20:00:00Z",
        "changes": {
            "keys_added": 1,
            "keys_removed": 0,
            "keys_updated": 1,
            "settings": ["retry.maxAttempts", "proxy.port"],
            "restart_required": ["proxy.port"],
        },
    }
    (event,) = stage.audited
    assert (event.action, event.target, event.target_id) == ("config.reload", "configuration", None)
    assert event.before == {"generation": 1}
    assert event.after == {
        "generation": 2,
        "keys_added": ("delta",),
        "keys_removed": (),
        "keys_updated": ("beta",),
        "settings": ("retry.maxAttempts", "proxy.port"),
        "restart_required": ("proxy.port",),
    }


def test_a_reload_that_finds_mistakes_names_every_place(stage):
    async def refuse():
        raise ConfigError(
            (
                Fault("config/keys.yaml", 7, "keys[1].weight", "expected a whole number"),
                Fault("config/proxy.yaml", 2, "proxy.port", "is taken"),
            )
        )

    stage.reload = refuse
    answer = stage.ask("POST", "/admin/config/reload")
    assert answer.status == 400
    assert answer.error["code"] == "invalid_configuration"
    lines = answer.error["message"].splitlines()
    assert lines[1:] == [
        "config/keys.yaml:7: keys[1].weight: expected a whole number",
        "config/proxy.yaml:2: proxy.port: is taken",
    ]
    assert stage.audited == []


def test_a_reload_goes_on_when_the_operator_has_left(stage):
    files_are_read = Deferred()
    reload = stage.reload

    async def slowly():
        await files_are_read
        return await reload()

    stage.reload = slowly
    connection = stage.connect()
    connection.channel.dataReceived(
        b"POST /admin/config/reload HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %b\r\n\r\n"
        % TOKEN.encode()
    )
    assert not connection.is_answered
    connection.channel.connectionLost(Failure(ConnectionDone()))
    files_are_read.callback(None)
    assert [event.action for event in stage.audited] == ["config.reload"]
    assert stage.told.requests == [("req_fresh", "/admin/config/reload", 499, "client_gone")]
    assert not connection.is_answered


def test_who_waits_for_a_request_may_stop_waiting_without_stopping_it(stage):
    files_are_read = Deferred()
    reload = stage.reload

    async def slowly():
        await files_are_read
        return await reload()

    stage.reload = slowly
    waited = []
    rows = {row.route.template: row for row in stage.admin.rows()}
    serve = rows["/admin/config/reload"].serve
    stage.site.fast_routes[b"POST", b"/admin/config/reload"] = lambda request: waited.append(
        serve(request).ended().addErrback(lambda _: None)
    )
    connection = stage.connect()
    connection.channel.dataReceived(
        b"POST /admin/config/reload HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %b\r\n\r\n"
        % TOKEN.encode()
    )
    waited[0].cancel()
    files_are_read.callback(None)
    assert connection.answer().status == 200


def test_a_defect_is_a_500_that_says_nothing(stage):
    async def fail():
        raise LookupError("of all things")

    stage.reload = fail
    with capturedLogs() as events:
        answer = stage.ask("POST", "/admin/config/reload", x_request_id="the-crash")
    assert answer.status == 500
    assert answer.error["code"] == "internal_error"
    assert "the-crash" in answer.error["message"]
    assert "of all things" not in all_of(answer)
    failures = [event for event in events if "log_failure" in event]
    assert failures[0]["request_id"] == "the-crash"


# -- requests --------------------------------------------------------------------------------------


def test_the_latest_requests(stage):
    (record,) = stage.ask("GET", "/admin/requests").json["requests"]
    assert record == {
        "id": "req_1",
        "time": "2026-11-22T19:59:50Z",
        "route": "/v1/chat/completions",
        "model": "gemini-3.8-flash",
        "stream": False,
        "status": 200,
        "outcome": "success",
        "key": "beta",
        "attempts": 2,
        "duration_ms": 812.5,
        "first_byte_ms": 700.2,
        "prompt_tokens": 12,
        "completion_tokens": 34,
        "retries": 1,
        "client": None,
        "endpoint": "chat",
        "cached_tokens": 0,
        "reasoning_tokens": 0,
        "cost_usd": 0.0,
        "queue_ms": 0.0,
    }


def test_how_many_requests_are_shown(stage):
    for n in range(500):
        stage.history.request_ended(context(f"req_{n}"), 200, 1.0)
    for query, number in [
        ("", 100),
        ("?limit=1", 1),
        ("?limit=500", 500),
        ("?limit=007", 7),
        ("?other=x&limit=2", 2),
    ]:
        shown = stage.ask("GET", f"/admin/requests{query}").json["requests"]
        assert [each["id"] for each in shown] == [f"req_{499 - n}" for n in range(number)]


@pytest.mark.parametrize(
    "limit", ["0", "501", "-1", "", "1.5", "many", "%D9%A3", "1e2", "9" * 5000]
)
def test_a_limit_out_of_range_is_refused(stage, limit):
    answer = stage.ask("GET", f"/admin/requests?limit={limit}")
    assert answer.status == 400
    assert answer.error["param"] == "limit"


def test_one_request_is_explained(stage):
    found = stage.ask("GET", "/admin/requests/req_1").json
    assert found["request"]["id"] == "req_1"
    assert found["attempts"] == [
        {
            "key": "alpha",
            "outcome": "quota_minute",
            "status": 429,
            "charged_to": "key",
            "duration_ms": 101.5,
            "passed_over": [],
            "reason": "per_minute",
            "google_status": "RESOURCE_EXHAUSTED",
            "google_reason": None,
            "quota_id": "GenerateRequestsPerMinutePerProjectPerModel-FreeTier",
            "message": "You exceeded your current quota.",
            "passed_over_counts": {},
        },
        {
            "key": "beta",
            "outcome": "success",
            "status": 200,
            "charged_to": "key",
            "duration_ms": 600.0,
            "passed_over": [
                {"key": "alpha", "reason": "cooling_down", "until": "2026-11-22T20:00:30Z"},
                {"key": "gamma", "reason": "disabled", "until": None},
            ],
            "reason": None,
            "google_status": None,
            "google_reason": None,
            "quota_id": None,
            "message": None,
            "passed_over_counts": {"cooling_down": 1, "disabled": 1},
        },
    ]


def test_requests_are_filtered_and_told_in_pages(stage):
    for n in range(9):
        failed = n % 3 == 0
        request = context(f"r{n}")
        request.outcome = "service" if failed else "success"
        stage.history.request_ended(request, 503 if failed else 200, n / 10)
    page = stage.ask("GET", "/admin/requests?failed=true&limit=2").json
    assert [each["id"] for each in page["requests"]] == ["r6", "r3"]
    rest = stage.ask("GET", f"/admin/requests?failed=true&cursor={page['next_cursor']}").json
    assert [each["id"] for each in rest["requests"]] == ["r0"]
    assert rest["next_cursor"] is None
    for query, number in [
        ("status=5xx", 3),
        ("status=200,503&from=today", 10),
        ("outcome=service&key=beta", 3),
        ("outcome=service&key=alpha", 3),
        ("key=gamma", 0),
        ("client=nobody", 0),
        ("model=gemini-3.8-flash&endpoint=chat&to=2026-11-21", 0),
    ]:
        assert len(stage.ask("GET", f"/admin/requests?{query}").json["requests"]) == number, query


def test_a_page_of_requests_is_made_in_short_turns(stage, monkeypatch):
    for n in range(500):
        stage.history.request_ended(context(f"req_{n}"), 200, n / 1000)
    record, made_in, stage.pauses = Finished.record, Counter(), 0

    def count(finished):
        made_in[stage.pauses] += 1
        return record(finished)

    monkeypatch.setattr(Finished, "record", count)
    answer = stage.ask("GET", "/admin/requests?limit=500")
    assert len(answer.json["requests"]) == made_in.total() == 500
    # Of which each encodes and scrubs what it made.
    assert max(made_in.values()) <= 25


@pytest.mark.parametrize(
    "query",
    ["status=700", f"status={'503,' * 100}500", "from=soon", "cursor=x", "failed=yes"],
)
def test_a_question_about_requests_that_makes_no_sense_is_refused(stage, query):
    answer = stage.ask("GET", f"/admin/requests?{query}")
    assert (answer.status, answer.error["param"]) == (400, query.split("=")[0])


def test_a_request_that_nobody_remembers_is_404(stage):
    answer = stage.ask("GET", "/admin/requests/req_2")
    assert answer.status == 404
    assert answer.error["code"] == "request_not_found"


def test_answers_are_plain_json(stage):
    for path in READS:
        if path != "/admin/metrics":
            answer = stage.ask("GET", path)
            assert answer.headers["content-type"] == "application/json"
            json.load(io.BytesIO(answer.body))


# -- many keys, and what Google says of one --------------------------------------------------------


def test_keys_are_filtered(stage):
    stage.break_key("alpha")
    stage.pool.disable("gamma")

    def names(query):
        return [each["name"] for each in stage.ask("GET", f"/admin/keys?{query}").json["keys"]]

    assert names("state=open") == names("state=circuit_open") == names("state=trouble") == ["alpha"]
    assert names("state=disabled") == ["gamma"]
    assert names("project=beta") == ["beta"]
    assert names("limit=2") == ["alpha", "beta"]
    assert names("state=active&project=alpha") == []
    assert names("other=1") == ["alpha", "beta", "gamma"]


@pytest.mark.parametrize(
    ("query", "param"),
    [("state=ill", "state"), ("limit=0", "limit"), ("limit=-1", "limit"), ("limit=x", "limit")],
)
def test_a_filter_that_makes_no_sense_is_refused(stage, query, param):
    answer = stage.ask("GET", f"/admin/keys?{query}")
    assert answer.status == 400
    assert answer.error["param"] == param


def change_many(stage, action, body, **headers):
    headers.setdefault("content_type", "application/json")
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return stage.ask("POST", f"/admin/keys/{action}", body, **sent)


def test_many_keys_are_reset_with_one_audit_event(stage):
    for name in ("alpha", "beta"):
        stage.break_key(name)
    answer = change_many(stage, "reset", {"all": True, "state": "open"})
    assert answer.json == {
        "success": True,
        "message": "2 keys are reset: breakers are closed, cooldowns forgotten.",
        "changed": 2,
        "names": ["alpha", "beta"],
    }
    assert stage.status("alpha").status == "active"
    (event,) = stage.audited
    assert (event.action, event.target, event.target_id) == ("keys.reset", "keys", None)
    assert event.before == {"state": "open"}
    assert event.after == {"keys": 2, "names": ("alpha", "beta")}


def test_many_keys_are_disabled_and_enabled(stage):
    assert change_many(stage, "disable", {"all": True, "project": "beta"}).json["changed"] == 1
    assert not stage.status("beta").enabled
    assert change_many(stage, "disable", {"all": True}).json["changed"] == 3
    assert change_many(stage, "enable", {"all": True, "state": "disabled"}).json["changed"] == 3
    assert change_many(stage, "enable", {"all": True, "state": "open"}).json["message"] == (
        "0 keys are enabled."
    )


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"", "all"),
        (b"{}", "all"),
        ({"all": False}, "all"),
        ({"state": "open"}, "all"),
        ({"all": True, "state": "ill"}, "state"),
        ({"all": True, "name": "alpha"}, "name"),
        ({"all": 1}, "all"),
        (b"[" * 2000, None),
        (b"\xff", None),
    ],
)
def test_many_keys_do_not_change_by_mistake(stage, body, param):
    for action in ("reset", "disable", "enable"):
        answer = change_many(stage, action, body)
        assert answer.status == 400
        assert answer.error["param"] == param
    assert stage.audited == []


def test_many_keys_need_a_content_type(stage):
    answer = stage.ask("POST", "/admin/keys/reset", b'{"all":true}', **{"content-type": "text/x"})
    assert answer.status == 400


def test_google_is_asked_about_a_key(stage):
    answer = stage.ask("POST", "/admin/keys/alpha/test")
    assert answer.json["verdict"] == "ok"
    assert answer.json["recorded"] is False
    assert stage.audited == []
    stage.google["alpha"] = Outcome(
        Verdict.KEY,
        403,
        "leaked",
        "Your API key was reported as leaked. Please use another API key.",
        google_status="PERMISSION_DENIED",
    )
    told = stage.ask("POST", "/admin/keys/alpha/test").json
    assert told == {
        "key_id": stage.status("alpha").id,
        "name": "alpha",
        "verdict": "rejected",
        "recorded": True,
        "duration_ms": 0.0,
        "outcome": "key",
        "status": 403,
        "reason": "leaked",
        "google_status": "PERMISSION_DENIED",
        "google_reason": None,
        "message": "Your API key was reported as leaked.",
    }
    assert stage.status("alpha").needs_attention == "leaked"
    (event,) = stage.audited
    assert (event.action, event.target) == ("key.test", "alpha")
    assert event.before == {"status": "active", "needs_attention": None}
    assert event.after == {"status": "circuit_open", "needs_attention": "leaked"}


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome(Verdict.NETWORK, reason="refused"),
        Outcome(Verdict.SERVICE, 503),
        Outcome(Verdict.QUOTA_MINUTE, 429),
        Outcome(Verdict.FORBIDDEN, 403, "forbidden"),
        Outcome(Verdict.REQUEST, 404),
    ],
)
def test_an_answer_that_says_nothing_of_the_key_changes_nothing(stage, outcome):
    stage.google["alpha"] = outcome
    before = stage.status("alpha")
    assert stage.ask("POST", "/admin/keys/alpha/test").json["verdict"] == "unclear"
    assert stage.status("alpha") == before


def test_no_key_is_tested_that_is_not_there(stage):
    answer = stage.ask("POST", "/admin/keys/nobody/test")
    assert (answer.status, answer.error["code"]) == (404, "key_not_found")
