"""Google is out of order: no key pays for it, and traffic flows soon after the repair."""

import time

import openai
import pytest
from fakes.clients import said, sdk_of
from fakes.running import keys_of

PLAIN = "gemini-2.5-flash-lite"
NAMES = ("alpha", "beta", "gamma", "delta")
OUTAGE_SECONDS = 2.5
#: What is promised.
RECOVERY_SECONDS = 15.0


def ask(client, stream):
    answer = client.chat.completions.create(**said("Hello", PLAIN, stream=stream))
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
