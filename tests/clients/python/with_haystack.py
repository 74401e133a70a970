"""Haystack: the generator by itself, and its agent."""

import openai
import pytest
from haystack.components.agents import Agent
from haystack.components.generators.chat import OpenAIChatGenerator
from haystack.dataclasses import ChatMessage
from haystack.tools import tool
from haystack.utils import Secret
from pydantic import BaseModel


@tool
def get_weather(city: str) -> str:
    """The weather of a city."""
    return f"4 degrees in {city}"


@tool
def get_time(zone: str) -> str:
    """The time of a zone."""
    return f"noon in {zone}"


class Wheel(BaseModel):
    """A wheel."""

    inches: int
    spokes: int | None


@pytest.fixture
def generator(proxy):
    """Makes a generator."""

    def generator(token=proxy.token, name=proxy.model, **more):
        key = Secret.from_token(token)
        where = {"api_base_url": proxy.url, "api_key": key, "max_retries": 0, "timeout": 60}
        return OpenAIChatGenerator(model=name, **where, **more)

    return generator


def said(text):
    return [ChatMessage.from_user(text)]


def test_answer(generator, simulator):
    (reply,) = generator().run(said("How are rivers made?"))["replies"]
    assert reply.text.startswith('You said: "How are rivers made?".')
    assert reply.meta["finish_reason"] == "stop"
    assert reply.meta["usage"]["total_tokens"] > 0


def test_stream(generator, simulator):
    asked = said("How are rivers made? [simulate:words n=60]")
    chunks = []
    (reply,) = generator().run(asked, streaming_callback=chunks.append)["replies"]
    assert len(chunks) > 5
    assert reply.text == generator().run(asked)["replies"][0].text


@pytest.mark.parametrize("streamed", [False, True], ids=["unary", "stream"])
def test_agent_goes_through_several_steps(generator, simulator, streamed):
    agent = Agent(
        chat_generator=generator(),
        tools=[get_weather, get_time],
        streaming_callback=(lambda chunk: None) if streamed else None,
    )
    asked = said(
        'call get_weather with {"city": "Oslo"} and call get_weather with {"city": "Rome"},'
        ' then call get_time with {"zone": "Europe/Oslo"}'
    )
    messages = agent.run(asked)["messages"]
    assert messages[-1].text.startswith("get_time returned")
    steps = [
        [("get_weather", {"city": "Oslo"}), ("get_weather", {"city": "Rome"})],
        [("get_time", {"zone": "Europe/Oslo"})],
    ]
    assert simulator.calls_that_came_back() == steps
    again = [*messages, *said('call get_time with {"zone": "Asia/Tokyo"}')]
    assert "noon in Asia/Tokyo" in agent.run(again)["messages"][-1].text
    assert simulator.calls_that_came_back() == [*steps, [("get_time", {"zone": "Asia/Tokyo"})]]


def test_structured_output(generator, simulator):
    asked = generator(generation_kwargs={"response_format": Wheel})
    (reply,) = asked.run(said("Describe a wheel."))["replies"]
    assert Wheel.model_validate_json(reply.text)


def test_wrong_token(generator, simulator):
    with pytest.raises(openai.AuthenticationError):
        generator("wrong").run(said("Hello"))
    assert simulator.generations() == []


def test_broken_stream_raises(generator, simulator, broken):
    prompt, name = broken
    seen = []
    with pytest.raises(openai.APIError):
        generator(name=name).run(said(prompt), streaming_callback=seen.append)
    assert seen
