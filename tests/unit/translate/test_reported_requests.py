"""Requests that were reported to fail, each with its relatives, and what must be sent for them.

A pair is a request and the parts of the native request that were wrong. What must not be there is
``ABSENT``.
"""

import json

import pytest
from fakes.openai_errors import seen

from gemproxy.api.openai.schema.requests import decode_chat_completion
from gemproxy.core.errors import InvalidRequest
from gemproxy.translate.openai_chat__gemini.request import to_gemini
from gemproxy.translate.shared.signatures import SignatureStore

FLASH, LITE, THREE, NEW, ARGON = (
    "gemini-2.5-flash",
    "gemini-2.5-flash-lite",
    "gemini-3-flash-preview",
    "gemini-3.8-flash",
    "gemini-4-argon",
)
GEMMA = "gemma-4-31b-it"
ABSENT = object()


def user(content):
    return {"role": "user", "content": content}


def assistant(content=None, **more):
    return {"role": "assistant", "content": content, **more}


def system(content, role="system"):
    return {"role": role, "content": content}


def native(model, messages=None, **fields):
    body = {"model": model, "messages": messages or [user("hi")], **fields}
    request = decode_chat_completion(json.dumps(body).encode())
    return json.loads(to_gemini(request, model=model, signatures=SignatureStore()).body)


def refusal(model, messages=None, **fields):
    with pytest.raises(InvalidRequest) as caught:
        native(model, messages, **fields)
    return caught.value


def said(role, *texts):
    return {"role": role, "parts": [{"text": text} for text in texts]}


def texts_of(content):
    return [part["text"] for part in content["parts"]] if content else []


# Row 1: contents that end on the model's turn -----------------------------------------------------

TURNS = [user("a"), assistant("{")]
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
RESULT = {"role": "tool", "tool_call_id": "c", "content": "r"}


@pytest.mark.parametrize("plain", [True, False], ids=["plain", "long way"])
@pytest.mark.parametrize(
    ("behind", "last", "instructions"),
    [
        ([], ["Continue."], []),
        ([system("Summarise.")], ["Summarise."], []),
        ([system("Summarise.", "developer")], ["Summarise."], []),
        ([system("Be brief."), system("Summarise.")], ["Be brief.", "Summarise."], []),
        ([system("")], ["Continue."], []),
        ([system([])], ["Continue."], []),
        ([user("")], ["Continue."], []),
        ([system("Summarise."), user("")], ["Summarise."], []),
        ([system("S"), assistant("more")], ["Continue."], ["S"]),
        ([system("S"), assistant("")], ["S"], []),
        ([user("b"), system("S")], ["b"], ["S"]),
    ],
)
def test_what_newer_models_are_asked_last(behind, last, instructions, plain):
    options = {} if plain else {"extra_body": {}}
    for model in (NEW, ARGON, "gemini-3.5-flash-lite", "gemini-flash-latest", "gemini-pro-latest"):
        made = native(model, [*TURNS, *behind], **options)
        assert made["contents"][-1] == said("user", *last)
        assert texts_of(made.get("systemInstruction")) == instructions


def test_an_instruction_before_the_turn_stays_one():
    made = native(NEW, [system("Be brief."), *TURNS, system("Summarise.")])
    assert texts_of(made["systemInstruction"]) == ["Be brief."]
    assert made["contents"][-1] == said("user", "Summarise.")


@pytest.mark.parametrize("model", [FLASH, THREE, "gemini-3.5-flash", "gemini-3.1-pro-preview"])
def test_models_that_take_a_prefill_get_it(model):
    assert native(model, TURNS)["contents"] == [said("user", "a"), said("model", "{")]
    made = native(model, [*TURNS, system("Summarise.")])
    assert made["contents"][-1] == said("model", "{")
    assert texts_of(made["systemInstruction"]) == ["Summarise."]


def test_a_result_that_is_moved_to_its_call_leaves_no_models_turn_at_the_end():
    messages = [user("a"), assistant(tool_calls=[CALL]), assistant("well"), RESULT]
    made = native(NEW, messages)
    assert made["contents"][-2:] == [said("model", "well"), said("user", "Continue.")]


def test_a_result_is_a_turn_of_the_users():
    made = native(NEW, [user("a"), assistant(tool_calls=[CALL]), RESULT, system("S")])
    assert "functionResponse" in made["contents"][-1]["parts"][0]
    assert texts_of(made["systemInstruction"]) == ["S"]


def test_the_proxys_own_instructions_are_never_what_is_asked():
    place = {"approximate": {"city": "Turin"}}
    made = native(NEW, TURNS, web_search_options={"user_location": place})
    assert made["contents"][-1] == said("user", "Continue.")
    assert "Turin" in texts_of(made["systemInstruction"])[0]


# Rows 2, 11, 12, 13: schemas ----------------------------------------------------------------------


def parameters(schema, model=NEW):
    tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
    (made,) = native(model, tools=[tool])["tools"]
    return made["functionDeclarations"][0].get("parametersJsonSchema", ABSENT)


def inner(schema):
    return parameters({"type": "object", "properties": {"a": schema}})["properties"]["a"]


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"const": "hello"}, {"enum": ["hello"], "type": "string"}),
        (
            {"anyOf": [{"const": "a"}, {"const": "b"}]},
            {"anyOf": [{"enum": ["a"], "type": "string"}, {"enum": ["b"], "type": "string"}]},
        ),
        ({"enum": [1, 2]}, {"enum": [1, 2], "type": "integer"}),
        ({"enum": [1, 2.5]}, {"enum": [1, 2.5], "type": "number"}),
        ({"enum": ["a", None]}, {"enum": ["a", None], "type": ["string", "null"]}),
        ({"enum": [True]}, {"enum": [True], "type": "boolean"}),
        ({"const": {"x": 1}}, {"enum": [{"x": 1}], "type": "object"}),
        ({"enum": ["a"], "type": "strange"}, {"enum": ["a"], "type": "string"}),
        ({"enum": ["a"], "nullable": True}, {"enum": ["a", None], "type": ["string", "null"]}),
        (
            {"type": "array", "items": {"enum": ["a"]}},
            {"type": "array", "items": {"enum": ["a"], "type": "string"}},
        ),
        (
            {"type": "object", "additionalProperties": {"const": 1}},
            {"type": "object", "additionalProperties": {"enum": [1], "type": "integer"}},
        ),
        ({"allOf": [{"enum": ["a", "b"]}, {"const": "a"}]}, {"enum": ["a"], "type": "string"}),
        ({"type": "string", "enum": ["a"]}, {"type": "string", "enum": ["a"]}),
        ({"type": "string", "const": "a"}, {"type": "string", "enum": ["a"]}),
        # null as the value of a keyword
        ({"type": "string", "enum": None}, {"type": "string"}),
        ({"type": "array", "minItems": None, "maxItems": None}, {"type": "array"}),
        ({"type": "string", "const": None, "format": None, "title": None}, {"type": "string"}),
        ({"$ref": None, "type": "string"}, {"type": "string"}),
        ({"type": None, "enum": ["a"]}, {"type": "string", "enum": ["a"]}),
        ({"anyOf": None, "allOf": None, "type": "integer"}, {"type": "integer"}),
        ({"allOf": [{"enum": None, "type": "string"}, {"enum": ["a"]}]},
         {"type": "string", "enum": ["a"]}),
        ({"type": "integer", "minimum": None, "exclusiveMinimum": None}, {"type": "integer"}),
        ({"const": None}, {"enum": [None], "type": "null"}),
        ({"type": ["string", "null"], "const": None}, {"type": ["string", "null"], "enum": [None]}),
    ],
)  # fmt: skip
def test_schemas_inside_a_tools_parameters(schema, expected):
    assert inner(schema) == expected


def test_definitions_and_answers_are_treated_alike():
    schema = {
        "type": "object",
        "properties": {"a": {"$ref": "#/$defs/A"}},
        "$defs": {"A": {"const": "x", "description": None}},
    }
    expected = {"enum": ["x"], "type": "string"}
    assert parameters(schema)["$defs"]["A"] == expected
    wanted = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    made = native(NEW, response_format=wanted)["generationConfig"]["responseJsonSchema"]
    assert made["$defs"]["A"] == expected


def test_a_property_whose_schema_is_null_may_be_anything():
    schema = {"type": "object", "properties": {"enum": None}, "required": ["enum"]}
    assert parameters(schema)["properties"] == {"enum": {}}


def arrays(*limits, **more):
    listed = {f"a{at}": {"type": "array", "maxItems": limit} for at, limit in enumerate(limits)}
    return {"type": "object", "properties": listed, **more}


def limits_of(schema):
    """The limits that are left, and those that are told, by the property's name."""
    properties = schema["properties"].items()
    return (
        {name: each["maxItems"] for name, each in properties if "maxItems" in each},
        {name: each["description"] for name, each in properties if "description" in each},
    )


def test_limits_of_items_that_are_too_much_in_sum_are_told_in_words():
    left, told = limits_of(parameters(arrays(500, 500, 500, 500)))
    assert sum(left.values()) <= 900
    assert len(left) + len(told) == 4
    assert set(told.values()) == {"(maxItems: 500)"}


def test_the_largest_limits_go_first_and_no_more_than_needed():
    left, told = limits_of(parameters(arrays(10, 890, 20, 5)))
    assert left == {"a0": 10, "a2": 20, "a3": 5}
    assert told == {"a1": "(maxItems: 890)"}


@pytest.mark.parametrize("limits", [(900,), (450, 450), (1, 899)])
def test_limits_up_to_900_stay(limits):
    assert parameters(arrays(*limits)) == arrays(*limits)


def test_a_description_is_kept_beside_the_limit_that_it_tells():
    schema = arrays(1000)
    schema["properties"]["a0"]["description"] = "Names."
    assert parameters(schema)["properties"]["a0"]["description"] == "Names. (maxItems: 1000)"


def test_a_limit_that_is_written_as_a_fraction_counts_as_well():
    _, told = limits_of(parameters(arrays(1000.0)))
    assert told == {"a0": "(maxItems: 1000)"}


def test_a_definition_counts_as_often_as_it_is_used():
    names = {"type": "array", "items": {"type": "string"}, "maxItems": 301}
    uses = {name: {"$ref": "#/$defs/Names"} for name in "abc"}
    schema = {"type": "object", "properties": uses, "$defs": {"Names": names}}
    made = parameters(schema)["$defs"]["Names"]
    assert "maxItems" not in made
    assert made["description"] == "(maxItems: 301)"
    del uses["c"]
    assert parameters(schema)["$defs"]["Names"] == names


def test_definitions_within_definitions_multiply():
    schema = {
        "type": "object",
        "properties": {"a": {"$ref": "#/$defs/A"}, "b": {"$ref": "#/$defs/A"}},
        "$defs": {
            "A": {
                "type": "object",
                "properties": {"x": {"$ref": "#/$defs/B"}, "y": {"$ref": "#/$defs/B"}},
            },
            "B": {"type": "array", "maxItems": 226},
        },
    }
    assert "maxItems" not in parameters(schema)["$defs"]["B"]
    schema["$defs"]["B"]["maxItems"] = 225
    assert parameters(schema)["$defs"]["B"]["maxItems"] == 225


def test_a_recursive_definition_counts_once():
    children = {"type": "array", "maxItems": 500, "items": {"$ref": "#/$defs/Tree"}}
    tree = {"type": "object", "properties": {"children": children}}
    schema = {
        "type": "object",
        "properties": {"tree": {"$ref": "#/$defs/Tree"}},
        "$defs": {"Tree": tree},
    }
    assert parameters(schema)["$defs"]["Tree"] == tree


def test_the_sum_is_that_of_one_schema():
    tools = [
        {"type": "function", "function": {"name": name, "parameters": arrays(800)}}
        for name in ("f", "g")
    ]
    (made,) = native(NEW, tools=tools)["tools"]
    for declaration in made["functionDeclarations"]:
        assert declaration["parametersJsonSchema"] == arrays(800)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "additionalProperties": True},
        {"type": "object", "properties": {}, "additionalProperties": True},
        {"type": "object", "additionalProperties": {}},
        {"type": "object", "additionalProperties": {"type": "string"}},
    ],
)
def test_parameters_of_any_name_are_kept(schema):
    assert parameters(schema) == schema


def test_several_patterns_of_names_are_parameters_of_any_name():
    patterns = {"^a": {"type": "string"}, "^b": {"type": "integer"}}
    made = parameters({"type": "object", "patternProperties": patterns})
    assert made == {"type": "object", "additionalProperties": True}


@pytest.mark.parametrize("more", [{"minProperties": 1}, {"unevaluatedProperties": True}])
def test_parameters_that_must_have_some_name_may_have_any(more):
    assert parameters({"type": "object", **more})["additionalProperties"] is True
    closed = {"type": "object", "additionalProperties": False, **more}
    assert parameters(closed) is ABSENT


@pytest.mark.parametrize("more", [{}, {"additionalProperties": False}])
def test_parameters_that_are_none_are_omitted(more):
    assert parameters({"type": "object", "properties": {}, **more}) is ABSENT


# Row 4: several choices ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "model",
    [THREE, "gemini-3.1-pro-preview", NEW, ARGON, GEMMA, "gemini-2.5-flash-image",
     "gemini-2.5-flash-preview-tts", "gemini-3-pro-image", "gemini-flash-latest"],
)  # fmt: skip
def test_several_choices_are_refused_where_google_refuses_them(model):
    error = refusal(model, n=2)
    assert (seen(error).status, error.param) == (400, "n")


def test_several_choices_are_asked_of_models_that_give_them():
    assert native(FLASH, n=8)["generationConfig"] == {"candidateCount": 8}


# Rows 5, 8, 19: thinking --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "fields", "expected"),
    [
        (GEMMA, {"reasoning_effort": "none"}, {"thinkingLevel": "minimal"}),
        (GEMMA, {"reasoning_effort": "minimal"},
         {"thinkingLevel": "minimal", "includeThoughts": True}),
        (GEMMA, {"reasoning_effort": "low"}, {"thinkingLevel": "high", "includeThoughts": True}),
        (GEMMA, {"reasoning_effort": "max"}, {"thinkingLevel": "high", "includeThoughts": True}),
        (GEMMA, {"google": {"thinking_config": {"thinking_budget": 0}}},
         {"thinkingLevel": "minimal"}),
        (GEMMA, {"google": {"thinking_config": {"thinking_budget": 100}}},
         {"thinkingLevel": "minimal"}),
        (GEMMA, {"google": {"thinking_config": {"thinking_budget": 20_000}}},
         {"thinkingLevel": "high"}),
        (GEMMA, {"google": {"thinking_config": {"thinking_level": "MEDIUM"}}},
         {"thinkingLevel": "high"}),
        (GEMMA, {"thinking": {"type": "disabled"}}, {"thinkingLevel": "minimal"}),
        (GEMMA, {}, ABSENT),
        ("gemma-3-27b-it", {"reasoning_effort": "high"}, ABSENT),
        # 8
        (FLASH, {"reasoning": {"enabled": False}}, {"thinkingBudget": 0}),
        (NEW, {"reasoning": {"enabled": False}}, {"thinkingLevel": "low"}),
        (NEW, {"reasoning": {"enabled": False, "effort": "high"}}, {"thinkingLevel": "low"}),
        (NEW, {"reasoning": {"enabled": True}}, {"includeThoughts": True}),
        (NEW, {"reasoning": {"enabled": True, "exclude": True}}, ABSENT),
        (NEW, {"reasoning": {"enabled": True, "effort": "high"}},
         {"thinkingLevel": "high", "includeThoughts": True}),
        (FLASH, {"google": {"thinking_config": {"thinkingBudget": 0}}}, {"thinkingBudget": 0}),
        (FLASH, {"google": {"thinkingConfig": {"thinkingBudget": 0}}}, {"thinkingBudget": 0}),
        (FLASH, {"google": {"thinkingConfig": {"thinking_budget": 0}}}, {"thinkingBudget": 0}),
        (FLASH, {"extra_body": {"google": {"thinkingConfig": {"thinkingBudget": 0}}}},
         {"thinkingBudget": 0}),
        (NEW, {"google": {"thinkingConfig": {"thinkingLevel": "HIGH", "includeThoughts": True}}},
         {"thinkingLevel": "high", "includeThoughts": True}),
        (FLASH, {"thinking": {"type": "enabled", "budget_tokens": -1}},
         {"thinkingBudget": -1, "includeThoughts": True}),
        (ARGON, {"thinking": {"type": "enabled", "budget_tokens": -1}}, {"includeThoughts": True}),
        (FLASH, {"reasoning": {"max_tokens": -1}},
         {"thinkingBudget": -1, "includeThoughts": True}),
        # 19
        ("gemini-3.5-flash", {"reasoning_effort": "none"}, {"thinkingBudget": 0}),
        ("gemini-3.5-flash-lite", {"reasoning_effort": "none"}, {"thinkingBudget": 0}),
        ("gemini-3.5-flash", {"reasoning": {"enabled": False}}, {"thinkingBudget": 0}),
        ("gemini-3.5-flash", {"thinking": {"type": "disabled"}}, {"thinkingBudget": 0}),
        ("gemini-3.5-flash", {"google": {"thinkingConfig": {"thinkingBudget": 0}}},
         {"thinkingBudget": 0}),
        ("gemini-3.5-flash", {"reasoning_effort": "minimal"},
         {"thinkingLevel": "minimal", "includeThoughts": True}),
        ("gemini-3.6-flash", {"reasoning_effort": "none"}, {"thinkingLevel": "minimal"}),
        ("gemini-3.1-pro-preview", {"reasoning_effort": "none"}, {"thinkingLevel": "low"}),
    ],
)  # fmt: skip
def test_how_much_is_thought(model, fields, expected):
    made = native(model, **fields).get("generationConfig", {}).get("thinkingConfig", ABSENT)
    assert made == expected


def test_gemma_4_has_a_system_instruction():
    made = native(GEMMA, [system("Be brief."), user("hi")])
    assert texts_of(made["systemInstruction"]) == ["Be brief."]
    assert made["contents"] == [said("user", "hi")]
    old = native("gemma-3-27b-it", [system("Be brief."), user("hi")])
    assert "systemInstruction" not in old


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"google": {"thinking_cfg": {}}}, "google.thinking_cfg"),
        ({"google": {"thinkingConfig": {"budget": 0}}}, "google.thinkingConfig.budget"),
        ({"google": {"thinking_config": {"thinking_Budget": 0}}},
         "google.thinking_config.thinking_Budget"),
        ({"google": {"image_config": {"ratio": "1:1"}}}, "google.image_config.ratio"),
        ({"image_config": {"ratio": "1:1"}}, "image_config.ratio"),
        ({"extra_body": {"google": {"x": 1}}}, "extra_body.google.x"),
        ({"google": {"thinking_config": {"thinking_budget": 1, "thinkingBudget": 1}}},
         "google.thinking_config.thinkingBudget"),
        ({"google": {"cached_content": "a", "cachedContent": "b"}}, "google.cachedContent"),
    ],
)  # fmt: skip
def test_unknown_options_of_googles_are_refused_by_name(fields, param):
    error = refusal(NEW, **fields)
    assert (seen(error).status, error.param) == (400, param)
    assert param in error.message


@pytest.mark.parametrize(
    "fields",
    [
        {"reasoning": {"foo": 1}},
        {"thinking": {"type": "adaptive", "foo": 1}},
        {"extra_body": {"foo": 1}},
        {"foo": 1},
    ],
)
def test_unknown_fields_elsewhere_stay_ignored(fields):
    assert native(NEW, **fields) == native(NEW)


def test_other_options_of_googles_have_both_spellings():
    settings = [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "OFF"}]
    assert native(NEW, google={"safetySettings": settings})["safetySettings"] == settings
    cached = native(FLASH, google={"cachedContent": "cachedContents/a"})
    assert cached["cachedContent"] == "cachedContents/a"


# Row 7: images' shape and size --------------------------------------------------------------------

WIDE = {"aspectRatio": "16:9"}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"image_config": {"aspect_ratio": "16:9"}}, WIDE),
        ({"image_config": {"aspectRatio": "16:9"}}, WIDE),
        ({"google": {"image_config": {"aspect_ratio": "16:9", "image_size": "2K"}}},
         {**WIDE, "imageSize": "2K"}),
        ({"google": {"imageConfig": {"imageSize": "4K"}}}, {"imageSize": "4K"}),
        ({"extra_body": {"google": {"image_config": {"aspect_ratio": "16:9"}}}}, WIDE),
        ({"google": {"imageConfig": WIDE}, "image_config": {"aspect_ratio": "1:1"}}, WIDE),
        ({"extra_body": {"google": {"imageConfig": WIDE}},
          "google": {"imageConfig": {"aspectRatio": "1:1"}}}, WIDE),
        ({"extra_body": {"google": {"cached_content": None}}, "google": {"imageConfig": WIDE}},
         WIDE),
        ({"image_config": {}}, ABSENT),
        ({"image_config": None}, ABSENT),
    ],
)  # fmt: skip
def test_the_shape_and_size_of_images(fields, expected):
    for model in ("gemini-3-pro-image", "gemini-nano-banana-2.1"):
        made = native(model, **fields)["generationConfig"].get("imageConfig", ABSENT)
        assert made == expected


# Row 9: arguments of earlier calls ----------------------------------------------------------------


@pytest.mark.parametrize("model", [FLASH, NEW])
@pytest.mark.parametrize(
    ("arguments", "args"),
    [
        ('{"x":', {"arguments": '{"x":'}),
        ("[1]", {"arguments": "[1]"}),
        ("plain words", {"arguments": "plain words"}),
        ("", {}),
        ("null", {}),
        (None, {}),
        ('{"x": 1}', {"x": 1}),
    ],
)
def test_arguments_of_earlier_calls_never_end_a_conversation(model, arguments, args):
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}
    made = native(model, [user("a"), assistant(tool_calls=[call]), RESULT])
    assert made["contents"][1]["parts"][0]["functionCall"]["args"] == args
    legacy = assistant(function_call={"name": "f", "arguments": arguments})
    answer = {"role": "function", "name": "f", "content": "r"}
    made = native(model, [user("a"), legacy, answer])
    assert made["contents"][1]["parts"][0]["functionCall"]["args"] == args


# Row 10: the choice among tools -------------------------------------------------------------------

TOOL = {"type": "function", "function": {"name": "f"}}


@pytest.mark.parametrize(
    ("choice", "mode"),
    [
        ("validated", "VALIDATED"), ("VALIDATED", "VALIDATED"), ("Validated", "VALIDATED"),
        ("any", "ANY"), ("ANY", "ANY"), ("required", "ANY"), ("Required", "ANY"),
        ("none", "NONE"), ("NONE", "NONE"),
        ({"type": "validated"}, "VALIDATED"), ({"type": "ANY"}, "ANY"),
        ({"type": "required"}, "ANY"), ({"type": "none"}, "NONE"),
    ],
)  # fmt: skip
def test_modes_of_geminis_own(choice, mode):
    made = native(NEW, tools=[TOOL], tool_choice=choice)
    assert made["toolConfig"] == {"functionCallingConfig": {"mode": mode}}


@pytest.mark.parametrize(
    ("word", "mode"),
    [("auto", "VALIDATED"), ("validated", "VALIDATED"), ("any", "ANY"), ("REQUIRED", "ANY")],
)
def test_modes_for_some_of_the_tools(word, mode):
    choice = {"type": "allowed_tools", "allowed_tools": {"mode": word, "tools": [TOOL]}}
    made = native(NEW, tools=[TOOL], tool_choice=choice)["toolConfig"]
    assert made == {"functionCallingConfig": {"mode": mode, "allowedFunctionNames": ["f"]}}
    choice["allowed_tools"]["mode"] = "maybe"
    error = refusal(NEW, tools=[TOOL], tool_choice=choice)
    assert error.param == "tool_choice.allowed_tools.mode"


@pytest.mark.parametrize("choice", ["auto", "AUTO", {"type": "auto"}])
def test_auto_is_left_to_gemini(choice):
    assert "toolConfig" not in native(NEW, tools=[TOOL], tool_choice=choice)


def test_a_mode_without_functions():
    assert "toolConfig" not in native(NEW, tool_choice="validated")
    assert refusal(NEW, tool_choice="any").param == "tool_choice"


@pytest.mark.parametrize(
    ("choice", "param"),
    [
        ("maybe", "tool_choice"),
        ({"type": "maybe"}, "tool_choice.type"),
        ({"type": "function"}, "tool_choice.function"),
        ({"type": "allowed_tools"}, "tool_choice.allowed_tools"),
        ({}, "tool_choice.type"),
        (5, "tool_choice"),
    ],
)
def test_other_choices_are_refused(choice, param):
    assert refusal(NEW, tools=[TOOL], tool_choice=choice).param == param


# Rows 13, 14: media -------------------------------------------------------------------------------

PNG = "data:image/png;base64,QUJD"


def image(url):
    return {"type": "image_url", "image_url": {"url": url}}


def audio(data, **more):
    return {"type": "input_audio", "input_audio": {"data": data, **more}}


def medium(part, model=NEW):
    (made,) = native(model, [user([part])])["contents"][0]["parts"]
    return made


@pytest.mark.parametrize("space", [" ", "\n", "\t "])
def test_addresses_are_trimmed(space):
    file = {"fileUri": "https://a.example/cat.png", "mimeType": "image/png"}
    for url in (f"https://a.example/cat.png{space}", f"{space}https://a.example/cat.png"):
        assert medium(image(url)) == {"fileData": file}
        assert medium({"type": "image_url", "image_url": url}) == {"fileData": file}
    assert medium(image(f"{space}{PNG}{space}"))["inlineData"]["mimeType"] == "image/png"
    youtube = "https://youtu.be/x"
    video = {"type": "video_url", "video_url": {"url": youtube + space}}
    assert medium(video) == {"fileData": {"fileUri": youtube}}


def test_a_gif_is_passed_on():
    blob = {"mimeType": "image/gif", "data": "QUJD"}
    assert medium(image("data:image/gif;base64,QUJD")) == {"inlineData": blob}
    file = {"fileUri": "https://a.example/a.gif", "mimeType": "image/gif"}
    assert medium(image("https://a.example/a.gif")) == {"fileData": file}
    part = {"type": "file", "file": {"file_data": "QUJD", "filename": "a.gif"}}
    assert medium(part) == {"inlineData": blob}


@pytest.mark.parametrize(
    ("part", "mime_type"),
    [
        (audio("data:audio/webm;base64,QUJD", format="wav"), "audio/webm"),
        (audio("data:audio/webm;codecs=opus;base64,QUJD", format="mp3"), "audio/webm"),
        (audio("data:audio/ogg;base64,QUJD", format="webm"), "audio/ogg"),
        (audio("data:audio/ogg;base64,QUJD"), "audio/ogg"),
        (audio("data:audio/mpeg;base64,QUJD", format="mp3"), "audio/mp3"),
        (audio("data:audio/x-wav;base64,QUJD", format="mp3"), "audio/wav"),
        (audio("data:application/octet-stream;base64,QUJD", format="mp3"), "audio/mp3"),
        (audio("QUJD", format="wav"), "audio/wav"),
    ],
)
def test_what_sound_says_of_itself_wins(part, mime_type):
    assert medium(part)["inlineData"] == {"mimeType": mime_type, "data": "QUJD"}


@pytest.mark.parametrize("more", [{}, {"format": "webm"}, {"format": None}])
def test_bare_sound_needs_a_format_that_is_known(more):
    param = "messages[0].content[0].input_audio.format"
    assert refusal(NEW, [user([audio("QUJD", **more)])]).param == param


# Row 20: JSON beside tools before Gemini 3 --------------------------------------------------------

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WANTED = {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}}


@pytest.mark.parametrize("fields", [{"tools": [TOOL]}, {"web_search_options": {}}])
def test_a_schema_beside_tools_is_said_in_words(fields):
    made = native(LITE, response_format=WANTED, **fields)
    assert "generationConfig" not in made
    (text,) = texts_of(made["systemInstruction"])
    assert json.loads(text[text.index("{") :]) == SCHEMA


def test_json_of_any_shape_beside_tools_is_said_in_words():
    json_object = {"type": "json_object"}
    made = native(FLASH, [system("S"), user("a")], response_format=json_object, tools=[TOOL])
    assert texts_of(made["systemInstruction"]) == ["S", "Answer with a JSON object."]
    bare = {"type": "json_schema", "json_schema": {"name": "n"}}
    made = native(FLASH, response_format=bare, tools=[TOOL])
    assert texts_of(made["systemInstruction"]) == ["Answer with a JSON object."]


def test_nothing_is_said_where_the_model_has_both_or_nothing_is_in_the_way():
    assert "systemInstruction" not in native(NEW, response_format=WANTED, tools=[TOOL])
    made = native(LITE, response_format=WANTED, tools=[TOOL], tool_choice="none")
    assert "systemInstruction" not in made
    assert made["generationConfig"]["responseJsonSchema"] == SCHEMA
    text = {"type": "text"}
    assert "systemInstruction" not in native(LITE, response_format=text, tools=[TOOL])
