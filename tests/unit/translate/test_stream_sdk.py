"""The official SDK's own accumulation understands the chunks."""

import json

import pytest
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from gemproxy.providers.gemini.wire.answers import decode_answer, merge_answers
from gemproxy.translate.openai_chat__gemini.answer import to_openai
from gemproxy.translate.openai_chat__gemini.context import AnswerContext
from gemproxy.translate.openai_chat__gemini.stream import ChatStreamTranslator
from gemproxy.translate.shared.signatures import SignatureStore

SEARCH = {
    "groundingChunks": [{"web": {"uri": "https://a.example/", "title": "A"}}],
    "groundingSupports": [
        {"segment": {"endIndex": 5}, "groundingChunkIndices": [0]},
        {"segment": {"startIndex": 5, "endIndex": 6}, "groundingChunkIndices": [0]},
    ],
}
USAGE = {"promptTokenCount": 4, "candidatesTokenCount": 6, "totalTokenCount": 10}


def candidate(*parts, **fields):
    return {"content": {"parts": list(parts)}, **fields}


def chunk(*candidates, **fields):
    return {"candidates": list(candidates), "responseId": "abc", **fields}


STREAMS = {
    "text with thoughts and sources": [
        chunk(candidate({"text": "Hm", "thought": True})),
        chunk(candidate({"text": "Käse"})),
        chunk(candidate({"text": "!", "thoughtSignature": "sig"})),
        chunk(candidate(finishReason="STOP", groundingMetadata=SEARCH), usageMetadata=USAGE),
    ],
    "parallel calls": [
        chunk(candidate({"text": "Wait."})),
        chunk(
            candidate(
                {"functionCall": {"name": "f", "args": {"a": 1.0}}, "thoughtSignature": "sig"},
                {"functionCall": {"name": "g"}},
            )
        ),
        chunk(candidate({"functionCall": {"name": "h", "args": {"b": [None]}, "id": "theirs"}})),
        chunk(candidate(finishReason="STOP"), usageMetadata=USAGE),
    ],
    "only a call": [chunk(candidate({"functionCall": {"name": "f"}}, finishReason="STOP"))],
    "images": [
        chunk(candidate({"inlineData": {"mimeType": "image/png", "data": "AAAA"}})),
        chunk(candidate({"inlineData": {"mimeType": "image/png", "data": "BBBB"}})),
        chunk(candidate({"text": "Two."}, finishReason="STOP"), usageMetadata=USAGE),
    ],
    "sound": [
        chunk(candidate({"inlineData": {"mimeType": "audio/L16", "data": "AAAA"}})),
        chunk(candidate({"inlineData": {"mimeType": "audio/L16", "data": "BBBB"}})),
        chunk(candidate(finishReason="STOP"), usageMetadata=USAGE),
    ],
    "several choices out of order": [
        chunk(candidate({"text": "b"}, index=1)),
        chunk(candidate({"text": "a"})),
        chunk(candidate({"functionCall": {"name": "f"}}, index=1)),
        chunk(
            candidate({"text": "A"}, finishReason="STOP"), candidate(finishReason="STOP", index=1)
        ),
    ],
    "log probabilities": [
        chunk(
            candidate(
                {"text": "a"},
                logprobsResult={"chosenCandidates": [{"token": "a", "logProbability": -1}]},
            )
        ),
        chunk(
            candidate(
                {"text": "b"},
                finishReason="STOP",
                logprobsResult={"chosenCandidates": [{"token": "b", "logProbability": -2}]},
            )
        ),
    ],
}
CONTEXT = AnswerContext(model="m", choices=2, include_usage=True, logprobs=True)


def fresh_ids():
    numbers = iter(range(1, 100))
    return lambda: f"call_{next(numbers)}"


def accumulate(chunks):
    """The SDK's final completion."""
    stream = ChatStreamTranslator(
        CONTEXT, created=1, new_id=fresh_ids(), signatures=SignatureStore()
    )
    sent = b"".join(stream.receive(json.dumps(each).encode()) for each in chunks)
    events = (sent + stream.finish()).decode().split("\n\n")
    state = ChatCompletionStreamState()
    for event in events[:-2]:
        state.handle_chunk(ChatCompletionChunk.model_validate_json(event.removeprefix("data: ")))
    return state.get_final_completion()


def unary(chunks):
    """The same answer, had it come in one piece."""
    answer = merge_answers(decode_answer(json.dumps(each).encode()) for each in chunks)
    completed = to_openai(
        [answer], CONTEXT, created=1, new_id=fresh_ids(), signatures=SignatureStore()
    )
    return ChatCompletion.model_validate_json(completed.body)


def comparable(completion):
    """What must be the same in both; a stream counts list items, and its content is never null."""
    told = completion.model_dump(exclude_none=True)
    for choice in told["choices"]:
        message = choice["message"]
        message.setdefault("content", "")
        for item in message.get("tool_calls", []) + message.get("annotations", []):
            item.pop("index", None)
    return told


@pytest.mark.parametrize("name", STREAMS)
def test_accumulated_stream_equals_the_unary_answer(name):
    streamed, whole = accumulate(STREAMS[name]), unary(STREAMS[name])
    assert comparable(streamed) == comparable(whole)


def test_sdk_sees_thoughts_sources_and_usage():
    completion = accumulate(STREAMS["text with thoughts and sources"])
    message = completion.choices[0].message
    assert (message.content, message.reasoning_content) == ("Käse!", "Hm")
    assert [each.url_citation.end_index for each in message.annotations] == [4, 5]
    assert completion.usage.total_tokens == 10
