"""Images that the model made come back in its turns, with the signatures they came with."""

import base64
import json

import pytest

from gemproxy.api.openai.schema.requests import decode_chat_completion
from gemproxy.core.errors import InvalidRequest
from gemproxy.providers.gemini.wire.answers import decode_answer
from gemproxy.translate.openai_chat__gemini.answer import to_openai
from gemproxy.translate.openai_chat__gemini.context import AnswerContext
from gemproxy.translate.openai_chat__gemini.request import to_gemini
from gemproxy.translate.openai_chat__gemini.stream import ChatStreamTranslator
from gemproxy.translate.shared.signatures import SignatureStore

PRO, BANANA, SMALL = "gemini-3-pro-image", "gemini-nano-banana-2.1", "gemini-3.1-flash-image"
DUMMY = "skip_thought_signature_validator"
DATA = base64.b64encode(b"a blue bird").decode()
LARGE = base64.b64encode(b"a large bird" * 20_000).decode()
URL = f"data:image/png;base64,{DATA}"
USER = {"role": "user", "content": "a bird"}
BLUER = {"role": "user", "content": "bluer"}


def answer_with(data, signature="c2ln"):
    image = {"inlineData": {"mimeType": "image/png", "data": data}, "thoughtSignature": signature}
    content = {"role": "model", "parts": [{"text": "Here."}, image]}
    return {"candidates": [{"content": content, "finishReason": "STOP"}]}


def message_of(answer, signatures):
    """The message that a client is given."""
    completed = to_openai(
        [decode_answer(json.dumps(answer).encode())],
        AnswerContext(model="m"),
        created=1,
        new_id=lambda: "call_1",
        signatures=signatures,
    )
    return json.loads(completed.body)["choices"][0]["message"]


def native(*messages, model=PRO, signatures=None, **more):
    body = json.dumps({"model": model, "messages": messages}).encode()
    made = to_gemini(
        decode_chat_completion(body), model=model, signatures=signatures or SignatureStore(), **more
    )
    return json.loads(bytes(made.body))


def models_parts(message, **more):
    contents = native(USER, message, BLUER, **more)["contents"]
    assert [content["role"] for content in contents] == ["user", "model", "user"]
    return contents[1]["parts"]


def assistant(content=None, **more):
    return {"role": "assistant", "content": content, **more}


def shown(url):
    return {"type": "image_url", "image_url": {"url": url}}


def image(signature=None, data=DATA):
    signed = {"thoughtSignature": signature} if signature else {}
    return {"inlineData": {"mimeType": "image/png", "data": data}, **signed}


@pytest.mark.parametrize("data", [DATA, LARGE], ids=["small", "set aside"])
def test_an_answer_comes_back_as_it_was(data):
    signatures = SignatureStore()
    given = message_of(answer_with(data), signatures)
    expected = [{"text": "Here."}, image("c2ln", data)]
    assert models_parts(given, signatures=signatures) == expected
    # The same in a message's content, as LibreChat and others keep it.
    kept = assistant(
        [{"type": "text", "text": "Here."}, shown(given["images"][0]["image_url"]["url"])]
    )
    assert models_parts(kept, signatures=signatures) == expected


@pytest.mark.parametrize("data", [DATA, LARGE])
def test_a_streamed_answer_is_remembered_as_well(data):
    signatures = SignatureStore()
    translator = ChatStreamTranslator(
        AnswerContext(model="m"), created=1, new_id=lambda: "call_1", signatures=signatures
    )
    translator.receive(json.dumps(answer_with(data)).encode())
    given = assistant("Here.", images=[shown(f"data:image/png;base64,{data}")])
    assert models_parts(given, signatures=signatures) == [{"text": "Here."}, image("c2ln", data)]


@pytest.mark.parametrize(
    "message",
    [
        assistant([shown(URL)]),
        assistant([{"type": "image_url", "image_url": URL}]),
        assistant(images=[{**shown(URL), "index": 0}]),
        assistant("", images=[{"image_url": URL}]),
        assistant(images=[URL]),
        assistant([shown(URL)], images=[shown(URL)]),
    ],
)
def test_the_shapes_in_which_clients_send_them(message):
    assert models_parts(message) == [image(DUMMY)]


@pytest.mark.parametrize("model", [PRO, BANANA, SMALL])
def test_a_foreign_image_gets_the_dummy_on_models_that_sign(model):
    assert models_parts(assistant([shown(URL)]), model=model) == [image(DUMMY)]
    remote = assistant([shown("https://a.example/b.png")])
    (made,) = models_parts(remote, model=model)
    assert made["thoughtSignature"] == DUMMY


@pytest.mark.parametrize(
    "model", ["gemini-2.5-flash-image", "gemini-3.8-flash", "gemini-2.5-flash"]
)
def test_a_foreign_image_gets_nothing_elsewhere(model):
    assert models_parts(assistant([shown(URL)]), model=model) == [image()]


def test_a_signature_that_google_refused_is_not_sent_again():
    signatures = SignatureStore()
    given = message_of(answer_with(DATA), signatures)
    made = models_parts(given, signatures=signatures, replace_signatures=True)
    assert made == [{"text": "Here."}, image(DUMMY)]


def test_a_signature_belongs_to_its_image():
    signatures = SignatureStore()
    other = base64.b64encode(b"a red bird").decode()
    message_of(answer_with(DATA, "Ymx1ZQ=="), signatures)
    message_of(answer_with(other, "cmVk"), signatures)
    both = [shown(URL), shown(f"data:image/png;base64,{other}")]
    made = models_parts(assistant(both), signatures=signatures)
    assert made == [image("Ymx1ZQ=="), image("cmVk", other)]


def test_a_secret_is_not_kept_as_a_signature():
    signatures = SignatureStore()
    context = AnswerContext(model="m", scrub=lambda text: text.replace("c2ln", "[redacted]"))
    answer = decode_answer(json.dumps(answer_with(DATA)).encode())
    to_openai([answer], context, created=1, new_id=lambda: "call_1", signatures=signatures)
    assert not len(signatures)


def test_a_signature_of_megabytes_pushes_nothing_out():
    signatures = SignatureStore()
    message_of(answer_with(DATA, "A" * (5 << 20)), signatures)
    assert not len(signatures)


@pytest.mark.parametrize("images", [None, [], {}, "x", 5, [None, 7, {}, {"image_url": 7}, [URL]]])
def test_other_things_called_images_are_ignored(images):
    if images == "x":
        images = {"url": URL}
    assert models_parts(assistant("Here.", images=images)) == [{"text": "Here."}]


@pytest.mark.parametrize(
    ("part", "made"),
    [
        ({"type": "refusal", "refusal": "no"}, {"text": "no"}),
        (
            {"type": "input_audio", "input_audio": {"data": DATA, "format": "wav"}},
            {"inlineData": {"mimeType": "audio/wav", "data": DATA}},
        ),
    ],
)
def test_other_parts_of_an_answer(part, made):
    assert models_parts(assistant([part]), model="gemini-3.8-flash") == [made]


def test_an_image_that_cannot_be_read_is_named():
    with pytest.raises(InvalidRequest) as caught:
        native(USER, assistant(images=[shown("data:image/png;base64,***")]), BLUER)
    assert caught.value.param.startswith("messages[1].images[0]")


@pytest.mark.parametrize("role", ["system", "developer"])
def test_an_image_among_instructions_is_not_said_to_be_allowed(role):
    with pytest.raises(InvalidRequest) as caught:
        native({"role": role, "content": [shown(URL)]}, USER)
    error = caught.value
    assert error.param == "messages[0].content[0].type"
    assert "text only" in error.message
    assert "expected one of" not in error.message


def test_calls_follow_the_image():
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    message = assistant([shown(URL)], tool_calls=[call])
    contents = native(USER, message, model="gemini-3.8-flash")["contents"]
    kinds = [next(iter(part)) for part in contents[1]["parts"]]
    assert kinds == ["inlineData", "functionCall"]
