"""The list of models."""

import json

import pytest

from gemproxy.api.openai.schema.answers import encode_model, encode_model_list
from gemproxy.core.errors import UnusableAnswer
from gemproxy.providers.gemini.provider import GeminiProvider
from gemproxy.translate.openai_models__gemini import (
    CREATED,
    to_openai_models,
)

PROVIDER = GeminiProvider()
PAGE = json.dumps(
    {
        "models": [
            {"name": "models/gemini-a", "supportedGenerationMethods": ["generateContent"]},
            {"name": "models/embed-b", "supportedGenerationMethods": ["embedContent"]},
            {"name": "models/gemini-c", "supportedGenerationMethods": ["x", "generateContent"]},
            {"name": "models/nothing-d", "supportedGenerationMethods": []},
            {"name": "models/video-e", "supportedGenerationMethods": ["predictLongRunning"]},
            {"supportedGenerationMethods": ["generateContent"]},
        ],
        "nextPageToken": "page-2",
    }
).encode()


def ids(aliases=None, allow=()):
    models = to_openai_models(PROVIDER.read_models(PAGE).models, aliases or {}, allow)
    return [model.id for model in models]


def test_model_without_a_word_on_its_methods_is_listed():
    page = PROVIDER.read_models(b'{"models": [{"name": "models/gemini-e"}]}')
    assert [model.id for model in to_openai_models(page.models, {}, ())] == ["gemini-e"]


def test_page_tells_its_successor():
    assert PROVIDER.read_models(PAGE).next_page_token == "page-2"
    assert PROVIDER.read_models(b'{"models": []}').next_page_token is None
    assert PROVIDER.read_models(b'{"nextPageToken": ""}').next_page_token is None
    assert PROVIDER.read_models(b"{}").models == ()


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"models": 5}', b"[" * 100_000])
def test_what_is_no_page_is_unusable(body):
    with pytest.raises(UnusableAnswer):
        PROVIDER.read_models(body)


def test_only_models_that_chat_or_embed_are_listed_without_their_prefix():
    assert ids() == ["gemini-a", "embed-b", "gemini-c"]


def test_alias_of_a_listed_model_is_an_entry_of_its_own():
    aliases = {"gpt-4o": "gemini-c", "gpt-5": "models/gemini-a", "o3": "gemini-gone"}
    assert ids(aliases) == ["gemini-a", "embed-b", "gemini-c", "gpt-4o", "gpt-5"]


def test_alias_of_a_model_that_is_not_served_is_left_out():
    assert ids({"sora-2": "video-e"}) == ["gemini-a", "embed-b", "gemini-c"]


def test_pattern_is_not_listed():
    assert ids({"claude-*": "gemini-a"}) == ids()


def test_alias_with_the_name_of_a_model_is_listed_once():
    assert ids({"gemini-a": "gemini-c"}) == ["gemini-a", "embed-b", "gemini-c"]


def test_allow_filters_models_and_their_aliases():
    aliases = {"gpt-4o": "gemini-c", "gpt-5": "gemini-a"}
    assert ids(aliases, ["models/gemini-c"]) == ["gemini-c", "gpt-4o"]
    assert ids(aliases, ["gpt-5"]) == ["gpt-5"]
    assert ids(aliases, ["unknown"]) == []


def test_models_on_two_pages_are_listed_once():
    models = PROVIDER.read_models(PAGE).models
    assert len(to_openai_models(models + models, {}, ())) == 3


def test_list_has_openais_shape():
    models = to_openai_models(PROVIDER.read_models(PAGE).models, {}, ["gemini-a"])
    entry = {"id": "gemini-a", "object": "model", "created": CREATED, "owned_by": "google"}
    assert json.loads(encode_model(models[0])) == entry
    assert json.loads(encode_model_list(models)) == {"object": "list", "data": [entry]}
    assert json.loads(encode_model_list([])) == {"object": "list", "data": []}
