"""Answers of the Responses API: whole ones, and streams that follow the grammar."""

import json

import pytest
from fakes.responses import MODERN, chunk, parts, streamed, whole
from fakes.responses_grammar import checked
from hypothesis import given
from hypothesis import strategies as st

from gemproxy.api.openai.schema.response_objects import encode_echo
from gemproxy.api.openai.schema.responses import decode_responses
from gemproxy.core.errors import (
    ErrorInAnswer,
    QuotaExhausted,
    StreamIncomplete,
    UnusableAnswer,
    UpstreamRejected,
)
from gemproxy.translate.openai_responses__gemini.answer import WholeResponse
from gemproxy.translate.openai_responses__gemini.stream import ResponseStream

USAGE = {
    "promptTokenCount": 60,
    "cachedContentTokenCount": 8,
    "candidatesTokenCount": 15,
    "thoughtsTokenCount": 40,
    "totalTokenCount": 115,
}
THOUGHT = {"text": "**Hm**", "thought": True}
SIGNED = {"functionCall": {"name": "f", "args": {"city": "Oslo"}}, "thoughtSignature": "U2ln"}
FUNCTION = {"type": "function", "name": "f", "parameters": None}


def types(response):
    return [item["type"] for item in response["output"]]


def names(events):
    return [each["type"].removeprefix("response.") for each in events]


# --- whole answers --------------------------------------------------------------------------------


def test_a_plain_answer():
    response = whole(chunk({"text": "Hello"}, finish="STOP", usage=USAGE), metadata={"a": "b"})
    assert response["output"] == [
        {
            "type": "message",
            "id": "msg_ab0000",
            "role": "assistant",
            "status": "completed",
            "content": [
                {"type": "output_text", "text": "Hello", "annotations": [], "logprobs": []}
            ],
        }
    ]
    assert response["usage"] == {
        "input_tokens": 60,
        "input_tokens_details": {"cached_tokens": 8, "cache_write_tokens": 0},
        "output_tokens": 55,
        "output_tokens_details": {"reasoning_tokens": 40},
        "total_tokens": 115,
    }
    assert (response["status"], response["metadata"], response["model"]) == (
        "completed",
        {"a": "b"},
        MODERN,
    )


def test_thoughts_carry_the_signature_of_what_follows():
    response = whole(chunk(THOUGHT, SIGNED, finish="STOP"), tools=[FUNCTION])
    assert types(response) == ["reasoning", "function_call"]
    assert response["output"][0]["encrypted_content"].startswith("gp1.")
    # A late signature of a text goes to the thoughts before it.
    late = whole(
        chunk(THOUGHT, {"text": "So"}, {"text": "", "thoughtSignature": "U2ln"}, finish="STOP")
    )
    assert late["output"][0]["encrypted_content"].startswith("gp1.")
    # Without thoughts a text has no item for it.
    assert types(whole(chunk({"text": "So", "thoughtSignature": "U2ln"}, finish="STOP"))) == [
        "message"
    ]


def test_a_search_stands_before_the_message_with_its_sources():
    grounding = {
        "webSearchQueries": ["oslo weather", "oslo"],
        "groundingChunks": [{"web": {"uri": "https://redirect/AU", "title": "yr.no"}}],
        "groundingSupports": [
            {"segment": {"startIndex": 12, "endIndex": 25}, "groundingChunkIndices": [0]}
        ],
    }
    answer = chunk({"text": "Café Oslo: -3 °C today."}, finish="STOP", groundingMetadata=grounding)
    fields = {"tools": [{"type": "web_search"}], "include": ["web_search_call.action.sources"]}
    search, message = whole(answer, **fields)["output"]
    assert search["action"] == {
        "type": "search",
        "query": "oslo weather",
        "queries": ["oslo weather", "oslo"],
        "sources": [{"type": "url", "url": "https://redirect/AU"}],
    }
    assert message["content"][0]["annotations"] == [
        {
            "type": "url_citation",
            "start_index": 11,
            "end_index": 23,
            "title": "yr.no",
            "url": "https://redirect/AU",
        }
    ]
    last = checked(streamed(answer, **fields))[-1]["response"]
    assert types(last) == ["message", "web_search_call"]
    assert last["output"][0]["content"] == message["content"]


@pytest.mark.parametrize(
    ("answer", "reason", "status"),
    [
        (chunk({"text": "Half"}, finish="MAX_TOKENS"), "max_output_tokens", "incomplete"),
        (chunk({"text": "Half"}, finish="SAFETY"), "content_filter", "incomplete"),
        (chunk({"text": "All"}, finish="MALFORMED_FUNCTION_CALL"), None, "completed"),
    ],
)
def test_how_an_answer_ends(answer, reason, status):
    for response in (whole(answer), checked(streamed(answer))[-1]["response"]):
        assert response["status"] == status
        assert (response["incomplete_details"] or {}).get("reason") == reason
        assert response["output"][0]["status"] == status


@pytest.mark.parametrize(
    "answer",
    [
        chunk(finish="SAFETY"),
        json.dumps({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}).encode(),
    ],
)
def test_a_block_without_text_is_a_refusal(answer):
    for response in (whole(answer), checked(streamed(answer))[-1]["response"]):
        assert response["incomplete_details"] == {"reason": "content_filter"}
        assert response["output"][0]["content"][0]["type"] == "refusal"


def test_code_images_and_log_probabilities():
    answer = chunk(
        {"executableCode": {"language": "PYTHON", "code": "print(1)"}},
        {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1\n"}},
        {"inlineData": {"mimeType": "image/png", "data": "iVBOR"}},
        {"text": "One"},
        finish="STOP",
        logprobsResult={"chosenCandidates": [{"token": "One", "logProbability": -0.5}]},
    )
    fields = {"include": ["message.output_text.logprobs"], "top_logprobs": 1}
    for response in (whole(answer, **fields), checked(streamed(answer, **fields))[-1]["response"]):
        code, image, message = response["output"]
        assert (code["code"], code["outputs"]) == ("print(1)", [{"type": "logs", "logs": "1\n"}])
        assert (image["result"], image["output_format"]) == ("iVBOR", "png")
        assert message["content"][0]["logprobs"][0]["token"] == "One"


def test_parallel_calls_can_be_forbidden():
    answer = chunk(SIGNED, {"functionCall": {"name": "f", "args": {}}}, finish="STOP")
    assert len(whole(answer, tools=[FUNCTION], parallel_tool_calls=False)["output"]) == 2


def test_secrets_are_removed():
    answer = chunk({**SIGNED, "thoughtSignature": "sesame"}, finish="STOP")
    assert types(whole(answer)) == ["function_call"]
    blocked = {"promptFeedback": {"blockReason": "OTHER", "blockReasonMessage": "sesame"}}
    assert "sesame" not in json.dumps(whole(json.dumps(blocked).encode()))


def test_what_is_no_answer():
    for answer, error in (
        (b"{}", UnusableAnswer),
        (chunk(finish="MALFORMED_FUNCTION_CALL"), UnusableAnswer),
        (chunk(finish="MISSING_THOUGHT_SIGNATURE"), UpstreamRejected),
    ):
        reader = WholeResponse(parts())
        reader.receive(answer)
        with pytest.raises(error):
            reader.encode()


# --- streams --------------------------------------------------------------------------------------


def test_the_stream_of_the_specification():
    """Thoughts, text, and a call whose signature needs a reasoning item of its own."""
    events = checked(
        streamed(
            chunk(THOUGHT),
            chunk({"text": "Let me look."}),
            chunk(SIGNED, finish="STOP", usage=USAGE),
            tools=[FUNCTION],
        )
    )
    assert len(events) == 21
    assert types(events[-1]["response"]) == ["reasoning", "message", "reasoning", "function_call"]
    assert "encrypted_content" not in events[-1]["response"]["output"][0]


def test_a_reasoning_item_stays_open_until_the_signature_is_known():
    stream = ResponseStream(parts(tools=[FUNCTION]))
    first = stream.receive(chunk(THOUGHT))
    assert b"output_item.done" not in first
    events = checked(first + stream.receive(chunk(SIGNED, finish="STOP")) + stream.finish())
    reasoning, call = events[-1]["response"]["output"]
    assert reasoning["encrypted_content"].startswith("gp1.")
    assert call["arguments"] == '{"city":"Oslo"}'


def test_nothing_is_sent_before_there_is_content():
    stream = ResponseStream(parts())
    assert stream.receive(chunk({"text": ""}, usage=USAGE)) == b""
    assert not stream.started
    assert names(checked(stream.receive(chunk({"text": "a"}, finish="STOP")) + stream.finish()))[
        :3
    ] == ["created", "in_progress", "output_item.added"]


def test_line_feeds_of_the_request_do_not_break_events():
    tools = b'[\n {"type": "function",\r\n "name": "f"}]'
    body = b'{"model": "gemini-3.8-flash", "input": "x", "tools": %b}' % tools
    decoded = decode_responses(body)
    echo = encode_echo(decoded.request, decoded.raw, store=True)
    assert b"\n" not in echo
    assert b'"tools":[{"type":"function","name":"f"}]' in echo


def test_a_broken_stream_fails_as_its_last_event():
    stream = ResponseStream(parts())
    begun = stream.receive(chunk({"text": "Half"}))
    with pytest.raises(StreamIncomplete):
        stream.finish()
    failed = stream.failed(QuotaExhausted("All keys are out of quota.", retry_after=12.2))
    error = checked(begun + failed)[-1]["response"]["error"]
    assert error == {
        "code": "rate_limit_exceeded",
        "message": "All keys are out of quota. Please try again in 12s.",
    }


def test_an_error_in_the_stream_is_raised():
    with pytest.raises(ErrorInAnswer):
        ResponseStream(parts()).receive(b'{"error": {"code": 503}}')


def test_hops_are_one_message():
    stream = ResponseStream(parts())
    sent = stream.receive(chunk({"text": "a"}, finish="CONTINUATION", continuationToken="t"))
    assert b'"continuationToken":"t"' in stream.next_step()
    stream.resume()
    sent += stream.receive(chunk({"text": "b"}, finish="STOP")) + stream.finish()
    assert checked(sent)[-1]["response"]["output"][0]["content"][0]["text"] == "ab"


PARTS = st.one_of(
    st.builds(lambda text: {"text": text}, st.text(max_size=4)),
    st.builds(lambda text: {"text": text, "thought": True}, st.text(max_size=4)),
    st.builds(lambda text: {"text": text, "thoughtSignature": "U2ln"}, st.text(max_size=2)),
    st.sampled_from(
        [
            SIGNED,
            {"functionCall": {"name": "f", "args": {}, "id": "call_7"}},
            {"functionCall": {"name": "tool", "args": {"input": "x"}}},
            {"executableCode": {"code": "1"}},
            {"codeExecutionResult": {"output": "1"}},
            {"inlineData": {"mimeType": "image/png", "data": "iVBOR"}},
            {"somethingNew": {}},
        ]
    ),
)


@given(chunks=st.lists(st.lists(PARTS, max_size=4), min_size=1, max_size=6))
def test_every_stream_follows_the_grammar_and_says_what_a_whole_answer_says(chunks):
    fields = {"tools": [FUNCTION, {"type": "custom", "name": "tool"}]}
    sent = streamed(*(chunk(*each) for each in chunks), chunk(finish="STOP"), **fields)
    last = checked(sent)[-1]["response"]
    together = whole(chunk(*(part for each in chunks for part in each), finish="STOP"), **fields)
    for response in (last, together):
        for item in response["output"]:
            item.pop("id")
            item.pop("call_id", None)
            item.pop("container_id", None)
            if item["type"] == "reasoning":
                item.pop("encrypted_content", None)
    assert last["output"] == together["output"]
    calls = [item for item in last["output"] if item["type"].endswith("tool_call")]
    assert len(calls) == sum("tool" in str(part) for each in chunks for part in each)
