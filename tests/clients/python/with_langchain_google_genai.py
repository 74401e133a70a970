"""LangChain's chat model for Gemini, an agent of langgraph's around it, and embeddings."""

import os

import pytest
from google.genai.errors import APIError
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_google_genai import ChatGoogleGenerativeAI, GoogleGenerativeAIEmbeddings
from langchain_google_genai.chat_models import ChatGoogleGenerativeAIError
from langchain_tools import Wheel, get_time, get_weather

BASE = os.environ["GEMPROXY_URL"]
STEPS = (
    'call get_weather with {"city": "Oslo"} and call get_weather with {"city": "Rome"},'
    ' then call get_time with {"zone": "Europe/Oslo"}, then call get_weather with {"city": "Bonn"}'
)
CALLS = [
    [("get_weather", {"city": "Oslo"}), ("get_weather", {"city": "Rome"})],
    [("get_time", {"zone": "Europe/Oslo"})],
    [("get_weather", {"city": "Bonn"})],
]


def model_of(proxy, name=None, **more):
    return ChatGoogleGenerativeAI(
        **{
            "model": name or proxy.model,
            "base_url": BASE,
            "api_key": proxy.token,
            "max_retries": 1,
            **more,
        }
    )


def test_answer_and_stream(proxy, simulator):
    model = model_of(proxy)
    prompt = "How are rivers made? [simulate:words n=60]"
    whole = model.invoke(prompt)
    chunks = list(model.stream(prompt))
    assert len(chunks) > 3
    assert "".join(chunk.text for chunk in chunks) == whole.text
    assert whole.usage_metadata["total_tokens"] > 0
    assert whole.response_metadata["finish_reason"] == "STOP"


@pytest.mark.parametrize("streamed", [False, True], ids=["unary", "stream"])
@pytest.mark.parametrize("thinks", [False, True], ids=["silent", "thinking"])
def test_agent_goes_through_three_steps(signing, simulator, streamed, thinks):
    agent = create_agent(model_of(signing, include_thoughts=thinks), [get_weather, get_time])
    asked = {"messages": [HumanMessage(STEPS)]}
    if streamed:
        for mode, found in agent.stream(asked, stream_mode=["messages", "values"]):
            if mode == "values":
                messages = found["messages"]
    else:
        messages = agent.invoke(asked)["messages"]
    assert sum(isinstance(message, AIMessage) for message in messages) == 4
    assert sum(isinstance(message, ToolMessage) for message in messages) == 4
    assert "4 degrees in Bonn" in messages[-1].text
    assert simulator.calls_that_came_back() == CALLS


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_structured_output(proxy, simulator, method):
    model = model_of(proxy).with_structured_output(Wheel, method=method)
    assert isinstance(model.invoke("Describe a wheel."), Wheel)


def test_images_in_a_turn_and_in_a_result(proxy, simulator, png):
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{png}"}}
    model = model_of(proxy).bind_tools([get_weather])
    assert model.invoke([HumanMessage([{"type": "text", "text": "What is it?"}, image])]).text
    assert simulator.images() == [png]
    said = HumanMessage('call get_weather with {"city": "Oslo"}')
    call = model.invoke([said])
    result = ToolMessage([image], tool_call_id=call.tool_calls[0]["id"])
    assert model.invoke([said, call, result]).text
    assert simulator.images() == [png]


def test_embeddings(proxy, simulator):
    embeddings = GoogleGenerativeAIEmbeddings(
        model="gemini-embedding-001", base_url=BASE, api_key=proxy.token
    )
    assert [len(each) for each in embeddings.embed_documents(["a", "b"])] == [3072, 3072]


def test_errors_are_of_the_right_class(proxy, simulator):
    with pytest.raises((APIError, ChatGoogleGenerativeAIError), match="401") as refused:
        model_of(proxy, api_key="wrong").invoke("Hello")
    assert "UNAUTHENTICATED" in str(refused.value)
    assert simulator.generations() == []
    with pytest.raises((APIError, ChatGoogleGenerativeAIError), match="NOT_FOUND"):
        model_of(proxy, "nothing-of-the-kind").invoke("Hello")


def test_broken_stream_raises(proxy, simulator, broken):
    prompt, name = broken
    seen = []
    with pytest.raises(Exception) as caught:  # noqa: PT011 - each break has its own
        seen.extend(chunk.text for chunk in model_of(proxy, name).stream(prompt))
    assert not isinstance(caught.value, (AssertionError, ValueError, TypeError))
    assert "".join(seen)
