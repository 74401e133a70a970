"""The border of ``POST /v1/embeddings``: what a client may send, and what it hears otherwise."""

import json

import msgspec
import pytest
from fakes.openai_errors import seen
from hypothesis import given, settings
from hypothesis import strategies as st

from gemproxy.api.openai.schema.embeddings import MAX_INPUTS, EmbeddingsRequest, decode_embeddings
from gemproxy.core.errors import InvalidRequest


def body(**fields):
    return json.dumps({"model": "m", "input": "hi", **fields}).encode()


def refusal(data):
    with pytest.raises(InvalidRequest) as caught:
        decode_embeddings(data)
    return caught.value


def test_a_text():
    assert decode_embeddings(body()) == EmbeddingsRequest(model="m", input="hi")
    assert decode_embeddings(body()).texts == ["hi"]


def test_texts_keep_their_order():
    texts = [f"text {n}" for n in range(MAX_INPUTS)]
    assert decode_embeddings(body(input=texts)).texts == texts


@pytest.mark.parametrize(
    "field",
    ["dimensions", "encoding_format", "user", "task_type", "title", "google", "extra_body"],
)
def test_null_stands_for_absent(field):
    assert decode_embeddings(body(**{field: None})) == decode_embeddings(body())


def test_unknown_fields_are_ignored():
    assert decode_embeddings(body(user="u", novelty={"deep": [1]})) == decode_embeddings(body())


@pytest.mark.parametrize(
    "tokens",
    [[15339, 1917], [[15339], [1917]], [[]], [0] * 100_000, [["a text in a list of lists"]]],
    ids=["ids", "lists of ids", "empty list", "many", "texts"],
)
def test_token_arrays_are_refused_with_the_way_out(tokens):
    error = refusal(body(input=tokens))
    assert error.message == (
        "input: token arrays are not supported by Gemini; send text"
        " (LangChain: check_embedding_ctx_length=False)."
    )
    assert error.param == "input"


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        ({"input": ""}, "input", "input: expected a text, got nothing."),
        ({"input": []}, "input", "input: expected at least one text, got nothing."),
        ({"input": ["a", "b", "c", ""]}, "input[3]", "input[3]: expected a text, got nothing."),
        (
            {"input": ["a"] * (MAX_INPUTS + 1)},
            "input",
            "input: expected at most 2048 texts, got 2049.",
        ),
        ({"input": None}, "input", "input: expected a string or an array, got null."),
        ({"input": 5}, "input", "input: expected a string or an array, got an integer."),
        ({"input": {}}, "input", "input: expected a string or an array, got an object."),
        ({"input": ["a", 5]}, "input[1]", "input[1]: expected a string, got an integer."),
        (
            {"input": [{"type": "text", "text": "a"}]},
            "input[0]",
            "input[0]: expected a string, got an object.",
        ),
        ({"input": [None]}, "input[0]", "input[0]: expected a string, got null."),
        ({"dimensions": 0}, "dimensions", "dimensions: expected an integer >= 1."),
        ({"dimensions": 2**31}, "dimensions", "dimensions: expected an integer <= 2147483647."),
        (
            {"dimensions": "768"},
            "dimensions",
            "dimensions: expected an integer or null, got a string.",
        ),
        (
            {"encoding_format": "int8"},
            "encoding_format",
            "encoding_format: invalid value 'int8', expected one of float, base64.",
        ),
        ({"model": ""}, "model", "model: expected a string of length >= 1."),
        (
            {"google": {"taskTypo": "CLUSTERING"}},
            "google.taskTypo",
            "Unknown parameter: 'google.taskTypo'; expected task_type, title.",
        ),
    ],
)
def test_mistakes_name_their_field(fields, param, message):
    error = refusal(body(**fields))
    assert (error.message, error.param) == (message, param)


@pytest.mark.parametrize("field", ["model", "input"])
def test_what_is_required(field):
    fields = json.loads(body())
    del fields[field]
    error = refusal(json.dumps(fields).encode())
    assert error.message == f"Missing required parameter: '{field}'."
    assert (error.param, error.reason) == (field, "missing_required_parameter")


@pytest.mark.parametrize(
    "fields",
    [
        {"task_type": "SEARCH"},
        {"google": {"task_type": "SEARCH"}},
        {"google": {"taskType": "SEARCH"}},
        {"extra_body": {"google": {"task_type": "SEARCH"}}},
        {"extra_body": {"google": {"taskType": "SEARCH"}}},
    ],
)
def test_unknown_task_types_are_told_the_known_ones(fields):
    message = refusal(body(**fields)).message
    assert message.startswith(refusal(body(**fields)).param)
    assert "invalid value 'SEARCH', expected one of RETRIEVAL_QUERY, RETRIEVAL_DOCUMENT" in message


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b'{"model":"m","input":"\\ud800"}',
        b'{"model":"m","input":"\xff"}',
        b'{"model":"m","input":"a","novelty":"\xff"}',
        b'{"model":"m","input":' + b"[" * 100_000,
        b'{"model":"m","input":["a",NaN]}',
    ],
    ids=["nothing", "list", "surrogate", "bytes", "ignored bytes", "depth", "NaN"],
)
def test_what_is_no_json_is_refused(data):
    assert seen(refusal(data)).status == 400


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: body(input=text)))
def test_any_body_is_a_request_or_refused(data):
    try:
        request = decode_embeddings(data)
    except InvalidRequest as error:
        assert error.message  # noqa: PT017 - either may be
    else:
        assert all(request.texts)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@settings(max_examples=30)
@given(st.dictionaries(st.sampled_from(EmbeddingsRequest.__struct_fields__), _JSON))
def test_any_value_is_a_request_or_refused(fields):
    try:
        request = decode_embeddings(msgspec.json.encode({"model": "m", "input": "a", **fields}))
    except InvalidRequest as error:
        assert error.param or "not valid JSON" in error.message  # noqa: PT017 - either may be
    else:
        assert all(request.texts)
