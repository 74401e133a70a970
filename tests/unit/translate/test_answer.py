"""Unary answers: what becomes of them."""

import json
from itertools import count

import pytest
from fakes.openai_errors import seen

from gemproxy.core.errors import UnusableAnswer, UpstreamRejected
from gemproxy.providers.gemini.wire.answers import decode_answer
from gemproxy.translate.openai_chat__gemini.answer import to_openai
from gemproxy.translate.openai_chat__gemini.context import AnswerContext
from gemproxy.translate.shared.continuation import continuation_token
from gemproxy.translate.shared.signatures import (
    RememberedCall,
    SignatureStore,
    call_key,
    call_mark,
)


def candidate(*parts, finish="STOP", **fields):
    return {"content": {"parts": list(parts)}, "finishReason": finish, **fields}


def text(value, **fields):
    return {"text": value, **fields}


def call(name, args=None, **fields):
    return {"functionCall": {"name": name, **({} if args is None else {"args": args}), **fields}}


def answer(*candidates, **fields):
    return {"candidates": list(candidates), "responseId": "abc", **fields}


def mark(name):
    return call_mark(name, "{}")


def complete(*answers, signatures=None, **context):
    numbers = count(1)
    return to_openai(
        [decode_answer(json.dumps(each, indent=2).encode()) for each in answers],
        AnswerContext(model="asked-model", **context),
        created=1700,
        new_id=lambda: f"call_{next(numbers)}",
        signatures=signatures if signatures is not None else SignatureStore(),
    )


def body(*answers, **context):
    return json.loads(complete(*answers, **context).body)


def choice(*candidates, **context):
    return body(answer(*candidates), **context)["choices"][0]


def message(*parts, **context):
    return choice(candidate(*parts), **context)["message"]


# --- the envelope ---------------------------------------------------------------------------------


def test_plain_answer_becomes_a_whole_completion():
    usage = {"promptTokenCount": 3, "candidatesTokenCount": 2, "totalTokenCount": 5}
    completed = complete(
        answer(candidate(text("Hi.")), usageMetadata={**usage, "serviceTier": "flex"})
    )
    completion = json.loads(completed.body)
    assert completion.pop("usage")["total_tokens"] == 5
    assert completion == {
        "id": "chatcmpl-abc",
        "object": "chat.completion",
        "created": 1700,
        "model": "asked-model",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hi.", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "service_tier": "flex",
        "system_fingerprint": None,
    }
    assert completed.usage.total == 5
    assert completed.response_id == "abc"
    assert completed.finish_reason == "stop"
    assert not completed.blocked
    assert not completed.empty


def test_usage_is_always_there():
    assert body(answer(candidate(text("x"))))["usage"]["total_tokens"] == 0


def test_candidates_become_choices_by_their_index():
    choices = body(
        answer(candidate(text("second"), index=1), candidate(text("first"), finish="MAX_TOKENS"))
    )["choices"]
    assert [(each["index"], each["message"]["content"]) for each in choices] == [
        (0, "first"),
        (1, "second"),
    ]
    assert [each["finish_reason"] for each in choices] == ["length", "stop"]


def test_unknown_fields_and_nulls_are_tolerated():
    odd = {
        "content": {"role": None, "parts": [{"text": "x", "thought": None, "hologram": {"a": 1}}]},
        "finishReason": "STOP",
        "index": None,
        "groundingMetadata": None,
        "citationMetadata": {"citations": None},
        "safetyRatings": None,
    }
    assert choice(odd)["message"]["content"] == "x"
    odd = answer(odd, promptFeedback=None, usageMetadata=None, error=None, modelStatus={})
    assert body(odd)["choices"][0]["message"]["content"] == "x"


def test_array_of_answers_is_read_as_one():
    chunks = [
        answer(candidate(text("a"), finish=None), usageMetadata={"promptTokenCount": 1}),
        answer(candidate(text("b")), responseId="later", usageMetadata={"promptTokenCount": 2}),
        {"usageMetadata": {"trafficType": "ON_DEMAND"}},
    ]
    completion = body(chunks)
    assert completion["choices"][0]["message"]["content"] == "ab"
    assert completion["usage"]["prompt_tokens"] == 2
    assert completion["id"] == "chatcmpl-abc"


@pytest.mark.parametrize(
    "garbage",
    [b"", b"<html></html>", b"12", b'"x"', b'{"candidates": 5}', b"[5]", b'{"candidates": [{"co'],
)
def test_what_is_no_answer_is_unusable(garbage):
    with pytest.raises(UnusableAnswer):
        decode_answer(garbage)


@pytest.mark.parametrize("depth_bomb", [b"[" * 100_000, b'{"a":' * 100_000])
def test_depth_bomb_is_unusable(depth_bomb):
    with pytest.raises(UnusableAnswer):
        decode_answer(depth_bomb)


def test_broken_characters_in_arguments_are_unusable():
    part = b'{"functionCall":{"name":"f","args":{"a":"\xff"}}}'
    broken = b'{"candidates":[{"content":{"parts":[' + part + b"]}}]}"
    with pytest.raises(UnusableAnswer):
        to_openai(
            [decode_answer(broken)],
            AnswerContext(model="m"),
            created=1,
            new_id=lambda: "call_1",
            signatures=SignatureStore(),
        )


# --- content --------------------------------------------------------------------------------------


def test_texts_are_joined_and_thoughts_stand_apart():
    made = message(text("Hm. ", thought=True), text("A"), text("Well. ", thought=True), text("B"))
    assert made["content"] == "AB"
    assert made["reasoning_content"] == "Hm. Well. "


def test_image_becomes_a_data_url():
    made = message(
        text("Look:"),
        {"inlineData": {"mimeType": "image/png", "data": "iVBO"}},
        {"inlineData": {"mimeType": "image/jpeg", "data": "/9j/"}},
    )
    assert made["content"] == "Look:"
    assert made["images"] == [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBO"}, "index": 0},
        {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,/9j/"}, "index": 1},
    ]


def test_image_that_is_only_a_draft_of_a_thought_is_left_out():
    assert "images" not in message(
        {"inlineData": {"mimeType": "image/png", "data": "iVBO"}, "thought": True}, text("x")
    )


def test_sound_becomes_audio():
    kind = "audio/L16;codec=pcm;rate=24000"
    made = message(
        {"inlineData": {"mimeType": kind, "data": "AAE="}},
        {"inlineData": {"mimeType": kind, "data": "AgM="}},
    )
    assert made["audio"] == {
        "id": "audio_abc",
        "data": "AAECAw==",
        "expires_at": 1700,
        "transcript": "",
        "mime_type": kind,
    }


def test_broken_base64_of_sound_is_unusable():
    blob = {"inlineData": {"mimeType": "audio/wav", "data": "ä"}}
    with pytest.raises(UnusableAnswer):
        complete(answer(candidate(blob, blob)))


def test_failed_code_says_so():
    made = message(
        {"executableCode": {"language": 1, "code": "1/0"}},
        {"codeExecutionResult": {"outcome": 2, "output": "oops"}},
    )
    assert made["content"] == "\n```python\n1/0\n```\n\n```\nOUTCOME_FAILED\noops\n```\n"


def test_fence_is_longer_than_any_in_the_code():
    made = message({"executableCode": {"code": "s = '````'"}})
    assert made["content"] == "\n`````\ns = '````'\n`````\n"


# --- calls ----------------------------------------------------------------------------------------


def test_call_becomes_a_tool_call_and_content_is_null():
    made = choice(candidate(call("get", {"city": "Köln"})))
    assert made["finish_reason"] == "tool_calls"
    assert made["message"] == {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "tool_calls": [
            {
                "id": "call_1",
                "type": "function",
                "function": {"name": "get", "arguments": '{"city":"K\\u00f6ln"}'},
            }
        ],
    }


def test_null_arguments_are_an_empty_object():
    part = {"functionCall": {"name": "f", "args": None}}
    assert message(part)["tool_calls"][0]["function"]["arguments"] == "{}"


def test_arguments_keep_their_keys_and_numbers():
    raw = b'{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","args":\n'
    raw += b'{ "z" : 1.0,\n  "a": [ 1, 2.50, 1e3 ], "m": 12345678901234567890 }}}]}}]}'
    completed = to_openai(
        [decode_answer(raw)],
        AnswerContext(model="m"),
        created=1,
        new_id=lambda: "call_1",
        signatures=SignatureStore(),
    )
    made = json.loads(completed.body)["choices"][0]["message"]["tool_calls"][0]
    assert made["function"]["arguments"] == '{"z":1.0,"a":[1,2.50,1e3],"m":12345678901234567890}'


def test_calls_are_remembered_with_their_signatures():
    signatures = SignatureStore()
    complete(
        answer(candidate({**call("f"), "thoughtSignature": "sig=="}, call("g", id="theirs"))),
        signatures=signatures,
    )
    ours, theirs = (call_key(*each) for each in [("call_1", mark("f")), ("theirs", mark("g"))])
    assert signatures.recall(ours) == RememberedCall("sig==", issued_upstream=False)
    assert signatures.recall(theirs) == RememberedCall(None, issued_upstream=True)


def test_changed_names_are_changed_back():
    made = message(call("my_tool"), call("other"), tool_names={"my_tool": "my tool!"})
    assert [each["function"]["name"] for each in made["tool_calls"]] == ["my tool!", "other"]


def test_without_parallel_calls_only_the_first_is_kept():
    signatures = SignatureStore()
    completed = complete(
        answer(candidate(call("f"), call("g"))), parallel_tool_calls=False, signatures=signatures
    )
    calls = json.loads(completed.body)["choices"][0]["message"]["tool_calls"]
    assert [each["function"]["name"] for each in calls] == ["f"]
    assert len(signatures) == 1


def test_legacy_functions_get_one_function_call():
    made = choice(candidate(call("f", {"a": 1}), call("g")), legacy_functions=True)
    assert made["finish_reason"] == "function_call"
    assert made["message"]["function_call"] == {"name": "f", "arguments": '{"a":1}'}
    assert "tool_calls" not in made["message"]
    assert made["message"]["content"] is None


# --- endings --------------------------------------------------------------------------------------

FILTERED = [
    "SAFETY",
    "RECITATION",
    "LANGUAGE",
    "BLOCKLIST",
    "PROHIBITED_CONTENT",
    "SPII",
    "MODEL_ARMOR",
    "IMAGE_SAFETY",
    "IMAGE_PROHIBITED_CONTENT",
    "IMAGE_RECITATION",
    "IMAGE_OTHER",
    "NO_IMAGE",
    "ESCALATION",
    "PUP_LIMITED_DISABLED",
]
WRONG = [
    "MALFORMED_FUNCTION_CALL",
    "MALFORMED_RESPONSE",
    "UNEXPECTED_TOOL_CALL",
    "TOO_MANY_TOOL_CALLS",
    "OTHER",
    "FINISH_REASON_UNSPECIFIED",
    "INVENTED_LATER",
    None,
    5,
    10,
    99,
]


@pytest.mark.parametrize(
    ("finish", "expected"),
    [
        ("STOP", "stop"),
        (1, "stop"),
        ("MAX_TOKENS", "length"),
        (2, "length"),
        ("CONTINUATION", "length"),
        (3, "content_filter"),
        *((finish, "content_filter") for finish in FILTERED),
        *((finish, "stop") for finish in [*WRONG, "MISSING_THOUGHT_SIGNATURE"]),
    ],
)
def test_finish_reason_of_an_answer_with_text(finish, expected):
    made = choice(candidate(text("some"), finish=finish))
    assert made["finish_reason"] == expected
    assert made["message"]["content"] == "some"


@pytest.mark.parametrize(
    ("finish", "expected"),
    [
        ("STOP", "tool_calls"),
        ("MAX_TOKENS", "length"),
        ("SAFETY", "content_filter"),
        *((finish, "tool_calls") for finish in WRONG),
    ],
)
def test_finish_reason_of_an_answer_with_a_call(finish, expected):
    assert choice(candidate(call("f"), finish=finish))["finish_reason"] == expected


@pytest.mark.parametrize("finish", WRONG)
@pytest.mark.parametrize("parts", [[], [text("")], [text("hm", thought=True)]])
def test_wrong_ending_without_content_is_unusable(finish, parts):
    with pytest.raises(UnusableAnswer):
        complete(answer(candidate(*parts, finish=finish)))


def test_one_usable_choice_is_an_answer():
    choices = body(
        answer(candidate(finish="MALFORMED_FUNCTION_CALL"), candidate(text("x"), index=1))
    )["choices"]
    assert [each["message"]["content"] for each in choices] == ["", "x"]


@pytest.mark.parametrize(
    "nothing", [{}, {"candidates": []}, {"candidates": [], "promptFeedback": {}}, {"this": [1]}]
)
def test_no_candidates_and_no_block_is_unusable(nothing):
    with pytest.raises(UnusableAnswer, match="no candidates"):
        complete(nothing)


def test_error_object_in_place_of_an_answer_is_unusable():
    with pytest.raises(UnusableAnswer):
        complete({"error": {"code": 500, "message": "oops"}})


@pytest.mark.parametrize("finish", FILTERED)
def test_blocked_candidate_names_the_rule(finish):
    completed = complete(answer({"finishReason": finish, "finishMessage": "Because."}))
    made = json.loads(completed.body)["choices"][0]
    assert made["finish_reason"] == "content_filter"
    assert made["message"]["content"] is None
    assert made["message"]["refusal"] == f"Gemini blocked the answer: {finish} (Because.)"
    assert completed.blocked
    assert not completed.empty


@pytest.mark.parametrize(
    ("feedback", "refusal"),
    [
        ({"blockReason": "SAFETY"}, "Gemini blocked the prompt: SAFETY"),
        (
            {"blockReasonMessage": "No."},
            "Gemini blocked the prompt: BLOCK_REASON_UNSPECIFIED (No.)",
        ),
        ({"blockReason": 4}, "Gemini blocked the prompt: PROHIBITED_CONTENT"),
        (
            {"blockReason": "JAILBREAK", "blockReasonMessage": "No."},
            "Gemini blocked the prompt: JAILBREAK (No.)",
        ),
    ],
)
def test_blocked_prompt_is_a_choice_that_refuses(feedback, refusal):
    completed = complete({"promptFeedback": feedback})
    (made,) = json.loads(completed.body)["choices"]
    assert made["message"] == {"role": "assistant", "content": None, "refusal": refusal}
    assert made["finish_reason"] == "content_filter"
    assert completed.blocked


def test_missing_thought_signature_is_the_clients_fault():
    with pytest.raises(UpstreamRejected) as caught:
        complete(answer({"finishReason": "MISSING_THOUGHT_SIGNATURE"}))
    assert seen(caught.value).status == 400
    assert caught.value.param == "messages"


@pytest.mark.parametrize(
    "parts", [[], [text("")], [text("hm", thought=True)], [{"toolCall": {"id": "1"}}]]
)
def test_stop_with_nothing_is_empty(parts):
    completed = complete(answer(candidate(*parts)))
    assert completed.empty
    assert json.loads(completed.body)["choices"][0]["message"]["content"] == ""


@pytest.mark.parametrize(
    "made",
    [
        candidate(text("x")),
        candidate(call("f")),
        candidate({"inlineData": {"mimeType": "image/png", "data": "iVBO"}}),
        candidate(finish="MAX_TOKENS"),
    ],
)
def test_anything_else_is_not_empty(made):
    assert not complete(answer(made)).empty


UNKNOWN_KINDS = [
    {"mediaProcessing": {"state": "DONE"}},
    {"hologram": {"depth": 3}, "thoughtSignature": "c2ln"},
    {"fileData": {"fileUri": "https://files.example/1"}},
    {"inlineData": {"mimeType": "video/mp4", "data": "AAAA"}},
]


@pytest.mark.parametrize("part", UNKNOWN_KINDS)
@pytest.mark.parametrize("others", [[], [text("")], [text("hm", thought=True)]])
def test_a_part_of_an_unknown_kind_is_an_answer(part, others):
    completed = complete(answer(candidate(*others, part)))
    assert not completed.empty
    made = json.loads(completed.body)["choices"][0]
    assert (made["message"]["content"], made["finish_reason"]) == ("", "stop")


@pytest.mark.parametrize("part", UNKNOWN_KINDS[:2])
def test_a_part_of_an_unknown_kind_is_an_answer_in_an_array_and_beside_large_images(part):
    whole = answer(candidate(part))
    assert not complete([whole, answer(candidate(text("")))]).empty
    large = {"inlineData": {"mimeType": "image/png", "data": "A" * 100_000}}
    assert not complete(answer(candidate(part), candidate(large, index=1))).empty


@pytest.mark.parametrize(
    "part", [{}, {"thoughtSignature": "c2ln"}, {"videoMetadata": {}}, {"toolResponse": {}}]
)
def test_a_part_with_nothing_in_it_is_none(part):
    assert complete(answer(candidate(part))).empty


def test_the_text_of_a_transcription_is_content():
    spoken = {"audioTranscription": {"text": "good day", "languageCode": "en"}}
    completed = complete(answer(candidate(text(""), spoken)))
    assert not completed.empty
    assert json.loads(completed.body)["choices"][0]["message"]["content"] == "good day"
    two = complete(answer(candidate(text("She said: "), spoken, {"audioTranscription": {}})))
    said = json.loads(two.body)["choices"][0]["message"]["content"]
    assert said == "She said: good day"
    assert complete(answer(candidate({"audioTranscription": {"text": ""}}))).empty


def test_answer_with_one_choice_that_says_something_is_not_empty():
    assert not complete(answer(candidate(), candidate(text("x"), index=1))).empty


# --- long answers ---------------------------------------------------------------------------------


def test_continuation_token_belongs_to_its_finish_reason():
    def token(finish):
        made = answer(candidate(text("x"), finish=finish, continuationToken="t1"))
        return continuation_token(decode_answer(json.dumps(made).encode()))

    assert token("CONTINUATION") == "t1"
    assert token("STOP") is None
    assert continuation_token(decode_answer(b"{}")) is None


# --- log probabilities ----------------------------------------------------------------------------

LOGPROBS = {
    "chosenCandidates": [
        {"token": "ä", "logProbability": -0.5, "tokenId": 3},
        {"token": "b"},
    ],
    "topCandidates": [{"candidates": [{"token": "c", "logProbability": -2.0}]}],
}


def test_log_probabilities_are_given_where_asked_for():
    made = choice(candidate(text("äb"), logprobsResult=LOGPROBS), logprobs=True)
    assert made["logprobs"] == {
        "content": [
            {
                "token": "ä",
                "logprob": -0.5,
                "bytes": [195, 164],
                "top_logprobs": [{"token": "c", "logprob": -2.0, "bytes": [99]}],
            },
            {"token": "b", "logprob": 0.0, "bytes": [98], "top_logprobs": []},
        ],
        "refusal": None,
    }


def test_log_probabilities_that_nobody_asked_for_are_left_out():
    assert choice(candidate(text("äb"), logprobsResult=LOGPROBS))["logprobs"] is None


@pytest.mark.parametrize("field", ["id", "signature"])
def test_a_secret_that_comes_back_with_a_call_is_neither_kept_nor_passed_on(field):
    """Ids and signatures of calls are stored in clear, for the next turn."""
    secret = "AIzaSecret"
    call = {"functionCall": {"name": "f", "id": secret if field == "id" else "theirs"}}
    if field == "signature":
        call["thoughtSignature"] = secret
    body = json.dumps(
        {"candidates": [{"content": {"parts": [call]}, "finishReason": "STOP"}]}
    ).encode()
    signatures = SignatureStore()
    completed = to_openai(
        [decode_answer(body)],
        AnswerContext("m", scrub=lambda text: text.replace(secret, "…")),
        created=1,
        new_id=lambda: "call_1",
        signatures=signatures,
    )
    assert secret.encode() not in completed.body
    assert secret not in repr(dict(signatures.items()))
    call_id = "call_1" if field == "id" else "theirs"
    assert list(dict(signatures.items())) == [call_key(call_id, mark("f"))]
