"""Anthropic messages at the socket: whole and streamed, loops of tools, errors, counts."""

import pytest
from fakes.clients import post
from fakes.message_streams import events_of, read_events, read_message
from fakes.running import RunningDaemon, keys_of

MODEL = "gemini-3.8-flash"
PLAIN = "gemini-2.5-flash-lite"  # does not think, so that every chunk has text
TOOLS = [
    {"name": "get_weather", "input_schema": {"type": "object"}},
    {"name": "get_time", "input_schema": {"type": "object"}},
]
THREE_STEPS = (
    'call get_weather with {"city": "Oslo"} and call get_weather with {"city": "Rome"},'
    ' then call get_time with {"zone": "Europe/Oslo"}, then call get_weather with {"city": "Bonn"}'
)


@pytest.fixture(scope="module")
def daemon(simulator, tmp_path_factory):
    """A daemon with a quick pulse, little patience and names of Claude's models."""
    running = RunningDaemon(
        tmp_path_factory.mktemp("daemon"),
        simulator.url,
        keys_of("alpha", "beta"),
        upstream={"idleTimeoutSeconds": 1.2},
        streaming={"heartbeatSeconds": 0.2, "headersAfterSeconds": 0.2},
        # So many failures in a row are no outage here.
        monitoring={"failureThreshold": 1000},
        models={"aliases": {"claude-*": MODEL, "claude-haiku*": PLAIN}},
    )
    yield running
    running.stop()


@pytest.fixture(autouse=True)
def _fresh(simulator):
    simulator.reset()


def ask(daemon, content, path="/v1/messages?beta=true", **more):
    model = more.pop("model", PLAIN)
    messages = content if isinstance(content, list) else [{"role": "user", "content": content}]
    body = {"model": model, "max_tokens": 128_000, "messages": messages, **more}
    headers = {"anthropic-version": "2023-06-01", "anthropic-beta": "context-management-2025-06-27"}
    return post(daemon, body, path=path, **headers)


def message_of(answer):
    assert answer.status == 200, answer.body
    if answer.headers["content-type"].startswith("text/event-stream"):
        return read_message(answer.body)
    return answer.json


def text_of(message):
    return "".join(block["text"] for block in message["content"] if block["type"] == "text")


def test_a_name_of_claudes_is_answered_whole_and_in_a_stream(daemon, simulator):
    prompt = "How are rivers made? [simulate:words n=40]"
    made = [ask(daemon, prompt, model="claude-haiku-4-5", stream=way) for way in (False, True)]
    whole, streamed = map(message_of, made)
    assert text_of(whole) == text_of(streamed)
    assert whole["usage"] == streamed["usage"]
    assert {whole["model"], streamed["model"]} == {"claude-haiku-4-5"}
    for answer in made:
        assert answer.headers["request-id"] == answer.headers["x-request-id"]
    for request in simulator.requests():
        assert request["model"] == PLAIN
        assert request["body"]["generationConfig"]["maxOutputTokens"] == 65_536


@pytest.mark.parametrize("streamed", [False, True], ids=["unary", "stream"])
@pytest.mark.parametrize("kept", [True, False], ids=["thinking", "dropped"])
def test_three_steps_of_tools_keep_their_signatures(daemon, simulator, streamed, kept):
    """The simulator refuses a missing signature, and that of another call."""
    messages = [{"role": "user", "content": THREE_STEPS}]
    more = {"tools": TOOLS, "thinking": {"type": "adaptive"}, "stream": streamed}
    for _ in range(4):
        message = message_of(ask(daemon, messages, model="claude-sonnet-5", **more))
        content = [block for block in message["content"] if kept or block["type"] != "thinking"]
        results = [
            {"type": "tool_result", "tool_use_id": block["id"], "content": "fine"}
            for block in content
            if block["type"] == "tool_use"
        ]
        messages += [{"role": "assistant", "content": content}]
        messages += [{"role": "user", "content": results[::-1]}]
    assert message["stop_reason"] == "end_turn"
    *_, last = simulator.requests()
    parts = [part for content in last["body"]["contents"] for part in content["parts"]]
    signatures = [part["thoughtSignature"] for part in parts if "thoughtSignature" in part]
    calls = [part["functionCall"] for part in parts if "functionCall" in part]
    assert len(signatures) == 3
    # The base64 of "simulated"; a documented dummy would begin otherwise.
    assert all(each.startswith("c2ltdWxhdGVk") for each in signatures)
    assert [call["args"] for call in calls] == [
        {"city": "Oslo"},
        {"city": "Rome"},
        {"zone": "Europe/Oslo"},
        {"city": "Bonn"},
    ]
    assert {request["status"] for request in simulator.requests()} == {200}


def test_a_search_gives_its_blocks(daemon):
    tools = [{"type": "web_search_20250305", "name": "web_search", "max_uses": 8}]
    whole, streamed = (
        message_of(ask(daemon, "Perform a web search: ducks", tools=tools, stream=way))
        for way in (False, True)
    )
    blocks = [block["type"] for block in whole["content"]]
    assert blocks == ["server_tool_use", "web_search_tool_result", "text"]
    assert [block["type"] for block in streamed["content"]] == [blocks[2], *blocks[:2]]
    for message in (whole, streamed):
        (text,) = [block for block in message["content"] if block["type"] == "text"]
        assert all(each["cited_text"] in text["text"] for each in text["citations"])
        assert message["usage"]["server_tool_use"]["web_search_requests"] > 0


@pytest.mark.parametrize(
    ("behaviour", "status", "kind"),
    [
        ("overloaded", 529, "overloaded_error"),
        ("internal-error", 500, "api_error"),
        ("context-too-long", 400, "invalid_request_error"),
        ("gone-model", 404, "not_found_error"),
    ],
)
def test_an_error_has_its_type(daemon, behaviour, status, kind):
    model = {
        "overloaded": "gemini-3.6-flash",
        "internal-error": "gemini-3.7-flash",
        "gone-model": "gemini-3.5-flash",
    }
    answer = ask(daemon, f"[simulate:{behaviour}]", model=model.get(behaviour, PLAIN))
    assert (answer.status, answer.json["error"]["type"]) == (status, kind)
    assert answer.json["request_id"] == answer.headers["request-id"]
    if status == 400:
        # Claude Code recognises Google's own words.
        assert answer.json["error"]["message"].startswith("The input token count")


@pytest.mark.parametrize(
    ("behaviour", "kind"),
    [
        ("truncated chunks=2", "api_error"),
        ("reset-mid-stream chunks=2", "api_error"),
        ("stall chunks=2", "timeout_error"),
        ("error-mid-stream chunks=2 code=503", "overloaded_error"),
    ],
)
def test_a_stream_that_breaks_off_ends_with_an_error(daemon, behaviour, kind):
    answer = ask(daemon, f"[simulate:{behaviour}] [simulate:words n=40]", stream=True)
    message, error = read_events(answer.body)
    assert text_of(message)
    assert error["type"] == kind


def test_a_silent_stream_has_pings(daemon):
    answer = ask(daemon, "[simulate:slow delay=0.7 chunkDelay=0.5]", stream=True)
    events = events_of(answer.body)
    kinds = [event["type"] for event in events]
    assert kinds[0] == "ping"
    assert "ping" in kinds[kinds.index("message_start") :]
    assert all(event == {"type": "ping"} for event in events if event["type"] == "ping")
    assert read_message(answer.body)["stop_reason"] == "end_turn"


def test_tokens_are_estimated_here_or_counted_by_google(daemon, simulator):
    path = "/v1/messages/count_tokens"
    prompt = "How are rivers made? " * 200
    estimated = ask(daemon, prompt, path=path, system="Be brief.").json["input_tokens"]
    assert simulator.requests() == []
    daemon.configure(keys_of("alpha", "beta"), models={"countTokens": "exact"})
    assert daemon.reload().status == 200
    counted = ask(daemon, prompt, path=path, system="Be brief.").json["input_tokens"]
    (request,) = simulator.requests()
    assert request["call"] == "countTokens"
    assert request["body"]["generateContentRequest"]["systemInstruction"]
    assert 0.5 * counted < estimated < 2 * counted
