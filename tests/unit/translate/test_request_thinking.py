"""How much to think: each family's words for each client's wish."""

import json

import pytest

from gemproxy.api.openai.schema.requests import decode_chat_completion
from gemproxy.core.errors import InvalidRequest
from gemproxy.translate.openai_chat__gemini.request import to_gemini
from gemproxy.translate.shared.signatures import SignatureStore

PRO, FLASH, LITE = "gemini-2.5-pro", "gemini-2.5-flash", "gemini-2.5-flash-lite"
USER = {"role": "user", "content": "hi"}


def thinking(model, **fields):
    body = json.dumps({"model": model, "messages": [USER], **fields}).encode()
    made = to_gemini(decode_chat_completion(body), model=model, signatures=SignatureStore())
    return json.loads(made.body).get("generationConfig", {}).get("thinkingConfig")


def google(**config):
    return {"google": {"thinking_config": config}}


@pytest.mark.parametrize(
    ("effort", "flash", "lite", "pro"),
    [
        ("none", 0, 0, 128),
        ("minimal", 512, 512, 128),
        ("low", 1024, 1024, 1024),
        ("medium", 8192, 8192, 8192),
        ("high", 24576, 24576, 24576),
        ("xhigh", 24576, 24576, 32768),
        ("max", 24576, 24576, 32768),
    ],
)
def test_effort_is_a_budget_on_2_5(effort, flash, lite, pro):
    budgets = [
        thinking(model, reasoning_effort=effort)["thinkingBudget"] for model in (FLASH, LITE, PRO)
    ]
    assert budgets == [flash, lite, pro]


EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


@pytest.mark.parametrize(
    ("model", "levels"),
    [
        ("gemini-3.6-flash", "minimal minimal low medium high high high"),
        ("gemini-3.8-flash", "low low low medium high high high"),
        ("gemini-3-pro-preview", "low low low high high high high"),
        ("gemini-4-argon", "low low low medium high high high"),
        ("gemini-4-hydrogen", "low low low medium high xhigh xhigh"),
        ("gemini-flash-latest", "low low low medium high high high"),
        ("gemini-8-flash", "low low low medium high high high"),
    ],
)
def test_effort_is_the_nearest_level_from_3_on(model, levels):
    made = [thinking(model, reasoning_effort=effort)["thinkingLevel"] for effort in EFFORTS]
    assert made == levels.split()


def test_effort_asks_for_the_thoughts_and_none_does_not():
    for model in (FLASH, "gemini-3.8-flash"):
        assert thinking(model, reasoning_effort="low")["includeThoughts"] is True
        assert "includeThoughts" not in thinking(model, reasoning_effort="none")


@pytest.mark.parametrize("model", [FLASH, "gemini-3.8-flash", "gemma-4-31b-it"])
def test_no_wish_leaves_it_to_the_model(model):
    assert thinking(model) is None
    assert thinking(model, **google()) is None
    assert thinking(model, reasoning={}) is None
    assert thinking(model, thinking={"type": "adaptive"}) is None


@pytest.mark.parametrize(
    "model",
    [
        "gemma-3-27b-it",
        "gemini-2.5-flash-image",
        "gemini-3.1-flash-image",
        "gemini-3.8-flash-tts",
        "gemini-2.0-flash",
    ],
)
def test_effort_is_not_told_to_models_that_are_not_made_to_reason(model):
    assert thinking(model, reasoning_effort="high") is None


def test_a_small_image_model_takes_a_level_in_googles_own_words():
    made = thinking("gemini-3.1-flash-image", **google(thinking_level="high"))
    assert made == {"thinkingLevel": "high"}


@pytest.mark.parametrize(
    ("model", "config", "expected"),
    [
        (FLASH, {"thinking_budget": 100}, {"thinkingBudget": 100}),
        (FLASH, {"thinking_budget": 0}, {"thinkingBudget": 0}),
        (FLASH, {"thinking_budget": -1}, {"thinkingBudget": -1}),
        (FLASH, {"thinking_budget": 99999}, {"thinkingBudget": 24576}),
        (PRO, {"thinking_budget": 0}, {"thinkingBudget": 128}),
        (LITE, {"thinking_budget": 5}, {"thinkingBudget": 512}),
        (FLASH, {"thinking_level": "HIGH"}, {"thinkingBudget": 24576}),
        (FLASH, {"include_thoughts": True}, {"includeThoughts": True}),
        (FLASH, {"include_thoughts": False}, {"includeThoughts": False}),
        ("gemini-3.5-flash", {"thinking_budget": 100}, {"thinkingBudget": 100}),
        ("gemini-3.5-flash", {"thinking_budget": 0}, {"thinkingBudget": 0}),
        ("gemini-3.5-flash-lite", {"thinking_budget": 0}, {"thinkingBudget": 0}),
        ("gemini-3.6-flash", {"thinking_budget": 0}, {"thinkingLevel": "minimal"}),
        ("gemini-3.5-flash", {"thinking_level": "Medium"}, {"thinkingLevel": "medium"}),
        ("gemini-3.8-flash", {"thinking_level": "minimal"}, {"thinkingLevel": "low"}),
        ("gemini-4-argon", {"thinking_budget": 0}, {"thinkingLevel": "low"}),
        ("gemini-4-argon", {"thinking_budget": 5000}, {"thinkingLevel": "medium"}),
        ("gemini-4-argon", {"thinking_budget": 20000}, {"thinkingLevel": "high"}),
        ("gemini-4-argon", {"thinking_budget": -1}, None),
        (
            "gemini-4-argon",
            {"thinking_level": "low", "include_thoughts": True},
            {"thinkingLevel": "low", "includeThoughts": True},
        ),
    ],
)
def test_googles_own_words(model, config, expected):
    assert thinking(model, **google(**config)) == expected
    assert thinking(model, extra_body=google(**config)) == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"thinking": {"type": "enabled", "budget_tokens": 2000}},
         {"thinkingBudget": 2000, "includeThoughts": True}),
        ({"thinking": {"type": "enabled"}}, {"includeThoughts": True}),
        ({"thinking": {"type": "disabled"}}, {"thinkingBudget": 0}),
        ({"reasoning": {"effort": "low"}}, {"thinkingBudget": 1024, "includeThoughts": True}),
        ({"reasoning": {"max_tokens": 300}}, {"thinkingBudget": 300, "includeThoughts": True}),
        ({"reasoning": {"effort": "low", "exclude": True}}, {"thinkingBudget": 1024}),
        ({"reasoning": {"effort": "none"}}, {"thinkingBudget": 0}),
        ({"reasoning_effort": "low", "reasoning": {"effort": "high"}},
         {"thinkingBudget": 1024, "includeThoughts": True}),
    ],
)  # fmt: skip
def test_other_gateways_words(fields, expected):
    assert thinking(FLASH, **fields) == expected


def test_hiding_the_thoughts_goes_together_with_an_effort():
    made = thinking(FLASH, reasoning_effort="low", **google(include_thoughts=False))
    assert made == {"thinkingBudget": 1024, "includeThoughts": False}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"reasoning_effort": "low", **google(thinking_budget=5)}, "reasoning_effort"),
        ({"reasoning_effort": "low", **google(thinking_level="low")}, "reasoning_effort"),
        (google(thinking_budget=5, thinking_level="low"), "google.thinking_config"),
        (google(thinking_level="huge"), "google.thinking_config.thinking_level"),
        (
            {"extra_body": google(thinking_level="huge")},
            "extra_body.google.thinking_config.thinking_level",
        ),
    ],
)
def test_wishes_that_contradict_each_other_are_refused(fields, param):
    with pytest.raises(InvalidRequest) as caught:
        thinking(FLASH, **fields)
    assert caught.value.param == param
