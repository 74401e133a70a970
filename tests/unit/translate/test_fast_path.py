"""The short way of plain conversations comes to the same as the long way.

The long way is taken where a request says something that is not plain and changes nothing, and
where an answer comes in two hops of which one says nothing.
"""

import json
from itertools import chain
from pathlib import Path

import msgspec
import pytest
from corpus import answers_of_google
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gemproxy.api.openai.schema.requests import (
    ChatCompletionRequest,
    ExtraBody,
    decode_chat_completion,
)
from gemproxy.core.errors import GemproxyError, InvalidRequest
from gemproxy.providers.gemini.capabilities import family_of
from gemproxy.providers.gemini.wire.answers import decode_answer
from gemproxy.translate.openai_chat__gemini.answer import to_openai
from gemproxy.translate.openai_chat__gemini.context import AnswerContext
from gemproxy.translate.openai_chat__gemini.fast_path import plain_request
from gemproxy.translate.openai_chat__gemini.request import to_gemini
from gemproxy.translate.shared.plain_answers import plain_answer
from gemproxy.translate.shared.schema_budget import SchemaBudget
from gemproxy.translate.shared.signatures import SignatureStore

SHARED = Path(__file__).resolve().parents[4] / "shared"
FILES = sorted([*(SHARED / "recordings").glob("*.json"), *(SHARED / "samples").glob("*.json")])
MODELS = (
    "gemini-2.5-flash",
    "gemini-2.5-pro",
    "gemini-3-pro-preview",
    "gemini-3.5-flash",
    "gemini-3.6-flash",
    "gemini-4-flash",
    "gemini-2.5-flash-image",
    "gemini-2.5-flash-preview-tts",
    "gemma-3-27b-it",
    "gemma-4-31b-it",
)

# --- requests -------------------------------------------------------------------------------------

words = st.text(max_size=8)
messages = st.one_of(
    st.fixed_dictionaries({"role": st.sampled_from(["system", "developer"]), "content": words}),
    st.fixed_dictionaries({"role": st.just("user"), "content": words}),
    st.fixed_dictionaries(
        {"role": st.just("assistant"), "content": words | st.none()},
        optional={
            "refusal": words | st.none(),
            "tool_calls": st.just([]) | st.none(),
            "images": st.sampled_from([None, [], ["data:image/png;base64,AAAA"]]),
        },
    ),
    st.fixed_dictionaries(
        {"role": st.just("user"), "content": st.just([{"type": "text", "text": "in a list"}])}
    ),
)
TOOL = {"type": "function", "function": {"name": "look"}}
#: Some values of every field but ``model`` and ``messages``.
OPTIONS = {
    # Any value: what is no text is ignored.
    "prompt_cache_key": st.sampled_from(["one", 7]),
    "session_id": st.sampled_from(["two", {}]),
    "stream": st.booleans(),
    "stream_options": st.fixed_dictionaries({}, optional={"include_usage": st.booleans()}),
    "temperature": st.sampled_from([0, 0.7, 1, 2]),
    "top_p": st.sampled_from([0, 0.95, 1]),
    "n": st.integers(1, 3),
    "stop": words | st.lists(words, max_size=4),
    "max_tokens": st.integers(1, 9),
    "max_completion_tokens": st.integers(1, 9),
    "seed": st.integers(-(2**40), 2**40),
    "frequency_penalty": st.just(1.5),
    "presence_penalty": st.just(-1),
    "logprobs": st.booleans(),
    "top_logprobs": st.integers(0, 2),
    "tools": st.just([]) | st.just([TOOL]),
    "tool_choice": st.sampled_from(["none", "auto", "required"]),
    "parallel_tool_calls": st.booleans(),
    "functions": st.just([]) | st.just([{"name": "look"}]),
    "function_call": st.sampled_from(["none", "auto"]),
    "response_format": st.sampled_from(
        [{"type": "text"}, {"type": "json_object"}, {"type": "json_schema", "json_schema": {}}]
    ),
    "reasoning_effort": st.sampled_from(["none", "high"]),
    "modalities": st.lists(st.sampled_from(["text", "audio", "image"]), max_size=2),
    "audio": st.just({"voice": "alloy", "format": "wav"}),
    "service_tier": st.sampled_from(["auto", "flex"]),
    "web_search_options": st.just({}),
    "google": st.sampled_from([{}, {"cached_content": "cachedContents/a"}]),
    "extra_body": st.sampled_from([{}, {"google": {"thinking_config": {"thinking_budget": 9}}}]),
    "thinking": st.just({"type": "enabled", "budget_tokens": 9}),
    "reasoning": st.just({"effort": "low"}),
    "image_config": st.just({"aspect_ratio": "16:9"}),
    "top_k": st.integers(1, 9),
}
#: Those are drawn more often that leave a request plain.
USUAL = ("stream", "stream_options", "temperature", "top_p", "max_tokens", "stop", "seed", "n")
requests = st.builds(
    lambda messages, usual, others: {"model": "m", "messages": messages, **others, **usual},
    st.lists(messages, min_size=1, max_size=5),
    st.fixed_dictionaries({}, optional={name: OPTIONS[name] | st.none() for name in USUAL}),
    st.one_of(
        st.just({}),
        st.sampled_from(sorted(OPTIONS)).flatmap(
            lambda name: st.fixed_dictionaries({name: OPTIONS[name] | st.none()})
        ),
    ),
)


def translated(request, model):
    """The translated request, or what was complained about."""
    try:
        return to_gemini(request, model=model, signatures=SignatureStore(), scrub=str)
    except InvalidRequest as error:
        return str(error), error.param


def the_long_way(request):
    """The same request, but not plain: it carries an empty ``extra_body``."""
    if request.extra_body is not None:
        return request
    return msgspec.structs.replace(request, extra_body=ExtraBody())


def assert_ways_agree(body):
    request = decode_chat_completion(body)
    assert plain_request(the_long_way(request), family_of(MODELS[0]), SchemaBudget()) is None
    for model in MODELS:
        assert translated(request, model) == translated(the_long_way(request), model), model


def test_every_option_is_tried():
    assert set(OPTIONS) | {"model", "messages"} == set(ChatCompletionRequest.__struct_fields__)


@settings(deadline=None)  # each request is translated for every model, twice
@given(requests)
def test_request_comes_to_the_same_on_both_ways(request):
    assert_ways_agree(json.dumps(request).encode())


@given(st.fixed_dictionaries(OPTIONS))
def test_each_option_comes_to_the_same_on_both_ways(options):
    conversation = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    for name, value in options.items():
        request = {"model": "m", "messages": conversation, name: value}
        assert_ways_agree(json.dumps(request).encode())


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"temperature": 0.7, "top_p": 1, "max_tokens": 9, "stop": ["a"], "seed": 1, "n": 1},
        {"stream": True, "stream_options": {"include_usage": True}, "user": "me"},
        {"tools": [], "functions": None, "parallel_tool_calls": True},
    ],
)
def test_common_request_is_plain(extra):
    conversation = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "Who are you?"},
    ]
    request = decode_chat_completion(
        json.dumps({"model": "m", "messages": conversation, **extra}).encode()
    )
    assert plain_request(request, family_of(MODELS[0]), SchemaBudget()) is not None


# --- answers --------------------------------------------------------------------------------------

counts = st.none() | st.integers(0, 500)
parts = st.one_of(
    st.fixed_dictionaries({"text": words}, optional={"thoughtSignature": words}),
    st.fixed_dictionaries({"text": words | st.none(), "thought": st.booleans()}),
    st.fixed_dictionaries({"inlineData": st.just({"mimeType": "image/png", "data": "AAAA"})}),
    st.fixed_dictionaries({"functionCall": st.just({"name": "look"})}, optional={"text": words}),
)
details = st.lists(
    st.fixed_dictionaries(
        {
            "modality": st.sampled_from(["TEXT", "IMAGE", "AUDIO", "VIDEO", 1, 2, 3, 4]),
            "tokenCount": counts,
        }
    ),
    max_size=3,
)
candidates = st.fixed_dictionaries(
    {
        "content": st.fixed_dictionaries(
            {"parts": st.lists(st.fixed_dictionaries({"text": words}) | parts, max_size=3)}
        ),
        "finishReason": st.sampled_from(
            ["STOP", "MAX_TOKENS", 1, 2, "SAFETY", "CONTINUATION", "OTHER", 3, None]
        ),
    },
    optional={
        "index": st.integers(0, 1),
        "finishMessage": words,
        "continuationToken": words,
        "groundingMetadata": st.just({}),
        "citationMetadata": st.just({"citations": [{"endIndex": 1, "uri": "https://a.test"}]}),
        "logprobsResult": st.just({"chosenCandidates": [{"token": "a", "logProbability": -1}]}),
    },
)
answers = st.fixed_dictionaries(
    {"candidates": st.lists(candidates, max_size=2) | st.lists(candidates, min_size=1, max_size=1)},
    optional={
        "usageMetadata": st.fixed_dictionaries(
            {"promptTokenCount": counts, "totalTokenCount": counts},
            optional={
                "cachedContentTokenCount": counts,
                "candidatesTokenCount": counts,
                "thoughtsTokenCount": counts,
                "toolUsePromptTokenCount": counts,
                "promptTokensDetails": details,
                "candidatesTokensDetails": details,
                "serviceTier": st.sampled_from(["standard", "FLEX", "none such"]),
            },
        ),
        "responseId": words,
        "promptFeedback": st.just({"blockReason": "SAFETY"}),
        "error": st.none() | st.just({"code": 500}),
    },
)
contexts = st.builds(
    AnswerContext,
    model=words,
    choices=st.integers(1, 2),
    legacy_functions=st.booleans(),
    logprobs=st.booleans(),
)
CONTEXT = AnswerContext(model="gemini-2.5-flash")


def completed(hops, context):
    """The completion, or what kind of complaint was raised."""
    try:
        return to_openai(
            hops, context, created=1, new_id=lambda: "call_new", signatures=SignatureStore()
        )
    except GemproxyError as error:
        return type(error), str(error)


def assert_answers_agree(body, context):
    answer = decode_answer(body)
    if plain_answer(answer) is None:
        return
    # A hop before it that says nothing, and of which the id alone is looked at, changes nothing.
    silent = decode_answer(b"{}")
    assert completed([answer], context) == completed([silent, answer], context)


@given(answers, contexts)
@example({"candidates": [{"content": {"parts": [{"text": "a"}]}, "finishReason": "STOP"}]}, CONTEXT)
def test_answer_comes_to_the_same_on_both_ways(answer, context):
    assert_answers_agree(json.dumps(answer).encode(), context)


@pytest.mark.parametrize(
    ("parts", "finish"),
    [
        ([{"text": "a"}], "SAFETY"),
        ([{"text": "a"}], "CONTINUATION"),
        ([{"text": "a"}], None),
        ([{"text": ""}], "STOP"),
        ([{"text": "a"}, {"text": "b", "thought": True}], "STOP"),
        ([{"text": "a"}, {"functionCall": {"name": "look"}}], "STOP"),
        ([{"text": "a"}, {"inlineData": {"mimeType": "image/png", "data": "AAAA"}}], "STOP"),
    ],
)
def test_other_answers_are_not_plain(parts, finish):
    answer = {"candidates": [{"content": {"parts": parts}, "finishReason": finish}]}
    assert plain_answer(decode_answer(json.dumps(answer).encode())) is None


@pytest.mark.parametrize(
    ("of_candidate", "of_answer"),
    [
        ({"index": 1}, {}),
        ({"groundingMetadata": {}}, {}),
        ({"citationMetadata": {}}, {}),
        ({}, {"error": {"code": 500}}),
        ({}, {"error": None}),
    ],
)
def test_text_with_something_beside_it_is_not_plain(of_candidate, of_answer):
    candidate = {"content": {"parts": [{"text": "a"}]}, "finishReason": "STOP", **of_candidate}
    answer = {"candidates": [candidate], **of_answer}
    assert plain_answer(decode_answer(json.dumps(answer).encode())) is None


def test_text_in_several_parts_is_plain():
    parts = [{"text": "a"}, {"text": "b", "thoughtSignature": "c2ln"}]
    answer = {"candidates": [{"content": {"parts": parts}, "finishReason": "MAX_TOKENS"}]}
    assert plain_answer(decode_answer(json.dumps(answer).encode())) == ("ab", "length")


# --- what was seen in the wild --------------------------------------------------------------------


def objects(value):
    """Every object in ``value``."""
    if isinstance(value, dict):
        yield value
    if isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from objects(each)


def recorded(field):
    """Each object with ``field`` in the corpus and, where they are there, in the recordings."""
    files = (json.loads(path.read_text(encoding="utf-8")) for path in FILES)
    for value in chain(answers_of_google(), files):
        for each in objects(value):
            if isinstance(each.get(field), list):
                yield each


def chat_request(native):
    """The recorded native request as a client of ours would put it, as far as it is text."""
    turns = [("system", native.get("systemInstruction") or {})]
    turns += [("assistant" if e.get("role") == "model" else "user", e) for e in native["contents"]]
    said = [
        {"role": role, "content": "".join(part.get("text", "") for part in turn["parts"])}
        for role, turn in turns
        if isinstance(turn.get("parts"), list)
    ]
    options = native.get("generationConfig", {})
    names = {"temperature": "temperature", "topP": "top_p", "maxOutputTokens": "max_tokens"}
    sampling = {ours: options[theirs] for theirs, ours in names.items() if theirs in options}
    return {"model": "m", "messages": said, **sampling}


def test_recorded_answers_come_to_the_same_on_both_ways():
    plain = 0
    for answer in recorded("candidates"):
        body = json.dumps(answer).encode()
        plain += plain_answer(decode_answer(body)) is not None
        assert_answers_agree(body, CONTEXT)
    assert plain > 0


@pytest.mark.skipif(not FILES, reason=f"no recordings or samples at {SHARED}")
def test_recorded_requests_come_to_the_same_on_both_ways():
    plain = 0
    for native in recorded("contents"):
        body = json.dumps(chat_request(native)).encode()
        try:
            request = decode_chat_completion(body)
        except InvalidRequest:
            continue
        plain += plain_request(request, family_of(MODELS[0]), SchemaBudget()) is not None
        assert_ways_agree(body)
    assert plain > 0
