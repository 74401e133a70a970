"""The rules that a model's name tells."""

import pytest

from gemproxy.providers.gemini.capabilities import (
    ThinkingControl,
    family_of,
    takes_task_as_text,
)

LEVEL, BUDGET, NONE = ThinkingControl.LEVEL, ThinkingControl.BUDGET, ThinkingControl.NONE


@pytest.mark.parametrize(
    ("model", "levels"),
    [
        ("gemini-3-pro-preview", ("low", "high")),
        ("gemini-3.1-pro-preview", ("low", "medium", "high")),
        ("gemini-3.1-pro-preview-customtools", ("low", "medium", "high")),
        ("gemini-3-flash-preview", ("minimal", "low", "medium", "high")),
        ("gemini-3.5-flash", ("minimal", "low", "medium", "high")),
        ("gemini-3.6-flash", ("minimal", "low", "medium", "high")),
        ("gemini-3.1-flash-lite", ("minimal", "low", "medium", "high")),
        ("gemini-3.5-flash-lite", ("minimal", "low", "medium", "high")),
        ("gemini-3.7-flash", ("low", "medium", "high")),
        ("gemini-3.8-flash", ("low", "medium", "high")),
        ("models/gemini-3.8-flash", ("low", "medium", "high")),
        ("gemini-3.1-flash-image", ("minimal", "high")),
        ("gemini-3.1-flash-lite-image", ("minimal", "high")),
        ("gemini-4-argon", ("low", "medium", "high")),
        ("gemini-4-carbon", ("low", "medium", "high")),
        ("gemini-4-hydrogen", ("low", "medium", "high", "xhigh")),
        ("gemini-flash-latest", ("low", "medium", "high")),
        ("gemini-pro-latest", ("low", "medium", "high")),
        ("gemini-flash-lite-latest", ("minimal", "low", "medium", "high")),
        ("gemini-5-neon", ("low", "medium", "high")),
        ("something-unheard-of", ("low", "medium", "high")),
    ],
)
def test_level_models_have_their_own_levels(model, levels):
    family = family_of(model)
    assert (family.thinking, family.levels) == (LEVEL, levels)


@pytest.mark.parametrize(
    ("model", "budget_range", "can_stop"),
    [
        ("gemini-2.5-pro", (128, 32_768), False),
        ("models/gemini-2.5-pro", (128, 32_768), False),
        ("gemini-2.5-flash", (1, 24_576), True),
        ("gemini-2.5-flash-preview-09-2025", (1, 24_576), True),
        ("gemini-2.5-flash-lite", (512, 24_576), True),
    ],
)
def test_models_of_2_5_have_budgets(model, budget_range, can_stop):
    family = family_of(model)
    assert family.thinking is BUDGET
    assert (family.budget_range, family.thinking_can_stop) == (budget_range, can_stop)


@pytest.mark.parametrize(
    "model",
    [
        "gemini-2.5-flash-image",
        "gemini-3-pro-image",
        "gemini-nano-banana-2.1",
        "gemini-2.5-flash-preview-tts",
        "gemini-3.8-flash-tts",
        "gemma-3-27b-it",
        "gemini-2.0-flash",
        "gemini-1.5-pro",
    ],
)
def test_models_without_any_thinking_config(model):
    assert family_of(model).thinking is NONE


@pytest.mark.parametrize(
    ("model", "ignored"),
    [
        ("gemini-2.5-flash", False),
        ("gemini-3.5-flash", False),
        ("gemini-3.1-pro-preview", False),
        ("gemini-3.5-flash-lite", True),
        ("gemini-3.6-flash", True),
        ("gemini-3.8-flash", True),
        ("gemini-3.10-flash", True),
        ("gemini-4-argon", True),
        ("gemini-flash-latest", True),
        ("gemini-6-flash", True),
    ],
)
def test_newer_models_ignore_sampling(model, ignored):
    assert family_of(model).ignores_sampling is ignored


@pytest.mark.parametrize(
    ("model", "modern"),
    [("gemini-2.5-pro", False), ("gemini-3-flash-preview", True), ("gemini-4-argon", True)],
)
def test_signatures_and_combinations_begin_with_3(model, modern):
    family = family_of(model)
    assert family.requires_signatures is modern
    assert family.json_mode_with_tools is modern
    assert family.search_with_functions is modern
    assert family.rich_parts is modern


def test_gemma_takes_no_system_instruction_and_no_json_mode():
    family = family_of("gemma-3-27b-it")
    assert not family.system_instruction
    assert not family.json_mode
    assert not family.requires_signatures


@pytest.mark.parametrize("model", ["gemma-4-31b-it", "gemma-4-26b-a4b-it", "gemma-5-9b"])
def test_gemma_4_has_two_levels_and_takes_a_system_instruction(model):
    family = family_of(model)
    assert (family.thinking, family.levels) == (LEVEL, ("minimal", "high"))
    assert not family.accepts_budget
    assert family.system_instruction
    assert not family.json_mode
    assert not family.requires_signatures


def test_image_and_speech_models_are_told_by_their_names():
    assert family_of("gemini-3.1-flash-image").image_output
    assert family_of("gemini-nano-banana-2.1").image_output
    assert family_of("gemini-3.8-flash-lite-tts").speech_output
    assert not family_of("gemini-3.8-flash").image_output
    assert not family_of("gemini-imagenation").image_output


@pytest.mark.parametrize(
    ("model", "most"),
    [
        ("gemini-4-argon", 1),
        ("gemini-5-neon", 1),
        ("gemini-3-flash-preview", 1),
        ("gemini-3.1-pro-preview", 1),
        ("gemini-3.8-flash", 1),
        ("gemini-flash-latest", 1),
        ("gemini-pro-latest", 1),
        ("gemini-2.5-flash", 8),
        ("gemini-2.5-pro", 8),
        ("gemini-2.5-flash-image", 1),
        ("gemini-2.5-flash-preview-tts", 1),
        ("gemma-3-27b-it", 1),
        ("gemma-4-31b-it", 1),
    ],
)
def test_several_candidates_come_from_text_models_before_3_only(model, most):
    assert family_of(model).candidates == most


@pytest.mark.parametrize(
    ("model", "ends_on_user"),
    [
        ("gemini-2.5-flash", False),
        ("gemini-3-flash-preview", False),
        ("gemini-3.1-pro-preview", False),
        ("gemini-3.1-flash-lite", False),
        ("gemini-3.5-flash", False),
        ("gemini-3.5-flash-lite", True),
        ("gemini-3.6-flash", True),
        ("gemini-3.8-pro", True),
        ("gemini-3.8-flash", True),
        ("gemini-4-argon", True),
        ("gemini-6-flash", True),
        ("gemini-flash-latest", True),
        ("gemini-flash-lite-latest", True),
        ("gemini-pro-latest", True),
        ("gemini-3.8-flash-tts", False),
        ("gemini-3.1-flash-image", False),
        ("gemma-3-27b-it", False),
        ("gemma-4-31b-it", False),
    ],
)
def test_newer_models_want_the_last_turn_to_be_the_users(model, ends_on_user):
    assert family_of(model).ends_on_user is ends_on_user


def test_budgets_are_taken_by_3_but_not_by_4():
    assert family_of("gemini-3.8-flash").accepts_budget
    assert not family_of("gemini-4-argon").accepts_budget
    assert not family_of("gemini-9").accepts_budget


@pytest.mark.parametrize("name", ["", "gemini-", "gemini-3", "gemini-4", "GEMINI-2.5-PRO", "a\nb"])
def test_any_name_has_a_family(name):
    assert family_of(name) is not None


@pytest.mark.parametrize(
    ("model", "as_text"),
    [
        ("gemini-embedding-001", False),
        ("models/gemini-embedding-001", False),
        ("embedding-001", False),
        ("text-embedding-004", False),
        ("gemini-embedding-exp-03-07", False),
        ("gemini-embedding-2", True),
        ("models/Gemini-Embedding-2", True),
        ("gemini-embedding-2-preview", True),
        ("gemini-embedding-2.5", True),
        ("gemini-embedding-3", True),
        ("gemini-embedding-10", True),
    ],
)
def test_newer_embedding_models_want_the_task_in_the_text(model, as_text):
    assert takes_task_as_text(model) is as_text
