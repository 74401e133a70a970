"""Which requests belong to one conversation."""

import json

import pytest
from fakes.heads import FakeHead

from gemproxy.api.openai.chat import ChatEndpoint
from gemproxy.core.context import RequestContext
from gemproxy.translate.shared.model_names import ModelNames
from gemproxy.translate.shared.signatures import SignatureStore

LONG = "Word. " * 600
INSTRUCTIONS = {"role": "system", "content": "Be brief. " + LONG}


def conversation(*messages, headers=(), **fields):
    endpoint = ChatEndpoint(ModelNames({}, ()), SignatureStore(), lambda: "call_1", str)
    body = json.dumps({"model": "gemini-2.5-flash", "messages": messages, **fields}).encode()
    context = RequestContext("r", "/v1/chat/completions", 0.0)
    return endpoint.decode(body, FakeHead(headers), context, brief=True).conversation


def user(text):
    return {"role": "user", "content": text}


def model(text):
    return {"role": "assistant", "content": text}


def test_a_conversation_is_the_same_while_it_grows():
    turns = [INSTRUCTIONS, user("One")]
    number = conversation(*turns)
    assert number is not None
    for text in ("Two", "Three"):
        turns += [model("Aha."), user(text)]
        assert conversation(*turns) == number
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    turns += [
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "done"},
    ]
    assert conversation(*turns, tools=tools, stream=True) == number


@pytest.mark.parametrize(
    "other", [[INSTRUCTIONS, user("Other")], [{**INSTRUCTIONS, "content": LONG}, user("One")]]
)
def test_another_beginning_is_another_conversation(other):
    assert conversation(*other) not in (None, conversation(INSTRUCTIONS, user("One")))


def test_a_short_request_that_begins_a_conversation_is_none():
    assert conversation(user("Hi")) is None
    assert conversation({"role": "system", "content": "Be brief."}, user("Hi")) is None
    assert conversation(user("Hi"), model("Hello."), user("How are you?")) is not None
    assert conversation(user(LONG)) is not None


@pytest.mark.parametrize(
    "named",
    [
        {"prompt_cache_key": "mine"},
        {"session_id": "mine"},
        {"headers": {b"session-id": b"mine"}},
        {"headers": {b"session_id": b"mine"}},
        {"headers": {b"x-session-id": b"mine"}},
        {"headers": {b"x-claude-code-session-id": b"mine"}},
        {"headers": {b"session-id": b"other"}, "prompt_cache_key": "mine"},
    ],
)
def test_the_clients_own_name_comes_first(named):
    number = conversation(user("Hi"), prompt_cache_key="mine")
    assert number is not None
    assert conversation(user("Something else"), **named) == number
    assert conversation(INSTRUCTIONS, user("One"), **named) == number


@pytest.mark.parametrize("name", [None, "", 7, ["x"], {"a": 1}])
def test_what_is_no_name_is_ignored(name):
    assert conversation(user("Hi"), prompt_cache_key=name, session_id=name) is None
    assert conversation(user("Hi"), prompt_cache_key=name, session_id="mine") is not None
