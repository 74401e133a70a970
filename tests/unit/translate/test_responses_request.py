"""Requests of the Responses API: items, tools, options and what is refused."""

import json

import pytest
from fakes.responses import BEFORE_3, MODERN, native, translated, whole
from fakes.responses import chunk as answer

from gemproxy.core.errors import InvalidRequest
from gemproxy.translate.shared.conversations import named_conversation
from gemproxy.translate.shared.function_calls import DUMMY_SIGNATURE
from gemproxy.translate.shared.signature_carrier import carry_encoded
from gemproxy.translate.shared.signatures import SignatureStore

PNG = "iVBORw0KGgo="
WEATHER = {"type": "function", "name": "weather", "parameters": {"type": "object"}}


def user(content):
    return {"role": "user", "content": content}


def call(call_id, name="weather", arguments="{}", **fields):
    return {
        "type": "function_call",
        "call_id": call_id,
        "name": name,
        "arguments": arguments,
        **fields,
    }


def output(call_id, value="ok"):
    return {"type": "function_call_output", "call_id": call_id, "output": value}


def contents(*items, **fields):
    return native(input=list(items), **fields)["contents"]


def refusal(**fields):
    with pytest.raises(InvalidRequest) as caught:
        translated(**fields)
    return caught.value


# --- input ----------------------------------------------------------------------------------------


def test_a_text_and_instructions():
    request = native(input="Hello", instructions="Be brief.", max_output_tokens=20)
    assert request == {
        "contents": [{"role": "user", "parts": [{"text": "Hello"}]}],
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "generationConfig": {"maxOutputTokens": 20},
    }


def test_a_text_is_the_same_as_a_list_with_one_message():
    for model in (MODERN, BEFORE_3, "gemma-3-27b-it"):
        fields = {"instructions": "Be brief.", "temperature": 0.5, "model": model}
        assert native(input="Hello", **fields) == native(input=[user("Hello")], **fields)


def test_developer_messages_become_instructions_wherever_they_stand():
    request = native(
        instructions="first",
        input=[
            {"type": "message", "role": "developer", "content": "second"},
            user([{"type": "input_text", "text": "hi"}]),
            {"role": "system", "content": [{"type": "input_text", "text": "third"}]},
        ],
    )
    assert [part["text"] for part in request["systemInstruction"]["parts"]] == [
        "first",
        "second",
        "third",
    ]
    assert len(request["contents"]) == 1


def test_one_turn_of_the_model_and_its_results_in_the_order_of_the_calls():
    turns = contents(
        user("go"),
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "I"}]},
        call("a", arguments='{"city": "Oslo"}'),
        call("b", arguments=""),
        {"role": "developer", "content": "in between"},
        output("b", "second"),
        output("a", [{"type": "input_text", "text": "first"}]),
        user("thanks"),
        model=BEFORE_3,
    )
    assert [turn["role"] for turn in turns] == ["user", "model", "user", "user"]
    assert turns[1]["parts"] == [
        {"text": "I"},
        {"functionCall": {"name": "weather", "args": {"city": "Oslo"}}},
        {"functionCall": {"name": "weather", "args": {}}},
    ]
    assert [part["functionResponse"]["response"] for part in turns[2]["parts"]] == [
        {"output": "first"},
        {"output": "second"},
    ]


def test_an_image_in_a_result_goes_into_it_or_behind_it():
    image = {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}", "detail": "high"}
    items = [user("look"), call("a"), output("a", [image])]
    modern = contents(*items)[2]["parts"][0]["functionResponse"]
    assert modern["parts"] == [{"inlineData": {"mimeType": "image/png", "data": PNG}}]
    older = contents(*items, model=BEFORE_3)
    assert older[3]["parts"][1] == {"inlineData": {"mimeType": "image/png", "data": PNG}}


def test_media_of_a_user():
    turns = contents(
        user(
            [
                {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}"},
                {"type": "input_image", "file_id": "files/abc", "detail": "auto"},
                {"type": "input_file", "file_data": "AAAA", "filename": "a.pdf"},
                {"type": "input_file", "file_url": "https://example.com/b.pdf"},
                {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
            ]
        )
    )
    kinds = [next(iter(part)) for part in turns[0]["parts"]]
    assert kinds == ["inlineData", "fileData", "inlineData", "fileData", "inlineData"]
    assert turns[0]["parts"][2]["inlineData"]["mimeType"] == "application/pdf"


def test_calls_of_one_response_are_one_step_wherever_their_results_stand():
    def made(response, place, kind="fc"):
        return f"{kind}_{response * 32}{place:04x}"

    thought = {
        "type": "reasoning",
        "id": made("a", 0, "rs"),
        "summary": [],
        "encrypted_content": carry_encoded("c2ln", MODERN),
    }
    first, second = call("c1", id=made("a", 1)), call("c2", "clock", id=made("a", 2))
    later = call("c3", id=made("b", 0))
    together = [user("hi"), thought, first, second, output("c1"), output("c2"), later, output("c3")]
    apart = [user("hi"), thought, first, output("c1"), second, output("c2"), later, output("c3")]
    steps = contents(*together)
    assert [len(turn["parts"]) for turn in steps] == [1, 2, 2, 1, 1]
    assert steps[1]["parts"][0]["thoughtSignature"] == "c2ln"
    assert "thoughtSignature" not in steps[1]["parts"][1]
    assert contents(*apart) == steps
    # Calls without ids of ours are steps of their own, as they stand.
    bare = [{**each, "id": None} if "arguments" in each else each for each in apart]
    assert [len(turn["parts"]) for turn in contents(*bare)] == [1] * 7
    developer = {"role": "developer", "content": "Be brief."}
    assert contents(*apart, developer) == contents(*together, developer)
    assert contents(*apart[:4], user("so?"), *apart[4:])[3]["parts"][-1] == {"text": "so?"}


def test_what_agents_replay_is_skipped():
    skipped = [
        {"type": "web_search_call", "id": "ws_1", "status": "completed"},
        {"type": "mcp_list_tools", "id": "m"},
        {"type": "code_interpreter_call", "id": "ci"},
    ]
    assert contents(user("hi"), *skipped) == contents(user("hi"))


@pytest.mark.parametrize(
    ("item", "param"),
    [
        (output("nobody"), "input[1].call_id"),
        ({"type": "computer_call", "call_id": "c"}, "input[1].type"),
        ({"type": "compaction", "encrypted_content": "x"}, "input[1].type"),
        ({"role": "tool", "content": "x"}, "input[1].role"),
        (user([{"type": "input_video"}]), "input[1].content[0].type"),
        (user([{"type": "input_image"}]), "input[1].content[0]"),
        ({"type": "function_call", "call_id": "c"}, "input[1].name"),
    ],
)
def test_items_that_cannot_be_translated_are_named(item, param):
    assert refusal(input=[user("hi"), item]).param == param


def test_an_empty_input_is_refused_without_instructions():
    assert refusal(input=[]).param == "input"
    assert refusal(input="").param == "input"
    assert native(input=[], instructions="Say hi.")["contents"][0]["parts"][0]["text"] == "Say hi."


# --- signatures -----------------------------------------------------------------------------------


def test_a_signature_comes_back_with_its_reasoning_item():
    sent = whole(
        answer(
            {"text": "Hm", "thought": True},
            {"functionCall": {"name": "weather", "args": {"a": 1}}, "thoughtSignature": "U2ln"},
            {"functionCall": {"name": "weather", "args": {"a": 2}}},
            finish="STOP",
        ),
        tools=[WEATHER],
    )["output"]
    assert [item["type"] for item in sent] == ["reasoning", "function_call", "function_call"]
    # A client may make ids of its own, so that only the reasoning item has the signature.
    for item in sent[1:]:
        item["call_id"] = "own" + item["call_id"]
    replayed = [user("go"), *sent, *(output(item["call_id"]) for item in sent[1:])]
    turn = contents(*replayed)[1]["parts"]
    assert [part.get("thoughtSignature") for part in turn] == ["U2ln", None]
    # Of another model it is replaced by the documented dummy.
    assert contents(*replayed, model="gemini-4-flash")[1]["parts"][0]["thoughtSignature"] == (
        DUMMY_SIGNATURE
    )
    body = json.loads(translated(input=replayed, replace_signatures=True).body)
    assert body["contents"][1]["parts"][0]["thoughtSignature"] == DUMMY_SIGNATURE


def test_without_the_reasoning_item_the_signature_is_remembered():
    signatures = SignatureStore()
    sent = whole(
        answer(
            {"functionCall": {"name": "weather", "args": {}}, "thoughtSignature": "U2ln"},
            finish="STOP",
        ),
        signatures=signatures,
        tools=[WEATHER],
    )["output"]
    items = [user("go"), sent[1], output(sent[1]["call_id"])]
    assert contents(*items, signatures=signatures)[1]["parts"][0]["thoughtSignature"] == "U2ln"


def test_another_providers_reasoning_is_dropped():
    foreign = {"type": "reasoning", "id": "rs", "summary": [], "encrypted_content": "gAAAA…"}
    turn = contents(user("go"), foreign, call("a"), output("a"))[1]
    assert turn["parts"][0]["thoughtSignature"] == DUMMY_SIGNATURE


def test_an_id_of_geminis_that_was_used_before_is_replaced():
    used = call("call_1")
    given = {"functionCall": {"name": "weather", "args": {}, "id": "call_1"}}
    response = whole(
        answer(given, given, finish="STOP"), input=[user("go"), used, output("call_1")]
    )
    assert [item["call_id"] for item in response["output"]] == ["new_1", "new_2"]
    # As long as none has it, it stays, because Gemini knows it.
    assert whole(answer(given, finish="STOP"))["output"][0]["call_id"] == "call_1"


# --- tools ----------------------------------------------------------------------------------------


def declared(*tools, **fields):
    request = native(tools=list(tools), **fields)
    return request.get("tools"), request.get("toolConfig")


def test_functions_namespaces_and_custom_tools():
    tools, _ = declared(
        {**WEATHER, "strict": True, "description": None, "defer_loading": None},
        {"type": "namespace", "name": "files", "tools": [{"type": "function", "name": "read"}]},
        {
            "type": "custom",
            "name": "patch",
            "description": "Patches.",
            "format": {"type": "grammar", "syntax": "lark", "definition": "start: LINE"},
        },
        {"type": "tool_search"},
    )
    weather, read, patch = tools[0]["functionDeclarations"]
    assert (weather["name"], read["name"], patch["name"]) == ("weather", "files__read", "patch")
    assert patch["parametersJsonSchema"]["required"] == ["input"]
    assert "start: LINE" in patch["description"]


def test_answers_name_tools_as_the_client_does():
    response = whole(
        answer(
            {"functionCall": {"name": "files__read", "args": {"path": "x"}}},
            {"functionCall": {"name": "patch", "args": {"input": "*** Begin"}}},
            finish="STOP",
        ),
        tools=[
            {"type": "namespace", "name": "files", "tools": [{"type": "function", "name": "read"}]},
            {"type": "custom", "name": "patch"},
        ],
    )
    read, patch = response["output"]
    assert (read["name"], read["namespace"]) == ("read", "files")
    assert (patch["type"], patch["name"], patch["input"]) == (
        "custom_tool_call",
        "patch",
        "*** Begin",
    )
    custom_output = {
        "type": "custom_tool_call_output",
        "call_id": patch["call_id"],
        "output": "done",
    }
    turns = contents(
        user("go"), read, patch, custom_output, output(read["call_id"]), model=BEFORE_3
    )
    assert [part["functionCall"] for part in turns[1]["parts"]] == [
        {"name": "files__read", "args": {"path": "x"}},
        {"name": "patch", "args": {"input": "*** Begin"}},
    ]


def test_a_search_of_the_web_and_code():
    search = {"type": "web_search", "filters": None, "user_location": {"city": "Oslo"}}
    request = native(tools=[search, {"type": "code_interpreter", "container": {"type": "auto"}}])
    assert request["tools"] == [{"googleSearch": {}}, {"codeExecution": {}}]
    assert "Oslo" in request["systemInstruction"]["parts"][0]["text"]
    # Codex sends it in every request, for an index of OpenAI's.
    assert declared({"type": "web_search", "external_web_access": False}) == (None, None)


@pytest.mark.parametrize(
    ("choice", "config"),
    [
        ("auto", None),
        ("none", {"mode": "NONE"}),
        ("required", {"mode": "ANY"}),
        (
            {"type": "function", "name": "weather"},
            {"mode": "ANY", "allowedFunctionNames": ["weather"]},
        ),
        (
            {
                "type": "allowed_tools",
                "mode": "auto",
                "tools": [{"type": "function", "name": "weather"}],
            },
            {"mode": "VALIDATED", "allowedFunctionNames": ["weather"]},
        ),
    ],
)
def test_the_choice_of_tools(choice, config):
    _, given = declared(WEATHER, tool_choice=choice)
    assert given == (None if config is None else {"functionCallingConfig": config})


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{"type": "file_search"}]}, "tools[0].type"),
        ({"tools": [{"type": "mcp", "server_url": "https://x"}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"tools": [WEATHER, WEATHER]}, "tools[1].name"),
        (
            {"tools": [WEATHER], "tool_choice": {"type": "function", "name": "x"}},
            "tool_choice.name",
        ),
        ({"tools": [WEATHER], "tool_choice": {"type": "web_search"}}, "tool_choice.type"),
        ({"tools": [WEATHER], "tool_choice": "sometimes"}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"background": True}, "background"),
        ({"include": ["thoughts"]}, "include[0]"),
        ({"metadata": {str(n): "x" for n in range(17)}}, "metadata"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type"),
    ],
)
def test_what_is_refused_is_named(fields, param):
    assert refusal(**fields).param == param


# --- options --------------------------------------------------------------------------------------


def test_structured_output_is_flat():
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    form = {"type": "json_schema", "name": "x", "strict": True, "schema": schema}
    config = native(text={"format": form, "verbosity": "low"})["generationConfig"]
    assert config["responseMimeType"] == "application/json"
    assert config["responseJsonSchema"]["properties"] == {"a": {"type": "string"}}
    config = native(text={"format": {"type": "json_object"}})["generationConfig"]
    assert config == {"responseMimeType": "application/json"}


@pytest.mark.parametrize(
    ("reasoning", "config"),
    [
        ({"effort": "low", "summary": "auto"}, {"thinkingLevel": "low", "includeThoughts": True}),
        ({"effort": "low"}, {"thinkingLevel": "low"}),
        ({"summary": "detailed"}, {"includeThoughts": True}),
        ({"effort": None, "summary": None}, None),
    ],
)
def test_reasoning(reasoning, config):
    given = native(reasoning=reasoning).get("generationConfig", {})
    assert given.get("thinkingConfig") == config


def test_null_and_unknown_fields_are_accepted():
    fields = ("tools", "tool_choice", "text", "reasoning", "store", "include", "metadata", "user")
    request = native(**dict.fromkeys(fields), client_metadata={"a": "b"}, stream_options=None)
    assert request == native()


def test_a_cache_key_names_the_conversation():
    assert translated(prompt_cache_key="k").conversation == named_conversation("k")
    assert translated().conversation is None


def test_files_are_resources_of_a_project():
    items = [user([{"type": "input_file", "file_id": "abc"}])]
    assert list(translated(input=items).resources) == ["files/abc"]
