"""Why a request failed, and which key is at fault: in the log, in the explanation, in health."""

import re
import subprocess
import sys
import time

import pytest
from fakes.clients import post, said
from fakes.running import REPOSITORY, eventually, keys_of

MODEL = "gemini-2.5-flash-lite"
#: What the simulator says, in Google's words.
CASES = {
    "expired": (400, "INVALID_ARGUMENT", "API_KEY_INVALID", "API key expired."),
    "leaked": (403, "PERMISSION_DENIED", None, "Your API key was reported as leaked."),
    "unauthenticated": (401, "UNAUTHENTICATED", "ACCESS_TOKEN_TYPE_UNSUPPORTED", ""),
    "rate-limited-day": (429, "RESOURCE_EXHAUSTED", None, "You exceeded your current quota"),
    "overloaded": (503, "UNAVAILABLE", None, "This model is currently experiencing high demand."),
    "internal-error": (500, "INTERNAL", None, "An internal error has occurred."),
}


@pytest.mark.parametrize("behaviour", CASES)
@pytest.mark.parametrize("rescued", [False, True], ids=["failed", "rescued"])
def test_googles_words_are_in_the_log_and_in_the_explanation(
    start_daemon, simulator, behaviour, rescued
):
    daemon = start_daemon(keys_of("alpha", "beta", weight=1))
    simulator.behave("alpha", behaviour)
    if not rescued:
        simulator.behave("beta", behaviour)
    status, canonical, reason, words = CASES[behaviour]
    answer = post(daemon, said("Hello", MODEL))
    assert (answer.status == 200) is rescued
    request_id = answer.headers["x-request-id"]
    told = daemon.admin("GET", f"requests/{request_id}").json["attempts"][0]
    assert (told["key"], told["status"]) == ("alpha", status)
    assert (told["google_status"], told["google_reason"]) == (canonical, reason)
    assert words in told["message"]
    (failure, *_) = daemon.request_line(request_id)["failures"]
    assert failure["google_status"] == canonical
    assert failure.get("google_reason") == reason
    assert words in failure["message"]
    quota = "GenerateRequestsPerDayPerProjectPerModel-FreeTier"
    expected = quota if behaviour == "rate-limited-day" else None
    assert failure.get("quota_id") == told["quota_id"] == expected
    assert "test-key-of-" not in daemon.output


def test_why_nobody_answered_is_told_as_well(start_daemon):
    daemon = start_daemon(keys_of("alpha"), base_url="http://127.0.0.1:9")
    answer = post(daemon, said("Hello", MODEL))
    request_id = answer.headers["x-request-id"]
    told = daemon.admin("GET", f"requests/{request_id}").json["attempts"]
    assert {each["reason"] for each in told} == {"refused"}
    assert all("refused" in each["message"] for each in told)
    failures = daemon.request_line(request_id)["failures"]
    assert [each["reason"] for each in failures] == ["refused"] * len(told)


def test_a_rejected_keys_reason_is_in_the_log(start_daemon, simulator):
    daemon = start_daemon(keys_of("alpha", "beta"))
    simulator.behave("alpha", "expired")
    for _ in range(2):
        assert post(daemon, said("Hello", MODEL)).status == 200
    (line,) = eventually(
        lambda: [e for e in daemon.events() if e["event"].startswith("a key needs attention")]
    )
    assert (line["level"], line["key"], line["reason"]) == ("error", "alpha", "expired")
    assert line["message"] == "API key expired."


@pytest.mark.parametrize(
    ("behaviour", "causes"),
    [
        ("overloaded", {"upstream 503", "model unavailable"}),
        ("expired", {"upstream 400", "no healthy keys"}),
        ("rate-limited-minute", {"upstream 429", "rate limit exceeded"}),
        ("reset", {"reset", "model unavailable"}),
    ],
)
def test_health_never_says_that_it_serves_while_nobody_is_served(
    start_daemon, simulator, behaviour, causes
):
    daemon = start_daemon(keys_of("alpha", "beta", cooldownSeconds=1))
    assert daemon.health()["headline"] == "All 2 keys serve."
    simulator.behave_all(behaviour)
    for number in range(20):
        assert post(daemon, said(f"Hello {number}", MODEL)).status in (429, 502, 503)
    health = daemon.health()
    assert health["status"] == "unhealthy"
    assert health["requests"]["total"] == health["requests"]["failed"] == 20
    assert {each["cause"] for each in health["requests"]["causes"]} <= causes
    assert not health["headline"].startswith(("Serving", "All"))
    if behaviour == "expired":
        assert health["headline"] == "No key can serve: 2 expired."
        assert health["keys"]["needs_attention"] == {"expired": 2}
    else:
        assert health["headline"].startswith("Failing: 20 of 20 requests in the last 5 minutes")


def test_what_clients_do_wrong_is_no_failure_of_the_service(start_daemon):
    daemon = start_daemon()
    for _ in range(10):
        assert post(daemon, {"model": MODEL, "messages": []}).status == 400
        assert post(daemon, said("[simulate:bad-request]", MODEL)).status == 400
    health = daemon.health()
    assert (health["status"], health["requests"]["total"]) == ("healthy", 0)


def operator(daemon, *argv):
    """Run ``gemproxy keys`` against the daemon; gives its status and what it prints."""
    program = "import sys; from gemproxy.cli import main; sys.exit(main())"
    config = str(daemon.folder / "proxy.yaml")
    options = ["--config", config, "--url", daemon.url]
    done = subprocess.run(
        [sys.executable, "-c", program, "keys", *argv, *options],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_google_is_asked_about_keys_and_many_are_reset(start_daemon, simulator):
    daemon = start_daemon(keys_of("alpha", "beta", "gamma"))
    simulator.behave("alpha", "expired")
    simulator.behave("beta", "leaked")
    status, out = operator(daemon, "test")
    assert status == 1
    assert out.splitlines() == [
        "alpha: rejected (expired, 400 INVALID_ARGUMENT API_KEY_INVALID): API key expired.",
        ("beta: rejected (leaked, 403 PERMISSION_DENIED): Your API key was reported as leaked."),
        "gamma: ok",
        "",
        "3 keys tested: 2 rejected, 1 ok",
    ]
    asked = simulator.requests()
    assert {request["path"].partition("?")[0] for request in asked} == {"/v1beta/models"}
    # What was learned by it holds: no client's request has to find it out.
    for number in range(4):
        assert post(daemon, said(f"Hello {number}", MODEL)).status == 200
    assert {request["key"] for request in simulator.requests()[len(asked) :]} == {"gamma"}
    counts = operator(daemon, "--state", "attention")[1].splitlines()[0]
    assert counts == "3 keys: 2 attention (1 expired, 1 leaked), 1 active"
    simulator.reset()
    assert operator(daemon, "test", "alpha") == (0, "alpha: ok\n")
    assert daemon.key("alpha")["status"] == "circuit_open"
    assert operator(daemon, "reset", "--all", "--state", "open") == (
        0,
        "2 keys are reset: breakers are closed, cooldowns forgotten.\n",
    )
    for number in range(6):
        assert post(daemon, said(f"Hello {number}", MODEL)).status == 200
    assert {request["key"] for request in simulator.requests()} >= {"alpha", "beta", "gamma"}
    (event,) = [e for e in daemon.events() if e.get("action") == "keys.reset"]
    assert event["after"] == {"keys": 2, "names": ["alpha", "beta"]}


def test_what_says_nothing_of_a_key_is_unclear(start_daemon):
    daemon = start_daemon(keys_of("alpha"), base_url="http://127.0.0.1:9")
    status, out = operator(daemon, "test", "alpha")
    assert status == 0
    assert out.startswith("alpha: unclear (refused): The upstream could not be used")
    assert daemon.key("alpha")["status"] == "active"


def test_thousands_of_keys_are_changed_while_others_are_served(start_daemon):
    keys = [
        {"name": f"key-{n}", "key": f"test-key-{n}-0123456789abcdef", "project": f"p{n % 4}"}
        for n in range(3000)
    ]
    daemon = start_daemon(keys)
    began = time.monotonic()
    assert daemon.admin("POST", "keys/disable", {"all": True}).json["changed"] == 3000
    assert daemon.health()["headline"] == "No key can serve."
    assert daemon.admin("POST", "keys/enable", {"all": True}).json["changed"] == 3000
    assert daemon.admin("POST", "keys/reset", {"all": True}).json["changed"] == 3000
    assert time.monotonic() - began < 60
    text = daemon.admin("GET", "metrics").body.decode()
    ticks = dict(
        re.findall(r'^gemproxy_reactor_lag_seconds_bucket\{le="(.*?)"\} (.*)$', text, re.MULTILINE)
    )
    # A loaded machine is late by itself, now and then.
    assert float(ticks["0.5"]) >= float(ticks["+Inf"]) - 3
    assert len(daemon.admin("GET", "keys?state=active&limit=5").json["keys"]) == 5
