"""Answers that were reported to be lost or misread, from a simulated Google to a socket."""

import json

import pytest
from fakes.clients import post, said
from fakes.running import keys_of

from gemproxy.simulator import calls as simulator_calls

ARGON, FLASH, LITE, NEW = (
    "gemini-4-argon",
    "gemini-2.5-flash",
    "gemini-2.5-flash-lite",
    "gemini-3.8-flash",
)
SEED = 0  # the simulator's own
both_ways = pytest.mark.parametrize("stream", [False, True])


def ask(daemon, prompt, model, *, stream, **more):
    """The text, the finish reason, the usage and the choices of the answer."""
    options = {"stream_options": {"include_usage": True}} if stream else {}
    answer = post(daemon, said(prompt, model, stream=stream, **options, **more))
    assert answer.status == 200, answer.body
    line = daemon.request_line(answer.headers["x-request-id"])
    if not stream:
        (choice,) = answer.json["choices"]
        text = choice["message"]["content"]
        return text, choice["finish_reason"], answer.json["usage"], [choice], line
    *events, done = answer.events
    assert done == "[DONE]"
    *chunks, last = map(json.loads, events)
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    text = "".join(choice["delta"].get("content") or "" for choice in choices)
    reasons = [choice["finish_reason"] for choice in choices if choice["finish_reason"]]
    assert len(reasons) == 1
    return text, reasons[0], last["usage"], choices, line


@pytest.fixture
def daemon(shared_daemon, simulator):
    """One for all whose answers it keeps nothing of, but for how its keys stand."""
    simulator.reset()
    for name in ("alpha", "beta"):
        assert shared_daemon.admin("POST", f"keys/{name}/reset").status == 200
    return shared_daemon


def generations(simulator):
    return [each for each in simulator.requests() if each["call"] != "models.list"]


# ---- parts of new kinds ------------------------------------------------------------------------


# ---- long answers ------------------------------------------------------------------------------


@both_ways
def test_a_long_answer_has_the_prompt_of_its_first_hop(daemon, simulator, stream):
    _, _, alone, *_ = ask(daemon, "A novel [simulate:long hops=0]", ARGON, stream=stream)
    text, reason, usage, *_ = ask(daemon, "A novel [simulate:long hops=2]", ARGON, stream=stream)
    assert reason == "stop"
    assert [f"Part {n} of 3." in text for n in (1, 2, 3)] == [True] * 3
    assert abs(usage["prompt_tokens"] - alone["prompt_tokens"]) <= 2
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert len(generations(simulator)) == 4


@both_ways
def test_another_key_serves_a_later_hop(start_daemon, simulator, stream):
    daemon = start_daemon(keys_of("alpha", "beta"))
    simulator.behave_all("flaky", parameters={"failure": "rate-limited-minute", "everyNth": 2})
    prompt = "A novel [simulate:long hops=1]"
    text, reason, _, _, line = ask(daemon, prompt, ARGON, stream=stream)
    assert (reason, line["outcome"], line["attempts"]) == ("stop", "success", 2)
    assert "Part 1 of 2." in text
    assert text.count("Part 2 of 2.") == 1
    first, second, third = (request["key"] for request in generations(simulator))
    assert first == second != third


# ---- log probabilities -------------------------------------------------------------------------


@both_ways
@pytest.mark.parametrize("model", [NEW, ARGON, FLASH])
def test_refused_log_probabilities_are_null(start_daemon, simulator, stream, model):
    daemon = start_daemon()
    for asked in (2, 3):
        *_, choices, _ = ask(daemon, "Hello", model, stream=stream, logprobs=True, top_logprobs=5)
        refused = stream or model != FLASH
        assert all((choice["logprobs"] is None) for choice in choices) == refused
        # Once with them and once without; from then on at once without.
        assert len(generations(simulator)) == (asked if refused else asked - 1)


# ---- signatures --------------------------------------------------------------------------------


def tool():
    properties = {"x": {"type": "integer"}}
    function = {"name": "look", "parameters": {"type": "object", "properties": properties}}
    return {"type": "function", "function": function}


def call_of(daemon, number):
    prompt = f'[simulate:same-id] call look with {{"x": {number}}}'
    answer = post(daemon, said(prompt, NEW, tools=[tool()]))
    (call,) = answer.json["choices"][0]["message"]["tool_calls"]
    assert call["id"] == "call_883098"
    return prompt, call


def replay(daemon, prompt, call, *, stream=False, **changed):
    """The next turn, from a client that keeps only what OpenAI documents."""
    kept = {name: call[name] for name in ("id", "type", "function")} | changed
    messages = [
        {"role": "user", "content": prompt},
        {"role": "assistant", "content": None, "tool_calls": [kept]},
        {"role": "tool", "tool_call_id": kept["id"], "content": "seen"},
    ]
    body = {"model": NEW, "messages": messages, "tools": [tool()], "stream": stream}
    assert post(daemon, body).status == 200


def replayed(request):
    (part,) = (p for c in request["body"]["contents"] for p in c["parts"] if "functionCall" in p)
    return part["functionCall"], part["thoughtSignature"]


@both_ways
def test_a_call_id_of_two_conversations_has_two_signatures(start_daemon, simulator, stream):
    daemon = start_daemon()
    conversations = [call_of(daemon, number) for number in (1, 2)]
    before = len(generations(simulator))
    for prompt, call in conversations:
        replay(daemon, prompt, call, stream=stream)
    sent = generations(simulator)[before:]
    # Each is taken at once, with the signature that Google gave for this very call.
    assert len(sent) == 2
    for request in sent:
        function_call, signature = replayed(request)
        assert signature == simulator_calls.sign(SEED, function_call)


def test_a_client_that_renames_ids_keeps_its_signatures(start_daemon, simulator):
    daemon = start_daemon()
    prompt, call = call_of(daemon, 1)
    replay(daemon, prompt, call, id="magentic-7")
    function = {"name": "look", "arguments": '{ "x" : 1 }'}
    replay(daemon, prompt, call, id="magentic-8", function=function)
    for request in generations(simulator)[1:]:
        function_call, signature = replayed(request)
        assert signature == simulator_calls.sign(SEED, function_call)
    assert len(generations(simulator)) == 3


# ---- what a client should know of another try --------------------------------------------------


def headers_of(answer):
    return answer.headers.get("retry-after"), answer.headers.get("x-should-retry")


def test_bad_keys_are_not_to_be_tried_again(start_daemon, simulator):
    daemon = start_daemon()
    simulator.behave_all("invalid")
    for stream in (False, True):
        answer = post(daemon, said("Hello", LITE, stream=stream))
        assert answer.status == 503
        assert headers_of(answer)[1] == "false"
        assert 290 <= int(headers_of(answer)[0]) <= 300


# ---- headers -----------------------------------------------------------------------------------

OURS = {
    "access-control-allow-origin",
    "access-control-expose-headers",
    "cache-control",
    "connection",
    "content-length",
    "content-type",
    "date",
    "openai-processing-ms",
    "retry-after",
    "server",
    "transfer-encoding",
    "vary",
    "x-accel-buffering",
    "x-content-type-options",
    "x-gemproxy-attempts",
    "x-request-id",
    "x-should-retry",
}


@both_ways
@pytest.mark.parametrize("behaviour", ["ok", "overloaded", "redirect", "suspended", "bad-request"])
def test_no_header_of_googles_reaches_a_client(daemon, simulator, stream, behaviour):
    simulator.behave_all(behaviour)
    answer = post(daemon, said("Hello", LITE, stream=stream))
    assert generations(simulator)
    assert set(answer.headers) <= OURS
    assert "location" not in answer.headers
    assert b"secret" not in answer.body.lower()
