"""openai-agents: its runner on the Responses API, which is its default, and on chat completions."""

import asyncio

import openai
import pytest
from agents import (
    Agent,
    ModelBehaviorError,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    RunConfig,
    Runner,
    ToolOutputImage,
    function_tool,
    handoff,
)
from openai import AsyncOpenAI
from openai.types.shared import Reasoning
from pydantic import BaseModel

STEPS = (
    'call get_weather with {"city": "Oslo"} and call get_weather with {"city": "Rome"},'
    ' then call get_time with {"zone": "Europe/Oslo"}'
)


@function_tool
def get_weather(city: str) -> str:
    """The weather of a city."""
    return f"4 degrees in {city}"


@function_tool
def get_time(zone: str) -> str:
    """The time of a zone."""
    return f"noon in {zone}"


class Wheel(BaseModel):
    """A wheel."""

    inches: int
    spokes: int | None


# Traces would go to OpenAI.
UNTRACED = RunConfig(tracing_disabled=True)


@pytest.fixture(autouse=True, params=[OpenAIResponsesModel, OpenAIChatCompletionsModel])
def transport(request, monkeypatch):
    """Every test is made with both."""
    monkeypatch.setitem(globals(), "Model", request.param)
    return request.param


def agent_of(proxy, name=None, token=None, effort=None, **more):
    client = AsyncOpenAI(base_url=proxy.url, api_key=token or proxy.token)
    model = Model(model=name or proxy.model, openai_client=client)  # noqa: F821
    # In the Responses API the thoughts have to be asked for.
    reasoning = Reasoning(effort=effort, summary="auto" if effort else None)
    settings = ModelSettings(include_usage=True, reasoning=reasoning)
    return Agent(name="Tester", model=model, model_settings=settings, **more)


def run(agent, said):
    return asyncio.run(Runner.run(agent, said, run_config=UNTRACED))


async def streamed(agent, said, seen=None):
    """The deltas of the text, and what the run came to."""
    deltas = [] if seen is None else seen
    result = Runner.run_streamed(agent, said, run_config=UNTRACED)
    async for event in result.stream_events():
        if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
            deltas.append(event.data.delta)
    return deltas, result


def test_answer(proxy, simulator):
    result = run(agent_of(proxy, instructions="Be brief."), "How are rivers made?")
    assert result.final_output.startswith('You said: "How are rivers made?".')
    assert result.context_wrapper.usage.total_tokens > 0
    (request,) = simulator.generations()
    assert request["body"]["systemInstruction"]["parts"] == [{"text": "Be brief."}]


def test_stream(proxy, simulator):
    said = "How are rivers made? [simulate:words n=60]"
    deltas, result = asyncio.run(streamed(agent_of(proxy), said))
    assert len(deltas) > 3
    assert "".join(deltas) == result.final_output == run(agent_of(proxy), said).final_output
    assert result.context_wrapper.usage.total_tokens > 0


@pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])
def test_agent_goes_through_several_steps(signing, simulator, stream):
    agent = agent_of(signing, tools=[get_weather, get_time])
    result = asyncio.run(streamed(agent, STEPS))[1] if stream else run(agent, STEPS)
    assert result.final_output.startswith('get_time returned {"output": "noon in Europe/Oslo"}.')
    assert simulator.calls_that_came_back() == [
        [("get_weather", {"city": "Oslo"}), ("get_weather", {"city": "Rome"})],
        [("get_time", {"zone": "Europe/Oslo"})],
    ]


def test_agent_goes_on_after_its_answer(proxy, simulator):
    first = run(agent_of(proxy, tools=[get_weather]), 'call get_weather with {"city": "Oslo"}')
    asked = [
        *first.to_input_list(),
        {"role": "user", "content": 'call get_weather with {"city": "Rome"}'},
    ]
    assert "4 degrees in Rome" in run(agent_of(proxy, tools=[get_weather]), asked).final_output
    assert simulator.calls_that_came_back() == [
        [("get_weather", {"city": "Oslo"})],
        [("get_weather", {"city": "Rome"})],
    ]


@pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])
def test_thoughts_stand_beside_calls_and_text(proxy, simulator, stream):
    agent = agent_of(proxy, tools=[get_time], effort="high")
    said = 'call get_time with {"zone": "Europe/Oslo"}'
    result = asyncio.run(streamed(agent, said))[1] if stream else run(agent, said)
    assert [item.type for item in result.new_items] == [
        "reasoning_item",
        "tool_call_item",
        "tool_call_output_item",
        "reasoning_item",
        "message_output_item",
    ]
    assert "Weighing the Question" in result.new_items[0].raw_item.summary[0].text
    assert simulator.calls_that_came_back() == [[("get_time", {"zone": "Europe/Oslo"})]]
    asked = [*result.to_input_list(), {"role": "user", "content": "And now?"}]
    again = run(agent_of(proxy, tools=[get_time], effort="high"), asked)
    assert again.final_output.startswith('You said: "And now?".')


def test_handoff(proxy, simulator):
    clerk = agent_of(proxy, tools=[get_time])
    clerk.name = "Clerk"
    desk = agent_of(proxy, handoffs=[handoff(clerk, tool_name_override="ask_clerk")])
    result = run(desk, 'call ask_clerk then call get_time with {"zone": "Europe/Oslo"}')
    assert result.last_agent.name == "Clerk"
    assert "noon in Europe/Oslo" in result.final_output
    assert simulator.calls_that_came_back() == [
        [("ask_clerk", {})],
        [("get_time", {"zone": "Europe/Oslo"})],
    ]


def test_structured_output(proxy, simulator):
    found = run(agent_of(proxy, output_type=Wheel), "Describe a wheel.").final_output
    assert isinstance(found, Wheel)


def test_structured_output_after_a_tool(proxy, simulator):
    agent = agent_of(proxy, tools=[get_weather], output_type=Wheel)
    found = run(agent, 'call get_weather with {"city": "Oslo"}').final_output
    assert isinstance(found, Wheel)
    assert simulator.calls_that_came_back() == [[("get_weather", {"city": "Oslo"})]]


def test_images_of_the_user_and_of_tools(proxy, simulator, png, transport):
    url = f"data:image/png;base64,{png}"
    shown = {"type": "input_image", "image_url": url, "detail": "auto"}
    text = {"type": "input_text", "text": "What is it?"}
    assert run(agent_of(proxy), [{"role": "user", "content": [text, shown]}]).final_output
    assert simulator.images() == [png]
    if transport is OpenAIChatCompletionsModel:
        return  # It sends texts of results only.

    @function_tool
    def look() -> ToolOutputImage:
        """Look."""
        return ToolOutputImage(image_url=url)

    assert run(agent_of(proxy, tools=[look]), "call look with {}").final_output
    assert simulator.images() == [png]


def test_wrong_token(proxy, simulator):
    with pytest.raises(openai.AuthenticationError):
        run(agent_of(proxy, token="wrong"), "Hello")
    assert simulator.generations() == []


def test_broken_stream_raises(proxy, simulator, broken, transport):
    prompt, name = broken
    seen = []
    # The Responses API says itself that a response failed.
    expected = ModelBehaviorError if transport is OpenAIResponsesModel else openai.APIError
    with pytest.raises(expected):
        asyncio.run(streamed(agent_of(proxy, name), prompt, seen))
    assert "".join(seen)
