"""Requests that were reported to fail, from a client's socket to a Google that is as strict.

The simulator refuses what Google refuses, so that an answer shows that the request was translated
as it must be; what was sent is looked at as well.
"""

import json

import pytest
from fakes.clients import post

from gemproxy.simulator import calls as simulator_calls

NEW, LITE, GEMMA = "gemini-3.8-flash", "gemini-2.5-flash-lite", "gemma-4-31b-it"
TURNS = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "{"}]
USER = [{"role": "user", "content": "hi"}]


def tool(parameters):
    return {"type": "function", "function": {"name": "f", "parameters": parameters}}


def many(count, limit):
    listed = {f"a{at}": {"type": "array", "maxItems": limit} for at in range(count)}
    return {"type": "object", "properties": listed}


def history(arguments):
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}
    return [
        *USER,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "done"},
    ]


def shown(part):
    return [{"role": "user", "content": [part]}]


GIF = {"type": "image_url", "image_url": {"url": "data:image/gif;base64,R0lGODlhAQABAAAAACw="}}
PADDED = {"type": "image_url", "image_url": {"url": "https://a.example/cat.png "}}
WEBM = {"data": "data:audio/webm;base64,QUJD", "format": "wav"}
WANTED = {
    "type": "json_schema",
    "json_schema": {"name": "n", "schema": {"type": "object", "properties": {"a": {"const": 1}}}},
}
SERVED = {
    "1": (NEW, TURNS, {}),
    "1 system": (NEW, [*TURNS, {"role": "system", "content": "Summarise."}], {}),
    "1 alias": ("gemini-flash-latest", TURNS, {}),
    "2": (NEW, USER, {"tools": [tool({"type": "object", "properties": {"a": {"const": "x"}}})]}),
    "2 answer": (NEW, USER, {"response_format": WANTED}),
    "5": (GEMMA, USER, {"reasoning_effort": "none"}),
    "5 high": (GEMMA, [{"role": "system", "content": "S"}, *USER], {"reasoning_effort": "low"}),
    "7": ("gemini-3-pro-image", USER, {"image_config": {"aspect_ratio": "16:9"}}),
    "8": (NEW, USER, {"reasoning": {"enabled": False}}),
    "8 camel": (LITE, USER, {"google": {"thinking_config": {"thinkingBudget": 0}}}),
    "8 dynamic": (LITE, USER, {"thinking": {"type": "enabled", "budget_tokens": -1}}),
    "9": (NEW, history('{"x":'), {}),
    "9 null": (LITE, history("null"), {}),
    "10": (NEW, USER, {"tools": [tool({})], "tool_choice": "validated"}),
    "10 any": (NEW, USER, {"tools": [tool({})], "tool_choice": "ANY"}),
    "11": (NEW, USER, {"tools": [tool(many(4, 500))]}),
    "11 answer": (
        NEW,
        USER,
        {"response_format": {"type": "json_schema", "json_schema": {"schema": many(2, 481)}}},
    ),
    "12": (NEW, USER, {"tools": [tool({"type": "object", "additionalProperties": True})]}),
    "13": (NEW, USER, {"tools": [tool({"type": "object", "properties": {"a": {"enum": None}}})]}),
    "13 address": (NEW, shown(PADDED), {}),
    "14": (NEW, shown(GIF), {}),
    "19": ("gemini-3.5-flash", USER, {"reasoning_effort": "none"}),
    "20": (LITE, USER, {"tools": [tool({})], "response_format": WANTED}),
    "audio": (NEW, shown({"type": "input_audio", "input_audio": WEBM}), {}),
}

FUNCTION = "tools.0.functionDeclarations.0.parametersJsonSchema"
THINKING = "generationConfig.thinkingConfig"
CALLED = "contents.1.parts.0.functionCall.args"
#: What Google takes in either way, so that only a look at what was sent shows the difference.
SENT = {
    "1": {"contents.2": {"role": "user", "parts": [{"text": "Continue."}]}},
    "1 system": {
        "contents.2": {"role": "user", "parts": [{"text": "Summarise."}]},
        "systemInstruction": None,
    },
    "2": {f"{FUNCTION}.properties.a": {"enum": ["x"], "type": "string"}},
    "2 answer": {
        "generationConfig.responseJsonSchema.properties.a": {"enum": [1], "type": "integer"}
    },
    "5": {THINKING: {"thinkingLevel": "minimal"}},
    "5 high": {
        THINKING: {"thinkingLevel": "high", "includeThoughts": True},
        "systemInstruction.parts": [{"text": "S"}],
        "contents.0.parts": [{"text": "hi"}],
    },
    "7": {"generationConfig.imageConfig": {"aspectRatio": "16:9"}},
    "8": {THINKING: {"thinkingLevel": "low"}},
    "8 camel": {THINKING: {"thinkingBudget": 0}},
    "8 dynamic": {THINKING: {"thinkingBudget": -1, "includeThoughts": True}},
    "9": {CALLED: {"arguments": '{"x":'}},
    "9 null": {CALLED: {}},
    "10": {"toolConfig.functionCallingConfig.mode": "VALIDATED"},
    "10 any": {"toolConfig.functionCallingConfig.mode": "ANY"},
    "12": {FUNCTION: {"type": "object", "additionalProperties": True}},
    "13": {f"{FUNCTION}.properties.a": {}},
    "13 address": {
        "contents.0.parts.0.fileData": {
            "fileUri": "https://a.example/cat.png",
            "mimeType": "image/png",
        }
    },
    "14": {"contents.0.parts.0.inlineData.mimeType": "image/gif"},
    "19": {THINKING: {"thinkingBudget": 0}},
    "20": {
        "systemInstruction.parts.0.text": 'Answer with JSON that follows this JSON Schema: {"type":'
        '"object","properties":{"a":{"enum":[1],"type":"integer"}}}',
        "generationConfig": None,
    },
    "audio": {"contents.0.parts.0.inlineData.mimeType": "audio/webm"},
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", SERVED)
def test_what_was_reported_is_served(shared_daemon, simulator, name, stream):
    simulator.reset()
    model, messages, more = SERVED[name]
    answer = post(shared_daemon, {"model": model, "messages": messages, "stream": stream, **more})
    assert answer.status == 200, answer.body
    assert b"chat.completion" in answer.body
    (sent,) = simulator.requests()
    assert sent["status"] == 200
    for place, value in SENT.get(name, {}).items():
        assert at(sent["body"], place) == value, place


def at(value, place):
    """What stands in the JSON ``value`` under names and numbers with dots between them."""
    for step in place.split("."):
        value = value[int(step)] if isinstance(value, list) else value.get(step)
    return value


FOREIGN = ("openai/gemini-3.8-flash", "tunedModels/x", "llama3:latest", "google/llama3:latest")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", FOREIGN)
def test_models_of_others_are_not_found_and_never_sent(shared_daemon, simulator, model, stream):
    simulator.reset()
    answer = post(shared_daemon, {"model": model, "messages": USER, "stream": stream})
    error = json.loads(answer.body)["error"]
    assert (answer.status, error["code"], error["param"]) == (404, "model_not_found", "model")
    assert not simulator.requests()


def test_an_alias_may_be_called_like_another_providers_model(start_daemon, simulator):
    aliases = {"openai/gpt-4o": NEW, "llama3:latest": LITE}
    daemon = start_daemon(models={"aliases": aliases})
    for name in ("openai/gpt-4o", "llama3:latest", "google/llama3:latest"):
        assert post(daemon, {"model": name, "messages": USER}).status == 200


@pytest.mark.parametrize("model", ["gemini-3-flash-preview", NEW, "gemini-4-argon", GEMMA])
def test_several_choices_are_refused_before_anything_is_sent(shared_daemon, simulator, model):
    simulator.reset()
    answer = post(shared_daemon, {"model": model, "messages": USER, "n": 2})
    assert (answer.status, json.loads(answer.body)["error"]["param"]) == (400, "n")
    assert not simulator.requests()


def test_an_unknown_option_of_googles_is_refused_by_name(shared_daemon):
    body = {"model": NEW, "messages": USER, "google": {"thinking_confg": {}}}
    answer = post(shared_daemon, body)
    error = json.loads(answer.body)["error"]
    assert (answer.status, error["param"]) == (400, "google.thinking_confg")


def images_of(answer, *, stream):
    """The message that a client keeps, from a whole answer or from the pieces of a stream."""
    if not stream:
        return answer.json["choices"][0]["message"]
    chunks = [json.loads(event) for event in answer.events[:-1]]
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    return {
        "role": "assistant",
        "content": "".join(delta.get("content") or "" for delta in deltas),
        "images": [image for delta in deltas for image in delta.get("images", ())],
    }


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("in_content", [False, True])
def test_an_image_is_edited_in_a_conversation(shared_daemon, simulator, stream, in_content):
    simulator.reset()
    asked = [{"role": "user", "content": "a bird"}]
    body = {"model": "gemini-3-pro-image", "stream": stream}
    first = images_of(post(shared_daemon, {**body, "messages": asked}), stream=stream)
    (image,) = first["images"]
    if in_content:
        text = {"type": "text", "text": first["content"]}
        first = {"role": "assistant", "content": [text, image]}
    follow_up = [*asked, first, {"role": "user", "content": "bluer"}]
    assert post(shared_daemon, {**body, "messages": follow_up}).status == 200
    sent = simulator.requests()[-1]["body"]
    *_, part = sent["contents"][1]["parts"]
    assert sent["contents"][1]["role"] == "model"
    assert image["image_url"]["url"].endswith(part["inlineData"]["data"])
    signed = simulator_calls.sign(0, simulator_calls.image(part["inlineData"]))
    assert part["thoughtSignature"] == signed
