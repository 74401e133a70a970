"""Tools, the choice among them, their names, and the web search."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemproxy.api.openai.schema.requests import decode_chat_completion
from gemproxy.core.errors import InvalidRequest
from gemproxy.translate.openai_chat__gemini.request import to_gemini
from gemproxy.translate.shared.signatures import SignatureStore
from gemproxy.translate.shared.tool_names import ToolNames

BEFORE_3, MODERN = "gemini-2.5-flash", "gemini-3.8-flash"
USER = {"role": "user", "content": "hi"}


def translated(model=BEFORE_3, **fields):
    body = json.dumps({"model": model, "messages": [USER], **fields}).encode()
    return to_gemini(decode_chat_completion(body), model=model, signatures=SignatureStore())


def native(model=BEFORE_3, **fields):
    return json.loads(translated(model, **fields).body)


def refusal(model=BEFORE_3, **fields):
    with pytest.raises(InvalidRequest) as caught:
        translated(model, **fields)
    return caught.value


def tool(name, **more):
    return {"type": "function", "function": {"name": name, **more}}


def calling(**fields):
    return native(tools=[tool("f"), tool("g")], **fields).get("toolConfig")


def named(name):
    return {"type": "function", "function": {"name": name}}


def allowed(mode, *names):
    tools = [named(name) for name in names]
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}


PARAMETERS = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}


def test_functions_stand_in_one_tool():
    request = native(tools=[tool("f", description="does f", parameters=PARAMETERS), tool("g")])
    assert request["tools"] == [
        {
            "functionDeclarations": [
                {"name": "f", "description": "does f", "parametersJsonSchema": PARAMETERS},
                {"name": "g"},
            ]
        }
    ]
    assert "toolConfig" not in request


@pytest.mark.parametrize(
    "parameters",
    [
        None,
        {},
        {"type": "object"},
        {"type": "object", "properties": {}},
        {"type": "object", "properties": {}, "additionalProperties": False, "required": []},
    ],
)
def test_a_function_without_parameters_declares_none(parameters):
    (only,) = native(tools=[tool("f", parameters=parameters)])["tools"]
    assert only == {"functionDeclarations": [{"name": "f"}]}


def test_a_free_form_map_is_kept():
    schema = {"type": "object", "additionalProperties": {"type": "string"}}
    (only,) = native(tools=[tool("f", parameters=schema)])["tools"]
    assert only["functionDeclarations"][0]["parametersJsonSchema"] == schema


@pytest.mark.parametrize("fields", [{"tools": []}, {"tools": None}, {"functions": []}, {}])
@pytest.mark.parametrize("choice", [None, "auto", "none"])
def test_no_tools_are_no_tools(fields, choice):
    request = native(**fields, tool_choice=choice)
    assert "tools" not in request
    assert "toolConfig" not in request


def test_auto_is_geminis_default():
    assert calling(tool_choice="auto") is None
    assert calling() is None


@pytest.mark.parametrize(
    ("choice", "config"),
    [
        ("none", {"mode": "NONE"}),
        ("required", {"mode": "ANY"}),
        (named("g"), {"mode": "ANY", "allowedFunctionNames": ["g"]}),
        (allowed("required", "g", "f"), {"mode": "ANY", "allowedFunctionNames": ["g", "f"]}),
        (allowed("auto", "g", "g"), {"mode": "VALIDATED", "allowedFunctionNames": ["g"]}),
    ],
)
def test_choices(choice, config):
    assert calling(tool_choice=choice) == {"functionCallingConfig": config}


@pytest.mark.parametrize(
    ("choice", "param"),
    [
        (named("h"), "tool_choice.function.name"),
        (allowed("auto", "f", "h"), "tool_choice.allowed_tools.tools[1].function.name"),
        ({"type": "custom", "custom": {"name": "f"}}, "tool_choice.type"),
    ],
)
def test_a_choice_of_nothing_declared_is_refused(choice, param):
    assert refusal(tools=[tool("f")], tool_choice=choice).param == param


@pytest.mark.parametrize("tools", [None, []])
def test_a_required_call_without_tools_is_refused(tools):
    assert refusal(tools=tools, tool_choice="required").param == "tool_choice"
    assert refusal(tools=tools, tool_choice=named("f")).param == "tool_choice"


def test_a_required_call_beside_a_search_alone_is_refused():
    assert refusal(web_search_options={}, tool_choice="required").param == "tool_choice"


def test_custom_tools_are_refused():
    error = refusal(tools=[tool("f"), {"type": "custom", "custom": {"name": "g"}}])
    assert error.param == "tools[1].type"
    assert "custom" in error.message


def test_a_name_declared_twice_is_refused():
    assert refusal(tools=[tool("f"), tool("f")]).param == "tools[1].function.name"


def test_a_schema_that_cannot_be_used_is_named():
    parameters = {"type": "object", "properties": {"a": {"$ref": "#/$defs/missing"}}}
    error = refusal(tools=[tool("f"), tool("g", parameters=parameters)])
    assert error.param == "tools[1].function.parameters"
    assert "#/$defs/missing" in error.message


# Legacy -----------------------------------------------------------------------------------------


def test_legacy_functions_are_declared_the_same_way():
    made = translated(functions=[{"name": "f", "parameters": PARAMETERS}])
    (only,) = json.loads(made.body)["tools"]
    assert only == {"functionDeclarations": [{"name": "f", "parametersJsonSchema": PARAMETERS}]}
    assert made.context.legacy_functions
    assert not translated(tools=[tool("f")]).context.legacy_functions


@pytest.mark.parametrize(
    ("choice", "config"),
    [
        ("auto", None),
        ("none", {"functionCallingConfig": {"mode": "NONE"}}),
        ({"name": "f"}, {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}}),
    ],
)
def test_legacy_choices(choice, config):
    assert native(functions=[{"name": "f"}], function_call=choice).get("toolConfig") == config


def test_a_legacy_choice_of_nothing_declared_is_refused():
    error = refusal(functions=[{"name": "f"}], function_call={"name": "g"})
    assert error.param == "function_call.name"


def test_functions_and_tools_exclude_each_other():
    assert refusal(functions=[{"name": "f"}], tools=[tool("g")]).param == "functions"


# Names ------------------------------------------------------------------------------------------


def test_illegal_names_are_replaced_and_can_be_found_again():
    made = translated(
        tools=[tool("get weather"), tool("get_weather"), tool("9lives"), tool("größe")],
        tool_choice=named("get weather"),
    )
    request = json.loads(made.body)
    sent = [each["name"] for each in request["tools"][0]["functionDeclarations"]]
    assert sent == ["get_weather_2", "get_weather", "_9lives", "gr__e"]
    assert made.context.tool_names == {
        "get_weather_2": "get weather",
        "_9lives": "9lives",
        "gr__e": "größe",
    }
    config = request["toolConfig"]["functionCallingConfig"]
    assert config["allowedFunctionNames"] == ["get_weather_2"]


def test_a_replayed_call_has_the_name_of_its_declaration():
    called = {"id": "1", "type": "function", "function": {"name": "get weather"}}
    messages = [USER, {"role": "assistant", "tool_calls": [called]}]
    request = native(messages=messages, tools=[tool("get weather")])
    assert request["contents"][1]["parts"][0]["functionCall"]["name"] == "get_weather"
    answered = request["contents"][2]["parts"][0]["functionResponse"]
    assert answered["name"] == "get_weather"


@given(st.lists(st.text(min_size=1, max_size=80), min_size=1, max_size=20))
def test_names_are_legal_unique_and_reversible(declared):
    names = ToolNames(declared)
    sent = {name: names.sent(name) for name in declared}
    assert len(set(sent.values())) == len(sent)
    for name, replacement in sent.items():
        assert len(replacement) <= 64
        assert replacement[0].isascii()
        assert replacement[0].isalpha() or replacement[0] == "_"
        assert all(c.isascii() and (c.isalnum() or c in "_.:-") for c in replacement)
        assert names.changed.get(replacement, replacement) == name


# Search -----------------------------------------------------------------------------------------


def test_web_search_becomes_google_search():
    request = native(web_search_options={"search_context_size": "low"})
    assert request["tools"] == [{"googleSearch": {}}]
    assert "toolConfig" not in request


def test_search_beside_functions_before_3_is_refused():
    error = refusal(BEFORE_3, web_search_options={}, tools=[tool("f")])
    assert error.param == "web_search_options"


def test_no_tool_call_means_no_search():
    request = native(BEFORE_3, web_search_options={}, tools=[tool("f")], tool_choice="none")
    assert request["tools"] == [{"functionDeclarations": [{"name": "f"}]}]


def test_the_users_place_is_told_in_words():
    place = {"city": "Turin", "country": "IT", "timezone": "Europe/Rome"}
    location = {"type": "approximate", "approximate": place}
    request = native(web_search_options={"user_location": location})
    (part,) = request["systemInstruction"]["parts"]
    assert "Turin, IT" in part["text"]
    assert "Europe/Rome" in part["text"]


@pytest.mark.parametrize("location", [None, {"type": "approximate", "approximate": {}}])
def test_no_place_is_no_instruction(location):
    assert "systemInstruction" not in native(web_search_options={"user_location": location})
