"""LlamaIndex: its OpenAI-like model, an agent around it, and embeddings."""

import asyncio

import openai
import pytest
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel

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


def model_of(proxy, name=None, token=None, **more):
    return OpenAILike(
        model=name or proxy.model,
        api_base=proxy.url,
        api_key=token or proxy.token,
        is_chat_model=True,
        is_function_calling_model=True,
        context_window=1_000_000,
        max_retries=0,
        **more,
    )


def said(text):
    return [ChatMessage(role="user", content=text)]


def test_answer(proxy, simulator):
    answer = model_of(proxy).chat(said("How are rivers made?"))
    assert answer.message.content.startswith('You said: "How are rivers made?".')
    assert answer.raw.usage.total_tokens > 0


def test_completion(proxy, simulator):
    assert "How are rivers made?" in model_of(proxy).complete("How are rivers made?").text


def test_stream(proxy, simulator):
    asked = said("How are rivers made? [simulate:words n=60]")
    chunks = list(model_of(proxy).stream_chat(asked))
    assert len([chunk for chunk in chunks if chunk.delta]) > 3
    whole = model_of(proxy).chat(asked).message.content
    assert "".join(chunk.delta or "" for chunk in chunks) == chunks[-1].message.content == whole


async def run(agent, prompt):
    return str(await agent.run(prompt))


@pytest.mark.parametrize("streaming", [False, True], ids=["unary", "stream"])
def test_agent_goes_through_several_steps(signing, simulator, streaming):
    agent = FunctionAgent(
        tools=[FunctionTool.from_defaults(get_weather), FunctionTool.from_defaults(get_time)],
        llm=model_of(signing),
        streaming=streaming,
    )
    text = asyncio.run(run(agent, STEPS))
    assert "noon in Europe/Oslo" in text
    assert simulator.calls_that_came_back() == [
        [("get_weather", {"city": "Oslo"}), ("get_weather", {"city": "Rome"})],
        [("get_time", {"zone": "Europe/Oslo"})],
    ]
    calls = {request["call"] for request in simulator.generations()}
    assert calls == {"streamGenerateContent" if streaming else "generateContent"}


def test_conversation_goes_on_after_its_answer(proxy, simulator):
    """Without an agent, since that keeps no more than the texts of what it has answered."""
    model, tool = model_of(proxy), FunctionTool.from_defaults(get_weather)
    history = []
    for city in ("Oslo", "Rome"):
        history += said(f'call get_weather with {{"city": "{city}"}}')
        while calls := model.get_tool_calls_from_response(
            answer := model.chat_with_tools([tool], chat_history=history),
            error_on_no_tool_call=False,
        ):
            history.append(answer.message)
            history += [
                ChatMessage(
                    role="tool",
                    content=str(tool(**call.tool_kwargs)),
                    additional_kwargs={"tool_call_id": call.tool_id},
                )
                for call in calls
            ]
        history.append(answer.message)
    assert "4 degrees in Rome" in history[-1].content
    assert simulator.calls_that_came_back() == [
        [("get_weather", {"city": "Oslo"})],
        [("get_weather", {"city": "Rome"})],
    ]


@pytest.mark.parametrize("native", [False, True], ids=["tool", "json_schema"])
def test_structured_output(proxy, simulator, native):
    model = model_of(proxy, should_use_structured_outputs=native)
    found = model.as_structured_llm(Wheel).chat(said("Describe a wheel.")).raw
    assert isinstance(found, Wheel)
    (request,) = simulator.generations()
    assert ("tools" in request["body"]) != native


def test_wrong_token(proxy, simulator):
    with pytest.raises(openai.AuthenticationError):
        model_of(proxy, token="wrong").chat(said("Hello"))
    assert simulator.generations() == []


def test_broken_stream_raises(proxy, simulator, broken):
    prompt, name = broken
    seen = []
    with pytest.raises(openai.APIError):
        seen.extend(chunk.delta for chunk in model_of(proxy, name).stream_chat(said(prompt)))
    assert "".join(delta or "" for delta in seen)


def test_embeddings_of_more_texts_than_google_takes_in_a_call(proxy, simulator):
    embeddings = OpenAILikeEmbedding(
        model_name="gemini-embedding-001",
        dimensions=64,
        embed_batch_size=2048,
        api_base=proxy.url,
        api_key=proxy.token,
        max_retries=0,
    )
    texts = [f"text {place}" for place in range(1200)]
    vectors = embeddings.get_text_embedding_batch(texts)
    assert len(vectors) == 1200
    assert {len(vector) for vector in vectors} == {64}
    assert vectors[1199] == embeddings.get_text_embedding("text 1199")
