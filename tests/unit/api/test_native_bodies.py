"""Bodies of native calls that are made to hurt: they take linear time, and none slips through."""

import json
from contextlib import suppress
from time import process_time
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemproxy.api.gemini.native import NativeEndpoint
from gemproxy.api.gemini.resources import BatchEndpoint, CreateEndpoint
from gemproxy.core.errors import InvalidRequest, ModelNotFound, ProxyError
from gemproxy.translate.shared.model_names import ModelNames

MODEL = "gemini-3.8-flash"
EMBEDS = "gemini-embedding-001"
NAMES = ModelNames({"mine": MODEL, "small": EMBEDS, "s*": MODEL}, (MODEL, EMBEDS))


def decoded(body, verb="generateContent", model="models/mine", collection=None):
    """The job of ``body`` for a model, or for a resource of ``collection`` that is to be made."""
    parameters = {"version": "v1beta", "model": model, "verb": verb, "collection": collection}
    head = SimpleNamespace(
        parameters=parameters,
        query=b"",
        method=b"POST",
        header=lambda _: None,
        headers=(),
        origin="http://localhost",
    )
    if collection:
        endpoint = CreateEndpoint(NAMES, None)
    elif verb == "batchGenerateContent":
        endpoint = BatchEndpoint(NAMES, None)
    else:
        endpoint = NativeEndpoint(NAMES)
    context = SimpleNamespace(caller=SimpleNamespace(models=()))
    return endpoint.decode(body, head, context, brief=True)


def refused(body, **call):
    with pytest.raises((InvalidRequest, ModelNotFound)) as caught:
        decoded(json.dumps(body).encode(), **call)
    return caught.value


def seconds(body, **call):
    """The least time of a few tries."""
    times = []
    for _ in range(3):
        began = process_time()
        with suppress(ProxyError):
            decoded(body, **call)
        times.append(process_time() - began)
    return min(times)


def many(item, count=None, size=240_000):
    """About ``size`` bytes of ``item``, each with its number if it has a place for it."""
    texts = [item.replace("#", str(number)) for number in range(count or size // len(item))]
    return ",".join(texts)


ALIAS = '"model":"models/mine"'
DEEP = '{"b":' * 400 + "[%s]" + "}" * 400
HOSTILE = {
    "escapes outside": '"model"' + '\\"' * 20_000,
    "escapes inside": "{" + ALIAS + ',"a":"' + '\\"' * 100_000 + '"}',
    "arrays that never end": '{"fileSearchStoreNames":[' + '"fileSearchStoreNames":[' * 10_000,
    "arrays without an object": '"fileSearchStoreNames":[' * 10_000,
    "blanks": '{"model"' + " " * 200_000 + ":1,",
    "strings deep down": "{" + ALIAS + ',"a":' + DEEP % many('""') + "}",
    "empty arrays": "{" + ALIAS + ',"a":[' + many("[]") + "]}",
    "files": '{"contents":[' + many('{"fileUri":"files/#"}') + "]}",
    "addresses": '{"input":[' + many('{"uri":"gs://#"}') + "]}",
    "foreign addresses": '{"input":[' + many('{"uri":"#"}') + "]}",
    "stores": '{"fileSearchStoreNames":[' + many('"files/#"') + "]}",
    "models": '{"requests":[' + many('{"model":"s#"}') + "]}",
    "one model": '{"requests":[' + many('{"model":"mine"}') + "]}",
    "models in arguments": "{" + ALIAS + ',"a":[' + many('{"model":"mine"}') + "]}",
    "one object": "{" + many('"model":"mine"') + "}",
}


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE)
def test_no_small_body_holds_the_reactor(body):
    # The budget is 50 ms; the rest is for a loaded machine.
    assert seconds(body.encode()) < 0.15
    assert seconds(body.encode(), collection="interactions") < 0.15


PIECES = st.sampled_from(
    [
        *'"{}[]:,\\ ',
        '\\"',
        '"model"',
        '"model":"mine",',
        '"fileUri":"files/a",',
        '"fileSearchStoreNames":[',
        '"uri":"',
        "{},",
        "[],",
        "\\u006d",
    ]
)


@settings(max_examples=60, deadline=None)
@given(st.lists(PIECES, min_size=1, max_size=4), st.booleans())
def test_twice_the_body_takes_twice_the_time(pieces, inside):
    def body(size):
        text = "".join(pieces)
        text *= size // len(text)
        return ("{" + ALIAS + ',"a":[' + text + "0]}" if inside else text).encode()

    for call in ({}, {"collection": "interactions"}):
        once = seconds(body(40_000), **call)
        assert seconds(body(80_000), **call) < 3 * once + 0.005


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({"model": "gemini-2.5-pro", "input": "hi", "stream": "true"}, "model"),
        ({"model": "gemini-2.5-pro", "agent": []}, "agent"),
        ({"model": "gemini-2.5-pro", "stream": 1}, "model"),
        ({"model": MODEL, "agent": "deep-research"}, "model"),
        ({"model": {"name": "gemini-2.5-pro"}}, "model"),
    ],
)
@pytest.mark.parametrize("collection", ["interactions", "cachedContents"])
def test_nothing_is_made_with_a_model_that_is_not_allowed(body, place, collection):
    assert refused(body, collection=collection).param == place


@pytest.mark.parametrize("field", ["embeddingModel", "embedding_model"])
def test_the_model_of_a_store_is_checked_and_renamed(field):
    refused({field: "models/gemini-embedding-2"}, collection="fileSearchStores")
    body = '{"displayName": "x", "%s": "models/%s"}'
    job = decoded((body % (field, "small")).encode(), collection="fileSearchStores")
    assert job.body == (body % (field, EMBEDS)).encode()
    assert job.model == ""


@pytest.mark.parametrize(
    ("verb", "body", "place"),
    [
        ("generateContent", {"model": "gemini-2.5-pro"}, "model"),
        ("countTokens", {"generateContentRequest": {"model": "models/gemini-2.5-pro"}}, "model"),
        ("countTokens", {"generate_content_request": {"model": "gemini-2.5-pro"}}, "model"),
        (
            "countTokens",
            {"generateContentRequest": {"model": 1}},
            "generateContentRequest.model",
        ),
        ("batchEmbedContents", {"requests": [{}, {"model": "gemini-2.5-pro"}]}, "model"),
        ("batchEmbedContents", {"requests": [{}, {"model": MODEL}]}, "model"),
        ("batchEmbedContents", {"requests": [{}, {"model": []}]}, "requests[1].model"),
        (
            "batchGenerateContent",
            {"batch": {"inputConfig": {"requests": {"requests": [{"request": {"model": "x"}}]}}}},
            "model",
        ),
        (
            "batchGenerateContent",
            {"batch": {"input_config": {"requests": {"requests": [{"request": {"model": "x"}}]}}}},
            "model",
        ),
    ],
)
def test_models_in_bodies_are_those_of_the_path(verb, body, place):
    model = EMBEDS if "Embed" in verb else MODEL
    assert refused(body, verb=verb, model=model).param == place


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"gemini-2.5-pro","model":"gemini-3.8-flash"}',
        b'{"model":"gemini-2.5-pro","model":null}',
        b'{"requests":[{"model":"gemini-2.5-pro"}],"requests":[{"model":"gemini-3.8-flash"}]}',
        b'{"requests":[{"model":"gemini-2.5-pro"}],"requests":[]}',
        b'{"requests":[{"model":"gemini-2.5-pro"}],"r\\u0065quests":0}',
        b'{"generateContentRequest":{"model":"x"},"generateContentRequest":{}}',
        b'{"batch":{"inputConfig":{"requests":{"requests":[{"request":{"model":"x"}}]}}},"batch":{}}',
        b'{"batch":{"inputConfig":{"requests":{"requests":[{"request":{"model":"x"},"request":0}]}}}}',
        b'{"\\u006dodel":"gemini-2.5-pro"}',
        b'{"contents":1,"model":"gemini-2.5-pro"}',
        b'{"model":"gemini-3.8-flash"',
        b'{model:"gemini-2.5-pro"}',
        b'{"model":"\xff"}',
        b'{"fileUri":"\xff"}',
        b"[" * 5000,
        b"",
    ],
)
def test_bodies_that_two_readers_could_read_differently(body):
    with pytest.raises((InvalidRequest, ModelNotFound)):
        decoded(body, model=MODEL)


def test_what_google_judges_passes():
    body = b'{"contents": 1, "model": null, "tools": [{"model": 1, "agent": "x", "model": []}]}'
    job = decoded(body, model=MODEL)
    assert (job.body, job.conversation) == (body, None)


def test_only_the_names_change_where_many_fields_are_alike():
    arguments = '{"model": "mine", "agent": "mine", "a": "\\"model\\":\\"mine\\""}'
    body = f'{{"x": [{arguments}], "\\u006Dodel" : "m\\u0069ne", "n": 1.0, "y": {arguments} }}'
    wanted = body.replace('"m\\u0069ne"', f'"{MODEL}"')
    assert decoded(body.encode()).body == wanted.encode()
    agent = decoded(b'{"agent" : "mine", "input": 1.0}', collection="interactions")
    assert (agent.body, agent.model) == (b'{"agent" : "%b", "input": 1.0}' % MODEL.encode(), MODEL)


def test_file_names_that_contain_brackets():
    body = {"fileSearchStoreNames": ["fileSearchStores/a]", "fileSearchStores/b"]}
    assert decoded(json.dumps(body).encode()).resources == body["fileSearchStoreNames"]
