"""The list of models, and names for them."""

import asyncio
import json
import urllib.error
import urllib.request

import openai
import pytest
from fakes.clients import async_sdk_of, said, sdk_of
from fakes.running import keys_of, secret_of


@pytest.fixture
def client(shared_daemon):
    with sdk_of(shared_daemon) as client:
        yield client


def test_list_has_every_model_that_can_chat_or_embed(client):
    models = list(client.models.list())
    ids = [model.id for model in models]
    assert len(ids) == len(set(ids))
    assert {"gemini-3.8-flash", "gemini-4-argon", "gemini-flash-latest"} <= set(ids)
    assert {"gemini-embedding-001", "gemini-embedding-2"} <= set(ids)
    assert not any(name.startswith("models/") for name in ids)
    assert {(model.object, model.owned_by) for model in models} == {("model", "google")}
    assert all(isinstance(model.created, int) for model in models)


def test_each_listed_model_can_be_retrieved(client):
    for model in client.models.list():
        assert client.models.retrieve(model.id) == model


def test_async_client_lists_and_retrieves(shared_daemon, client):
    async def ask():
        async with async_sdk_of(shared_daemon) as asynchronous:
            listed = [model async for model in asynchronous.models.list()]
            return listed, await asynchronous.models.retrieve("gemini-3.8-flash")

    listed, retrieved = asyncio.run(ask())
    assert listed == list(client.models.list())
    assert retrieved in listed


@pytest.mark.parametrize("name", ["gemini-99-none", "gemini-embedding-2-none"])
def test_unknown_model_is_not_found(client, name):
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve(name)
    error = caught.value
    assert (error.type, error.code, error.param) == (
        "invalid_request_error",
        "model_not_found",
        "model",
    )
    assert name in error.message


def test_list_is_asked_for_once(start_daemon, simulator):
    with sdk_of(start_daemon()) as client:
        for _ in range(3):
            assert list(client.models.list())
        client.models.retrieve("gemini-3.8-flash")
    assert [request["call"] for request in simulator.requests()] == ["models.list"]


def test_aliases_are_models_like_others(start_daemon, simulator):
    aliases = {"gpt-4o": "gemini-3.8-flash", "team/fast": "gemini-2.5-flash-lite"}
    with sdk_of(start_daemon(models={"aliases": aliases})) as client:
        assert set(aliases) <= {model.id for model in client.models.list()}
        for alias, model in aliases.items():
            assert client.models.retrieve(alias).id == alias
            assert client.chat.completions.create(**said("Hello", alias)).choices
            assert simulator.requests()[-1]["model"] == model
        client.chat.completions.create(**said("Hello", "models/gemini-3.8-flash"))
    assert simulator.requests()[-1]["model"] == "gemini-3.8-flash"


def test_only_the_allowed_models_are_served(start_daemon, simulator):
    models = {"allow": ["gemini-2.5-flash", "fast"], "aliases": {"fast": "gemini-2.5-flash-lite"}}
    with sdk_of(start_daemon(models=models)) as client:
        assert {model.id for model in client.models.list()} == {"gemini-2.5-flash", "fast"}
        for name in ("gemini-2.5-flash", "fast"):
            assert client.chat.completions.create(**said("Hello", name)).choices
        for name in ("gemini-3.8-flash", "gemini-2.5-flash-lite"):
            with pytest.raises(openai.NotFoundError) as caught:
                client.chat.completions.create(**said("Hello", name))
            assert caught.value.code == "model_not_found"
            with pytest.raises(openai.NotFoundError):
                client.models.retrieve(name)
    assert {r["model"] for r in simulator.requests() if r["model"]} == {
        "gemini-2.5-flash",
        "gemini-2.5-flash-lite",
    }


def test_list_comes_with_another_key_and_outlives_the_upstream(start_daemon, simulator):
    daemon = start_daemon(keys_of("alpha", "beta"), models={"cacheSeconds": 0})
    with sdk_of(daemon) as client:
        simulator.behave("alpha", "invalid")
        simulator.behave("beta", "invalid")
        with pytest.raises(openai.InternalServerError) as caught:
            client.models.list()
        assert (caught.value.status_code, caught.value.code) == (503, "no_healthy_keys")

        simulator.behave("beta", "ok")
        listed = list(client.models.list())
        assert listed

        simulator.behave("beta", "invalid")
        assert list(client.models.list()) == listed
        simulator.behave_all("hang", calls=["models"], times=1)
        simulator.behave_all("reset", calls=["models"])
        assert list(client.models.list()) == listed


def test_failure_to_list_models_says_nothing_of_how_a_key_generates(start_daemon, simulator):
    daemon = start_daemon(models={"cacheSeconds": 0}, monitoring={"failureThreshold": 1})
    simulator.behave("alpha", "forbidden", calls=["models"])
    with sdk_of(daemon) as client:
        for _ in range(3):
            assert list(client.models.list())
        for _ in range(4):
            client.chat.completions.create(**said("Hello"))
    served = [r["key"] for r in simulator.requests() if r["call"] == "generateContent"]
    assert sorted(served) == ["alpha", "alpha", "beta", "beta"]


def test_key_is_used_for_its_own_models_only(start_daemon, simulator):
    keys = keys_of("alpha", models=["gemini-2.5-flash"]) + keys_of("beta")
    with sdk_of(start_daemon(keys)) as client:
        for _ in range(3):
            client.chat.completions.create(**said("Hello", "gemini-2.5-pro"))
    assert {request["key"] for request in simulator.requests()} == {"beta"}


# -- one path in three dialects --------------------------------------------------------------------

GENAI = {"x-goog-api-key": "any", "x-goog-api-client": "google-genai-sdk/3.6.1"}
CLAUDE = {"authorization": "Bearer any", "anthropic-version": "2026-10-21"}


def ask(daemon, path, headers=None, method="GET"):
    request = urllib.request.Request(daemon.url + path, headers=headers or {}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer), answer.headers
    except urllib.error.HTTPError as refused:
        return refused.code, json.load(refused), refused.headers


@pytest.mark.parametrize("version", ["v1", "v1beta", "v1alpha"])
def test_gemini_clients_get_googles_own_fields(shared_daemon, simulator, version):
    upstream = ask(
        simulator, "/v1beta/models?pageSize=1000", {"x-goog-api-key": secret_of("alpha")}
    )
    models, token = [], ""
    while token is not None:
        path = f"/{version}/models?pageSize=7&pageToken={token}"
        status, page, _ = ask(shared_daemon, path, GENAI)
        assert status == 200
        models += page["models"]
        token = page.get("nextPageToken")
    assert models == upstream[1]["models"]
    for name in ("gemini-3.8-flash", "models%2Fgemini-3.8-flash", "models/gemini-3.8-flash"):
        assert ask(shared_daemon, f"/{version}/models/{name}", GENAI)[1] in models
    status, error, _ = ask(shared_daemon, f"/{version}/models/none", GENAI)
    assert (status, error["error"]["status"]) == (404, "NOT_FOUND")


def test_anthropic_clients_get_their_own_list(start_daemon):
    aliases = {"claude-sonnet-5": "gemini-3.8-flash"}
    daemon = start_daemon(models={"aliases": aliases})
    status, page, headers = ask(daemon, "/v1/models?limit=1000", CLAUDE)
    assert status == 200
    assert headers["request-id"] == headers["x-request-id"]
    assert page["data"][-1] == {
        "type": "model",
        "id": "claude-sonnet-5",
        "display_name": "Gemini 3.8 Flash",
        "created_at": "2023-12-13T00:00:00Z",
        "lifecycle": "active",
        "max_input_tokens": 1_048_576,
        "max_tokens": 65_536,
    }
    ids = [each["id"] for each in page["data"]]
    assert (page["has_more"], page["first_id"], page["last_id"]) == (False, ids[0], ids[-1])
    assert "gemini-3.8-flash" in ids
    assert "gemini-embedding-001" not in ids
    assert (
        ask(daemon, f"/v1/models?limit=2&after_id={ids[0]}", CLAUDE)[1]["data"][0]["id"] == ids[1]
    )
    assert ask(daemon, "/v1/models/claude-sonnet-5", CLAUDE)[1] == page["data"][-1]
    # Aliases are native models as well.
    assert ask(daemon, "/v1/models/claude-sonnet-5", GENAI)[1]["name"] == "models/claude-sonnet-5"
    status, error, headers = ask(daemon, "/v1/models/none", CLAUDE)
    assert (status, error["type"], error["error"]["type"]) == (404, "error", "not_found_error")
    assert error["request_id"] == headers["request-id"]


def test_the_allowed_models_are_those_of_every_dialect(start_daemon):
    daemon = start_daemon(models={"allow": ["gemini-2.5-flash"]})
    assert [each["name"] for each in ask(daemon, "/v1/models", GENAI)[1]["models"]] == [
        "models/gemini-2.5-flash"
    ]
    assert [each["id"] for each in ask(daemon, "/v1/models", CLAUDE)[1]["data"]] == [
        "gemini-2.5-flash"
    ]
    assert ask(daemon, "/v1beta/models/gemini-3.8-flash", GENAI)[0] == 404
    assert ask(daemon, "/v1/models?limit=0", CLAUDE)[0] == 400
    status, error, headers = ask(daemon, "/v1/models", GENAI, "DELETE")
    assert (status, error["error"]["status"], headers["allow"]) == (405, "UNIMPLEMENTED", "GET")
