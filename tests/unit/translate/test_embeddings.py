"""Embeddings on their way to Gemini and back, without a network."""

import base64
import json
import math
import struct
from array import array
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemproxy.api.openai.schema.embeddings import decode_embeddings
from gemproxy.core.errors import (
    ErrorInAnswer,
    InvalidRequest,
    MalformedUpstreamResponse,
    UnusableAnswer,
)
from gemproxy.translate.openai_embeddings__gemini import (
    EmbeddingBatch,
    read_batch,
    split_batch,
    to_gemini,
    to_openai,
)
from gemproxy.translate.shared.usage import TokenUsage

RECORDINGS = sorted((Path(__file__).resolve().parents[4] / "shared" / "recordings").glob("embed_*"))
OLD, NEW = "gemini-embedding-001", "gemini-embedding-2"


def sent(model=OLD, **fields):
    """The documents that go to Google."""
    request = decode_embeddings(json.dumps({"model": "m", "input": "hi", **fields}).encode())
    return [json.loads(batch.body) for batch in to_gemini(request, model=model).batches]


def texts(documents):
    return [
        request["content"]["parts"][0]["text"]
        for document in documents
        for request in document["requests"]
    ]


def refusal(**fields):
    with pytest.raises(InvalidRequest) as caught:
        sent(**fields)
    return caught.value


class TestToGemini:
    def test_a_text_is_a_batch_of_one(self):
        content = {"parts": [{"text": "hi"}]}
        assert sent() == [{"requests": [{"model": f"models/{OLD}", "content": content}]}]

    @pytest.mark.parametrize(
        ("number", "sizes"),
        [(1, [1]), (100, [100]), (101, [100, 1]), (250, [100, 100, 50]), (2048, [100] * 20 + [48])],
    )
    def test_at_most_a_hundred_texts_go_in_a_batch_in_their_order(self, number, sizes):
        inputs = [f"text {place}" for place in range(number)]
        documents = sent(input=inputs)
        assert [len(document["requests"]) for document in documents] == sizes
        assert texts(documents) == inputs

    def test_batches_know_their_place(self):
        request = decode_embeddings(json.dumps({"model": "m", "input": ["a"] * 150}).encode())
        batches = to_gemini(request, model=OLD).batches
        assert [(batch.first, batch.count) for batch in batches] == [(0, 100), (100, 50)]

    def test_the_first_generation_gets_the_task_as_a_field(self):
        for options in (
            {"task_type": "RETRIEVAL_QUERY"},
            {"google": {"task_type": "RETRIEVAL_QUERY"}},
            {"google": {"taskType": "RETRIEVAL_QUERY"}},
            {"extra_body": {"google": {"task_type": "RETRIEVAL_QUERY"}}},
        ):
            (request,) = sent(**options)[0]["requests"]
            assert request["taskType"] == "RETRIEVAL_QUERY"
            assert texts(sent(**options)) == ["hi"]

    def test_a_title_goes_with_a_document(self):
        (request,) = sent(task_type="RETRIEVAL_DOCUMENT", title="T")[0]["requests"]
        assert (request["taskType"], request["title"]) == ("RETRIEVAL_DOCUMENT", "T")

    @pytest.mark.parametrize(
        ("task", "text"),
        [
            ("RETRIEVAL_QUERY", "task: search result | query: hi"),
            ("QUESTION_ANSWERING", "task: question answering | query: hi"),
            ("FACT_VERIFICATION", "task: fact checking | query: hi"),
            ("CODE_RETRIEVAL_QUERY", "task: code retrieval | query: hi"),
            ("CLASSIFICATION", "task: classification | query: hi"),
            ("CLUSTERING", "task: clustering | query: hi"),
            ("SEMANTIC_SIMILARITY", "task: sentence similarity | query: hi"),
            ("RETRIEVAL_DOCUMENT", "title: none | text: hi"),
        ],
    )
    def test_the_second_generation_gets_the_task_in_the_text(self, task, text):
        documents = sent(NEW, task_type=task)
        assert texts(documents) == [text]
        assert "taskType" not in documents[0]["requests"][0]

    def test_the_second_generation_gets_the_title_in_the_text(self):
        documents = sent(NEW, task_type="RETRIEVAL_DOCUMENT", title="T")
        assert texts(documents) == ["title: T | text: hi"]
        assert "title" not in documents[0]["requests"][0]

    @pytest.mark.parametrize("model", [OLD, NEW])
    def test_nothing_stands_before_a_text_that_nobody_asked_for(self, model):
        assert texts(sent(model)) == ["hi"]

    @pytest.mark.parametrize(
        ("fields", "param"),
        [
            ({"title": "T"}, "title"),
            ({"title": "T", "task_type": "CLUSTERING"}, "title"),
            ({"google": {"title": "T"}}, "google.title"),
            (
                {"google": {"task_type": "CLUSTERING", "taskType": "CLUSTERING"}},
                "google.taskType",
            ),
        ],
    )
    def test_options_that_exclude_each_other_are_refused(self, fields, param):
        assert refusal(**fields).param == param

    def test_the_innermost_option_is_heard(self):
        nested = {"google": {"task_type": "CLUSTERING"}}
        options = {"task_type": "RETRIEVAL_QUERY", "extra_body": nested}
        assert sent(**options)[0]["requests"][0]["taskType"] == "CLUSTERING"

    @given(st.lists(st.text(min_size=1), min_size=1, max_size=120))
    def test_any_text_arrives_as_it_is(self, inputs):
        assert texts(sent(input=inputs)) == inputs

    def test_five_megabytes_in_many_texts(self):
        inputs = ["wörter und \n Zeichen \u2028 " * 100] * 2000
        assert texts(sent(input=inputs)) == inputs


def batch(count, first=0, tokens=7):
    return EmbeddingBatch(b"", first, count, tokens)


def answer(*vectors, **fields):
    document = {"embeddings": [{"values": list(values)} for values in vectors], **fields}
    return json.dumps(document, indent=2).encode()


def items(body, asked, *, encoded=False):
    made = read_batch(body, asked, base64=encoded)
    return json.loads(b"[%b]" % made.items)


def decoded(text):
    """As openai-python reads it."""
    raw = base64.b64decode(text, validate=True)
    return list(struct.unpack(f"<{len(raw) // 4}f", raw))


vectors = st.lists(
    st.floats(-1, 1, width=32).filter(lambda x: x == 0 or abs(x) > 1e-6), min_size=1, max_size=50
)


class TestSplitBatch:
    @given(st.lists(st.text(min_size=1), min_size=2, max_size=100))
    def test_the_halves_are_the_whole(self, inputs):
        fields = {"model": "m", "input": inputs, "dimensions": 8, "task_type": "CLUSTERING"}
        (whole,) = to_gemini(decode_embeddings(json.dumps(fields).encode()), model=OLD).batches
        halves = split_batch(whole)
        requests = [json.loads(half.body)["requests"] for half in halves]
        assert [*requests[0], *requests[1]] == json.loads(whole.body)["requests"]
        assert [half.count for half in halves] == [len(part) for part in requests]
        assert [half.first for half in halves] == [0, halves[0].count]
        assert abs(halves[0].count - halves[1].count) <= 1
        assert all(half.estimated_tokens < whole.estimated_tokens for half in halves)

    def test_the_places_go_on_from_the_whole(self):
        request = decode_embeddings(json.dumps({"model": "m", "input": ["a"] * 150}).encode())
        second = to_gemini(request, model=OLD).batches[1]
        assert [half.first for half in split_batch(second)] == [100, 125]

    def test_one_text_cannot_be_split(self):
        (whole,) = to_gemini(decode_embeddings(b'{"model":"m","input":"a"}'), model=OLD).batches
        assert split_batch(whole) == []


class TestReadBatch:
    def test_a_vector_of_the_length_one_stays_as_it_came(self):
        values = [0.020942502, -0.99978068, 1.5e-08, 0]
        assert items(answer(values), batch(1))[0]["embedding"] == values

    def test_items_count_on_from_the_batch_before(self):
        made = items(answer([1.0], [1.0]), batch(2, first=100))
        assert [item["index"] for item in made] == [100, 101]

    @given(vectors)
    def test_every_vector_has_the_length_one_and_its_direction(self, values):
        made = items(answer(values), batch(1))[0]["embedding"]
        length = math.hypot(*values)
        if length == 0:
            assert made == values
        else:
            assert math.hypot(*made) == pytest.approx(1, abs=1e-4)
            assert made == pytest.approx([value / length for value in values], abs=1e-4)

    @given(vectors)
    def test_base64_holds_the_same_numbers(self, values):
        numbers = items(answer(values), batch(1))[0]["embedding"]
        text = items(answer(values), batch(1), encoded=True)[0]["embedding"]
        assert decoded(text) == list(array("f", numbers))

    def test_base64_of_3072_numbers_has_no_line_breaks(self):
        text = items(answer([0.01] * 3072), batch(1), encoded=True)[0]["embedding"]
        assert len(text) == 16_384

    def test_usage_is_estimated_where_there_is_none(self):
        made = read_batch(answer([1.0]), batch(1, tokens=7), base64=True)
        assert made.usage == TokenUsage(input=7, total=7)

    @pytest.mark.parametrize("number", [0, 1, 3])
    def test_another_number_of_vectors_is_no_answer(self, number):
        with pytest.raises(UnusableAnswer, match=f"{number} vectors for 2 texts"):
            read_batch(answer(*[[1.0]] * number), batch(2), base64=True)

    @pytest.mark.parametrize("encoded", [False, True])
    def test_a_vector_without_numbers_is_no_answer(self, encoded):
        with pytest.raises(UnusableAnswer, match="a vector without numbers"):
            read_batch(answer([1.0], []), batch(2), base64=encoded)

    @pytest.mark.parametrize("values", [[5e-324, 0.0], [1e-310, -1e-310], [1.7e308, 1.7e308]])
    def test_a_length_without_an_inverse_changes_no_number(self, values):
        assert items(answer(values), batch(1))[0]["embedding"] == values

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"<html>",
            b"{}",
            b"[]",
            b"\xff",
            b'{"embeddings":null}',
            b'{"embeddings":[{"values":[1.0]}',
            b'{"embeddings":[{"values":[1.0',
            b'{"embeddings":[{"values":"x"}]}',
            b'{"embeddings":[{"values":["NaN"]}]}',
            b'{"embeddings":[{"values":[NaN]}]}',
            b'{"embeddings":[{"values":[[1.0]]}]}',
            b'{"embeddings":[{"values":[null]}]}',
            b'{"embeddings":[{"values":[1.0]}]}garbage',
            b'{"embeddings":[{}],"values":[1.0]}',
        ],
    )
    @pytest.mark.parametrize("encoded", [False, True])
    def test_what_is_no_answer_is_said_to_be_none(self, body, encoded):
        with pytest.raises(MalformedUpstreamResponse):
            read_batch(body, batch(1), base64=encoded)

    def test_an_error_in_a_success_is_an_error(self):
        with pytest.raises(ErrorInAnswer):
            read_batch(b'{"error":{"code":503}}', batch(1), base64=True)

    @given(st.binary(max_size=200))
    def test_any_bytes_are_an_answer_or_none(self, body):
        with pytest.raises((UnusableAnswer, ErrorInAnswer)):
            read_batch(body, batch(1), base64=True)


class TestToOpenAI:
    def test_batches_become_one_answer(self):
        first = read_batch(answer([1.0], [1.0]), batch(2), base64=False)
        second = read_batch(answer([1.0]), batch(1, first=2), base64=False)
        body = to_openai('a "name"', [first.items, second.items], first.usage + second.usage)
        assert json.loads(bytes(body)) == {
            "object": "list",
            "data": [{"object": "embedding", "index": n, "embedding": [1.0]} for n in range(3)],
            "model": 'a "name"',
            "usage": {"prompt_tokens": 14, "total_tokens": 14},
        }

    def test_the_sdk_reads_it(self):
        openai = pytest.importorskip("openai.types")
        made = read_batch(answer([1.0]), batch(1), base64=False)
        read = openai.CreateEmbeddingResponse.model_validate_json(
            bytes(to_openai("m", [made.items], made.usage)), strict=True
        )
        assert read.data[0].embedding == [1.0]


@pytest.mark.skipif(not RECORDINGS, reason="the recordings are not beside this repository")
@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_recorded_batches(path):
    recorded = json.loads(path.read_text("utf-8"))
    if recorded["endpoint"] != "batchEmbedContents":
        pytest.skip("embedContent, which this program does not call")
    response = recorded["response"]
    asked = batch(len(response["embeddings"]))
    for encoded in (False, True):
        made = items(json.dumps(response).encode(), asked, encoded=encoded)
        for item, said in zip(made, response["embeddings"], strict=True):
            values = decoded(item["embedding"]) if encoded else item["embedding"]
            length = math.hypot(*said["values"])
            assert math.hypot(*values) == pytest.approx(1, abs=1e-5)
            assert values == pytest.approx([value / length for value in said["values"]], abs=1e-6)
