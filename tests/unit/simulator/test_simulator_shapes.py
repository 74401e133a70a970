"""The simulator's ordinary answers have no field that recorded traffic does not have."""

import json
import re
from pathlib import Path

import pytest

SHARED = Path(__file__).parents[3] / ".." / "shared"
SHAPES = SHARED / "recordings" / "SHAPES.md"
SAMPLES = SHARED / "samples"

# Documented, and in no recording: Gemini 4 was younger than the recordings.
DOCUMENTED = {"candidates[].continuationToken"}

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


def paths(value, at=""):
    """Every field path in ``value``, in the notation of SHAPES.md."""
    if isinstance(value, dict):
        for name, item in value.items():
            path = f"{at}.{name}" if at else name
            yield path
            # What a function's own arguments and results look like is nobody's format.
            if name not in {"args", "response", "metadata"}:
                yield from paths(item, path)
    elif isinstance(value, list):
        for item in value:
            yield from paths(item, f"{at}[]")


def json_values(text):
    if text.startswith("data:"):
        return [json.loads(line[5:]) for line in text.splitlines() if line.startswith("data: {")]
    return [json.loads(text)]


@pytest.fixture(scope="module")
def known():
    if not SHAPES.exists():
        pytest.skip("the recordings' shapes are not beside this checkout")
    found = set(re.findall(r"^- `([^`]+)` \d+", SHAPES.read_text(encoding="utf-8"), re.MULTILINE))
    for sample in SAMPLES.glob("*.*"):
        if sample.suffix in {".json", ".txt"}:
            for value in json_values(sample.read_text(encoding="utf-8")):
                found |= set(paths(value[0] if isinstance(value, list) else value))
    return found | DOCUMENTED


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


def test_error_bodies_match_their_samples(client):
    """The same code, canonical status, reasons and kinds of details as in the sample bodies."""
    if not SAMPLES.exists():
        pytest.skip("the sample bodies are not beside this checkout")
    pairs = {
        "err_400_api_key_expired.json": "expired",
        "err_400_api_key_invalid_2.json": "invalid",
        "err_400_api_key_not_found.json": "key-not-found",
        "err_401_access_token_type_unsupported.json": "unauthenticated",
        "err_403_api_key_service_blocked.json": "service-blocked",
        "err_403_caller_no_permission.json": "forbidden",
        "err_403_consumer_suspended.json": "suspended",
        "err_403_leaked_key.json": "leaked",
        "err_403_referrer_blocked.json": "referrer-blocked",
        "err_403_service_disabled.json": "service-disabled",
        "err_404_no_longer_available_new_users.json": "closed-model",
        "err_429_bare.json": "rate-limited-bare",
        "err_429_free_rpd.json": "rate-limited-day",
        "err_429_free_rpm.json": "rate-limited-minute",
        "err_429_help_only.json": "rate-limited-help-only",
        "err_429_limit_zero.json": "quota-zero",
        "err_429_paid_input_tpm.json": "rate-limited-tokens",
        "err_500_internal.json": "internal-error",
        "err_503_deadline_expired.json": "deadline-expired",
        "err_503_high_demand.json": "overloaded",
        "err_503_overloaded.json": "model-overloaded",
    }
    for sample, name in pairs.items():
        recorded = json.loads((SAMPLES / sample).read_text(encoding="utf-8"))["error"]
        simulated = client.say(f"[simulate:{name}]").error
        assert _gist(simulated) == _gist(recorded), sample


def _gist(error):
    details = error.get("details", [])
    kinds = sorted(detail["@type"].rpartition(".")[2] for detail in details)
    reasons = [detail["reason"] for detail in details if "reason" in detail]
    quotas = [v["quotaId"] for detail in details for v in detail.get("violations", ())]
    return error["code"], error["status"], kinds, reasons, quotas
