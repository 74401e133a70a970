"""Simulated embeddings: as strict as Google, and the same for the same text."""

import json
import math
from pathlib import Path

import pytest
from corpus import FILES

from gemproxy.pool.outcome import Verdict
from gemproxy.providers.gemini.classify import classify_response
from gemproxy.secret import Secret
from gemproxy.simulator.behaviours import CATALOGUE, Call, Kind, assignment, behaviour
from gemproxy.simulator.config import SimulatedKey, SimulatorConfig
from gemproxy.simulator.quotas import Limits
from gemproxy.simulator.script import End

OLD, NEW = "gemini-embedding-001", "gemini-embedding-2"
SAMPLES = Path(__file__).resolve().parents[4] / "shared" / "samples"


def requests(*texts, model=OLD, **options):
    return {
        "requests": [
            {"model": f"models/{model}", "content": {"parts": [{"text": text}]}, **options}
            for text in texts
        ]
    }


@pytest.fixture
def embed(client):
    def post(*texts, model=OLD, **options):
        return client.post(requests(*texts, model=model, **options), model, "batchEmbedContents")

    return post


@pytest.fixture
def vectors(embed):
    def values(*texts, model=OLD, **options):
        answer = embed(*texts, model=model, **options).json
        return [each["values"] for each in answer["embeddings"]]

    return values


class TestVectors:
    def test_there_is_one_for_each_text_in_order(self, vectors):
        one, other = vectors("red"), vectors("blue")
        assert vectors("red", "blue", "red") == [*one, *other, *one]

    @pytest.mark.parametrize("model", [OLD, NEW])
    def test_they_have_3072_numbers_and_the_length_1(self, vectors, model):
        (values,) = vectors("red", model=model)
        assert len(values) == 3072
        assert math.hypot(*values) == pytest.approx(1)

    def test_the_first_model_only_cuts_them(self, vectors):
        (whole,), (part,) = vectors("red"), vectors("red", outputDimensionality=768)
        assert part == whole[:768]
        assert math.hypot(*part) < 0.9

    def test_later_models_bring_them_to_the_length_1(self, vectors):
        (part,) = vectors("red", model=NEW, outputDimensionality=768)
        assert len(part) == 768
        assert math.hypot(*part) == pytest.approx(1)

    def test_options_may_stand_in_the_newer_form(self, vectors):
        newer = vectors("red", embedContentConfig={"outputDimensionality": 10})
        assert newer == vectors("red", outputDimensionality=10)

    def test_only_the_first_model_heeds_the_task(self, vectors):
        for model, heeds in ((OLD, True), (NEW, False)):
            query = vectors("red", model=model, taskType="RETRIEVAL_QUERY")
            document = vectors("red", model=model, taskType="RETRIEVAL_DOCUMENT")
            assert (query != document) is heeds

    def test_models_have_spaces_of_their_own(self, vectors):
        assert vectors("red") != vectors("red", model=NEW)

    def test_one_text_by_itself(self, client, vectors):
        content = {"parts": [{"text": "red"}]}
        reply = client.post({"content": content}, OLD, "embedContent")
        assert [reply.json["embedding"]["values"]] == vectors("red")

    def test_several_parts_become_one_vector(self, client):
        content = {"parts": [{"text": "red"}, {"text": "blue"}]}
        body = {"requests": [{"model": f"models/{OLD}", "content": content}]}
        assert len(client.post(body, OLD, "batchEmbedContents").json["embeddings"]) == 1

    def test_only_later_models_tell_usage(self, embed):
        assert "usageMetadata" not in embed("one two").json
        assert embed("one two", "three", model=NEW).json["usageMetadata"] == {
            "promptTokenCount": 3,
            "promptTokenDetails": [{"modality": "TEXT", "tokenCount": 3}],
        }


class TestRefusals:
    def test_a_hundred_go_in_a_batch(self, embed):
        assert embed(*["a"] * 100).status == 200
        refused = embed(*["a"] * 101)
        assert (refused.status, refused.message) == (
            400,
            "* BatchEmbedContentsRequest.requests: at most 100 requests can be in one batch\n",
        )

    def test_an_empty_text(self, embed):
        refused = embed("a", "")
        assert refused.status == 400
        assert refused.message == "EmbedContentRequest.content contains an empty Part."

    @pytest.mark.parametrize(
        "change",
        [
            {"model": ""},
            {"model": "models/gemini-embedding-2"},
            {"content": {"parts": []}},
            {"outputDimensionality": 0},
            {"outputDimensionality": 3073},
            {"taskType": "SEARCH"},
            {"task": "CLUSTERING"},
            {"content": {"parts": [{"inlineData": {"mimeType": "image/png", "data": "QUJD"}}]}},
        ],
        ids=repr,
    )
    def test_what_is_wrong_in_one_request_is_refused_for_all(self, client, change):
        body = requests("a", "b")
        body["requests"][1] |= change
        reply = client.post(body, OLD, "batchEmbedContents")
        assert (reply.status, reply.error["status"]) == (400, "INVALID_ARGUMENT")

    def test_a_batch_of_nothing(self, client):
        assert client.post({"requests": []}, OLD, "batchEmbedContents").status == 400

    def test_later_models_embed_images(self, client):
        part = {"inlineData": {"mimeType": "image/png", "data": "QUJD"}}
        request = {"model": f"models/{NEW}", "content": {"parts": [{"text": "logo"}, part]}}
        reply = client.post({"requests": [request]}, NEW, "batchEmbedContents")
        assert reply.json["usageMetadata"]["promptTokenCount"] == 259

    @pytest.mark.parametrize("model", ["gemini-3.8-flash", "gemini-embedding-9"])
    def test_another_model_is_not_found(self, embed, model):
        refused = embed("a", model=model)
        assert refused.status == 404
        assert refused.message.startswith(
            f"models/{model} is not found for API version v1beta, or is not supported for "
            "embedContent. "
        )

    @pytest.mark.parametrize("model", ["text-embedding-004", "gemini-embedding-2-preview"])
    def test_models_that_are_gone(self, embed, model):
        assert "is no longer available" in embed("a", model=model).message


class TestBehaviours:
    @pytest.mark.parametrize("name", CATALOGUE)
    def test_every_behaviour_has_a_script_that_ends(self, embed, name):
        reply = embed(f"red [simulate:{name}]")
        assert isinstance(reply.end, End)

    @pytest.mark.parametrize(
        "name", [n for n, e in CATALOGUE.items() if e.kind in {Kind.KEY_FAULT, Kind.ERROR}]
    )
    def test_errors_of_a_key_hold_for_embeddings(self, client, embed, name):
        client.keyring.by_name("one").assign(assignment(behaviour(name)), own=True)
        reply = embed("red")
        assert (reply.exchange.behaviour, reply.status) == (name, reply.error["code"])

    def test_a_vector_may_be_missing(self, embed):
        assert len(embed("red", "blue [simulate:fewer-vectors]").json["embeddings"]) == 1

    def test_a_fault_can_be_limited_to_embeddings(self, client, embed):
        told = client.keyring.by_name("one")
        told.assign(assignment(behaviour("overloaded"), calls=frozenset({Call.EMBED})), own=True)
        assert (embed("red").status, client.say("Hello").status) == (503, 200)


@pytest.mark.parametrize(
    ("limits", "verdict", "quota"),
    [
        (
            {"rpm": 1},
            Verdict.QUOTA_MINUTE,
            "EmbedContentRequestsPerMinutePerProjectPerModel-FreeTier",
        ),
        ({"rpd": 1}, Verdict.QUOTA_DAY, "EmbedContentRequestsPerDayPerProjectPerModel-FreeTier"),
        (
            {"tpm": 150},
            Verdict.QUOTA_MINUTE,
            "EmbedContentPaidTierInputTokensPerModelPerMinute",
        ),
    ],
)
def test_limits_are_counted_by_batches_and_tokens(client_of, limits, verdict, quota):
    key = SimulatedKey("one", Secret("a-key"), limits=Limits(**limits))
    client = client_of(SimulatorConfig((key,)))
    body = requests(*["word"] * 100)
    assert client.post(body, OLD, "batchEmbedContents", key="a-key").status == 200
    refused = client.post(body, OLD, "batchEmbedContents", key="a-key")
    outcome = classify_response(refused.status, {}, refused.data, now=client.now)
    assert (outcome.verdict, outcome.quota_id) == (verdict, quota)


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the samples are not beside this repository")
@pytest.mark.parametrize(
    "name",
    [
        "embed_batch_001_768_dims",
        "embed_batch_001_two_parts_one_vector",
        "embed_batch_2_768_dims_usage",
        "embed_batch_2_image_and_text_one_vector",
        "embed_single_001",
        "embed_error_404_model",
    ],
)
def test_recorded_requests_get_answers_of_the_recorded_shape(client, name):
    sample = json.loads((SAMPLES / f"{name}.json").read_text("utf-8"))
    model, _, method = sample["request"]["path"].rpartition("/")[2].partition(":")
    reply = client.post(sample["request"]["body"], model, method)
    recorded = sample["response"]
    assert reply.status == recorded["status"]
    if reply.status == 200:
        assert _shape(reply.json) == _shape(recorded["body"])
    else:
        assert reply.error == recorded["body"]["error"]


@pytest.mark.parametrize(
    "pair", [pair for pair in FILES["embeddings"] if "error" not in pair["expected"]]
)
def test_requests_of_the_corpus_get_answers_of_its_shape(client, pair):
    asked, model = pair["expected"]["upstream"], pair["client"]["model"]
    reply = client.post(asked, model, "batchEmbedContents")
    assert _shape(reply.json) == _shape(json.loads(pair["upstream"]))


def _shape(value):
    """The structure, without numbers."""
    if isinstance(value, dict):
        return {name: _shape(inner) for name, inner in value.items() if name != "values"}
    return [_shape(inner) for inner in value] if isinstance(value, list) else type(value)
