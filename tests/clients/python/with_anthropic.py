"""The official SDK for Python, newest version: sends its key as a bearer token."""

import json
import os
import re
from pathlib import Path

import anthropic
import pytest

BASE = os.environ["GEMPROXY_URL"]
THREE_STEPS = (
    'call get_weather with {"city": "Oslo"} and call get_weather with {"city": "Rome"},'
    ' then call get_time with {"zone": "Europe/Oslo"}, then call get_weather with {"city": "Bonn"}'
)
CALLS = [
    [("get_weather", {"city": "Oslo"}), ("get_weather", {"city": "Rome"})],
    [("get_time", {"zone": "Europe/Oslo"})],
    [("get_weather", {"city": "Bonn"})],
]
TOOLS = [
    {
        "name": name,
        "description": f"The function {name}.",
        "input_schema": {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "properties": {field: {"type": "string"}},
            "required": [field],
            "additionalProperties": False,
        },
    }
    for name, field in (("get_weather", "city"), ("get_time", "zone"))
]
WHEEL = {
    "type": "object",
    "properties": {"inches": {"type": "integer"}, "spokes": {"type": ["integer", "null"]}},
    "required": ["inches", "spokes"],
}
#: One pixel.
PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5Erk"
    "Jggg=="
)
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}


def client_of(token, **more):
    return anthropic.Anthropic(base_url=BASE, api_key=token, **more)


@pytest.fixture
def client(proxy):
    return client_of(proxy.token)


def ask(client, proxy, content, **more):
    messages = [{"role": "user", "content": content}]
    return client.messages.create(
        **{"model": proxy.model, "max_tokens": 2000, "messages": messages, **more}
    )


def answer_of(client, streamed, **asked):
    """The message, whole or put together from a stream by the SDK."""
    if not streamed:
        return client.messages.create(**asked)
    with client.messages.stream(**asked) as stream:
        return stream.get_final_message()


def text_of(message):
    return "".join(block.text for block in message.content if block.type == "text")


def run_tools(client, model, prompt, streamed, keep=lambda content: content, **more):
    """Answer the calls of each step, the last one first, until there are none."""
    messages = [{"role": "user", "content": prompt}]
    while True:
        asked = {"model": model, "max_tokens": 4000, "messages": messages, "tools": TOOLS, **more}
        message = answer_of(client, streamed, **asked)
        content = [block.to_dict() for block in message.content]
        messages.append({"role": "assistant", "content": keep(content)})
        calls = [block for block in message.content if block.type == "tool_use"]
        assert message.stop_reason == ("tool_use" if calls else "end_turn")
        if not calls:
            return message, messages
        results = [
            {"type": "tool_result", "tool_use_id": call.id, "content": f"{call.input} is fine"}
            for call in reversed(calls)
        ]
        messages.append({"role": "user", "content": results})


def test_answer(client, proxy, simulator):
    message = ask(client, proxy, "How are rivers made?", system="Be brief.")
    assert text_of(message).startswith('You said: "How are rivers made?".')
    assert (message.model, message.role, message.stop_reason) == (
        proxy.model,
        "assistant",
        "end_turn",
    )
    assert message.usage.input_tokens > 0
    assert message.usage.output_tokens > 0
    assert message._request_id
    (request,) = simulator.generations()
    assert request["body"]["systemInstruction"]["parts"] == [{"text": "Be brief."}]
    assert request["body"]["generationConfig"]["maxOutputTokens"] == 2000


def test_stream(client, proxy, simulator):
    asked = {
        "model": proxy.model,
        "max_tokens": 2000,
        "messages": [{"role": "user", "content": "How are rivers made? [simulate:words n=60]"}],
    }
    whole = client.messages.create(**asked)
    with client.messages.stream(**asked) as stream:
        texts = list(stream.text_stream)
        message = stream.get_final_message()
    assert len(texts) > 5
    assert "".join(texts) == text_of(whole) == text_of(message)
    assert message.usage.output_tokens == whole.usage.output_tokens
    assert message.usage.input_tokens == whole.usage.input_tokens


@pytest.mark.parametrize("streamed", [False, True], ids=["unary", "stream"])
def test_thoughts(client, proxy, simulator, streamed):
    asked = {
        "model": proxy.model,
        "max_tokens": 4000,
        "messages": [{"role": "user", "content": "How are rivers made?"}],
        "thinking": {"type": "enabled", "budget_tokens": 1024},
    }
    message = answer_of(client, streamed, **asked)
    assert [block.type for block in message.content] == ["thinking", "text"]
    assert message.content[0].thinking


@pytest.mark.parametrize("streamed", [False, True], ids=["unary", "stream"])
@pytest.mark.parametrize("thinks", [False, True], ids=["silent", "thinking"])
def test_tools_go_through_three_steps(signing, simulator, streamed, thinks):
    more = {"thinking": {"type": "enabled", "budget_tokens": 1024}} if thinks else {}
    client = client_of(signing.token)
    message, messages = run_tools(client, signing.model, THREE_STEPS, streamed, **more)
    assert "Bonn" in text_of(message)
    assert simulator.calls_that_came_back() == CALLS
    types = [block["type"] for block in messages[1]["content"]]
    assert ("thinking" in types) is thinks
    ids = [
        block["id"]
        for each in messages[1::2]
        for block in each["content"]
        if block["type"] == "tool_use"
    ]
    assert len(set(ids)) == 4


def test_tools_of_a_client_that_drops_thinking(signing, simulator):
    def without_thinking(content):
        return [block for block in content if block["type"] != "thinking"]

    more = {"thinking": {"type": "enabled", "budget_tokens": 1024}}
    client = client_of(signing.token)
    run_tools(client, signing.model, THREE_STEPS, True, without_thinking, **more)
    assert simulator.calls_that_came_back() == CALLS


@pytest.mark.parametrize("streamed", [False, True], ids=["unary", "stream"])
def test_the_sdks_own_runner_of_tools(client, proxy, simulator, streamed):
    """It wants the server to hold the conversation, and sends the whole of it after a refusal."""

    @anthropic.beta_tool
    def get_weather(city: str) -> str:
        """The weather of a city."""
        return f"4 degrees in {city}"

    @anthropic.beta_tool
    def get_time(zone: str) -> str:
        """The time of a zone."""
        return f"noon in {zone}"

    runner = client.beta.messages.tool_runner(
        model=proxy.model,
        max_tokens=4000,
        tools=[get_weather, get_time],
        messages=[{"role": "user", "content": THREE_STEPS}],
        thinking={"type": "enabled", "budget_tokens": 1024},
        stream=streamed,
    )
    messages = [each.get_final_message() if streamed else each for each in runner]
    assert len(messages) == 4
    assert "4 degrees in Bonn" in text_of(messages[-1])
    assert simulator.calls_that_came_back() == CALLS


def test_one_call_at_a_time(client, proxy, simulator):
    choice = {"type": "any", "disable_parallel_tool_use": True}
    message = ask(client, proxy, THREE_STEPS, tools=TOOLS, tool_choice=choice)
    assert [block.type for block in message.content] == ["tool_use"]


def test_every_parameter_has_its_place_on_the_page():
    page = (Path(__file__).parents[3] / "docs" / "messages.md").read_text("utf-8")
    params = anthropic.types.message_create_params.MessageCreateParamsBase.__annotations__
    assert [name for name in params if not re.search(rf"`{name}\b", page)] == []


def test_structured_output(client, proxy, simulator):
    form = {"format": {"type": "json_schema", "schema": WHEEL}}
    message = ask(
        client, proxy, "Describe a wheel.", extra_body={"output_config": {"effort": "low", **form}}
    )
    assert set(json.loads(text_of(message))) == {"inches", "spokes"}


def test_images_in_a_turn_and_in_a_result(client, proxy, simulator):
    ask(client, proxy, [IMAGE, {"type": "text", "text": "What is it?"}])
    call = ask(client, proxy, 'call get_weather with {"city": "Oslo"}', tools=TOOLS)
    (use,) = [block for block in call.content if block.type == "tool_use"]
    result = {"type": "tool_result", "tool_use_id": use.id, "content": [IMAGE]}
    messages = [
        {"role": "user", "content": 'call get_weather with {"city": "Oslo"}'},
        {"role": "assistant", "content": call.content},
        {"role": "user", "content": [result]},
    ]
    client.messages.create(model=proxy.model, max_tokens=99, messages=messages, tools=TOOLS)
    first, _, last = (request["body"]["contents"] for request in simulator.generations())
    assert first[0]["parts"][0]["inlineData"]["mimeType"] == "image/png"
    (response,) = last[-1]["parts"]
    (inside,) = response["functionResponse"]["parts"]
    assert inside["inlineData"] == {"mimeType": "image/png", "data": PNG}


def test_count_tokens(client, proxy, simulator):
    messages = [{"role": "user", "content": "How are rivers made? " * 100}]
    counted = client.messages.count_tokens(model=proxy.model, messages=messages, tools=TOOLS)
    assert 400 < counted.input_tokens < 1500
    assert simulator.generations() == []


def test_models(client, proxy):
    names = [model.id for model in client.models.list(limit=3)]
    assert proxy.model in names
    assert len(names) == len(set(names)) > 3
    assert client.models.retrieve(proxy.model).max_input_tokens > 0
    with pytest.raises(anthropic.NotFoundError) as caught:
        client.models.retrieve("none")
    assert caught.value.body["request_id"] == caught.value.request_id


def test_errors_have_the_right_class(client, proxy, simulator):
    once = client.with_options(max_retries=0)
    with pytest.raises(anthropic.AuthenticationError) as unauthorized:
        ask(client_of("wrong", max_retries=0), proxy, "Hello")
    assert unauthorized.value.body["error"]["type"] == "authentication_error"
    with pytest.raises(anthropic.BadRequestError, match="messages"):
        ask(once, proxy, "", messages=[])
    with pytest.raises(anthropic.NotFoundError) as unknown:
        ask(once, proxy, "Hello", model="claude-sonnet-5")
    assert unknown.value.body["error"]["type"] == "not_found_error"
    with pytest.raises(anthropic.BadRequestError, match="input token count"):
        ask(once, proxy, "[simulate:context-too-long] Hello", model="gemini-3.5-flash")
    with pytest.raises(anthropic.APIStatusError) as overloaded:
        ask(once, proxy, "[simulate:overloaded] Hello", model="gemini-3.5-flash-lite")
    assert overloaded.value.status_code == 529
    assert overloaded.value.body["error"]["type"] == "overloaded_error"


def test_broken_stream_raises(client, simulator, broken):
    prompt, name = broken
    seen = []
    asked = {"model": name, "max_tokens": 999, "messages": [{"role": "user", "content": prompt}]}
    # An error event has a status of its own; a connection that breaks has none.
    with pytest.raises(anthropic.APIError), client.messages.stream(**asked) as stream:
        seen.extend(stream.text_stream)
    assert "".join(seen)
