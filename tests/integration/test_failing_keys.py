"""One key of two fails, in every way that the simulator knows; clients do not notice.

A failing key is benched by most of what is tried here, some of it until midnight. So the daemon of
these tests forgives fast, and what Google's own word makes last gets a key and a model for itself.
"""

import contextlib
import time

import openai
import pytest
from fakes.clients import said, sdk_of
from fakes.running import RunningDaemon, RunningSimulator, keys_of

from gemproxy.simulator.behaviours import CATALOGUE, Kind

MODEL = "gemini-2.5-flash-lite"
#: The request's own fault, or the host's: every key would say the same.
FINAL = {
    "bad-request": (400, None),
    "context-too-long": (400, "context_length_exceeded"),
    "gone-model": (404, "model_not_found"),
    "region-refused": (400, "unsupported_country_region_territory"),
}
FAULTS = (Kind.KEY_FAULT, Kind.ERROR, Kind.TRANSPORT, Kind.STREAM)
#: HTTP 200 with nothing in it is a failure as well.
EMPTY = ("no-candidates", "malformed-call", "finish", "empty-text", "no-parts")
#: For so long that no test can wait for the end of it.
LASTING = (
    "rate-limited-minute",
    "rate-limited-day",
    "rate-limited-tokens",
    "quota-zero",
    "rate-limited-old-style",
    "spend-limited",
    "closed-model",
)
PASSING = [
    name
    for name, entry in CATALOGUE.items()
    if (entry.kind in FAULTS and name not in FINAL and name not in LASTING) or name in EMPTY
]
#: About one model of the key, as long as there is no second one.
FORBIDDEN = "forbidden"
KEY_FAULTS = [
    name
    for name, entry in CATALOGUE.items()
    if entry.kind is Kind.KEY_FAULT and name not in FINAL and name != FORBIDDEN
]
OTHER_MODELS = (
    "gemini-4-argon",
    "gemini-4-carbon",
    "gemini-4-hydrogen",
    "gemini-3.8-flash",
    "gemini-3.7-flash",
    "gemini-3.6-flash",
    "gemini-3.5-flash",
    "gemini-3.5-flash-lite",
    "gemini-3.1-pro-preview",
    "gemini-3-flash-preview",
    "gemini-2.5-pro",
    "gemini-2.5-flash",
    "gemma-4-31b-it",
    "gemini-flash-latest",
)
UNARY_AND_STREAM = pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])
LASTING_CASES = dict(
    zip([(name, stream) for name in LASTING for stream in (False, True)], OTHER_MODELS, strict=True)
)


def own_key(name, stream):
    return f"{name}-{'stream' if stream else 'unary'}"


@pytest.fixture(scope="module")
def simulator(tmp_path_factory):
    names = ("good", "bad", "invalid", "overloaded", "out-of-quota")
    names += tuple(own_key(*case) for case in LASTING_CASES)
    running = RunningSimulator(tmp_path_factory.mktemp("simulator"), names, keepRequests=1000)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def forgiving(simulator, tmp_path_factory):
    """A daemon that takes a benched key back at once, and does not wait long."""
    keys = [*keys_of("good"), *keys_of("bad", models=[MODEL])]
    for case, model in LASTING_CASES.items():
        keys += keys_of(own_key(*case), models=[model])
    running = RunningDaemon(
        tmp_path_factory.mktemp("forgiving"),
        simulator.url,
        keys,
        upstream={"firstByteTimeoutSeconds": 0.5, "idleTimeoutSeconds": 0.5},
        monitoring={
            "failureThreshold": 10_000,
            "minimumRequests": 1_000_000,
            "recoveryTime": 0.01,
            "cooldownSeconds": 0.01,
        },
    )
    yield running
    running.stop()


@pytest.fixture
def client(forgiving, simulator):
    simulator.reset()
    with sdk_of(forgiving) as client:
        until_both_keys_serve(client, simulator)
        simulator.reset()
        yield client


def until_both_keys_serve(client, simulator):
    """An earlier test may have opened their breakers, if only for 10 ms."""
    deadline = time.monotonic() + 20
    while {request["key"] for request in simulator.requests()} < {"good", "bad"}:
        assert time.monotonic() < deadline
        with contextlib.suppress(openai.InternalServerError):
            client.chat.completions.create(**said("Are you there?", MODEL))


def ask(client, model, stream):
    """One request; an error of the client's side fails the test. Gives its id."""
    raw = client.chat.completions.with_raw_response.create(
        **said("Tell me something.", model, stream=stream)
    )
    if stream:
        chunks = list(raw.parse())
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        reasons = [chunk.choices[0].finish_reason for chunk in chunks]
        assert [reason for reason in reasons if reason] == ["stop"]
    else:
        (choice,) = raw.parse().choices
        text = choice.message.content
        assert choice.finish_reason == "stop"
    assert text.startswith('You said: "Tell me something.".')
    return raw.headers["x-request-id"]


def ask_until_it_failed(client, simulator, name, behaviour, model, stream, *, times):
    """At least four requests, and as many as it takes for the key ``name`` to fail ``times``."""
    parameters = {"chunks": 0} if CATALOGUE[behaviour].kind is Kind.STREAM else {}
    simulator.behave(name, behaviour, parameters=parameters)
    deadline, asked = time.monotonic() + 20, 0
    while asked < 4 or failed_attempts(simulator, name, behaviour) < times:
        assert time.monotonic() < deadline, f"{name} was never asked"
        ask(client, model, stream)
        asked += 1


def failed_attempts(simulator, name, behaviour):
    return sum(
        request["key"] == name and request["behaviour"] == behaviour
        for request in simulator.requests()
    )


def test_every_fault_of_the_simulator_is_in_one_of_these_tests():
    faults = {name for name, entry in CATALOGUE.items() if entry.kind in FAULTS}
    assert faults | set(EMPTY) == {*PASSING, *LASTING, *FINAL}


@UNARY_AND_STREAM
@pytest.mark.parametrize("behaviour", PASSING)
def test_clients_do_not_notice_a_failing_key(client, simulator, behaviour, stream):
    ask_until_it_failed(client, simulator, "bad", behaviour, MODEL, stream, times=2)


@UNARY_AND_STREAM
@pytest.mark.parametrize("behaviour", LASTING)
def test_clients_do_not_notice_a_key_without_quota(client, simulator, behaviour, stream):
    name, model = own_key(behaviour, stream), LASTING_CASES[behaviour, stream]
    ask_until_it_failed(client, simulator, name, behaviour, model, stream, times=1)


@pytest.mark.parametrize(
    ("behaviour", "asked"),
    [
        ("rate-limited-minute", 1),
        ("rate-limited-day", 1),
        ("spend-limited", 1),
        ("closed-model", 1),
    ],
)
def test_key_without_quota_is_left_alone(client, simulator, behaviour, asked):
    name, model = own_key(behaviour, stream=False), LASTING_CASES[behaviour, False]
    simulator.behave(name, behaviour)
    for _ in range(6):
        ask(client, model, stream=False)
    # It failed in an earlier test already, or fails now and is not asked again.
    assert failed_attempts(simulator, name, behaviour) <= asked


@UNARY_AND_STREAM
@pytest.mark.parametrize("behaviour", FINAL)
def test_what_every_key_would_refuse_is_asked_once(client, simulator, behaviour, stream):
    status, code = FINAL[behaviour]
    simulator.behave_all(behaviour)
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(**said("Hello", MODEL, stream=stream))
    assert (caught.value.status_code, caught.value.code) == (status, code)
    assert caught.value.type == "invalid_request_error"
    assert len(simulator.requests()) == 1
    simulator.reset()
    for _ in range(4):
        ask(client, MODEL, stream)
    assert {request["key"] for request in simulator.requests()} == {"good", "bad"}


@UNARY_AND_STREAM
@pytest.mark.parametrize("behaviour", KEY_FAULTS)
def test_a_keys_fault_is_never_the_clients_401_or_403(client, simulator, behaviour, stream):
    simulator.behave("good", behaviour)
    simulator.behave("bad", behaviour)
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(**said("Hello", MODEL, stream=stream))
    error = caught.value
    assert (error.status_code, error.code) == (503, "no_healthy_keys")
    assert int(error.response.headers["retry-after"]) >= 1
    # An echoed key, whole or masked, is nothing for clients.
    assert "test-key" not in error.response.text


@UNARY_AND_STREAM
def test_log_tells_of_the_key_that_failed_before(client, forgiving, simulator, stream):
    simulator.behave("bad", "overloaded")
    lines = [forgiving.request_line(ask(client, MODEL, stream)) for _ in range(4)]
    retried = [line for line in lines if line["attempts"] == 2]
    assert retried
    for line in retried:
        assert (line["key"], line["tried"]) == ("good", ["bad:service"])
        assert (line["status"], line["outcome"]) == (200, "success")


@UNARY_AND_STREAM
def test_silent_upstream_is_a_timeout_in_the_end(client, forgiving, simulator, stream):
    simulator.behave_all("hang")
    started = time.monotonic()
    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(**said("Hello", MODEL, stream=stream))
    assert (caught.value.status_code, caught.value.code) == (504, "upstream_timeout")
    assert time.monotonic() - started < 10
    line = forgiving.request_line(caught.value.request_id)
    assert (line["status"], line["outcome"], line["attempts"]) == (504, "network", 3)


def test_secrets_are_nowhere_in_the_log(forgiving, client, simulator):
    simulator.behave("bad", "suspended")  # echoes the whole key
    for _ in range(4):
        ask(client, MODEL, stream=False)
    assert "test-key-of-" not in forgiving.output


def test_three_bad_keys_and_a_good_one_with_the_usual_settings(simulator, tmp_path):
    simulator.reset()
    simulator.behave("invalid", "invalid")
    simulator.behave("overloaded", "overloaded")
    simulator.behave("out-of-quota", "rate-limited-day")
    keys = keys_of("invalid", "overloaded", "out-of-quota", "good")
    daemon = RunningDaemon(tmp_path, simulator.url, keys, retry={"maxAttempts": 4})
    with sdk_of(daemon) as client:
        for number in range(40):
            ask(client, MODEL, stream=bool(number % 2))
    daemon.stop()
    asked = [request["key"] for request in simulator.requests()]
    assert asked.count("good") == 40
    assert asked.count("invalid") == 1
    assert asked.count("out-of-quota") == 1
    assert asked.count("overloaded") == 3


def test_key_that_breaks_off_every_stream_is_not_taken_for_an_outage(simulator, tmp_path):
    """Its own streams cannot be saved; those of the other key must not suffer for it."""
    simulator.reset()
    simulator.behave("overloaded", "cut", parameters={"chunks": 2}, calls=["stream"])
    keys = keys_of("overloaded", weight=4) + keys_of("good")
    daemon = RunningDaemon(tmp_path, simulator.url, keys)
    codes = set()
    try:
        with sdk_of(daemon) as client:
            for _ in range(20):
                try:
                    ask(client, MODEL, stream=True)
                except openai.APIError as error:
                    codes.add(error.code)
    finally:
        daemon.stop()
    assert codes == {"stream_incomplete"}
    assert "good" in {request["key"] for request in simulator.requests()}
