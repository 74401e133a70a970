"""generationConfig and what stands beside it: limits, sampling, formats, modalities, tiers."""

import json

import pytest

from gemproxy.api.openai.schema.requests import decode_chat_completion
from gemproxy.core.errors import InvalidRequest
from gemproxy.translate.openai_chat__gemini.request import to_gemini
from gemproxy.translate.shared.signatures import SignatureStore

BEFORE_3, MODERN, FOUR = "gemini-2.5-flash", "gemini-3.8-flash", "gemini-4-argon"
USER = {"role": "user", "content": "hi"}
TOOLS = [{"type": "function", "function": {"name": "f"}}]


def native(model=BEFORE_3, **fields):
    body = json.dumps({"model": model, "messages": [USER], **fields}).encode()
    made = to_gemini(decode_chat_completion(body), model=model, signatures=SignatureStore())
    return json.loads(made.body)


def config(model=BEFORE_3, **fields):
    return native(model, **fields).get("generationConfig")


def refusal(model=BEFORE_3, **fields):
    with pytest.raises(InvalidRequest) as caught:
        native(model, **fields)
    return caught.value


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, None),
        ({"temperature": 0}, {"temperature": 0.0}),
        (
            {"temperature": 2, "top_p": 0.5, "top_k": 7},
            {"temperature": 2.0, "topP": 0.5, "topK": 7},
        ),
        ({"max_tokens": 5}, {"maxOutputTokens": 5}),
        ({"max_completion_tokens": 6}, {"maxOutputTokens": 6}),
        ({"max_tokens": 5, "max_completion_tokens": 6}, {"maxOutputTokens": 6}),
        ({"stop": "x"}, {"stopSequences": ["x"]}),
        ({"stop": ["x", "", "y"]}, {"stopSequences": ["x", "y"]}),
        ({"stop": ""}, None),
        ({"stop": [""]}, None),
        ({"stop": []}, None),
        ({"seed": 7}, {"seed": 7}),
        ({"seed": 0}, {"seed": 0}),
        ({"seed": 2**40}, {"seed": 2**31 - 1}),
        ({"seed": -(2**40)}, {"seed": -(2**31)}),
        ({"seed": 10**30}, {"seed": 2**31 - 1}),
        ({"n": 1}, None),
        ({"n": 3}, {"candidateCount": 3}),
        ({"logprobs": True}, {"responseLogprobs": True}),
        ({"logprobs": True, "top_logprobs": 4}, {"responseLogprobs": True, "logprobs": 4}),
        ({"logprobs": True, "top_logprobs": 0}, {"responseLogprobs": True}),
        ({"logprobs": False, "top_logprobs": 0}, None),
        ({"frequency_penalty": 1, "presence_penalty": -1}, None),
        ({"logit_bias": {"5": 1}, "user": "u", "store": True, "metadata": {"a": "b"}}, None),
        ({"prediction": {"type": "content", "content": "x"}, "verbosity": "low"}, None),
        ({"modalities": ["text"]}, None),
        ({"response_format": {"type": "text"}}, None),
        ({"response_format": {"type": "json_object"}}, {"responseMimeType": "application/json"}),
    ],
)
def test_each_setting(fields, expected):
    assert config(**fields) == expected


@pytest.mark.parametrize("model", [MODERN, FOUR, "gemini-3.5-flash-lite", "gemini-7-flash"])
def test_newer_models_get_no_sampling(model):
    assert config(model, temperature=1, top_p=1, top_k=1, seed=1) == {"seed": 1}


def test_gemini_4_gives_one_choice():
    assert config(FOUR, n=1) is None
    assert refusal(FOUR, n=2).param == "n"


def test_top_logprobs_need_logprobs():
    assert refusal(top_logprobs=3).param == "top_logprobs"


# Structured output ------------------------------------------------------------------------------


def schema_format(schema):
    return {"type": "json_schema", "json_schema": {"name": "n", "strict": True, "schema": schema}}


def test_a_schema_is_cleaned_and_sent():
    schema = {"$schema": "x", "type": "object", "properties": {"a": {"const": 1}}}
    assert config(response_format=schema_format(schema)) == {
        "responseMimeType": "application/json",
        "responseJsonSchema": {
            "type": "object",
            "properties": {"a": {"enum": [1], "type": "integer"}},
        },
    }


def test_a_format_without_a_schema_is_json_of_any_shape():
    wanted = {"type": "json_schema", "json_schema": {"name": "n"}}
    assert config(response_format=wanted) == {"responseMimeType": "application/json"}


def test_a_schema_that_cannot_be_used_is_named():
    error = refusal(response_format=schema_format({"$ref": "#/$defs/x"}))
    assert error.param == "response_format.json_schema.schema"


JSON = {"type": "json_object"}


def test_json_beside_tools_is_dropped_before_3_and_kept_from_then_on():
    assert config(BEFORE_3, response_format=JSON, tools=TOOLS) is None
    assert config(BEFORE_3, response_format=JSON, web_search_options={}) is None
    kept = {"responseMimeType": "application/json"}
    assert config(MODERN, response_format=JSON, tools=TOOLS) == kept


def test_json_is_kept_before_3_where_no_tool_may_be_called():
    request = native(BEFORE_3, response_format=JSON, tools=TOOLS, tool_choice="none")
    assert request["generationConfig"] == {"responseMimeType": "application/json"}
    assert "tools" not in request
    assert "toolConfig" not in request


@pytest.mark.parametrize(
    "model", ["gemma-4-31b-it", "gemini-3.1-flash-image", "gemini-3.8-flash-tts"]
)
def test_models_without_json_mode_refuse_it(model):
    assert refusal(model, response_format=JSON).param == "response_format"


# Modalities -------------------------------------------------------------------------------------


def test_image_models_are_asked_for_both():
    assert config("gemini-3.1-flash-image") == {"responseModalities": ["TEXT", "IMAGE"]}


def test_image_models_follow_the_clients_wish():
    made = config("gemini-3.1-flash-image", modalities=["image"])
    assert made == {"responseModalities": ["IMAGE"]}


@pytest.mark.parametrize("modality", ["audio", "image"])
def test_modalities_that_the_model_lacks_are_refused(modality):
    assert refusal(MODERN, modalities=["text", modality]).param == "modalities"


@pytest.mark.parametrize(
    ("voice", "name"), [("alloy", "Kore"), ("Puck", "Puck"), ({"id": "Zephyr"}, "Zephyr")]
)
def test_speech_models_speak(voice, name):
    audio = {"voice": voice, "format": "wav"}
    assert config("gemini-3.8-flash-tts", modalities=["audio"], audio=audio) == {
        "responseModalities": ["AUDIO"],
        "speechConfig": {"voiceConfig": {"prebuiltVoiceConfig": {"voiceName": name}}},
    }


def test_speech_models_do_not_convert():
    audio = {"voice": "alloy", "format": "mp3"}
    assert refusal("gemini-3.8-flash-tts", audio=audio).param == "audio.format"


def test_a_voice_has_no_effect_on_other_models():
    assert config(MODERN, audio={"voice": "alloy", "format": "mp3"}) is None


# Beside generationConfig ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tier", "expected"),
    [
        (None, None), ("auto", None), ("default", "standard"), ("flex", "flex"),
        ("priority", "priority"), ("scale", None), ("fast", None),
    ],
)  # fmt: skip
def test_service_tiers(tier, expected):
    assert native(service_tier=tier).get("serviceTier") == expected


SAFETY = {"safety_settings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}]}


@pytest.mark.parametrize("fields", [{"google": SAFETY}, {"extra_body": {"google": SAFETY}}])
def test_safety_settings_from_either_place(fields):
    assert native(**fields)["safetySettings"] == SAFETY["safety_settings"]


def test_google_options_in_both_places_are_heard_in_extra_body_first():
    other = {"safety_settings": [{"category": "C", "threshold": "OFF"}]}
    made = native(google=SAFETY, extra_body={"google": other})
    assert made["safetySettings"] == other["safety_settings"]


@pytest.mark.parametrize("name", ["cachedContents/abc-1", "abc-1"])
def test_cached_content(name):
    body = json.dumps({"model": "m", "messages": [USER], "google": {"cached_content": name}})
    made = to_gemini(
        decode_chat_completion(body.encode()), model=BEFORE_3, signatures=SignatureStore()
    )
    assert json.loads(made.body)["cachedContent"] == "cachedContents/abc-1"
    assert list(made.resources) == ["cachedContents/abc-1"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": TOOLS}, "extra_body.google.cached_content"),
        ({"web_search_options": {}}, "extra_body.google.cached_content"),
        ({"messages": [USER, {"role": "system", "content": "x"}]}, "messages[1]"),
    ],
)
def test_cached_content_excludes_what_must_be_cached_with_it(fields, param):
    extra = {"google": {"cached_content": "cachedContents/abc"}}
    assert refusal(extra_body=extra, **fields).param == param


def test_a_cached_content_of_another_form_is_refused():
    assert refusal(google={"cached_content": "a/b/c"}).param == "google.cached_content"
