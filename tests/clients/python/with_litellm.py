"""LiteLLM as a library, by its way to any server that speaks OpenAI's protocol."""

import json

import litellm
import openai
import pytest
from pydantic import BaseModel

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "parameters": {
                "type": "object",
                "properties": {field: {"type": "string"}},
                "required": [field],
            },
        },
    }
    for name, field in (("get_weather", "city"), ("get_time", "zone"))
]


class Wheel(BaseModel):
    """A wheel."""

    inches: int
    spokes: int | None


@pytest.fixture
def complete(proxy):
    """``litellm.completion`` of a text or of messages."""

    def complete(said, name=proxy.model, **more):
        messages = [{"role": "user", "content": said}] if isinstance(said, str) else said
        where = {"api_base": proxy.url, "api_key": proxy.token, "num_retries": 0}
        return litellm.completion(model=f"openai/{name}", messages=messages, **where | more)

    return complete


def test_answer(complete, simulator):
    answer = complete("How are rivers made?", reasoning_effort="low")
    (choice,) = answer.choices
    assert choice.message.content.startswith('You said: "How are rivers made?".')
    assert choice.message.reasoning_content
    assert choice.finish_reason == "stop"
    assert answer.usage.total_tokens > 0


def test_stream(complete, simulator):
    asked = "How are rivers made? [simulate:words n=60]"
    chunks = list(complete(asked, stream=True, stream_options={"include_usage": True}))
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    whole = complete(asked)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage.total_tokens == whole.usage.total_tokens


@pytest.mark.parametrize("streamed", [False, True], ids=["unary", "stream"])
def test_tool_loop_of_several_steps(complete, simulator, streamed):
    def answer():
        if not streamed:
            return complete(messages, tools=TOOLS).choices[0].message
        chunks = list(complete(messages, tools=TOOLS, stream=True))
        return litellm.stream_chunk_builder(chunks).choices[0].message

    messages = [
        {
            "role": "user",
            "content": 'call get_weather with {"city": "Oslo"} and call get_weather with'
            ' {"city": "Rome"}, then call get_time with {"zone": "Europe/Oslo"}',
        }
    ]
    while (message := answer()).tool_calls:
        messages.append(message.model_dump())
        for call in message.tool_calls:
            given = json.loads(call.function.arguments)
            result = f"{call.function.name} of {'/'.join(given.values())}"
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
    assert message.content.startswith("get_time returned")
    assert simulator.calls_that_came_back() == [
        [("get_weather", {"city": "Oslo"}), ("get_weather", {"city": "Rome"})],
        [("get_time", {"zone": "Europe/Oslo"})],
    ]


def test_structured_output(complete, simulator):
    answer = complete("Describe a wheel.", response_format=Wheel)
    assert Wheel.model_validate_json(answer.choices[0].message.content)
    assert simulator.generations()[-1]["body"]["generationConfig"]["responseJsonSchema"]


def test_wrong_token(complete, simulator):
    with pytest.raises(litellm.AuthenticationError):
        complete("Hello", api_key="wrong")
    assert simulator.generations() == []


def test_broken_stream_raises(complete, simulator, broken):
    prompt, name = broken
    seen = []
    with pytest.raises(openai.APIError):
        seen.extend(chunk for chunk in complete(prompt, name, stream=True))
    assert seen
