"""The admin API of the running daemon against its contract: what it answers, and what that does."""

import pytest
from fakes.running import ADMIN_TOKEN, RunningDaemon, keys_of, secret_of
from fakes.wire import CHAT, Wire, ask, chat, request, said
from jsonschema import ValidationError

KEYS = keys_of("alpha", "beta", "gamma")
AS_ADMIN = {"authorization": f"Bearer {ADMIN_TOKEN}"}


@pytest.fixture(scope="module")
def daemon(simulator, tmp_path_factory):
    running = RunningDaemon(tmp_path_factory.mktemp("daemon"), simulator.url, KEYS)
    yield running
    running.stop()


@pytest.fixture(autouse=True)
def as_in_the_file(daemon):
    """Whatever the last test did to keys is undone."""
    for name in ("alpha", "beta", "gamma"):
        daemon.admin("POST", f"keys/{name}/enable")
        daemon.admin("POST", f"keys/{name}/reset")
        daemon.admin("PUT", f"keys/{name}/weight", {"weight": None})


def serving_key(daemon):
    """The name of the key that serves the next request."""
    answer = chat(daemon, **AS_ADMIN)
    assert answer.status == 200
    return answer.headers["x-gemproxy-key"]


def explained(daemon, request_id):
    return daemon.admin("GET", f"requests/{request_id}")


# -- shapes ----------------------------------------------------------------------------------------


def test_every_answer_fits_the_contract(daemon, simulator, fits):
    """After a life with everything in it: a failover, a cooldown, a key that needs attention."""
    simulator.behave("alpha", "invalid")
    simulator.behave("beta", "rate-limited-minute")
    assert chat(daemon, x_request_id="life-1").status == 200
    assert ask(daemon, "POST", CHAT, said("hi", stream=True), x_request_id="life-2").status == 200
    assert ask(daemon, "POST", CHAT, b"{", x_request_id="life-3").status == 400
    fits(daemon.admin("GET", "health"), "/admin/health")
    fits(daemon.admin("GET", "keys"), "/admin/keys")
    fits(daemon.admin("GET", "metrics"), "/admin/metrics")
    fits(daemon.admin("GET", "requests?limit=500"), "/admin/requests")
    for request_id in ("life-1", "life-2", "life-3"):
        answer = explained(daemon, request_id)
        assert answer.status == 200
        fits(answer, "/admin/requests/{requestId}")
    for action in ("disable", "enable", "reset"):
        answer = daemon.admin("POST", f"keys/alpha/{action}")
        assert answer.status == 200
        fits(answer, f"/admin/keys/{{keyId}}/{action}", "post")
    answer = daemon.admin("PUT", "keys/alpha/weight", {"weight": 7})
    fits(answer, "/admin/keys/{keyId}/weight", "put")
    fits(daemon.reload(), "/admin/config/reload", "post")


def test_every_refusal_fits_the_contract(daemon, contract, fits):
    for route, methods in contract["paths"].items():
        path = route.replace("{keyId}", "nobody").replace("{requestId}", "none")
        path = path.removeprefix("/admin/")
        for method in methods.keys() - {"parameters"}:
            stranger = daemon.admin(method.upper(), path, token=None)
            assert stranger.status == 401
            fits(stranger, route, method)
            if "404" in methods[method]["responses"]:
                body = {"weight": 1} if method == "put" else None
                nobody = daemon.admin(method.upper(), path, body)
                assert nobody.status == 404
                fits(nobody, route, method)
    too_light = daemon.admin("PUT", "keys/alpha/weight", {"weight": 0})
    assert too_light.status == 400
    fits(too_light, "/admin/keys/{keyId}/weight", "put")
    too_many = daemon.admin("GET", "requests?limit=501")
    assert too_many.status == 400
    fits(too_many, "/admin/requests")


def test_a_refused_reload_fits_the_contract(start_daemon, fits):
    daemon = start_daemon()
    (daemon.folder / "keys.yaml").write_text("keys:\n- name: alpha\n  key: x y\n")
    answer = daemon.reload()
    assert answer.status == 400
    fits(answer, "/admin/config/reload", "post")
    fits(daemon.admin("GET", "health"), "/admin/health")


def test_the_check_of_shapes_can_fail(daemon, fits):
    with pytest.raises(ValidationError):
        fits(daemon.admin("GET", "health"), "/admin/keys")


def test_health_counts_keys_by_their_state(daemon, simulator):
    simulator.behave("alpha", "invalid")
    for _ in range(3):
        assert chat(daemon).status == 200
    daemon.admin("POST", "keys/beta/disable")
    health = daemon.health()
    assert health["status"] == "degraded"
    assert health["keys"] == {
        "total": 3,
        "healthy": 1,
        "unhealthy": 1,
        "disabled": 1,
        "recovering": 0,
        "needs_attention": {"invalid": 1},
    }
    assert len(health["reasons"]) == 3
    assert health["in_flight"] == 0
    assert not health["draining"]
    assert health["persistence"]["backend"] == "sqlite"
    daemon.admin("POST", "keys/gamma/disable")
    assert daemon.health()["status"] == "unhealthy"


def test_a_key_that_google_refused_needs_attention_until_it_is_reset(daemon, simulator):
    simulator.behave("alpha", "invalid")
    for _ in range(3):
        chat(daemon)
    alpha = daemon.key("alpha")
    assert (alpha["status"], alpha["needs_attention"]) == ("circuit_open", "invalid")
    assert alpha["last_error"]["status"] == 400
    assert alpha["masked"] == f"{secret_of('alpha')[:4]}…{secret_of('alpha')[-4:]}"
    simulator.reset()
    daemon.admin("POST", "keys/alpha/reset")
    alpha = daemon.key("alpha")
    assert (alpha["status"], alpha["needs_attention"]) == ("active", None)
    assert "alpha" in {serving_key(daemon) for _ in range(3)}


# -- what happened to a request --------------------------------------------------------------------


def test_a_request_that_failed_over_is_explained(daemon, simulator):
    """Both keys, both outcomes, who was charged, and why each of the others was skipped."""
    daemon.admin("POST", "keys/gamma/disable")
    simulator.behave("alpha", "rate-limited-minute")
    daemon.admin("PUT", "keys/alpha/weight", {"weight": 1000})
    assert chat(daemon, x_request_id="failed-over").status == 200
    told = explained(daemon, "failed-over").json
    assert told["request"]["id"] == "failed-over"
    assert (told["request"]["key"], told["request"]["attempts"]) == ("beta", 2)
    assert (told["request"]["status"], told["request"]["outcome"]) == (200, "success")
    first, second = told["attempts"]
    assert (first["key"], first["status"], first["charged_to"]) == ("alpha", 429, "key")
    assert first["outcome"] == "quota_minute"
    assert (second["key"], second["status"], second["charged_to"]) == ("beta", 200, "key")
    assert second["outcome"] == "success"
    assert reasons(first) == {"gamma": "disabled"}
    assert reasons(second)["gamma"] == "disabled"
    assert reasons(second)["alpha"] in {"already_tried", "cooling_down"}
    # The next request meets the cooldown itself, and is told how long it lasts.
    assert chat(daemon, x_request_id="passed-by").status == 200
    (only,) = explained(daemon, "passed-by").json["attempts"]
    assert reasons(only) == {"alpha": "cooling_down", "gamma": "disabled"}
    cooling = daemon.key("alpha")["cooldowns"]
    assert [rest["reason"] for rest in cooling] == ["quota_minute"]
    assert untils(only)["alpha"] == cooling[0]["until"]
    assert untils(only)["gamma"] is None


def test_a_key_whose_breaker_is_open_is_named_with_the_time_of_its_next_trial(daemon, simulator):
    simulator.behave("alpha", "invalid")
    for _ in range(3):
        chat(daemon)
    assert chat(daemon, x_request_id="around").status == 200
    (only,) = explained(daemon, "around").json["attempts"]
    assert reasons(only) == {"alpha": "circuit_open"}
    assert untils(only)["alpha"] == daemon.key("alpha")["next_retry"]


def test_a_failure_of_the_service_is_charged_to_the_key_that_another_one_proved_wrong(
    daemon, simulator
):
    simulator.behave("alpha", "internal-error")
    daemon.admin("PUT", "keys/alpha/weight", {"weight": 1000})
    assert chat(daemon, x_request_id="proved").status == 200
    first, second = explained(daemon, "proved").json["attempts"]
    assert (first["key"], first["status"], first["charged_to"]) == ("alpha", 500, "key")
    assert second["outcome"] == "success"


def test_a_failure_that_follows_to_every_key_is_charged_to_the_model(daemon, simulator):
    simulator.behave_all("internal-error")
    asked = ask(daemon, "POST", CHAT, said("hi", "gemini-2.5-pro"), x_request_id="outage")
    assert asked.status == 500
    attempts = explained(daemon, "outage").json["attempts"]
    assert {attempt["key"] for attempt in attempts} == {"alpha", "beta", "gamma"}
    assert {attempt["charged_to"] for attempt in attempts} == {"model"}


def test_a_request_that_found_no_key_is_explained(daemon, simulator):
    daemon.admin("POST", "keys/beta/disable")
    daemon.admin("POST", "keys/gamma/disable")
    simulator.behave("alpha", "invalid")
    assert chat(daemon, x_request_id="last-of-them").status == 503
    attempt, refusal = explained(daemon, "last-of-them").json["attempts"]
    assert (attempt["key"], attempt["charged_to"]) == ("alpha", "key")
    assert (refusal["key"], refusal["charged_to"]) == (None, "nobody")
    assert reasons(refusal)["beta"] == "disabled"
    assert chat(daemon, x_request_id="nobody-left").status == 503
    told = explained(daemon, "nobody-left").json
    assert (told["request"]["key"], told["request"]["attempts"]) == (None, 0)
    (refusal,) = told["attempts"]
    assert (refusal["key"], refusal["outcome"]) == (None, "no_healthy_keys")
    assert reasons(refusal) == {"alpha": "circuit_open", "beta": "disabled", "gamma": "disabled"}
    assert untils(refusal)["alpha"] == daemon.key("alpha")["next_retry"]


def test_limits_and_models_of_a_key_are_reasons_too(start_daemon):
    limited = {"limits": {"rpm": 1}}
    daemon = start_daemon(
        [
            *keys_of("alpha", **limited),
            *keys_of("beta", models=["gemini-2.5-pro"]),
            *keys_of("gamma"),
        ]
    )
    for number in range(3):
        assert chat(daemon, x_request_id=f"r-{number}").status == 200
    assert {explained(daemon, f"r-{n}").json["request"]["key"] for n in range(2)} == {
        "alpha",
        "gamma",
    }
    (only,) = explained(daemon, "r-2").json["attempts"]
    assert reasons(only) == {"alpha": "over_limit", "beta": "model_not_allowed"}
    assert untils(only)["alpha"] is not None
    assert untils(only)["beta"] is None


def test_the_latest_requests_stand_first(daemon):
    for number in range(3):
        chat(daemon, x_request_id=f"in-order-{number}")
    records = daemon.admin("GET", "requests?limit=3").json["requests"]
    assert [record["id"] for record in records] == ["in-order-2", "in-order-1", "in-order-0"]
    assert {record["route"] for record in records} == {CHAT}
    assert all(record["prompt_tokens"] > 0 for record in records)


def test_a_streams_record_tells_when_its_first_byte_left(daemon):
    with Wire(daemon) as wire:
        wire.send(
            request("POST", CHAT, said("hi", stream=True), x_request_id="s", connection="close")
        )
        assert b"[DONE]" in wire.rest()
    record = explained(daemon, "s").json["request"]
    assert record["stream"]
    assert 0 < record["first_byte_ms"] <= record["duration_ms"]


def test_no_contents_and_no_secret_are_remembered(daemon):
    assert chat(daemon, "a word that nobody else says", x_request_id="private").status == 200
    for path in ("requests", "requests/private", "keys", "health", "metrics"):
        answer = daemon.admin("GET", path)
        shown = (answer.head + answer.body).decode()
        assert "nobody else says" not in shown
        for secret in (secret_of("alpha"), secret_of("beta"), ADMIN_TOKEN):
            assert secret not in shown


def reasons(attempt):
    return {passed["key"]: passed["reason"] for passed in attempt["passed_over"]}


def untils(attempt):
    return {passed["key"]: passed["until"] for passed in attempt["passed_over"]}
