"""LangChain's chat model for Anthropic, and an agent of langgraph's around it."""

import os

import anthropic
import pytest
from langchain.agents import create_agent
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_tools import Wheel, get_time, get_weather


def model_of(proxy, **more):
    return ChatAnthropic(
        model=proxy.model,
        base_url=os.environ["GEMPROXY_URL"],
        api_key=more.pop("token", proxy.token),
        max_tokens=4000,
        **more,
    )


def test_answer_and_stream(proxy, simulator):
    model = model_of(proxy)
    prompt = "How are rivers made? [simulate:words n=60]"
    whole = model.invoke(prompt)
    chunks = list(model.stream(prompt))
    assert len(chunks) > 5
    assert "".join(chunk.text for chunk in chunks) == whole.text
    assert whole.usage_metadata["total_tokens"] > 0
    assert whole.response_metadata["stop_reason"] == "end_turn"


@pytest.mark.parametrize("streamed", [False, True], ids=["unary", "stream"])
@pytest.mark.parametrize("thinks", [False, True], ids=["silent", "thinking"])
def test_agent_goes_through_three_steps(signing, simulator, streamed, thinks):
    more = {"thinking": {"type": "enabled", "budget_tokens": 1024}} if thinks else {}
    agent = create_agent(model_of(signing, **more), [get_weather, get_time])
    asked = {
        "messages": [
            HumanMessage(
                'call get_weather with {"city": "Oslo"} and call get_weather with {"city": "Rome"},'
                ' then call get_time with {"zone": "Europe/Oslo"},'
                ' then call get_weather with {"city": "Bonn"}'
            )
        ]
    }
    if streamed:
        for mode, found in agent.stream(asked, stream_mode=["messages", "values"]):
            if mode == "values":
                messages = found["messages"]
    else:
        messages = agent.invoke(asked)["messages"]
    assert sum(isinstance(message, AIMessage) for message in messages) == 4
    assert sum(isinstance(message, ToolMessage) for message in messages) == 4
    assert "4 degrees in Bonn" in messages[-1].text
    assert simulator.calls_that_came_back() == [
        [("get_weather", {"city": "Oslo"}), ("get_weather", {"city": "Rome"})],
        [("get_time", {"zone": "Europe/Oslo"})],
        [("get_weather", {"city": "Bonn"})],
    ]


def test_structured_output(proxy, simulator):
    model = model_of(proxy).with_structured_output(Wheel)
    assert isinstance(model.invoke("Describe a wheel."), Wheel)


def test_images_in_a_turn_and_in_a_result(proxy, simulator, png):
    source = {"type": "base64", "media_type": "image/png", "data": png}
    image = {"type": "image", "source": source}
    model = model_of(proxy).bind_tools([get_weather])
    assert model.invoke([HumanMessage([{"type": "text", "text": "What is it?"}, image])]).text
    assert simulator.images() == [png]
    said = HumanMessage('call get_weather with {"city": "Oslo"}')
    call = model.invoke([said])
    result = ToolMessage([image], tool_call_id=call.tool_calls[0]["id"])
    assert model.invoke([said, call, result]).text
    assert simulator.images() == [png]


def test_wrong_token(proxy, simulator):
    with pytest.raises(anthropic.AuthenticationError):
        model_of(proxy, token="wrong").invoke("Hello")
    assert simulator.generations() == []


def test_broken_stream_raises(proxy, simulator, broken):
    prompt, name = broken
    model = ChatAnthropic(
        model=name, base_url=os.environ["GEMPROXY_URL"], api_key=proxy.token, max_tokens=999
    )
    seen = []
    with pytest.raises(anthropic.APIError):
        seen.extend(chunk.text for chunk in model.stream(prompt))
    assert "".join(seen)
