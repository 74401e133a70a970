"""Anthropic messages: every pair of ``tests/corpus/messages.yaml``, and what holds for all."""

import json
import re
from itertools import count

import pytest
from corpus import FILES
from fakes.message_streams import read_events, read_message
from hypothesis import given, settings
from hypothesis import strategies as st

from gemproxy.api.anthropic.schema.requests import decode_count_tokens, decode_messages
from gemproxy.core.errors import (
    GemproxyError,
    InvalidRequest,
    StreamIncomplete,
    UnusableAnswer,
)
from gemproxy.providers.gemini.wire.sse import EventStreamDecoder
from gemproxy.translate.anthropic_messages__gemini.answer import WholeMessage
from gemproxy.translate.anthropic_messages__gemini.context import AnswerContext
from gemproxy.translate.anthropic_messages__gemini.counting import count as count_prompt
from gemproxy.translate.anthropic_messages__gemini.request import Options, to_gemini
from gemproxy.translate.anthropic_messages__gemini.stream import MessageStreamTranslator
from gemproxy.translate.shared.schema_budget import OutOfSteps, SchemaBudget
from gemproxy.translate.shared.signatures import SignatureStore
from gemproxy.translate.shared.translated import TranslatedRequest

PAIRS = FILES["messages"]
MODEL = "gemini-3.8-flash"
DUMMY = "skip_thought_signature_validator"
USER = {"role": "user", "content": "Go."}
TOOLS = [{"name": "f", "input_schema": {"type": "object"}}, {"name": "g"}]


def store_or_new(store):
    # An empty store is false.
    return SignatureStore() if store is None else store


def translated(model=MODEL, signatures=None, **fields):
    body = {"model": model, "max_tokens": 10, "messages": [USER], **fields}
    request, aside = decode_messages(json.dumps(body).encode())
    return to_gemini(
        request,
        Options(model, store_or_new(signatures), SchemaBudget(), aside=aside),
    )


def sent(model=MODEL, **fields):
    return json.loads(bytes(translated(model, **fields).body))


def refused(**fields):
    with pytest.raises(InvalidRequest) as caught:
        translated(**fields)
    return caught.value.param, caught.value.message


def new_ids():
    numbers = count(1)
    return lambda: f"{next(numbers):024x}"


def whole_message(hops, context, signatures=None):
    request = TranslatedRequest(b'{"contents":[]}', context, 0, (), None, False, False)
    reader = WholeMessage(request, new_ids(), store_or_new(signatures))
    for hop in hops:
        reader.receive(hop)
    return json.loads(reader.encode().body)


def streamed(payloads, context, signatures=None):
    stream = MessageStreamTranslator(
        context, new_id=new_ids(), signatures=store_or_new(signatures), body=b"{}"
    )
    return b"".join(map(stream.receive, payloads)) + stream.finish()


def payloads_of(body):
    decoder = EventStreamDecoder()
    return decoder.receive(body) + decoder.close()


def compact(value):
    if isinstance(value, dict):
        fields = {name: compact(field) for name, field in value.items()}
        return {name: field for name, field in fields.items() if field not in (None, 0, {}, [])}
    return [compact(each) for each in value] if isinstance(value, list) else value


def read_messages(pair):
    """What a pair of ``messages.yaml`` makes."""
    if "client" in pair:
        return sent(**pair["client"])
    context = AnswerContext("asked", "up", **pair.get("asked", {}))
    body = pair["upstream"].encode()
    if body.startswith(b"data:"):
        told = read_message(streamed(payloads_of(body), context))
    else:
        told = whole_message([body], context)
    assert re.fullmatch("msg_[0-9a-f]{24}", told.pop("id"))
    same = {"type": "message", "role": "assistant", "model": "asked", "stop_sequence": None}
    assert {name: told.pop(name) for name in same} == same
    assert told["usage"].pop("service_tier") == "standard"
    for block in told["content"]:
        if "id" in block:
            block["id"] = re.sub("^(srv)?toolu_[0-9a-f]{24}", "", block["id"]) or None
        block.pop("tool_use_id", None)
    return compact(told)


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair["name"])
def test_pair_reads_as_it_says(pair):
    assert read_messages(pair) == pair["expected"]


# --- refusals and rules of requests -------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"messages": []}, "messages", "length"),
        ({"max_tokens": 0}, "max_tokens", ">= 1"),
        ({"mcp_servers": [{"url": "x"}]}, "mcp_servers", "not supported"),
        ({"thread": {"type": "create"}}, "thread", "send all messages"),
        ({"messages": [{"role": "user", "content": " "}]}, "messages", "no message has"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role", "assistant"),
        ({"stop_sequences": list("abcdef")}, "stop_sequences", "5"),
        ({"tools": [*TOOLS, TOOLS[0]]}, "tools[2].name", "twice"),
        ({"tools": [{"type": "memory_20250818", "name": "m"}]}, "tools[0].type", "memory"),
        ({"tool_choice": {"type": "any"}}, "tool_choice", "no tools"),
        ({"tools": TOOLS, "tool_choice": {"type": "tool"}}, "tool_choice.name", "Missing"),
        (
            {"tools": TOOLS, "tool_choice": {"type": "tool", "name": "h"}},
            "tool_choice.name",
            "no tool is named 'h'",
        ),
        (
            {
                "model": "gemini-2.5-flash",
                "tools": [*TOOLS, {"type": "web_search_20250305", "name": "web_search"}],
            },
            "tools[2]",
            "Gemini 3 and later can",
        ),
        ({"model": "gemini-3-pro-image"}, "model", "POST /v1/chat/completions"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image", "source": {
                "type": "base64", "media_type": "image/bmp", "data": "AAAA"}}]}]},
            "messages[0].content[0].source.media_type",
            "does not read image/bmp",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "container_upload"}]}]},
            "messages[0].content[0]",
            "container_upload",
        ),
        (
            {"messages": [{"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": "x"}]}]},
            "messages[0].content[0].tool_use_id",
            "'t1'",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_served_is_refused_by_its_field(fields, param, words):
    refused_param, message = refused(**fields)
    assert refused_param == param
    assert words in message


@pytest.mark.parametrize(
    ("fields", "config"),
    [
        ({"thinking": {"type": "disabled"}}, {"thinkingLevel": "low"}),
        ({"thinking": {"type": "between_tools"}}, {"includeThoughts": True}),
        ({"thinking": {"type": "adaptive", "display": "omitted"}}, None),
        (
            {
                "thinking": {"type": "adaptive", "display": "updates"},
                "output_config": {"effort": "medium"},
            },
            {"includeThoughts": True, "thinkingLevel": "medium"},
        ),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 9000}},
            {"includeThoughts": True, "thinkingBudget": 9000},
        ),
    ],
)
def test_thinking_is_fitted_to_the_model(fields, config):
    assert sent(**fields)["generationConfig"].get("thinkingConfig") == config


def test_a_turn_of_the_model_at_the_end_is_a_prefill_where_the_model_takes_one():
    messages = [USER, {"role": "assistant", "content": "The"}]
    assert sent("gemini-2.5-flash", messages=messages)["contents"][-1]["role"] == "model"
    assert sent(messages=messages)["contents"][-1]["parts"] == [{"text": "Continue."}]


def test_large_media_is_not_copied_and_arguments_with_media_are_compared_whole():
    data = "QUJD" * 50_000
    store = SignatureStore()
    part = {"functionCall": {"name": "f", "args": {"data": data}}, "thoughtSignature": "c2ln"}
    answer = {"candidates": [{"content": {"parts": [part]}, "finishReason": "STOP"}]}
    message = whole_message([json.dumps(answer).encode()], AnswerContext("a", MODEL), store)
    (call,) = message["content"]
    source = {"type": "base64", "media_type": "image/png", "data": data}
    result = {"type": "tool_result", "tool_use_id": call["id"]}
    result["content"] = [{"type": "image", "source": source}]
    made = translated(
        signatures=store,
        tools=TOOLS,
        messages=[
            USER,
            {"role": "assistant", "content": [call]},
            {"role": "user", "content": [result]},
        ],
    )
    assert not isinstance(made.body, bytes)
    contents = json.loads(bytes(made.body))["contents"]
    assert contents[1]["parts"] == [part]
    inside = contents[2]["parts"][0]["functionResponse"]["parts"][0]
    assert inside["inlineData"]["data"] == data
    assert made.estimated_tokens < 60_000


def test_very_many_tools_are_declared_in_a_thread():
    body = {"model": MODEL, "max_tokens": 9, "messages": [USER]}
    body["tools"] = [{"name": f"f{number}"} for number in range(5000)]
    request, _ = decode_messages(json.dumps(body).encode())
    with pytest.raises(OutOfSteps):
        to_gemini(request, Options(MODEL, SignatureStore(), SchemaBudget(brief=True)))
    made = to_gemini(request, Options(MODEL, SignatureStore(), SchemaBudget()))
    (tools,) = json.loads(bytes(made.body))["tools"]
    assert len(tools["functionDeclarations"]) == 5000


def test_a_count_has_the_whole_prompt_and_needs_no_limit():
    body = {"model": "x", "messages": [USER], "system": "Be brief.", "tools": TOOLS[:1]}
    request, aside = decode_count_tokens(json.dumps(body).encode())
    options = Options(MODEL, SignatureStore(), SchemaBudget(), aside=aside)
    prompt = count_prompt(request, options)
    assert 20 < prompt.estimate < 100
    assert json.loads(bytes(prompt.body)) == {
        "generateContentRequest": {
            "model": f"models/{MODEL}",
            "contents": [{"parts": [{"text": "Go."}], "role": "user"}],
            "systemInstruction": {"parts": [{"text": "Be brief."}]},
            "tools": [{"functionDeclarations": [{"name": "f"}]}],
        }
    }


# --- streams -----------------------------------------------------------------------------------


@pytest.mark.parametrize("pair", FILES["streams"], ids=lambda pair: pair["name"])
def test_a_stream_keeps_the_grammar_and_says_what_the_whole_answer_says(pair):
    """Every stream of the corpus, which was written for chat."""
    payloads = payloads_of(pair["upstream"].encode())
    context = AnswerContext("asked", "up", thinks=True, searches=True)
    stream = MessageStreamTranslator(context, new_id=new_ids(), signatures=SignatureStore())
    sent_events = b""
    try:
        for payload in payloads:
            sent_events += stream.receive(payload)
        sent_events += stream.finish()
    except GemproxyError:
        # The writer adds the error's event, wherever the stream ends.
        error = b'event: error\ndata: {"type":"error","error":{"type":"api_error"}}\n\n'
        assert read_events(sent_events + error)[1] == {"type": "api_error"}
        return
    message = read_message(sent_events)
    candidates = [json.loads(payload) for payload in payloads if payload != b"[DONE]"]
    whole = whole_message([json.dumps(candidates).encode()], context)
    assert plain(message) == plain(whole)


def plain(message):
    """Text, thoughts and calls of a message, its end and its counts; ids and borders left out."""
    told = {"text": "", "thinking": "", "calls": [], "signatures": []}
    for block in message["content"]:
        if block["type"] in ("text", "thinking"):
            told[block["type"]] += block[block["type"]]
            told["signatures"] += [block["signature"]] if block.get("signature") else []
        elif block["type"] == "tool_use":
            told["calls"].append((block["name"], block["input"]))
    return told, message["stop_reason"], message["stop_details"], message["usage"]


STREAMS = [pair for pair in PAIRS if pair.get("upstream", "").startswith("data:")]


@pytest.mark.parametrize("pair", STREAMS, ids=lambda pair: pair["name"])
def test_a_stream_may_be_cut_anywhere(pair):
    context = AnswerContext("asked", "up", **pair.get("asked", {}))
    body = pair["upstream"].encode().replace(b"\n", b"\r\n")
    whole = streamed(payloads_of(body), context)
    for cut in range(len(body)):
        decoder = EventStreamDecoder()
        pieces = (body[:cut], body[cut:])
        payloads = [each for piece in pieces for each in decoder.receive(piece)] + decoder.close()
        assert streamed(payloads, context) == whole


@pytest.mark.parametrize("finish", [{}, {"finishReason": "OTHER"}])
def test_a_stream_without_a_proper_end_is_not_complete(finish):
    context = AnswerContext("asked", "up")
    empty = json.dumps({"candidates": [finish]}).encode()
    with pytest.raises(StreamIncomplete if not finish else UnusableAnswer):
        streamed([empty], context)


# --- there and back -----------------------------------------------------------------------------

TEXTS = st.text("aö🦆 \n", min_size=1, max_size=5).filter(str.strip)
ARGS = st.dictionaries(st.text("kl", max_size=2), st.integers(0, 3) | TEXTS, max_size=2)
SIGNED = st.fixed_dictionaries(
    {}, optional={"thoughtSignature": st.sampled_from(["c2ln", "YQ==", "Yi1f"])}
)
CALLS = st.builds(
    lambda name, args, upstream_id, signed: {
        "functionCall": {"name": name, "args": args, **upstream_id},
        **signed,
    },
    st.sampled_from("fg"),
    ARGS,
    st.fixed_dictionaries({}, optional={"id": st.sampled_from(["call_1", "call_2", "x y"])}),
    SIGNED,
)
THOUGHTS = st.builds(lambda text: {"text": text, "thought": True}, TEXTS)
PARTS = st.lists(st.builds(lambda text: {"text": text}, TEXTS) | THOUGHTS | CALLS, max_size=7)


def merged(parts):
    """``parts`` without thoughts, and texts that only thoughts divide as one."""
    told = []
    for part in parts:
        if part.get("thought"):
            continue
        if "text" in part and told and "text" in told[-1]:
            told[-1] = {"text": told[-1]["text"] + part["text"]}
        else:
            told.append(part)
    return told


def expected_turn(parts):
    """The turn that goes back to Google: ids of a form that it does not use are left out."""
    turn = []
    for part in merged(parts):
        call = part.get("functionCall")
        if call is not None:
            kept = {name: value for name, value in call.items() if value != "x y"}
            turn.append({**part, "functionCall": kept})
        else:
            turn.append(part)
    calls = [part for part in turn if "functionCall" in part]
    if calls and not any("thoughtSignature" in part for part in calls):
        calls[0]["thoughtSignature"] = DUMMY
    return turn


def with_results(content):
    ids = [block["id"] for block in content if block["type"] == "tool_use"]
    results = [{"type": "tool_result", "tool_use_id": each, "content": "ok"} for each in ids]
    return [
        USER,
        {"role": "assistant", "content": content},
        {"role": "user", "content": [*reversed(results), {"type": "text", "text": "On."}]},
    ]


def joined(turn):
    """``turn`` with the texts of neighbouring parts in one."""
    return merged([{**part} for part in turn])


@given(PARTS.filter(lambda parts: any("thought" not in part for part in parts)), st.data())
@settings(max_examples=150)
def test_what_the_model_said_goes_back_to_it_unchanged(parts, data):
    """Whole or in a stream cut anywhere, a message replays with its calls, ids and signatures."""
    context = AnswerContext("asked", MODEL, thinks=True)
    finish = {"finishReason": "STOP"}
    whole = {"candidates": [{"content": {"parts": parts}, **finish}]}
    message = whole_message([json.dumps(whole).encode()], context)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(parts)), max_size=4)))
    pieces = [parts[a:b] for a, b in zip([0, *cuts], [*cuts, len(parts)], strict=True)]
    payloads = [{"candidates": [{"content": {"parts": piece}}]} for piece in pieces]
    payloads.append({"candidates": [finish]})
    events = streamed([json.dumps(each).encode() for each in payloads], context)
    of_stream = read_message(events)
    assert plain(of_stream) == plain(message)
    for made in (message, of_stream):
        contents = sent(tools=TOOLS, messages=with_results(made["content"]))["contents"]
        assert joined(contents[1]["parts"]) == expected_turn(parts)


@given(st.lists(CALLS, min_size=1, max_size=4))
@settings(max_examples=60)
def test_signatures_survive_a_client_that_drops_thinking(parts):
    store = SignatureStore()
    answer = {"candidates": [{"content": {"parts": parts}, "finishReason": "STOP"}]}
    message = whole_message([json.dumps(answer).encode()], AnswerContext("a", MODEL), store)
    assert {block["type"] for block in message["content"]} == {"tool_use"}
    made = translated(signatures=store, tools=TOOLS, messages=with_results(message["content"]))
    assert json.loads(bytes(made.body))["contents"][1]["parts"] == expected_turn(parts)


def test_a_signature_that_google_refused_is_replaced_everywhere():
    content = [
        {"type": "thinking", "thinking": "", "signature": f"gp1.{MODEL}.c2ln"},
        {"type": "text", "text": "So."},
        {"type": "thinking", "thinking": "", "signature": f"gp1.{MODEL}.c2ln"},
        {"type": "tool_use", "id": "t1", "name": "f", "input": {}},
    ]
    body = {"model": MODEL, "max_tokens": 5, "tools": TOOLS, "messages": with_results(content)}
    request, _ = decode_messages(json.dumps(body).encode())
    options = Options(MODEL, SignatureStore(), SchemaBudget(), replace_signatures=True)
    first, second = json.loads(bytes(to_gemini(request, options).body))["contents"][1]["parts"]
    assert first == {"text": "So."}
    assert second["thoughtSignature"] == DUMMY


IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
IDS = st.sampled_from(["t1", "t2", "", f"toolu_{0:024x}_call_1"])
BLOCKS = st.one_of(
    st.builds(lambda text: {"type": "text", "text": text}, st.sampled_from(["", " ", "So."])),
    st.builds(lambda call: {"type": "tool_use", "id": call, "name": "f", "input": {"a": 1}}, IDS),
    st.builds(
        lambda call, content: {"type": "tool_result", "tool_use_id": call, "content": content},
        IDS,
        st.sampled_from([None, "", "ok", [], [IMAGE], [{"type": "text", "text": "ok"}]]),
    ),
    st.sampled_from(
        [
            IMAGE,
            {"type": "thinking", "thinking": "", "signature": f"gp1.{MODEL}.c2ln"},
            {"type": "thinking", "thinking": "Hm.", "signature": "no base64"},
            {"type": "redacted_thinking", "data": "eA=="},
            {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {}},
            {"type": "web_search_tool_result", "tool_use_id": "s1", "content": [1, {"url": 2}]},
            {"type": "tool_reference", "tool_name": "g"},
            {"type": "compaction", "content": None},
        ]
    ),
)
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {
            "role": st.sampled_from(["user", "assistant", "assistant", "system"]),
            "content": st.sampled_from(["", "Hm."]) | st.lists(BLOCKS, max_size=4),
        }
    ),
    min_size=1,
    max_size=6,
)


@given(MESSAGES, st.sampled_from([MODEL, "gemini-2.5-flash", "gemma-3-27b-it"]))
@settings(max_examples=300)
def test_any_conversation_becomes_turns_that_gemini_takes(messages, model):
    """The rules of the simulator at its strictest: order, pairs, signatures, last turn."""
    try:
        contents = sent(model, messages=messages)["contents"]
    except InvalidRequest:
        return
    if model == MODEL:
        assert contents[-1]["role"] == "user"
    for place, turn in enumerate(contents):
        assert turn["parts"]
        assert all(part for part in turn["parts"])
        calls = [part for part in turn["parts"] if "functionCall" in part]
        if not calls:
            continue
        assert turn["role"] == "model"
        assert place > 0
        if model == MODEL:
            assert any("thoughtSignature" in part for part in calls)
        results = contents[place + 1]["parts"]
        assert contents[place + 1]["role"] == "user"
        called = [part["functionCall"].get("id") for part in calls]
        assert [part["functionResponse"].get("id") for part in results] == called
