"""The border: what a client may send, and what it hears when it sends something else."""

import json

import msgspec
import pytest
from fakes.openai_errors import seen
from hypothesis import given
from hypothesis import strategies as st

from gemproxy.api.openai.schema.messages import AssistantMessage, TextPart, UserMessage
from gemproxy.api.openai.schema.requests import decode_chat_completion
from gemproxy.core.errors import InvalidRequest

USER = {"role": "user", "content": "hi"}


def body(**fields):
    return json.dumps({"model": "m", "messages": [USER], **fields}).encode()


def refusal(data):
    with pytest.raises(InvalidRequest) as caught:
        decode_chat_completion(data)
    return caught.value


def test_the_smallest_request():
    request = decode_chat_completion(body())
    assert request.model == "m"
    assert request.messages == [UserMessage(content="hi")]


def test_unknown_fields_are_ignored_at_every_depth():
    message = {"role": "user", "content": [{"type": "text", "text": "a", "x": 1}], "weight": 2}
    request = decode_chat_completion(body(messages=[message], novelty={"deep": [1]}))
    assert request.messages == [UserMessage(content=[TextPart(text="a")])]


@pytest.mark.parametrize(
    "field",
    [
        "stream", "stream_options", "temperature", "top_p", "n", "stop", "max_tokens",
        "max_completion_tokens", "seed", "frequency_penalty", "presence_penalty", "logprobs",
        "top_logprobs", "tools", "tool_choice", "parallel_tool_calls", "functions",
        "function_call", "response_format", "reasoning_effort", "modalities", "audio",
        "service_tier", "web_search_options", "logit_bias", "metadata", "prediction", "store",
        "moderation", "prompt_cache_retention", "verbosity", "user",
    ],
)  # fmt: skip
def test_null_stands_for_absent(field):
    assert decode_chat_completion(body(**{field: None})) == decode_chat_completion(body())


def test_null_stands_where_the_sdk_allows_it_in_messages():
    call = {"name": "f", "arguments": "{}"}
    messages = [
        USER,
        {"role": "assistant", "content": None, "refusal": None, "function_call": call},
        {"role": "function", "name": "f", "content": None},
    ]
    request = decode_chat_completion(body(messages=messages))
    assert isinstance(request.messages[1], AssistantMessage)


@pytest.mark.parametrize(
    ("data", "part"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"hello", "not valid JSON"),
        (body() + b"x", "trailing"),
        (b"[1]", "expected an object, got an array"),
        (b'"a"', "expected an object, got a string"),
        (b"\xff\xfe", "not valid UTF-8"),
        (body()[:-1] + b',"x":NaN}', "at byte"),
        (body()[:-1] + b',"temperature":Infinity}', "at byte"),
        (body()[:-1] + b',"x":"\xff"}', "UTF-8: invalid bytes at offset"),
        (body()[:-1] + b',"x":' + b"[" * 10_000_000, "nested too deeply"),
        (body()[:-1] + b',"tools":' + b'[{"a":' * 1_000_000, "nested too deeply"),
        (b"[" * 10_000_000, "expected an object, got an array"),
    ],
    ids=range(13),
)
def test_what_is_no_request_at_all(data, part):
    error = refusal(data)
    assert part in error.message
    assert error.param is None
    assert (seen(error).status, seen(error).type) == (400, "invalid_request_error")


FIELDS = [
    ({"temperature": 2.1}, "temperature", "<= 2"),
    ({"temperature": -0.1}, "temperature", ">= 0"),
    ({"temperature": "hot"}, "temperature", "expected a number or null, got a string"),
    ({"temperature": True}, "temperature", "boolean"),
    ({"top_p": 1.5}, "top_p", "<= 1"),
    ({"n": 0}, "n", ">= 1"),
    ({"n": 9}, "n", "<= 8"),
    ({"n": 1.5}, "n", "integer"),
    ({"max_tokens": 0}, "max_tokens", ">= 1"),
    ({"max_completion_tokens": 0}, "max_completion_tokens", ">= 1"),
    ({"top_logprobs": 21}, "top_logprobs", "<= 20"),
    ({"top_logprobs": -1}, "top_logprobs", ">= 0"),
    ({"stop": list("abcde")}, "stop", "length <= 4"),
    ({"stop": ["a", 1]}, "stop[1]", "expected a string"),
    ({"frequency_penalty": 2.5}, "frequency_penalty", "<= 2"),
    ({"stream": "yes"}, "stream", "expected a boolean or null, got a string"),
    ({"reasoning_effort": "ultra"}, "reasoning_effort", "none, minimal, low"),
    ({"service_tier": "gold"}, "service_tier", "flex"),
    ({"modalities": ["smell"]}, "modalities[0]", "smell"),
    ({"response_format": {"type": "xml"}}, "response_format.type", "json_schema"),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "Missing"),
    ({"tools": [{"type": "magic"}]}, "tools[0].type", "function"),
    ({"tools": [{"type": "function"}]}, "tools[0].function", "Missing"),
    ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name", "Missing"),
    (
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": []}}]},
        "tools[0].function.parameters",
        "expected an object or null, got an array",
    ),
    ({"tool_choice": "maybe"}, "tool_choice", "none, auto, required"),
    ({"tool_choice": {"type": "x"}}, "tool_choice.type", "allowed_tools"),
    ({"model": ""}, "model", "length >= 1"),
    ({"model": 5}, "model", "expected a string"),
    ({"messages": []}, "messages", "length >= 1"),
    ({"messages": "hi"}, "messages", "expected an array"),
    ({"messages": ["hi"]}, "messages[0]", "expected an object"),
    ({"messages": [{"content": "hi"}]}, "messages[0].role", "Missing"),
    ({"messages": [USER, {"role": "robot"}]}, "messages[1].role", "system, developer, user"),
    ({"messages": [USER, {"role": "user"}]}, "messages[1].content", "Missing"),
    ({"messages": [{"role": "user", "content": None}]}, "messages[0].content", "got null"),
    ({"messages": [USER, USER, {"role": "user", "content": 7}]}, "messages[2].content", "integer"),
    (
        {"messages": [{"role": "user", "content": [{"type": "smell"}]}]},
        "messages[0].content[0].type",
        "image_url",
    ),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
        "messages[0].content[0].image_url",
        "Missing",
    ),
    (
        {"messages": [{"role": "system", "content": [{"type": "image_url", "image_url": "x"}]}]},
        "messages[0].content[0].type",
        "image_url",
    ),
    (
        {"messages": [{"role": "assistant", "tool_calls": [{"id": "a", "type": "x"}]}]},
        "messages[0].tool_calls[0].type",
        "'x'",
    ),
]


@pytest.mark.parametrize(("fields", "param", "part"), FIELDS, ids=[each[1] for each in FIELDS])
def test_a_wrong_field_is_named(fields, param, part):
    error = refusal(body(**fields))
    assert error.param == param
    assert part in error.message
    assert param in error.message


@pytest.mark.parametrize("name", ["model", "messages"])
def test_a_missing_field_is_named(name):
    fields = {"model": "m", "messages": [USER]}
    del fields[name]
    error = refusal(json.dumps(fields).encode())
    assert (error.param, seen(error).code) == (name, "missing_required_parameter")


def test_a_long_wrong_value_is_cut_in_the_message():
    error = refusal(body(messages=[{"role": "x" * 10_000, "content": "hi"}]))
    assert len(error.message) < 300


def called(*ids, name="f"):
    calls = [{"id": i, "type": "function", "function": {"name": name}} for i in ids]
    return {"role": "assistant", "tool_calls": calls}


def result(call_id, **more):
    return {"role": "tool", "tool_call_id": call_id, "content": "r", **more}


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([USER, result("a")], "messages[1].tool_call_id"),
        ([result("a"), called("a")], "messages[0].tool_call_id"),
        ([USER, called("a"), result("a"), result("b")], "messages[3].tool_call_id"),
        ([USER, called("a"), result("b", name="g")], "messages[2].tool_call_id"),
        ([USER, {"role": "function", "name": "f", "content": "1"}], "messages[1].name"),
    ],
)
def test_a_result_without_its_call_is_refused(messages, param):
    error = refusal(body(messages=messages))
    assert error.param == param


@pytest.mark.parametrize(
    "messages",
    [
        [USER, called("a"), result("a")],
        [USER, called("a", "b"), result("b"), result("a")],
        [USER, called("a"), USER, result("a")],
        [called("a"), result("a"), called("a"), result("a")],
        [called("", ""), result(""), result("")],
        [called("a"), result("other", name="f")],
        [called("a__thought__c2ln"), result("a")],
        [called("a"), {"role": "function", "name": "f", "content": "1"}],
    ],
    ids=range(8),
)
def test_a_result_with_its_call_passes(messages):
    request = decode_chat_completion(body(messages=messages))
    assert [msgspec.to_builtins(each)["role"] for each in request.messages] == [
        each["role"] for each in messages
    ]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@given(
    st.sampled_from(["messages", "tools", "stop", "response_format", "tool_choice", "google"]),
    json_values,
)
def test_any_json_in_any_field_is_taken_or_refused_by_name(field, value):
    refused = None
    try:
        decode_chat_completion(body(**{field: value}))
    except InvalidRequest as error:
        refused = error
    if refused is not None:
        assert refused.param is None or refused.param.startswith(field)
        assert seen(refused).status == 400


@given(st.binary(max_size=80))
def test_any_bytes_are_taken_or_refused(data):
    with pytest.raises(InvalidRequest):
        decode_chat_completion(data)


@pytest.mark.parametrize("size", [65_000, 65_535, 65_536, 200_000])
def test_long_text_is_checked_wherever_it_is_cut(size):
    """Also in a field that is not read."""
    sound = body(metadata="x" * size).replace(b"x" * size, "é".encode() * size)
    assert decode_chat_completion(sound).model == "m"
    broken = sound[:-2] + b"\xc3" + sound[-2:]
    assert f"at offset {len(sound) - 2}." in str(refusal(broken))
