"""Token counts."""

import msgspec
import pytest

from gemproxy.providers.gemini.wire.answers import UsageMetadata
from gemproxy.translate.shared.usage import TokenUsage, service_tier


def read(**fields):
    return TokenUsage.from_gemini(msgspec.convert(fields, UsageMetadata))


def test_thoughts_and_tool_results_are_part_of_the_sums():
    usage = read(
        promptTokenCount=10,
        toolUsePromptTokenCount=5,
        candidatesTokenCount=7,
        thoughtsTokenCount=20,
        cachedContentTokenCount=4,
        totalTokenCount=42,
    )
    assert (usage.input, usage.cached) == (15, 4)
    assert (usage.output, usage.reasoning) == (27, 20)
    assert usage.total == 42


def test_missing_counts_are_zero():
    assert TokenUsage.from_gemini(None) == TokenUsage()
    assert read(promptTokenCount=3, totalTokenCount=3) == TokenUsage(input=3, total=3)
    assert read(promptTokenCount=None, promptTokensDetails=None) == TokenUsage()


def test_total_is_the_sum_where_gemini_disagrees():
    assert read(promptTokenCount=3, candidatesTokenCount=4, totalTokenCount=3).total == 7


def test_thoughts_that_the_candidates_hold_already_are_not_counted_twice():
    usage = read(
        promptTokenCount=3, candidatesTokenCount=10, thoughtsTokenCount=6, totalTokenCount=13
    )
    assert (usage.output, usage.reasoning, usage.total) == (10, 6, 13)


def test_counts_that_do_not_add_up_are_taken_as_they_are():
    """Recorded: text without a count of candidates, and a total of Vertex AI's that is one less."""
    missing = read(promptTokenCount=10, totalTokenCount=10, thoughtsTokenCount=None)
    assert (missing.input, missing.output, missing.total) == (10, 0, 10)
    vertex = read(
        promptTokenCount=10, candidatesTokenCount=5, thoughtsTokenCount=20, totalTokenCount=34
    )
    assert (vertex.input, vertex.output, vertex.total) == (10, 25, 35)


def test_newer_names_of_the_prompt_count_are_read():
    usage = read(
        rawPromptTokenCount=9,
        candidatesTokenCount=2,
        totalTokenCount=11,
        promptTokenDetails=[{"modality": "IMAGE", "tokenCount": 9}],
    )
    assert (usage.input, usage.total, usage.input_image) == (9, 11, 9)
    both = read(promptTokenCount=3, rawPromptTokenCount=9, totalTokenCount=3)
    assert both.input == 3


def test_an_answer_in_hops_has_the_prompt_of_the_first():
    first = read(promptTokenCount=55, candidatesTokenCount=32_768, totalTokenCount=32_823)
    second = read(
        promptTokenCount=32_823,
        candidatesTokenCount=16_000,
        thoughtsTokenCount=789,
        totalTokenCount=49_612,
    )
    whole = first.continued_by(second)
    assert (whole.input, whole.output, whole.reasoning) == (55, 49_557, 789)
    assert whole.total == 49_612


def test_modalities_are_told_by_name_and_by_number():
    usage = read(
        promptTokensDetails=[
            {"modality": "TEXT", "tokenCount": 2},
            {"modality": "AUDIO", "tokenCount": 3},
            {"modality": 4, "tokenCount": 1},
            {"modality": "HOLOGRAM", "tokenCount": 9},
            {"modality": "IMAGE"},
        ],
        candidatesTokensDetails=[{"modality": "IMAGE", "tokenCount": 5}, {"modality": 4}],
    )
    assert (usage.input_text, usage.input_audio, usage.input_image) == (2, 4, 0)
    assert (usage.output_image, usage.output_audio) == (5, 0)


def test_usages_add_up_field_by_field():
    one = TokenUsage(1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
    two = TokenUsage(10, 20, 30, 40, 50, 60, 70, 80, 90, 100)
    assert one + two == TokenUsage(11, 22, 33, 44, 55, 66, 77, 88, 99, 110)


def test_openai_object_has_both_details():
    usage = TokenUsage(10, 2, 6, 4, 16, input_audio=3, output_audio=1)
    assert msgspec.to_builtins(usage.to_openai()) == {
        "prompt_tokens": 10,
        "completion_tokens": 6,
        "total_tokens": 16,
        "prompt_tokens_details": {
            "cached_tokens": 2,
            "audio_tokens": 3,
            "image_tokens": 0,
            "text_tokens": 0,
        },
        "completion_tokens_details": {
            "reasoning_tokens": 4,
            "audio_tokens": 1,
            "image_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


@pytest.mark.parametrize(
    ("told", "tier"),
    [
        ("standard", "default"),
        ("STANDARD", "default"),
        ("flex", "flex"),
        ("priority", "priority"),
        ("golden", None),
        (None, None),
    ],
)
def test_service_tier_has_openais_name(told, tier):
    assert service_tier(UsageMetadata(service_tier=told)) == tier
    assert service_tier(None) is None


def test_counts_that_cannot_be_a_number_of_tokens_are_held_within_bounds():
    usage = read(promptTokenCount=-(2**62), candidatesTokenCount=10**400)
    assert (usage.input, usage.output) == (0, 10**12)
