"""Messages become turns: order, roles, results behind their calls, signatures."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemproxy.api.openai.schema.requests import decode_chat_completion
from gemproxy.core.errors import InvalidRequest
from gemproxy.translate.openai_chat__gemini.request import to_gemini
from gemproxy.translate.shared.signatures import (
    RememberedCall,
    SignatureStore,
    call_key,
    call_mark,
)

DUMMY = "skip_thought_signature_validator"
BEFORE_3, MODERN = "gemini-2.5-flash", "gemini-3.8-flash"


def native(messages, model=BEFORE_3, signatures=None, distrust=False, **fields):
    body = json.dumps({"model": model, "messages": messages, **fields}).encode()
    request = decode_chat_completion(body)
    store = SignatureStore() if signatures is None else signatures
    translated = to_gemini(request, model=model, signatures=store, replace_signatures=distrust)
    return json.loads(translated.body)


def contents(messages, *args, **kwargs):
    return native(messages, *args, **kwargs)["contents"]


def user(text):
    return {"role": "user", "content": text}


def call(call_id, name="f", arguments="{}", **more):
    return {
        "id": call_id,
        "type": "function",
        "function": {"name": name, "arguments": arguments},
        **more,
    }


def calls(*each, content=None):
    return {"role": "assistant", "content": content, "tool_calls": list(each)}


def result(call_id, content="r", **more):
    return {"role": "tool", "tool_call_id": call_id, "content": content, **more}


def said(role, *texts):
    return {"role": role, "parts": [{"text": text} for text in texts]}


def responses(content):
    return [part["functionResponse"]["response"] for part in content["parts"]]


# Roles and order --------------------------------------------------------------------------------


def test_instructions_are_lifted_out_in_their_order():
    messages = [
        {"role": "system", "content": "one"},
        user("a"),
        {"role": "developer", "content": [{"type": "text", "text": "two"}]},
        user("b"),
    ]
    request = native(messages)
    assert request["systemInstruction"] == {"parts": [{"text": "one"}, {"text": "two"}]}
    assert request["contents"] == [said("user", "a", "b")]


def test_instructions_alone_ask_their_last_one():
    messages = [{"role": "system", "content": "one"}, {"role": "system", "content": "two"}]
    request = native(messages)
    assert request["contents"] == [said("user", "two")]
    assert request["systemInstruction"] == {"parts": [{"text": "one"}]}


def test_gemma_reads_instructions_before_the_first_words():
    messages = [{"role": "system", "content": "one"}, user("a")]
    request = native(messages, "gemma-3-27b-it")
    assert "systemInstruction" not in request
    assert request["contents"] == [said("user", "one\n\n", "a")]


def test_gemma_reads_instructions_before_an_answer_that_comes_first():
    messages = [{"role": "system", "content": "one"}, {"role": "assistant", "content": "b"}]
    assert contents(messages, "gemma-3-27b-it") == [said("user", "one"), said("model", "b")]


def test_neighbours_of_one_role_are_joined():
    messages = [user("a"), user("b"), {"role": "assistant", "content": "c"}]
    messages.append({"role": "assistant", "content": "d"})
    assert contents(messages) == [said("user", "a", "b"), said("model", "c", "d")]


def test_empty_texts_and_empty_messages_are_left_out():
    messages = [
        user(""),
        user([{"type": "text", "text": ""}, {"type": "text", "text": "a"}]),
        {"role": "assistant", "content": ""},
        {"role": "assistant", "content": None},
        user([]),
        user("b"),
    ]
    assert contents(messages) == [said("user", "a", "b")]


def test_a_request_without_any_content_is_refused():
    with pytest.raises(InvalidRequest) as caught:
        native([user("")])
    assert caught.value.param == "messages"


def test_a_refusal_is_the_models_text_and_reasoning_is_dropped():
    messages = [
        user("a"),
        {"role": "assistant", "content": None, "refusal": "no", "reasoning_content": "hm"},
        user("b"),
    ]
    assert contents(messages)[1] == said("model", "no")


def test_a_refusal_part_is_text():
    message = {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}
    assert contents([user("a"), message])[1] == said("model", "no")


# Calls and results ------------------------------------------------------------------------------


def test_a_call_and_its_result():
    messages = [user("a"), calls(call("1", arguments='{"x": [1.0]}'), content="well"), result("1")]
    assert contents(messages)[1:] == [
        {
            "role": "model",
            "parts": [{"text": "well"}, {"functionCall": {"name": "f", "args": {"x": [1.0]}}}],
        },
        {
            "role": "user",
            "parts": [{"functionResponse": {"name": "f", "response": {"output": "r"}}}],
        },
    ]


def test_a_missing_result_is_an_error_in_its_place():
    messages = [user("a"), calls(call("1"), call("2")), result("2"), user("go on")]
    turns = contents(messages)
    first, second = responses(turns[2])
    assert set(first) == {"error"}
    assert second == {"output": "r"}


def test_a_late_result_moves_behind_its_call():
    messages = [user("a"), calls(call("1")), user("wait"), result("1")]
    turns = contents(messages)
    assert [turn["role"] for turn in turns] == ["user", "model", "user", "user"]
    assert responses(turns[2]) == [{"output": "r"}]
    assert turns[3] == said("user", "wait")


def test_words_never_join_the_results_before_them():
    messages = [user("a"), calls(call("1")), result("1"), user("b"), user("c")]
    turns = contents(messages)
    assert len(turns[2]["parts"]) == 1
    assert turns[3] == said("user", "b", "c")


def test_repeated_ids_belong_to_the_nearest_call():
    messages = [
        user("a"),
        calls(call("1", "f")),
        result("1", "first"),
        calls(call("1", "g")),
        result("1", "second"),
    ]
    turns = contents(messages)
    assert turns[2]["parts"][0]["functionResponse"]["name"] == "f"
    assert turns[4]["parts"][0]["functionResponse"]["name"] == "g"
    assert responses(turns[4]) == [{"output": "second"}]


def test_calls_that_share_an_id_are_answered_in_order():
    messages = [user("a"), calls(call(""), call("")), result("", "x"), result("", "y")]
    assert responses(contents(messages)[2]) == [{"output": "x"}, {"output": "y"}]


def test_a_call_at_the_very_beginning_follows_a_user():
    turns = contents([calls(call("1")), result("1")])
    assert [turn["role"] for turn in turns] == ["user", "model", "user"]
    assert turns[0]["parts"][0]["text"]


def test_an_answer_at_the_very_beginning_stays_first():
    assert contents([{"role": "assistant", "content": "b"}, user("a")])[0] == said("model", "b")


def test_legacy_function_call_and_result():
    messages = [
        user("a"),
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": ""}},
        {"role": "function", "name": "f", "content": '{"k": 1}'},
    ]
    turns = contents(messages)
    assert turns[1]["parts"] == [{"functionCall": {"name": "f", "args": {}}}]
    assert responses(turns[2]) == [{"k": 1}]


@pytest.mark.parametrize("arguments", ["", "{}", " ", "null", " null\n"])
def test_no_arguments_are_an_empty_object(arguments):
    turns = contents([user("a"), calls(call("1", arguments=arguments)), result("1")])
    assert turns[1]["parts"][0]["functionCall"]["args"] == {}


@pytest.mark.parametrize(
    "arguments",
    ["{", '{"x":', "[1]", '"a"', "5", '{"a": NaN}', "{'a': 1}", '{"a":' * 100_000, "[" * 1_000_000],
)
def test_arguments_that_are_no_json_object_go_wrapped(arguments):
    turns = contents([user("a"), calls(call("1", arguments=arguments)), result("1")])
    assert turns[1]["parts"][0]["functionCall"]["args"] == {"arguments": arguments}


@pytest.mark.parametrize(
    ("arguments", "args"),
    [
        (None, {}),
        ({}, {}),
        ({"x": 1, "a": None}, {"x": 1, "a": None}),
        ([1], {"arguments": "[1]"}),
        (5, {"arguments": "5"}),
    ],
)
def test_arguments_that_are_no_text_are_read_as_they_are_meant(arguments, args):
    turns = contents([user("a"), calls(call("1", arguments=arguments)), result("1")])
    assert turns[1]["parts"][0]["functionCall"]["args"] == args


def test_custom_calls_are_refused():
    custom = {"id": "1", "type": "custom", "custom": {"name": "x", "input": "y"}}
    with pytest.raises(InvalidRequest) as caught:
        native([user("a"), calls(custom)])
    assert caught.value.param == "messages[1].tool_calls[0].type"


# The result's object ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "response"),
    [
        ("plain", {"output": "plain"}),
        ("", {"output": ""}),
        (None, {"output": ""}),
        ('{"a": {"b": 1}}', {"a": {"b": 1}}),
        (' {"a": 1}\n', {"a": 1}),
        ("[1, 2]", {"output": "[1, 2]"}),
        ("42", {"output": "42"}),
        ('{"a": ', {"output": '{"a": '}),
        ('{"a": NaN}', {"output": '{"a": NaN}'}),
        ('{"$ref": "x"}', {"output": '{"$ref": "x"}'}),
        ('{"a": {"$ref": "x"}}', {"output": '{"a": {"$ref": "x"}}'}),
        (r'{"\u0024ref": "x"}', {"output": r'{"\u0024ref": "x"}'}),
        ([{"type": "text", "text": '{"a": 1}'}], {"a": 1}),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], {"output": "a\nb"}),
    ],
)
def test_a_result_is_always_an_object(content, response):
    turns = contents([user("a"), calls(call("1")), result("1", content)])
    assert responses(turns[2]) == [response]


def test_a_result_that_is_nested_absurdly_goes_as_text():
    content = '{"a":' * 50_000
    turns = contents([user("a"), calls(call("1")), result("1", content)])
    assert responses(turns[2]) == [{"output": content}]


IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}}
BLOB = {"mimeType": "image/png", "data": "QUJD"}


def test_an_image_in_a_result_stays_inside_it_on_3():
    content = [{"type": "text", "text": "see"}, IMAGE]
    turns = contents([user("a"), calls(call("1")), result("1", content), user("b")], MODERN)
    response = turns[2]["parts"][0]["functionResponse"]
    assert response["response"] == {"output": "see"}
    assert response["parts"] == [{"inlineData": BLOB}]
    assert turns[3] == said("user", "b")


def test_an_image_in_a_result_follows_it_on_older_models():
    turns = contents([user("a"), calls(call("1")), result("1", [IMAGE]), user("b")])
    assert "parts" not in turns[2]["parts"][0]["functionResponse"]
    assert len(turns[2]["parts"]) == 1
    assert turns[3]["role"] == "user"
    assert turns[3]["parts"][1:] == [{"inlineData": BLOB}, {"text": "b"}]


# Signatures and ids -----------------------------------------------------------------------------


def extra(signature):
    return {"extra_content": {"google": {"thought_signature": signature}}}


def signed(turn):
    return [part.get("thoughtSignature") for part in turn["parts"]]


def remembered(call_id, signature, issued_upstream=False, name="f", arguments="{}"):
    store = SignatureStore()
    remember(store, call_id, signature, issued_upstream, name, arguments)
    return store


def remember(store, call_id, signature, issued_upstream=False, name="f", arguments="{}"):
    key = call_key(call_id, call_mark(name, arguments))
    store.remember(key, RememberedCall(signature, issued_upstream))


def test_the_clients_own_signature_comes_first():
    message = calls(call("1__thought__c3VmZml4", **extra("ZXh0cmE=")))
    turns = contents([user("a"), message], MODERN, remembered("1", "c3RvcmU="))
    assert signed(turns[1]) == ["ZXh0cmE="]


def test_the_suffix_of_the_id_comes_second():
    messages = [user("a"), calls(call("1__thought__c3VmZml4")), result("1__thought__c3VmZml4")]
    turns = contents(messages, MODERN, remembered("1", "c3RvcmU=", issued_upstream=True))
    assert signed(turns[1]) == ["c3VmZml4"]
    assert turns[1]["parts"][0]["functionCall"]["id"] == "1"
    assert turns[2]["parts"][0]["functionResponse"]["id"] == "1"


def test_the_store_comes_third():
    turns = contents([user("a"), calls(call("1"))], MODERN, remembered("1", "c3RvcmU="))
    assert signed(turns[1]) == ["c3RvcmU="]


def two_conversations():
    """Two calls of one id, as short ids repeat; the later one came last."""
    store = remembered("call_883098", "b25l", issued_upstream=True, arguments='{"x": 1}')
    remember(store, "call_883098", "dHdv", True, arguments='{"x": 2}')
    return store


@pytest.mark.parametrize(
    ("arguments", "signature"),
    [
        ('{"x":1}', "b25l"),
        ('{"x":2}', "dHdv"),
        ('{ "x" : 1.0 }', "b25l"),
        ('{"\\u0078":2}', "dHdv"),
        ('{"x":3}', DUMMY),
        ('{"x":"1"}', DUMMY),
        ('{"x":1,"y":null}', DUMMY),
        ('{"x":', DUMMY),
    ],
)
def test_one_id_in_two_conversations_has_two_signatures(arguments, signature):
    turns = contents(
        [user("a"), calls(call("call_883098", arguments=arguments))], MODERN, two_conversations()
    )
    assert signed(turns[1]) == [signature]
    issued = turns[1]["parts"][0]["functionCall"].get("id")
    assert issued == (None if signature == DUMMY else "call_883098")


def test_one_id_of_two_functions_has_two_signatures():
    store = remembered("1", "Zg==", name="f")
    remember(store, "1", "Zw==", name="g")
    for name, signature in (("f", "Zg=="), ("g", "Zw=="), ("h", DUMMY)):
        turns = contents([user("a"), calls(call("1", name))], MODERN, store)
        assert signed(turns[1]) == [signature]


@pytest.mark.parametrize("call_id", ["magentic-1", "0b1c7f9e", ""])
def test_a_client_with_ids_of_its_own_gets_its_signatures(call_id):
    turns = contents(
        [user("a"), calls(call(call_id, arguments='{"x": 2}'))], MODERN, two_conversations()
    )
    assert signed(turns[1]) == ["dHdv"]
    # Only an id of Gemini's is sure to be taken.
    assert "id" not in turns[1]["parts"][0]["functionCall"]


def test_of_equal_calls_with_ids_of_the_clients_own_the_first_is_signed():
    store = remembered("1", "c2ln")
    remember(store, "2", None)
    turns = contents([user("a"), calls(call("x"), call("y")), calls(call("z"))], MODERN, store)
    assert signed(turns[1]) == ["c2ln", None]


def test_a_legacy_call_gets_its_signature_by_name_and_arguments():
    message = {"role": "assistant", "function_call": {"name": "f", "arguments": '{"x":1}'}}
    turns = contents([user("a"), message], MODERN, two_conversations())
    assert signed(turns[1]) == ["b25l"]


def test_calls_that_are_forgotten_are_not_found_by_their_arguments_either():
    store = SignatureStore(capacity=2)
    for number in range(4):
        remember(store, f"{number}", "c2ln", arguments=f'{{"x":{number}}}')
    assert len(store) == 2
    for number, signature in enumerate([DUMMY, DUMMY, "c2ln", "c2ln"]):
        message = calls(call("own", arguments=f'{{"x":{number}}}'))
        assert signed(contents([user("a"), message], MODERN, store)[1]) == [signature]
    assert len(store._by_mark) == 2


def test_calls_are_found_again_after_a_restart():
    again = SignatureStore()
    for key, remembered_call in two_conversations().items():
        again.remember(key, remembered_call)
    for call_id in ("call_883098", "own"):
        message = calls(call(call_id, arguments='{"x":1}'))
        assert signed(contents([user("a"), message], MODERN, again)[1]) == ["b25l"]


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ('{"a":1,"b":[1,{"c":2,"d":3}]}', '{ "b":[1.0,{"d":3,"c":2e0}], "a":1 }', True),
        ('{"a":"\u00fc"}', '{"a":"\\u00FC"}', True),
        ('{"a":-0.0}', '{"a":0}', True),
        ('{"a":[1,2]}', '{"a":[2,1]}', False),
        ('{"a":true}', '{"a":1}', False),
        ('{"a":1.5}', '{"a":1}', False),
        ('{"a":1e400}', '{"a":null}', True),  # no number that JSON's readers agree upon
        ('{"a":12345678901234567890123}', '{"a":12345678901234567890124}', False),
        ("[" * 10_000, "[" * 9_999, False),
    ],
)
def test_arguments_are_compared_as_json_values(one, other, equal):
    assert (call_mark("f", one) == call_mark("f", other)) == equal
    assert call_mark("f", one) != call_mark("g", one)


def test_the_dummy_comes_last_and_only_on_the_first_call_of_each_step():
    messages = [
        user("a"),
        calls(call("1"), call("2")),
        result("1"),
        result("2"),
        calls(call("3")),
        result("3"),
    ]
    turns = contents(messages, MODERN)
    assert signed(turns[1]) == [DUMMY, None]
    assert signed(turns[3]) == [DUMMY]


def test_no_dummy_where_another_call_of_the_step_is_signed():
    turns = contents([user("a"), calls(call("1"), call("2", **extra("c2ln")))], MODERN)
    assert signed(turns[1]) == [None, "c2ln"]


def test_text_before_a_call_is_not_signed():
    turns = contents([user("a"), calls(call("1"), content="well")], MODERN)
    assert signed(turns[1]) == [None, DUMMY]


def test_older_models_get_no_dummy_but_keep_what_they_gave():
    turns = contents([user("a"), calls(call("1")), calls(call("2", **extra("c2ln")))])
    assert signed(turns[1]) == [None]
    assert signed(turns[3]) == ["c2ln"]


def test_a_signature_that_is_no_base64_is_as_good_as_none():
    turns = contents([user("a"), calls(call("1", **extra("not a signature!")))], MODERN)
    assert signed(turns[1]) == [DUMMY]


def test_distrust_replaces_every_signature():
    messages = [user("a"), calls(call("1", **extra("c2ln")), call("2", **extra("c2ln")))]
    turns = contents(messages, MODERN, remembered("1", "c3RvcmU="), distrust=True)
    assert signed(turns[1]) == [DUMMY, None]


def test_a_legacy_call_carries_the_dummy():
    message = {"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}}
    assert signed(contents([user("a"), message], MODERN)[1]) == [DUMMY]


def test_only_ids_that_gemini_issued_go_back_to_it():
    store = remembered("theirs", None, issued_upstream=True)
    remember(store, "ours", None)
    messages = [user("a"), calls(call("theirs"), call("ours"), call("unknown"))]
    turns = contents(messages, MODERN, store)
    assert [part["functionCall"].get("id") for part in turns[1]["parts"]] == ["theirs", None, None]
    answered = [part["functionResponse"].get("id") for part in turns[2]["parts"]]
    assert answered == ["theirs", None, None]


# Any conversation -------------------------------------------------------------------------------

steps = st.lists(
    st.sampled_from(["user", "empty", "assistant", "system", "calls", "two calls", "result"]),
    min_size=1,
    max_size=12,
)


@given(steps, st.sampled_from([BEFORE_3, MODERN, "gemma-4-31b-it"]))
def test_turns_always_keep_geminis_rules(kinds, model):
    messages, opened = [user("start")], []
    for number, kind in enumerate(kinds):
        one, two = f"{number}a", f"{number}b"
        if kind == "calls":
            messages.append(calls(call(one)))
            opened.append(one)
        elif kind == "two calls":
            messages.append(calls(call(one), call(two), content="t"))
            opened += [one, two]
        elif kind == "result":
            messages += [result(opened.pop())] if opened else []
        else:
            role = "user" if kind == "empty" else kind
            messages.append({"role": role, "content": "" if kind == "empty" else kind})
    turns = contents(messages, model)
    for before, turn in zip([None, *turns], turns, strict=False):
        kinds_of_parts = {next(iter(part)) for part in turn["parts"]} - {"thoughtSignature"}
        assert turn["parts"]
        if "functionCall" in kinds_of_parts:
            assert before is not None
            assert before["role"] == "user"
        if "functionResponse" in kinds_of_parts:
            assert kinds_of_parts == {"functionResponse"}
            asked = [part for part in before["parts"] if "functionCall" in part]
            assert len(asked) == len(turn["parts"])
