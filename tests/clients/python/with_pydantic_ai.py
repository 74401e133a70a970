"""pydantic-ai: its agent on the chat model."""

import asyncio

import pytest
from pydantic import BaseModel
from pydantic_ai import (
    Agent,
    ModelAPIError,
    ModelHTTPError,
    NativeOutput,
    PromptedOutput,
    ToolOutput,
)
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

STEPS = (
    'call get_weather with {"city": "Oslo"} and call get_weather with {"city": "Rome"},'
    ' then call get_time with {"zone": "Europe/Oslo"}'
)


def get_weather(city: str) -> str:
    """The weather of a city."""
    return f"4 degrees in {city}"


def get_time(zone: str) -> str:
    """The time of a zone."""
    return f"noon in {zone}"


class Wheel(BaseModel):
    """A wheel."""

    inches: int
    spokes: int | None


class Answer(BaseModel):
    """What the simulator makes up where it is not told a schema."""

    answer: str


def agent_of(proxy, name=None, token=None, **more):
    provider = OpenAIProvider(base_url=proxy.url, api_key=token or proxy.token)
    return Agent(OpenAIChatModel(name or proxy.model, provider=provider), **more)


async def streamed(agent, said, seen=None):
    """The deltas of the text, and the run."""
    deltas = [] if seen is None else seen
    async with agent.run_stream(said) as result:
        async for delta in result.stream_text(delta=True, debounce_by=None):
            deltas.append(delta)
        return deltas, result


def test_answer(proxy, simulator):
    result = agent_of(proxy, instructions="Be brief.").run_sync("How are rivers made?")
    assert result.output.startswith('You said: "How are rivers made?".')
    assert result.usage.output_tokens > 0
    (request,) = simulator.generations()
    assert request["body"]["systemInstruction"]["parts"] == [{"text": "Be brief."}]


def test_stream(proxy, simulator):
    said = "How are rivers made? [simulate:words n=60]"
    deltas, result = asyncio.run(streamed(agent_of(proxy), said))
    assert len(deltas) > 3
    assert "".join(deltas) == agent_of(proxy).run_sync(said).output
    assert result.usage.output_tokens > 0


@pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])
def test_agent_goes_through_several_steps(signing, simulator, stream):
    agent = agent_of(signing, tools=[get_weather, get_time])
    if stream:
        text = "".join(asyncio.run(streamed(agent, STEPS))[0])
    else:
        text = agent.run_sync(STEPS).output
    assert text.startswith('get_time returned {"output": "noon in Europe/Oslo"}.')
    assert simulator.calls_that_came_back() == [
        [("get_weather", {"city": "Oslo"}), ("get_weather", {"city": "Rome"})],
        [("get_time", {"zone": "Europe/Oslo"})],
    ]


def test_agent_goes_on_after_its_answer(proxy, simulator):
    first = agent_of(proxy, tools=[get_weather]).run_sync('call get_weather with {"city": "Oslo"}')
    second = agent_of(proxy, tools=[get_weather]).run_sync(
        'call get_weather with {"city": "Rome"}', message_history=first.all_messages()
    )
    assert "4 degrees in Rome" in second.output
    assert simulator.calls_that_came_back() == [
        [("get_weather", {"city": "Oslo"})],
        [("get_weather", {"city": "Rome"})],
    ]


@pytest.mark.parametrize(
    ("output", "kind"),
    [
        (ToolOutput(Wheel), Wheel),
        (NativeOutput(Wheel), Wheel),
        (PromptedOutput(Answer), Answer),
    ],
    ids=["tool", "native", "prompted"],
)
def test_structured_output(proxy, simulator, output, kind):
    found = agent_of(proxy, output_type=output).run_sync("Describe it.").output
    assert isinstance(found, kind)


@pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])
def test_thoughts_stand_beside_calls_and_text(proxy, simulator, stream):
    agent = agent_of(proxy, tools=[get_time], model_settings={"openai_reasoning_effort": "high"})
    said = 'call get_time with {"zone": "Europe/Oslo"}'
    if stream:
        messages = asyncio.run(streamed(agent, said))[1].all_messages()
    else:
        messages = agent.run_sync(said).all_messages()
    parts = [[part.part_kind for part in message.parts] for message in messages[1::2]]
    assert parts == [["thinking", "tool-call"], ["thinking", "text"]]
    assert "Weighing the Question" in messages[1].parts[0].content
    assert simulator.calls_that_came_back() == [[("get_time", {"zone": "Europe/Oslo"})]]
    again = agent.run_sync("And now?", message_history=messages)
    assert again.output.startswith('You said: "And now?".')


def test_structured_output_after_a_tool(proxy, simulator):
    agent = agent_of(proxy, tools=[get_weather], output_type=NativeOutput(Wheel))
    assert isinstance(agent.run_sync('call get_weather with {"city": "Oslo"}').output, Wheel)
    assert simulator.calls_that_came_back() == [[("get_weather", {"city": "Oslo"})]]


def test_wrong_token(proxy, simulator):
    with pytest.raises(ModelHTTPError) as caught:
        agent_of(proxy, token="wrong").run_sync("Hello")
    assert caught.value.status_code == 401
    assert simulator.generations() == []


def test_broken_stream_raises(proxy, simulator, broken):
    prompt, name = broken
    seen = []
    with pytest.raises(ModelAPIError):
        asyncio.run(streamed(agent_of(proxy, name), prompt, seen))
    assert "".join(seen)
