"""The list of models."""

import json

import pytest

from gemproxy.api.openai.schema.answers import encode_model, encode_model_list
from gemproxy.core.errors import InvalidRequest, UnusableAnswer
from gemproxy.providers.gemini.provider import GeminiProvider
from gemproxy.translate.anthropic_models__gemini import to_anthropic_page
from gemproxy.translate.gemini_models__gemini import (
    page_size_of,
    to_gemini_model,
    to_gemini_page,
)
from gemproxy.translate.openai_models__gemini import CREATED, to_openai_models
from gemproxy.translate.shared.listed_names import listed_names

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


def names(models, aliases=None, allow=()):
    """The names under which OpenAI's clients see ``models``."""
    return list(listed_names([each for each in models if each.is_served], aliases or {}, allow))


def ids(aliases=None, allow=()):
    return names(PROVIDER.read_models(PAGE).models, aliases, allow)


def test_model_without_a_word_on_its_methods_is_listed():
    page = PROVIDER.read_models(b'{"models": [{"name": "models/gemini-e"}]}')
    assert names(page.models) == ["gemini-e"]


def test_page_tells_its_successor():
    assert PROVIDER.read_models(PAGE).next_page_token == "page-2"
    assert PROVIDER.read_models(b'{"models": []}').next_page_token is None
    assert PROVIDER.read_models(b'{"nextPageToken": ""}').next_page_token is None
    assert PROVIDER.read_models(b"{}").models == []


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
    assert len(names(models + models)) == 3


def test_list_has_openais_shape():
    models = to_openai_models(["gemini-a"])
    entry = {"id": "gemini-a", "object": "model", "created": CREATED, "owned_by": "google"}
    assert json.loads(encode_model(models[0])) == entry
    assert json.loads(encode_model_list(models)) == {"object": "list", "data": [entry]}
    assert json.loads(encode_model_list([])) == {"object": "list", "data": []}


# -- the other dialects ----------------------------------------------------------------------------


def entry(number):
    return {"name": f"models/m{number}", "inputTokenLimit": number, "futureField": {"a": [1.50]}}


FIVE = {
    each.id: each
    for each in PROVIDER.read_models(
        json.dumps({"models": [entry(number) for number in range(5)]}).encode()
    ).models
}


def test_a_native_entry_keeps_every_byte():
    page = b'{"models": [ {"name":"models/a", "temperature": 1.0e0, "futureField" : null} ]}'
    (model,) = PROVIDER.read_models(page).models
    raw = b'{"name":"models/a", "temperature": 1.0e0, "futureField" : null}'
    assert to_gemini_model("a", model) == raw
    assert json.loads(to_gemini_model("gpt-4o", model)) == {
        **json.loads(raw),
        "name": "models/gpt-4o",
    }


@pytest.mark.parametrize("size", [1, 2, 3, 5, 1000])
def test_native_pages_hold_each_model_once_and_none_is_empty(size):
    seen, token = [], ""
    while True:
        page = json.loads(to_gemini_page(FIVE, size, token))
        assert page["models"]
        seen += page["models"]
        if "nextPageToken" not in page:
            break
        token = page["nextPageToken"]
    assert seen == [entry(number) for number in range(5)]


def test_a_native_page_that_nobody_gave_out():
    with pytest.raises(InvalidRequest, match="pageToken"):
        to_gemini_page(FIVE, 2, "m9")
    assert to_gemini_page({}, 2, "") == b'{"models":[]}'


def test_the_size_of_a_native_page():
    sizes = {"0": 50, "7": 7, "1000": 1000, "5000": 1000}
    assert {each: page_size_of([each]) for each in sizes} == sizes
    assert page_size_of([]) == 50
    for each in ("-1", "x", "", "9" * 5000):
        with pytest.raises(InvalidRequest, match="pageSize"):
            page_size_of([each])


@pytest.mark.parametrize(
    ("limit", "after", "before", "ids", "has_more"),
    [
        (2, "", "", "m0 m1", True),
        (5, "", "", "m0 m1 m2 m3 m4", False),
        (2, "m1", "", "m2 m3", True),
        (2, "m2", "", "m3 m4", False),
        (2, "m4", "", "", False),
        (2, "", "m3", "m1 m2", True),
        (3, "", "m3", "m0 m1 m2", False),
    ],
)
def test_anthropics_pages(limit, after, before, ids, has_more):
    page = to_anthropic_page(FIVE, limit, after, before)
    assert [each.id for each in page.data] == ids.split()
    assert page.has_more is has_more
    assert (page.first_id, page.last_id) == (
        (ids.split()[0], ids.split()[-1]) if ids else (None, None)
    )


def test_anthropics_page_of_an_unknown_model():
    for cursors in ({"after": "x"}, {"before": "x"}):
        with pytest.raises(InvalidRequest, match="no model has this id"):
            to_anthropic_page(FIVE, 2, **cursors)
