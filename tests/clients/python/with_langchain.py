"""LangChain: the chat model by itself, an agent of langgraph's around it, and embeddings."""

import openai
import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from langchain_tools import Wheel, get_time, get_weather

STEPS = (
    'call get_weather with {"city": "Oslo"} and call get_weather with {"city": "Rome"},'
    ' then call get_time with {"zone": "Europe/Oslo"}'
)


def model_of(proxy, **more):
    return ChatOpenAI(model=proxy.model, base_url=proxy.url, api_key=proxy.token, **more)


@pytest.fixture
def model(proxy):
    return model_of(proxy)


def test_answer(model, simulator):
    answer = model.invoke("How are rivers made?")
    assert answer.content.startswith('You said: "How are rivers made?".')
    assert answer.usage_metadata["total_tokens"] > 0
    assert answer.response_metadata["finish_reason"] == "stop"


def test_stream(proxy, simulator):
    model = model_of(proxy, stream_usage=True)
    chunks = list(model.stream("How are rivers made? [simulate:words n=60]"))
    whole = model.invoke("How are rivers made? [simulate:words n=60]")
    assert len(chunks) > 5
    assert "".join(chunk.content for chunk in chunks) == whole.content
    assert chunks[0].usage_metadata is None
    assert sum((c.usage_metadata or {}).get("total_tokens", 0) for c in chunks) > 0


@pytest.mark.parametrize("streamed", [False, True], ids=["unary", "stream"])
def test_agent_goes_through_several_steps(signing, simulator, streamed):
    agent = create_agent(model_of(signing), [get_weather, get_time])
    asked = {
        "messages": [
            HumanMessage(
                'call get_weather with {"city": "Oslo"} and call get_weather with {"city": "Rome"},'
                ' then call get_time with {"zone": "Europe/Oslo"}'
            )
        ]
    }
    if streamed:
        for mode, found in agent.stream(asked, stream_mode=["messages", "values"]):
            if mode == "values":
                messages = found["messages"]
    else:
        messages = agent.invoke(asked)["messages"]
    assert [type(message) for message in messages] == [
        HumanMessage,
        AIMessage,
        ToolMessage,
        ToolMessage,
        AIMessage,
        ToolMessage,
        AIMessage,
    ]
    assert messages[-1].content.startswith('get_time returned {"output": "noon in Europe/Oslo"}.')
    assert simulator.calls_that_came_back() == [
        [("get_weather", {"city": "Oslo"}), ("get_weather", {"city": "Rome"})],
        [("get_time", {"zone": "Europe/Oslo"})],
    ]


def test_agent_goes_on_after_its_answer(model, simulator):
    agent = create_agent(model, [get_weather])
    first = agent.invoke({"messages": [HumanMessage('call get_weather with {"city": "Oslo"}')]})
    asked = [*first["messages"], HumanMessage('call get_weather with {"city": "Rome"}')]
    second = agent.invoke({"messages": asked})["messages"]
    assert "4 degrees in Rome" in second[-1].content
    assert simulator.calls_that_came_back() == [
        [("get_weather", {"city": "Oslo"})],
        [("get_weather", {"city": "Rome"})],
    ]


@pytest.mark.parametrize("method", ["json_schema", "function_calling", "json_mode"])
def test_structured_output(model, simulator, method):
    if method == "json_mode":
        found = model.with_structured_output(dict, method=method).invoke("Describe JSON.")
        assert isinstance(found, dict)
    else:
        found = model.with_structured_output(Wheel, method=method).invoke("Describe a wheel.")
        assert isinstance(found, Wheel)


def test_agent_with_a_structured_answer(model, simulator):
    agent = create_agent(model, [get_weather], response_format=Wheel)
    asked = {"messages": [HumanMessage('call get_weather with {"city": "Oslo"}')]}
    assert isinstance(agent.invoke(asked)["structured_response"], Wheel)


@pytest.mark.parametrize("responses", [False, True], ids=["chat", "responses"])
def test_images_in_a_turn_and_in_a_result(proxy, simulator, png, responses):
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{png}"}}
    model = model_of(proxy, use_responses_api=responses).bind_tools([get_weather])
    assert model.invoke([HumanMessage([{"type": "text", "text": "What is it?"}, image])]).text
    assert simulator.images() == [png]
    said = HumanMessage('call get_weather with {"city": "Oslo"}')
    call = model.invoke([said])
    shown = {"type": "input_image", "image_url": image["image_url"]["url"]} if responses else image
    result = ToolMessage([shown], tool_call_id=call.tool_calls[0]["id"])
    assert model.invoke([said, call, result]).text
    assert simulator.images() == [png]


def test_wrong_token(proxy, simulator):
    stranger = ChatOpenAI(model=proxy.model, base_url=proxy.url, api_key="wrong")
    with pytest.raises(openai.AuthenticationError):
        stranger.invoke("Hello")
    assert simulator.generations() == []


def test_broken_stream_raises(proxy, simulator, broken):
    prompt, name = broken
    model = ChatOpenAI(model=name, base_url=proxy.url, api_key=proxy.token)
    seen = []
    with pytest.raises(openai.APIError):
        seen.extend(chunk.content for chunk in model.stream(prompt))
    assert "".join(seen)


def responses_of(proxy, **more):
    return model_of(proxy, use_responses_api=True, **more)


@pytest.mark.parametrize("streamed", [False, True], ids=["unary", "stream"])
@pytest.mark.parametrize("previous", [False, True], ids=["items", "previous-response"])
def test_agent_on_the_responses_api(proxy, simulator, streamed, previous):
    agent = create_agent(
        responses_of(proxy, use_previous_response_id=previous, reasoning={"summary": "auto"}),
        [get_weather, get_time],
    )
    asked = {"messages": [HumanMessage(STEPS)]}
    if streamed:
        *_, last = agent.stream(asked, stream_mode="values")
    else:
        last = agent.invoke(asked)
    assert last["messages"][-1].text.startswith("get_time returned")
    assert simulator.calls_that_came_back() == [
        [("get_weather", {"city": "Oslo"}), ("get_weather", {"city": "Rome"})],
        [("get_time", {"zone": "Europe/Oslo"})],
    ]


def test_stream_and_structure_of_the_responses_api(proxy, simulator):
    model = responses_of(proxy)
    chunks = list(model.stream("How are rivers made? [simulate:words n=60]"))
    assert len(chunks) > 5
    assert "".join(chunk.text for chunk in chunks).startswith('You said: "How are rivers made?')
    assert sum((c.usage_metadata or {}).get("total_tokens", 0) for c in chunks) > 0
    assert isinstance(model.with_structured_output(Wheel).invoke("Describe a wheel."), Wheel)


def test_broken_stream_of_the_responses_api_raises(proxy, simulator, broken):
    prompt, name = broken
    model = ChatOpenAI(model=name, base_url=proxy.url, api_key=proxy.token, use_responses_api=True)
    seen = []
    with pytest.raises(ValueError, match="server_error"):
        seen.extend(chunk.text for chunk in model.stream(prompt))
    assert "".join(seen)


def embeddings_of(proxy, **more):
    return OpenAIEmbeddings(
        model="gemini-embedding-2",
        dimensions=64,
        base_url=proxy.url,
        api_key=proxy.token,
        max_retries=0,
        **more,
    )


def test_embeddings_of_more_texts_than_google_takes_in_a_call(proxy, simulator):
    embeddings = embeddings_of(proxy, check_embedding_ctx_length=False)
    texts = [f"text {place}" for place in range(1200)]
    vectors = embeddings.embed_documents(texts)
    assert len(vectors) == 1200
    assert {len(vector) for vector in vectors} == {64}
    assert vectors[1199] == embeddings.embed_query("text 1199")


def test_embeddings_of_tokens_tell_the_way_out(proxy, monkeypatch):
    # The tokens of this encoding are fetched from the Internet when they are first used.
    tokens = [0], [[15339, 1917]], [0], [2]
    monkeypatch.setattr(OpenAIEmbeddings, "_tokenize", lambda *_: tokens)
    with pytest.raises(openai.BadRequestError, match="check_embedding_ctx_length=False"):
        embeddings_of(proxy).embed_documents(["text"])
