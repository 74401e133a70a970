"""Google is out of order: no key pays for it, and traffic flows soon after the repair."""

import itertools
import threading
import time

import openai
import pytest
from fakes.clients import post, said, sdk_of
from fakes.running import keys_of

PLAIN = "gemini-2.5-flash-lite"
NAMES = ("alpha", "beta", "gamma", "delta")
OUTAGE_SECONDS = 2.5
#: What is promised.
RECOVERY_SECONDS = 15.0
_numbers = itertools.count()


def ask(client, stream):
    """Something new each time: one request that fails again and again is no outage."""
    prompt = f"Hello {next(_numbers)}"
    answer = client.chat.completions.create(**said(prompt, PLAIN, stream=stream))
    if stream:
        answer = list(answer)
    assert answer


@pytest.mark.parametrize(
    ("behaviour", "status", "stream"),
    [("overloaded", 503, False), ("overloaded", 503, True), ("reset", 502, False)],
)
def test_outage_opens_no_keys_breaker(start_daemon, simulator, behaviour, status, stream):
    daemon = start_daemon(keys_of(*NAMES))
    with sdk_of(daemon) as client:
        simulator.behave_all(behaviour)
        seen = set()
        ends = time.monotonic() + OUTAGE_SECONDS
        while time.monotonic() < ends:
            with pytest.raises(openai.InternalServerError) as caught:
                ask(client, stream)
            error = caught.value
            seen.add((error.status_code, error.code))
            if error.code == "model_unavailable":
                assert 1 <= int(error.response.headers["retry-after"]) <= 10
                time.sleep(0.05)
        assert seen == {(status, "upstream_error"), (503, "model_unavailable")}
        spared = len(simulator.requests())
        assert spared < 40, "the model's breaker has to spare Google most of the requests"

        simulator.reset()
        returned = time.monotonic()
        while True:
            try:
                ask(client, stream)
                break
            except openai.InternalServerError:
                assert time.monotonic() - returned < RECOVERY_SECONDS
                time.sleep(0.05)
        assert time.monotonic() - returned < RECOVERY_SECONDS

        for _ in range(7):
            ask(client, stream)
    keys = [request["key"] for request in simulator.requests()]
    assert {name: keys.count(name) for name in NAMES} == dict.fromkeys(NAMES, 2)


def test_outage_of_one_model_leaves_the_others_alone(start_daemon, simulator):
    daemon = start_daemon(keys_of(*NAMES))
    for name in NAMES:
        simulator.behave(name, "overloaded", models=["gemini-3.8-flash"])
    with sdk_of(daemon) as client:
        for _ in range(5):
            with pytest.raises(openai.InternalServerError):
                client.chat.completions.create(**said("Hello", "gemini-3.8-flash"))
            ask(client, stream=False)


def test_upstream_that_is_not_there_is_a_bad_gateway(start_daemon):
    daemon = start_daemon(base_url="http://127.0.0.1:9")
    with sdk_of(daemon) as client:
        for stream in (False, True):
            with pytest.raises(openai.InternalServerError) as caught:
                ask(client, stream)
            assert (caught.value.status_code, caught.value.code) == (502, "upstream_error")


def test_sdk_that_obeys_retry_after_is_served_when_google_is_back(start_daemon, simulator):
    """The answer that opens the breaker names the next trial's moment, and so do the others."""
    daemon = start_daemon(keys_of(*NAMES))
    simulator.behave_all("overloaded")
    promised, opened = 0.0, 0
    while opened < 5:
        answer = post(daemon, said(f"Hello {next(_numbers)}", PLAIN))
        now = time.monotonic()
        assert answer.status == 503
        wait = int(answer.headers["retry-after"])
        if answer.json["error"]["code"] == "upstream_error":
            # A trial: nobody who came when he was told to was refused.
            opened += 1
            promised = now + wait
        else:
            assert abs(now + wait - promised) < 2.0
        if opened >= 3:
            time.sleep(wait)
    simulator.reset()
    time.sleep(wait)
    assert post(daemon, said("Hello again", PLAIN)).status == 200


@pytest.mark.parametrize("kind", ["internal-error", "reset"])
@pytest.mark.parametrize("nonce", [False, True], ids=["one prompt", "a nonce in each"])
def test_one_clients_bad_prompt_is_not_everybodys_outage(start_daemon, simulator, kind, nonce):
    daemon = start_daemon(keys_of(*NAMES))
    stop = threading.Event()
    bad = []

    def misbehave():
        while not stop.wait(0.1):
            words = f" {next(_numbers)}" if nonce else ""
            bad.append(post(daemon, said(f"[simulate:{kind}] odd{words}", PLAIN)).status)

    assert post(daemon, said("Hello", PLAIN)).status == 200
    clients = [threading.Thread(target=misbehave) for _ in range(2)]
    for client in clients:
        client.start()
    try:
        served = []
        ends = time.monotonic() + 5.0
        while time.monotonic() < ends:
            served.append(post(daemon, said(f"Hello {next(_numbers)}", PLAIN)).status)
            time.sleep(0.05)
    finally:
        stop.set()
        for client in clients:
            client.join()
    assert set(served) == {200}
    assert len(bad) > 10
    assert set(bad) <= {500, 502}
    assert {key["status"] for key in daemon.admin("GET", "keys").json["keys"]} == {"active"}


def test_a_model_that_is_forbidden_to_a_key_benches_neither_key_nor_other_models(
    start_daemon, simulator
):
    daemon = start_daemon(keys_of("alpha", "beta"))
    denied = "gemini-3.8-flash"
    for name in ("alpha", "beta"):
        simulator.behave(name, "forbidden", models=[denied])
    answers = [post(daemon, said("Hello", denied)) for _ in range(3)]
    assert {(each.status, each.json["error"]["code"]) for each in answers} == {
        (404, "model_not_found")
    }
    # Each key was asked once, and is not asked for this model again for a while.
    assert len(simulator.requests()) == 2
    assert [post(daemon, said("Hello", PLAIN)).status for _ in range(4)] == [200] * 4
    for key in daemon.admin("GET", "keys").json["keys"]:
        assert (key["status"], key["needs_attention"]) == ("active", None)
        assert key["denied_models"] == [denied]
    simulator.behave("alpha", "forbidden")
    simulator.reset()
    simulator.behave("alpha", "forbidden")
    for _ in range(4):
        assert post(daemon, said("Hello", PLAIN)).status == 200
    assert post(daemon, said("Hello", "gemini-2.5-pro")).status == 200
    post(daemon, said("Hello", "gemini-2.5-pro"))
    alpha = daemon.key("alpha")
    assert (alpha["status"], alpha["needs_attention"]) == ("circuit_open", "forbidden")
