"""Long media skips the translation, and nothing but the cost tells."""

import json
import tracemalloc

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemproxy.api.openai.schema.requests import decode_chat_completion
from gemproxy.core.errors import InvalidRequest, UnusableAnswer
from gemproxy.media_bypass import MIN_BYTES, extract
from gemproxy.media_bypass import PLACEHOLDER as SPELLING
from gemproxy.providers.gemini.wire.answers import decode_answer
from gemproxy.translate.openai_chat__gemini.answer import to_openai
from gemproxy.translate.openai_chat__gemini.context import AnswerContext
from gemproxy.translate.openai_chat__gemini.request import to_gemini
from gemproxy.translate.shared.signatures import SignatureStore

LONG = "QUJD" * (MIN_BYTES // 4)
#: In an ignored parameter it keeps a body from being set aside: it could spell a mark.
ESCAPE = b'{"user":"\\u0041",'


def user(*parts):
    return {"role": "user", "content": list(parts)}


def image(data, kind="image/png"):
    return {"type": "image_url", "image_url": {"url": f"data:{kind};base64,{data}"}}


def audio(data):
    return {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}


def file(data, **fields):
    return {"type": "file", "file": {"file_data": data, **fields}}


def encoded(*messages, **parameters):
    return json.dumps({"model": "m", "messages": list(messages), **parameters}).encode()


def translated(body, model="gemini-3-flash"):
    request = decode_chat_completion(body)
    made = to_gemini(request, model=model, signatures=SignatureStore())
    return msgspec.structs.replace(made, body=bytes(made.body))


def translated_as_a_whole(body):
    return translated(body.replace(b"{", ESCAPE, 1))


def outcome(translate, body):
    try:
        return translate(body)
    except InvalidRequest as error:
        return error.param, str(error)


def is_set_aside(body):
    return bool(extract(body)[1].pieces)


TOOL_CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
TEXT = {"type": "text", "text": "What is this? ✓"}


@pytest.mark.parametrize(
    "messages",
    [
        [user(TEXT, image(LONG), TEXT)],
        [user({"type": "image_url", "image_url": f"data:image/png;base64,{LONG}"})],
        [user({"type": "video_url", "video_url": {"url": f"data:video/mp4;base64,{LONG}"}})],
        [user(audio(LONG[:-4] + "QQ=="))],
        [user(file(LONG, filename="a.pdf"), file(f"data:application/pdf;base64,{LONG}"))],
        [user(image(LONG), image(LONG[:-4] + "QUI="), image("QUJD"))],
        [
            user(TEXT),
            {"role": "assistant", "content": None, "tool_calls": [TOOL_CALL]},
            {"role": "tool", "tool_call_id": "c1", "content": [image(LONG), audio(LONG)]},
        ],
        [user(image(LONG, "image/JPG"))],
    ],
)
def test_large_media_arrives_as_it_would_by_the_long_way(messages):
    body = encoded(*messages)
    assert is_set_aside(body)
    assert translated(body) == translated_as_a_whole(body)


@pytest.mark.parametrize(
    "messages",
    [
        [user(image(LONG, "image/bmp"))],
        [user(image(LONG, "application/pdf"))],
        [user({"type": "image_url", "image_url": {"url": f"data:image/png,{LONG}"}})],
        [user({"type": "image_url", "image_url": {"url": LONG}})],
        [user(file(LONG, filename="what"))],
        [user(image(LONG), {"type": "image_url", "image_url": {"url": 7}})],
        [user(image(LONG)), {"role": "nobody"}],
        [user(image(LONG)), {"role": "tool", "tool_call_id": "?", "content": ""}],
        [user(image(LONG + "Q"))],
        [user(image(LONG[:-1] + "*"))],
    ],
)
def test_errors_beside_large_media_are_the_same(messages):
    body = encoded(*messages)
    error = outcome(translated, body)
    assert isinstance(error, tuple)
    assert error == outcome(translated_as_a_whole, body)


def test_place_of_a_syntax_error_counts_from_the_beginning_of_the_body():
    body = encoded(user(image(LONG)))[:-1] + b"!"
    assert f"at byte {len(body) - 1}" in outcome(translated, body)[1]


def test_line_breaks_in_large_base64_are_taken_out():
    lines = "\n".join([LONG[:76]] * 4000)
    (part,) = json.loads(translated(encoded(user(image(lines)))).body)["contents"][0]["parts"]
    assert part["inlineData"]["data"] == LONG[:76] * 4000


def test_media_that_is_not_used_vanishes():
    body = encoded(user(TEXT), metadata={"data": LONG})
    assert is_set_aside(body)
    assert translated(body) == translated_as_a_whole(body)


def test_long_base64_in_a_schema_of_a_plain_conversation_is_put_back():
    schema = {"type": "object", "properties": {"a": {"type": "string", "const": "x"}}}
    schema["properties"]["a"] = {"type": "string", "enum": ["x"], "default": {"data": LONG}}
    format_ = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    body = encoded({"role": "user", "content": "Hi"}, response_format=format_)
    assert is_set_aside(body)
    assert translated(body) == translated_as_a_whole(body)


@pytest.mark.parametrize(
    "part",
    [
        {"type": "input_audio", "input_audio": {"format": "wav", "data": "Media\nHeldBack0000000"}},
        {"type": "input_audio", "input_audio": {"format": "wav", "data": "MediaHeldBack9999999"}},
        {"type": "text", "text": "MediaHeldBack0000000"},
    ],
)
def test_nobody_spells_a_mark_that_differs_with_every_process(part):
    body = encoded(user(part, image(LONG)))
    assert translated(body) == translated_as_a_whole(body)


MARK = SPELLING.decode() + "0000000"


@pytest.mark.parametrize(
    "text",
    [MARK, MARK.lower(), MARK.upper(), SPELLING.decode()[:5], "\\u0041"],
    ids=["mark", "lower", "upper", "beginning", "escaped"],
)
def test_texts_that_look_like_a_mark_stay_what_they_are(text):
    body = encoded({"role": "system", "content": text}, user({**TEXT, "text": text}, image(LONG)))
    made = json.loads(translated(body).body)
    assert made["systemInstruction"]["parts"] == [{"text": text}]
    assert made["contents"][0]["parts"][0] == {"text": text}
    assert made["contents"][0]["parts"][1]["inlineData"]["data"] == LONG


def test_escapes_cannot_spell_a_mark():
    body = encoded(user({**TEXT, "text": "@"}, image(LONG)))
    for spelled in (MARK.replace("M", "\\u004d"), MARK.replace("e", "\\u0065")):
        made = json.loads(translated(body.replace(b"@", spelled.encode())).body)
        assert made["contents"][0]["parts"][0] == {"text": MARK}


@pytest.mark.skipif(MARK.upper() == MARK, reason="this process drew a mark without small letters")
def test_media_type_that_is_a_mark_in_capitals_brings_no_media():
    body = encoded(user(image(LONG), *[file(f"data:audio/{MARK.upper()};base64,QUJD")] * 50))
    assert is_set_aside(body)
    assert translated(body) == translated_as_a_whole(body)


def test_large_media_is_not_copied():
    body = encoded(user(TEXT, image("QUJD" * 1_000_000)))
    translated(body)
    tracemalloc.start()
    made = to_gemini(decode_chat_completion(body), model="m", signatures=SignatureStore())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(made.body) > 4_000_000
    assert peak < 500_000


strings = st.one_of(
    st.text(max_size=20),
    st.sampled_from([LONG, f"data:image/png;base64,{LONG}", f"{LONG}\n", f"{LONG}é", f'"{LONG}'])
    | st.sampled_from([MARK, '"data":"', "\\", f'x"data":"{LONG}']),
)
names = st.sampled_from(["data", "url", "file_data", "other", 'x"data'])
documents = st.recursive(
    strings, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3)
)


@given(documents, st.booleans(), st.integers(0, 400_000))
@settings(max_examples=150)
def test_what_was_set_aside_can_be_put_back(document, ascii_only, cut):
    text = json.dumps(document, ensure_ascii=ascii_only).encode()
    for each in (text, text[:cut]):
        rest, aside = extract(each)
        assert bytes(aside.restore(rest)) == each
    rest, aside = extract(text)
    # Where the rest is read and written again, the media returns into the same strings.
    again = bytes(aside.restore(json.dumps(json.loads(rest)).encode()))
    assert json.loads(again) == document


def test_body_without_media_is_left_alone():
    body = encoded(user({**TEXT, "text": LONG}))
    assert extract(body)[0] is body
    assert not is_set_aside(body)


# --- answers --------------------------------------------------------------------------------------


def made(data, kind="image/png"):
    return {"inlineData": {"mimeType": kind, "data": data}}


def answer(*parts, finish="STOP", **fields):
    candidate = {"content": {"parts": list(parts)}, "finishReason": finish, **fields}
    return json.dumps({"responseId": "r", "candidates": [candidate]}).encode()


def the_long_way(body):
    return body.replace(b"{", b'{"modelVersion":"\\u0041",', 1)


def completed(*bodies, model="m"):
    answers = [decode_answer(body) for body in bodies]
    surroundings = {"created": 1, "new_id": lambda: "call_1", "signatures": SignatureStore()}
    return to_openai(answers, AnswerContext(model=model), **surroundings).body


@pytest.mark.parametrize(
    "parts",
    [
        [{"text": "Here it is ✓"}, made(LONG), made(LONG[:-4] + "QQ=="), made("QUJD")],
        [{"text": MARK}, made(LONG)],
        [made(LONG, "audio/pcm"), made(LONG[:-4] + "QQ==", "audio/pcm")],
        [{"functionCall": {"name": "f", "args": {"data": LONG, "url": "x"}}}],
        [{"text": "no picture", "thought": True}, made(LONG, "application/pdf")],
        [{"text": MARK[:9]}, {"text": MARK[9:]}, made(LONG)],
    ],
)
@pytest.mark.parametrize("model", ["m", MARK], ids=["m", "mark"])
def test_large_answers_read_as_they_would_by_the_long_way(parts, model):
    body = answer({"text": "So: "}, *parts)
    assert is_set_aside(body) == (MARK.encode() not in body)
    assert completed(body, model=model) == completed(the_long_way(body), model=model)


def test_images_of_several_hops_are_not_confused():
    hops = [
        answer(made(LONG), finish="CONTINUATION", continuationToken="t"),
        answer(made(LONG[:-4] + "QQ==")),
    ]
    assert completed(*hops) == completed(*map(the_long_way, hops))


def test_error_in_a_large_answer_counts_from_its_beginning():
    with pytest.raises(UnusableAnswer, match=f"byte {len(answer(made(LONG))) - 1}"):
        decode_answer(answer(made(LONG))[:-1] + b"!")


def test_large_image_of_an_answer_is_copied_once():
    body = answer(made("QUJD" * 1_000_000))
    completed(body)
    tracemalloc.start()
    completed(body)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.2 * len(body)
