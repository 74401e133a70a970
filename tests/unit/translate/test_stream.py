"""Streams: chunks in, chunks out."""

import json
from itertools import count

import pytest
from fakes.openai_errors import seen

from gemproxy.core.errors import ErrorInAnswer, StreamIncomplete, UnusableAnswer, UpstreamRejected
from gemproxy.translate.openai_chat__gemini.context import AnswerContext
from gemproxy.translate.openai_chat__gemini.stream import ChatStreamTranslator
from gemproxy.translate.shared.signatures import (
    RememberedCall,
    SignatureStore,
    call_key,
    call_mark,
)


def translator(signatures=None, **context):
    numbers = count(1)
    return ChatStreamTranslator(
        AnswerContext(model="asked-model", **context),
        created=1700,
        new_id=lambda: f"call_{next(numbers)}",
        signatures=signatures if signatures is not None else SignatureStore(),
    )


def chunk(*parts, finish=None, usage=None, index=None, **fields):
    candidate = {"content": {"parts": list(parts)}, "index": index, **fields}
    if finish:
        candidate["finishReason"] = finish
    whole = {"candidates": [candidate], "responseId": "abc"}
    if usage:
        whole["usageMetadata"] = usage
    return json.dumps(whole).encode()


def text(value, **fields):
    return {"text": value, **fields}


def call(name, args=None, **fields):
    return {"functionCall": {"name": name, "args": args or {}, **fields}}


def events(sent):
    """The objects of the events; [DONE] as it is."""
    pieces = sent.decode().split("\n\n")
    assert pieces.pop() == ""
    data = [piece.removeprefix("data: ") for piece in pieces]
    return [each if each == "[DONE]" else json.loads(each) for each in data]


def run(*payloads, **context):
    """All events of a stream that ended well."""
    stream = translator(**context)
    sent = b"".join(stream.receive(payload) for payload in payloads) + stream.finish()
    *chunks, done = events(sent)
    assert done == "[DONE]"
    return chunks


def deltas(chunks, index=0):
    """Deltas of one choice, and its finish reason as the last item."""
    choices = [choice for each in chunks for choice in each["choices"] if choice["index"] == index]
    assert [choice["finish_reason"] is None for choice in choices] == [True] * (
        len(choices) - 1
    ) + [False]
    return [choice["delta"] for choice in choices[:-1]] + [choices[-1]["finish_reason"]]


ROLE = {"role": "assistant", "content": ""}


# --- order and shape ------------------------------------------------------------------------------


def test_plain_stream_has_role_content_finish_and_done():
    chunks = run(chunk(text("Hel")), chunk(text("lo")), chunk(text("."), finish="STOP"))
    assert deltas(chunks) == [
        ROLE,
        {"content": "Hel"},
        {"content": "lo"},
        {"content": "."},
        "stop",
    ]
    assert chunks[0] == {
        "id": "chatcmpl-abc",
        "object": "chat.completion.chunk",
        "created": 1700,
        "model": "asked-model",
        "system_fingerprint": None,
        "choices": [{"index": 0, "delta": ROLE, "logprobs": None, "finish_reason": None}],
    }
    assert chunks[-1]["choices"][0]["delta"] == {}
    assert {each["id"] for each in chunks} == {"chatcmpl-abc"}


def test_the_first_id_is_kept():
    first = b'{"candidates": [{"content": {"role": "model"}}], "responseId": "first"}'
    chunks = run(first, chunk(text("a"), finish="STOP"))
    assert {each["id"] for each in chunks} == {"chatcmpl-first"}


def test_special_characters_arrive_whole():
    value = 'quote " backslash \\ line\n\u2028 tab\t ä 😀 </script>'
    chunks = run(chunk(text("x")), chunk(text(value), finish="STOP"))
    assert deltas(chunks)[2] == {"content": value}


def test_thoughts_come_before_the_text_of_their_chunk():
    chunks = run(
        chunk(text("Hm.", thought=True)),
        chunk(text("So", thought=True), text("Yes")),
        chunk(finish="STOP"),
    )
    assert deltas(chunks) == [
        ROLE,
        {"reasoning_content": "Hm."},
        {"reasoning_content": "So"},
        {"content": "Yes"},
        "stop",
    ]


def test_usage_is_told_once_where_it_was_asked_for():
    usage = {"promptTokenCount": 2, "totalTokenCount": 2}
    last = {"promptTokenCount": 3, "candidatesTokenCount": 4, "totalTokenCount": 7}
    chunks = run(
        chunk(text("a"), usage=usage),
        chunk(text("b"), finish="STOP", usage=last),
        b'{"usageMetadata": {"trafficType": "ON_DEMAND"}}',
        include_usage=True,
    )
    assert all(each["usage"] is None for each in chunks[:-1])
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["total_tokens"] == 7
    assert chunks[-1]["id"] == "chatcmpl-abc"


def test_usage_without_the_prompts_tokens_counts_too():
    last = {"candidatesTokenCount": 4, "totalTokenCount": 4}
    chunks = run(
        chunk(text("a"), usage={"promptTokenCount": 2}),
        chunk(text("b"), finish="STOP", usage=last),
        include_usage=True,
    )
    assert chunks[-1]["usage"]["completion_tokens"] == 4


def test_usage_is_not_mentioned_otherwise():
    assert not any("usage" in each for each in run(chunk(text("a"), finish="STOP")))


def test_service_tier_is_echoed():
    usage = {"promptTokenCount": 2, "serviceTier": "priority"}
    chunks = run(chunk(text("a"), usage=usage), chunk(finish="STOP"))
    assert {each["service_tier"] for each in chunks} == {"priority"}


def test_code_and_media_are_given_out_as_in_unary_answers():
    chunks = run(
        chunk({"executableCode": {"language": "PYTHON", "code": "1"}}),
        chunk({"inlineData": {"mimeType": "image/png", "data": "iVBO"}}),
        chunk({"inlineData": {"mimeType": "image/png", "data": "AAAA"}}, finish="STOP"),
    )
    made = deltas(chunks)
    assert made[1] == {"content": "\n```python\n1\n```\n"}
    assert [each["images"][0]["index"] for each in made[2:4]] == [0, 1]
    assert made[2]["images"][0]["image_url"]["url"] == "data:image/png;base64,iVBO"


def test_sound_names_itself_once():
    blob = {"inlineData": {"mimeType": "audio/L16;rate=24000", "data": "AAE="}}
    made = deltas(run(chunk(blob), chunk(blob, finish="STOP")))
    assert made[1]["audio"] == {
        "data": "AAE=",
        "id": "audio_abc",
        "expires_at": 1700,
        "transcript": "",
        "mime_type": "audio/L16;rate=24000",
    }
    assert made[2]["audio"] == {"data": "AAE="}


def test_log_probabilities_stand_with_their_text():
    result = {"chosenCandidates": [{"token": "a", "logProbability": -1.5}]}
    chunks = run(
        chunk(text("a"), logprobsResult=result),
        chunk(text("b"), finish="STOP"),
        logprobs=True,
    )
    choice = chunks[1]["choices"][0]
    assert choice["delta"] == {"content": "a"}
    assert choice["logprobs"]["content"][0]["logprob"] == -1.5
    assert chunks[2]["choices"][0]["logprobs"] is None


def test_sources_come_before_the_finish_reason():
    metadata = {
        "groundingChunks": [{"web": {"uri": "https://a.example/", "title": "A"}}],
        "groundingSupports": [
            {"segment": {"startIndex": 0, "endIndex": 3}, "groundingChunkIndices": [0]}
        ],
    }
    later = {
        "groundingChunks": [{"web": {"uri": "https://b.example/", "title": "B"}}],
        "groundingSupports": [
            {"segment": {"startIndex": 3, "endIndex": 6}, "groundingChunkIndices": [1]}
        ],
    }
    made = deltas(
        run(
            chunk(text("Öl")),
            chunk(text("éa"), groundingMetadata=metadata),
            chunk(text("b")),
            chunk(finish="STOP", groundingMetadata=later),
        )
    )
    citations = made[-2]["annotations"]
    assert made[-1] == "stop"
    assert [each["index"] for each in citations] == [0, 1]
    places = [
        (each["url_citation"]["start_index"], each["url_citation"]["end_index"])
        for each in citations
    ]
    assert places == [(0, 2), (2, 4)]
    assert citations[1]["url_citation"]["url"] == "https://b.example/"


# --- calls ----------------------------------------------------------------------------------------


def test_each_call_is_one_delta():
    signatures = SignatureStore()
    stream = translator(signatures, tool_names={"safe": "un safe"})
    sent = stream.receive(
        chunk({**call("f", {"a": 1}), "thoughtSignature": "sig"}, call("safe", id="theirs"))
    )
    sent += stream.receive(chunk(call("h")))
    sent += stream.receive(chunk(text(""), finish="STOP")) + stream.finish()
    made = deltas(events(sent)[:-1])
    assert made[1]["tool_calls"] == [
        {
            "index": 0,
            "id": "call_1",
            "type": "function",
            "function": {"name": "f", "arguments": '{"a":1}'},
            "extra_content": {"google": {"thought_signature": "sig"}},
        }
    ]
    assert made[2]["tool_calls"] == [
        {
            "index": 1,
            "id": "theirs",
            "type": "function",
            "function": {"name": "un safe", "arguments": "{}"},
        }
    ]
    assert made[3]["tool_calls"][0]["index"] == 2
    assert made[4:] == ["tool_calls"]
    ours = call_key("call_1", call_mark("f", '{"a":1}'))
    theirs = call_key("theirs", call_mark("safe", "{}"))
    assert signatures.recall(ours) == RememberedCall("sig", issued_upstream=False)
    assert signatures.recall(theirs) == RememberedCall(None, issued_upstream=True)


def test_without_parallel_calls_only_the_first_is_given_out():
    made = deltas(
        run(chunk(call("f")), chunk(call("g")), chunk(finish="STOP"), parallel_tool_calls=False)
    )
    assert [each["tool_calls"][0]["function"]["name"] for each in made[1:-1]] == ["f"]


def test_legacy_functions_get_one_function_call():
    made = deltas(run(chunk(call("f", {"a": 1}), call("g"), finish="STOP"), legacy_functions=True))
    assert made == [ROLE, {"function_call": {"name": "f", "arguments": '{"a":1}'}}, "function_call"]


def pieces(*partial, **fields):
    return {"functionCall": {"partialArgs": list(partial), "willContinue": True, **fields}}


def test_call_that_comes_in_pieces_is_given_out_whole():
    begin = {"functionCall": {"name": "f", "willContinue": True}, "thoughtSignature": "sig"}
    made = deltas(
        run(
            chunk(begin),
            chunk(pieces({"jsonPath": "$.city", "stringValue": "Bos", "willContinue": True})),
            chunk(pieces({"jsonPath": "$.city", "stringValue": "ton"})),
            chunk(pieces({"jsonPath": "$.list[0].n", "numberValue": 2})),
            chunk(pieces({"jsonPath": "$.list[1]", "boolValue": False})),
            chunk(pieces({"jsonPath": "$['odd key']", "nullValue": None})),
            chunk({"functionCall": {}}),
            chunk(begin),
            chunk({"functionCall": {}}, finish="STOP"),
        )
    )
    first, second = (each["tool_calls"][0] for each in made[1:-1])
    assert json.loads(first["function"]["arguments"]) == {
        "city": "Boston",
        "list": [{"n": 2}, False],
        "odd key": None,
    }
    assert first["extra_content"]["google"]["thought_signature"] == "sig"
    assert second["function"] == {"name": "f", "arguments": "{}"}
    assert made[-1] == "tool_calls"


def test_pieces_that_fit_nowhere_break_nothing():
    begin = {"functionCall": {"name": "f", "willContinue": True}}
    made = deltas(
        run(
            chunk({"functionCall": {}}),
            chunk(pieces({"jsonPath": "$.lost", "stringValue": "x"})),
            chunk(begin),
            chunk(pieces({"jsonPath": "$.a", "stringValue": "x"}, {"stringValue": "y"})),
            chunk(pieces({"jsonPath": "$.a.b", "stringValue": "x"})),
            chunk(pieces({"jsonPath": "$.c[7]", "stringValue": "x"}, {"jsonPath": "$[0]"})),
            chunk(pieces({"jsonPath": "$.d[0]", "numberValue": 1})),
            chunk(pieces({"jsonPath": "$.d.e", "numberValue": 1})),
            chunk(text("bye")),
            chunk(call("g")),
            chunk(finish="STOP"),
        )
    )
    calls = [each["tool_calls"][0] for each in made[1:-1] if "tool_calls" in each]
    assert [(each["index"], each["function"]["name"]) for each in calls] == [(0, "f"), (1, "g")]
    assert json.loads(calls[0]["function"]["arguments"]) == {"a": "x", "c": [], "d": [1]}


def test_call_whose_end_marker_is_missing_is_given_out_at_the_end():
    stream = translator()
    assert stream.receive(chunk({"functionCall": {"name": "f", "willContinue": True}})) == b""
    assert stream.receive(chunk(finish="STOP")) == b""
    made = deltas(events(stream.finish())[:-1])
    assert made[1]["tool_calls"][0]["function"]["name"] == "f"
    assert made[-1] == "tool_calls"


# --- several choices ------------------------------------------------------------------------------


def test_choices_are_told_apart_by_index_and_begin_in_order():
    chunks = run(
        chunk(text("b1"), index=1),
        chunk(text("a1"), index=0),
        chunk(text("b2"), index=1, finish="MAX_TOKENS"),
        chunk(text("a2"), finish="STOP"),
        choices=2,
    )
    assert [each["choices"][0]["index"] for each in chunks] == [0, 1, 1, 0, 1, 0, 0, 1]
    assert deltas(chunks, 0) == [ROLE, {"content": "a1"}, {"content": "a2"}, "stop"]
    assert deltas(chunks, 1) == [ROLE, {"content": "b1"}, {"content": "b2"}, "length"]


def test_candidates_in_one_chunk_are_all_read():
    both = json.dumps(
        {
            "candidates": [
                {"content": {"parts": [{"text": "a"}]}, "finishReason": "STOP"},
                {"content": {"parts": [{"text": "b"}]}, "finishReason": "STOP", "index": 1},
            ]
        }
    ).encode()
    chunks = run(both, choices=2)
    assert deltas(chunks, 0) == [ROLE, {"content": "a"}, "stop"]
    assert deltas(chunks, 1) == [ROLE, {"content": "b"}, "stop"]


def test_choice_that_never_ended_makes_the_stream_incomplete():
    stream = translator(choices=2)
    stream.receive(chunk(text("a"), finish="STOP"))
    stream.receive(chunk(text("b"), index=1))
    with pytest.raises(StreamIncomplete):
        stream.finish()


def test_absurd_index_does_not_fill_the_memory():
    chunks = run(chunk(text("a"), finish="STOP", index=10**9), chunk(text("b"), finish="STOP"))
    assert len(chunks) == 6


# --- when it starts -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "payload",
    [
        b"{}",
        b'{"usageMetadata": {"promptTokenCount": 3}}',
        b'{"candidates": []}',
        b'{"candidates": [{"content": {"role": "model"}}]}',
        b'{"promptFeedback": {"safetyRatings": []}}',
        b"[DONE]",
        chunk(text("")),
        chunk(text("", thoughtSignature="sig")),
        chunk(finish="STOP"),
        chunk(text("", thought=True), finish="MALFORMED_FUNCTION_CALL"),
    ],
)
def test_chunk_with_nothing_in_it_does_not_start_the_stream(payload):
    stream = translator()
    assert stream.receive(payload) == b""
    assert not stream.started


@pytest.mark.parametrize(
    "payload",
    [
        chunk(text("x")),
        chunk(text("x", thought=True)),
        chunk(call("f")),
        chunk({"inlineData": {"mimeType": "image/png", "data": "iVBO"}}),
        chunk({"executableCode": {"code": "1"}}),
        chunk(finish="SAFETY"),
        b'{"promptFeedback": {"blockReason": "OTHER"}}',
    ],
)
def test_chunk_with_content_or_a_block_starts_the_stream(payload):
    stream = translator()
    sent = stream.receive(payload)
    assert stream.started
    assert events(sent)[0]["choices"][0]["delta"] == ROLE


# --- how it ends ----------------------------------------------------------------------------------


def test_last_finish_reason_counts_and_chunks_after_it_are_translated():
    made = deltas(
        run(
            chunk(text("a"), finish="STOP"),
            chunk(text("b"), finish="MAX_TOKENS"),
            chunk(text("c")),
            b'{"usageMetadata": {"promptTokenCount": 3}}',
        )
    )
    assert made == [ROLE, {"content": "a"}, {"content": "b"}, {"content": "c"}, "length"]


def test_unspecified_reason_does_not_undo_a_real_one():
    unspecified = "FINISH_REASON_UNSPECIFIED"
    made = deltas(run(chunk(text("a"), finish="MAX_TOKENS"), chunk(finish=unspecified)))
    assert made[-1] == "length"


def test_call_after_the_finish_reason_still_counts():
    assert deltas(run(chunk(text("a"), finish="STOP"), chunk(call("f"))))[-1] == "tool_calls"


@pytest.mark.parametrize(
    "payloads", [[], [b"{}"], [chunk(text("a"))], [chunk(text("a")), chunk(text("b"))]]
)
def test_stream_without_a_finish_reason_is_incomplete(payloads):
    stream = translator()
    for payload in payloads:
        stream.receive(payload)
    with pytest.raises(StreamIncomplete) as caught:
        stream.finish()
    assert seen(caught.value).code == "stream_incomplete"


@pytest.mark.parametrize("finish", ["MALFORMED_FUNCTION_CALL", "OTHER", "INVENTED_LATER"])
def test_wrong_ending_is_unusable_while_nothing_was_sent(finish):
    stream = translator()
    stream.receive(chunk(finish=finish))
    with pytest.raises(UnusableAnswer):
        stream.finish()
    assert not stream.started


def test_wrong_ending_after_something_was_sent_is_a_stop():
    made = deltas(run(chunk(text("a", thought=True)), chunk(finish="MALFORMED_FUNCTION_CALL")))
    assert made == [ROLE, {"reasoning_content": "a"}, "stop"]
    assert deltas(run(chunk(text("a")), chunk(finish="MALFORMED_FUNCTION_CALL")))[-1] == "stop"


def test_missing_thought_signature_is_the_clients_fault():
    stream = translator()
    stream.receive(chunk(finish="MISSING_THOUGHT_SIGNATURE", finishMessage="No signature."))
    with pytest.raises(UpstreamRejected, match="No signature"):
        stream.finish()


def test_stop_with_nothing_is_empty_and_may_still_be_shown():
    stream = translator()
    assert not stream.empty
    stream.receive(chunk(text("", thoughtSignature="sig")))
    stream.receive(chunk(finish="STOP"))
    assert stream.empty
    assert not stream.started
    assert deltas(events(stream.finish())[:-1]) == [ROLE, "stop"]


def test_length_with_nothing_is_an_answer():
    stream = translator()
    stream.receive(chunk(finish="MAX_TOKENS"))
    assert not stream.empty
    assert deltas(events(stream.finish())[:-1]) == [ROLE, "length"]


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "payload",
    [
        b'{"error": {"code": 503, "message": "busy", "status": "UNAVAILABLE"}}',
        b'[{"error": {"code": 503}}]',
        b'{\n  "error": {\n    "code": 499\n  }\n}',
    ],
)
def test_error_object_is_handed_on_as_it_came(payload):
    stream = translator()
    stream.receive(chunk(text("a")))
    with pytest.raises(ErrorInAnswer) as caught:
        stream.receive(payload)
    assert caught.value.payload == payload


@pytest.mark.parametrize("payload", [b"<html>", b'{"candidates": [{"cont', b"17", b'"x"'])
def test_what_is_no_answer_is_unusable(payload):
    with pytest.raises(UnusableAnswer):
        translator().receive(payload)


# --- long answers ---------------------------------------------------------------------------------


def hop_usage(number, prompt=1):
    """Of a hop; a later one's prompt holds what was written before."""
    return {
        "promptTokenCount": prompt,
        "candidatesTokenCount": number,
        "totalTokenCount": prompt + number,
    }


def test_long_answer_goes_on_in_the_next_hop():
    stream = translator(include_usage=True)
    sent = stream.receive(chunk(text("One, "), continuationToken="checkpoint", usage=hop_usage(1)))
    assert stream.continuation is None
    sent += stream.receive(chunk(call("f"), finish="CONTINUATION", usage=hop_usage(2)))
    assert stream.continuation == "checkpoint"
    stream.resume()
    assert stream.continuation is None
    assert stream.usage.output == 2
    with pytest.raises(StreamIncomplete):
        stream.finish()
    later = json.loads(chunk(text("two."), usage=hop_usage(10, prompt=3)))
    sent += stream.receive(json.dumps({**later, "responseId": "other"}).encode())
    sent += stream.receive(chunk(call("g"), finish="STOP", usage=hop_usage(20, prompt=3)))
    assert stream.usage.output == 22
    chunks = events(sent + stream.finish())[:-1]
    assert {each["id"] for each in chunks} == {"chatcmpl-abc"}
    made = deltas(chunks)
    assert [each.get("content") for each in made[1:-1]] == ["One, ", None, "two.", None]
    assert [each["tool_calls"][0]["index"] for each in (made[2], made[4])] == [0, 1]
    assert made[-1] == "tool_calls"
    assert chunks[-1]["usage"]["prompt_tokens"] == 1
    assert chunks[-1]["usage"]["total_tokens"] == 23


def test_a_hop_that_began_twice_is_counted_once():
    stream = translator(include_usage=True)
    stream.receive(chunk(text("One, "), finish="CONTINUATION", usage=hop_usage(2)))
    stream.resume()
    stream.receive(chunk(text(""), usage=hop_usage(7, prompt=3)))
    stream.resume(again=True)
    assert stream.usage.total == 3
    stream.receive(chunk(text("two."), finish="STOP", usage=hop_usage(9, prompt=3)))
    usage = events(stream.finish())[-2]["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (1, 11)


def test_a_hop_that_fails_for_good_leaves_a_length():
    stream = translator()
    sent = stream.receive(chunk(text("One, "), finish="CONTINUATION"))
    stream.resume()
    sent += stream.receive(chunk(text("tw")))
    stream.cut_off()
    made = deltas(events(sent + stream.finish())[:-1])
    assert made == [ROLE, {"content": "One, "}, {"content": "tw"}, "length"]


@pytest.mark.parametrize(
    "part", [{"mediaProcessing": {"state": "DONE"}}, {"hologram": {}, "thoughtSignature": "c2ln"}]
)
def test_a_part_of_an_unknown_kind_is_an_answer(part):
    stream = translator()
    sent = stream.receive(chunk(text("hm", thought=True))) + stream.receive(chunk(part))
    sent += stream.receive(chunk(text(""), finish="STOP"))
    assert not stream.empty
    assert deltas(events(sent + stream.finish())[:-1])[-1] == "stop"


def test_the_text_of_a_transcription_is_content():
    def spoken(words):
        return {"audioTranscription": {"text": words}}

    made = run(chunk(text("")), chunk(spoken("good ")), chunk(spoken("day"), finish="STOP"))
    assert deltas(made) == [ROLE, {"content": "good "}, {"content": "day"}, "stop"]


def test_a_file_that_is_cited_is_named_at_its_place_in_the_list():
    grounding = {
        "groundingChunks": [
            {"web": {"uri": "https://a.example/", "title": "A"}},
            {"retrievedContext": {"title": "notes.txt", "fileSearchStore": "fileSearchStores/x"}},
        ],
        "groundingSupports": [{"segment": {"endIndex": 3}, "groundingChunkIndices": [0, 1]}],
    }
    made = run(chunk(text("abc")), chunk(finish="STOP", groundingMetadata=grounding))
    page, file = deltas(made)[2]["annotations"]
    assert page["index"] == 0
    assert file == {"type": "file_citation", "index": 1, "filename": "notes.txt", "file_id": ""}


def test_continuation_that_is_not_followed_is_a_length():
    made = run(chunk(text("a"), finish="CONTINUATION", continuationToken="t"))
    assert deltas(made)[-1] == "length"


def test_grounding_offsets_begin_again_with_each_hop():
    def metadata(address):
        return {
            "groundingChunks": [{"web": {"uri": address}}],
            "groundingSupports": [{"segment": {"endIndex": 3}, "groundingChunkIndices": [0]}],
        }

    stream = translator()
    first = metadata("https://a.example/")
    stream.receive(chunk(text("Öl."), finish="CONTINUATION", groundingMetadata=first))
    stream.resume()
    second = metadata("https://b.example/")
    stream.receive(chunk(text("abc"), finish="STOP", groundingMetadata=second))
    made = deltas(events(stream.finish())[:-1])
    citations = [each["url_citation"] for each in made[0]["annotations"]]
    assert [(c["start_index"], c["end_index"], c["url"]) for c in citations] == [
        (0, 2, "https://a.example/"),
        (3, 6, "https://b.example/"),
    ]
