"""The translated request as a whole, the continuation, and the models' names."""

import json

import pytest
from fakes.openai_errors import seen

from gemproxy.api.openai.schema.requests import decode_chat_completion
from gemproxy.core.errors import InvalidRequest, ModelNotFound
from gemproxy.translate.openai_chat__gemini.request import (
    to_gemini,
)
from gemproxy.translate.shared.continuation import with_continuation
from gemproxy.translate.shared.model_names import ModelNames, normalize_model
from gemproxy.translate.shared.signatures import SignatureStore

USER = {"role": "user", "content": "hi"}


def translated(model="gemini-3.8-flash", **fields):
    body = json.dumps({"model": "alias", "messages": [USER], **fields}).encode()
    return to_gemini(decode_chat_completion(body), model=model, signatures=SignatureStore())


def test_the_smallest_request_is_compact_and_has_nothing_else():
    made = translated()
    assert made.body == b'{"contents":[{"parts":[{"text":"hi"}],"role":"user"}]}'
    assert not made.resources
    assert not made.stream


def test_what_the_answer_needs_to_know():
    context = translated(
        "gemini-2.5-flash", stream=True, stream_options={"include_usage": True}, n=2, logprobs=True,
        parallel_tool_calls=False,
    ).context  # fmt: skip
    assert context.model == "alias"
    assert context.choices == 2
    assert context.include_usage
    assert context.logprobs
    assert not context.parallel_tool_calls


def test_what_the_answer_takes_for_granted():
    context = translated().context
    assert (context.choices, context.parallel_tool_calls) == (1, True)
    assert not context.include_usage
    assert not context.logprobs
    assert not context.tool_names


def test_streaming_is_told_apart():
    assert translated(stream=True).stream
    assert not translated(stream=False).stream
    assert not translated(stream=None).stream


def test_the_estimate_grows_with_the_text():
    words = {"role": "user", "content": "word " * 4000}
    assert 5000 <= translated(messages=[words]).estimated_tokens < 5100


def test_a_continuation_is_the_same_request_and_the_token():
    made = translated(reasoning_effort="low")
    continued = json.loads(with_continuation(made.body, 'to"ken\n'))
    assert continued.pop("continuationToken") == 'to"ken\n'
    assert continued == json.loads(made.body)


@pytest.mark.parametrize(
    ("name", "bare"),
    [
        ("gemini-3.8-flash", "gemini-3.8-flash"),
        ("models/gemini-3.8-flash", "gemini-3.8-flash"),
        ("google/gemini-3.8-flash", "gemini-3.8-flash"),
        ("gemini/gemini-3.8-flash", "gemini-3.8-flash"),
        ("google/models/gemini-3.8-flash", "gemini-3.8-flash"),
        ("gemma-4-31b-it", "gemma-4-31b-it"),
        ("gemini-2.5-flash@001", "gemini-2.5-flash@001"),
    ],
)
def test_prefixes_are_taken_off(name, bare):
    assert normalize_model(name) == bare


@pytest.mark.parametrize(
    "name",
    [
        "", "models/", "..", "a?key=b", "a#b", "a b", "a%2fb", "a\r\nb", "a\n", "é", ".a", "a\\b",
        "x" * 200,
    ],
)  # fmt: skip
def test_names_that_could_leave_the_path_are_refused(name):
    with pytest.raises(InvalidRequest) as caught:
        normalize_model(name)
    assert caught.value.param == "model"


@pytest.mark.parametrize(
    "name",
    [
        "openai/gemini-3.8-flash", "openrouter/google/gemini-3.8-flash", "tunedModels/x",
        "models/tunedModels/x", "llama3:latest", "google/llama3:latest", "../files", "a/b",
        "a/../b", "/a", "gemini-3.8-flash:free", "gemini-3.8-flash/../../files",
    ],
)  # fmt: skip
def test_names_of_other_providers_and_of_tuned_models_are_no_models(name):
    with pytest.raises(ModelNotFound) as caught:
        normalize_model(name)
    error = caught.value
    assert (seen(error).status, seen(error).code, error.param) == (404, "model_not_found", "model")
    assert name in error.message


def test_a_name_of_endless_prefixes_is_refused_at_once():
    # Taken off one at a time they would keep the reactor for a minute.
    with pytest.raises(ModelNotFound):
        normalize_model("models/" * 1_000_000 + "gemini-2.5-flash")


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("claude-sonnet-5", "flash"),
        ("claude-opus-5[1m]", "pro"),
        ("anthropic/claude-haiku-4-5", "lite"),
        ("claude-haiku-x", "exact"),
        ("my-claude-", "my-claude-"),
        ("gemini-3.8-flash", "gemini-3.8-flash"),
    ],
)
def test_alias_may_be_a_pattern_and_the_longest_one_counts(name, model):
    aliases = {
        "claude-*": "flash",
        "claude-opus-*": "pro",
        "*claude-haiku*": "lite",
        "claude-haiku-x": "exact",
    }
    assert ModelNames(aliases).resolve(name).name == model
