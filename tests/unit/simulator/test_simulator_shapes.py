"""The simulator's ordinary answers have no field that the corpus does not have."""

import json
from pathlib import Path

import pytest
from corpus import FILES, answers_of_google
from corpus import field_paths as paths

SAMPLES = Path(__file__).parents[4] / "shared" / "samples"
SIMULATED = [pair for pair in FILES["errors"] if "simulated" in pair]

# Of countTokens, which the proxy does not call and the corpus does not show.
DOCUMENTED = {
    "totalTokens",
    "promptTokensDetails",
    "promptTokensDetails[].modality",
    "promptTokensDetails[].tokenCount",
}

REQUESTS = [
    (
        "gemini-3.8-flash",
        "Hello",
        {"generationConfig": {"thinkingConfig": {"includeThoughts": True}}},
    ),
    ("gemini-2.5-flash", "Hello", {"generationConfig": {"responseLogprobs": True, "logprobs": 2}}),
    (
        "gemini-3.8-flash",
        "call f in parallel with call g",
        {"tools": [{"functionDeclarations": [{"name": "f"}, {"name": "g"}]}]},
    ),
    ("gemini-3.8-flash", "What is new?", {"tools": [{"googleSearch": {}}]}),
    ("gemini-3.1-flash-image", "A cat", {}),
    ("gemini-3.8-flash", "[simulate:block message=No]", {}),
    ("gemini-3.8-flash", "[simulate:safety]", {}),
    ("gemini-3.8-flash", "[simulate:recitation]", {}),
    ("gemini-3.8-flash", "[simulate:cached]", {}),
    ("gemini-4-argon", "[simulate:long]", {}),
]


@pytest.fixture(scope="module")
def known():
    return {path for value in answers_of_google() for path in paths(value)} | DOCUMENTED


@pytest.mark.parametrize(("model", "text", "fields"), REQUESTS)
def test_answers(client, known, model, text, fields):
    assert set(paths(client.say(text, model, **fields).json)) <= known


@pytest.mark.parametrize(("model", "text", "fields"), REQUESTS)
def test_streams(client, known, model, text, fields):
    events = client.stream(text, model, **fields).events
    assert {path for event in events for path in paths(event)} <= known


@pytest.mark.parametrize(
    "name",
    [
        "invalid",
        "suspended",
        "service-disabled",
        "service-blocked",
        "unauthenticated",
        "quota-zero",
        "rate-limited-day",
        "rate-limited-minute",
        "rate-limited-old-style",
        "region-refused",
        "overloaded",
    ],
)
def test_errors(client, known, name):
    assert set(paths(client.say(f"[simulate:{name}]").json)) <= known


def test_the_list_of_models(client, known):
    assert set(paths(client.get("/v1beta/models?pageSize=3").json)) <= known
    contents = [{"parts": [{"text": "Hi"}]}]
    assert set(paths(client.post({"contents": contents}, method="countTokens").json)) <= known


@pytest.mark.parametrize("pair", SIMULATED, ids=lambda pair: pair["simulated"])
def test_error_bodies_are_those_of_the_corpus_and_of_the_samples(client, pair):
    """The same code, canonical status, reasons and kinds of details."""
    samples = [SAMPLES / f"{name}.json" for name in pair["seen"] if name.startswith("err_")]
    bodies = [pair["upstream"], *(path.read_text("utf-8") for path in samples if path.exists())]
    simulated = _gist(client.say(f"[simulate:{pair['simulated']}]").error)
    assert [_gist(json.loads(body)["error"]) for body in bodies] == [simulated] * len(bodies)


def _gist(error):
    details = error.get("details", [])
    kinds = sorted(detail["@type"].rpartition(".")[2] for detail in details)
    reasons = [detail["reason"] for detail in details if "reason" in detail]
    quotas = [v["quotaId"] for detail in details for v in detail.get("violations", ())]
    return error["code"], error["status"], kinds, reasons, quotas
