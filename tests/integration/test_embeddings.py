"""``POST /v1/embeddings`` at the daemon, asked by the official SDK."""

import asyncio
import base64
import math
import struct
import time

import openai
import pytest
from fakes.clients import async_sdk_of, said, sdk_of
from fakes.running import eventually, keys_of
from fakes.wire import Wire, request

OLD, NEW = "gemini-embedding-001", "gemini-embedding-2"
MANY = [f"text {place}" for place in range(250)]
TELLING_SECONDS = 1.0


@pytest.fixture
def client(shared_daemon, simulator):
    simulator.reset()
    with sdk_of(shared_daemon) as client:
        yield client


def batches(simulator):
    """The batches that the simulator was asked for, each as the key's name and its texts."""
    return [
        (
            request["key"],
            [each["content"]["parts"][0]["text"] for each in request["body"]["requests"]],
        )
        for request in simulator.requests()
        if request["call"] == "batchEmbedContents"
    ]


def vectors(answer):
    assert [item.index for item in answer.data] == list(range(len(answer.data)))
    return [item.embedding for item in answer.data]


def refused(error, **arguments):
    with pytest.raises(error) as caught:
        arguments.pop("client").embeddings.create(**{"model": OLD, "input": "hi", **arguments})
    return caught.value


class TestAnswers:
    @pytest.mark.parametrize("model", [OLD, NEW])
    def test_a_text(self, client, simulator, model):
        answer = client.embeddings.create(model=model, input="red apples")
        (vector,) = vectors(answer)
        assert (answer.object, answer.model, answer.data[0].object) == ("list", model, "embedding")
        assert len(vector) == 3072
        assert math.hypot(*vector) == pytest.approx(1, abs=1e-6)
        assert answer.usage.prompt_tokens == answer.usage.total_tokens > 0
        assert [texts for _, texts in batches(simulator)] == [["red apples"]]

    def test_the_async_client(self, shared_daemon, client):
        async def ask():
            async with async_sdk_of(shared_daemon) as asynchronous:
                return await asynchronous.embeddings.create(model=OLD, input=["red", "blue"])

        expected = client.embeddings.create(model=OLD, input=["red", "blue"])
        assert vectors(asyncio.run(ask())) == vectors(expected)

    @pytest.mark.parametrize("dimensions", [1, 10, 768, 3072])
    @pytest.mark.parametrize("model", [OLD, NEW])
    def test_vectors_that_are_cut_have_the_length_1(self, client, model, dimensions):
        answer = client.embeddings.create(model=model, input=["red", "blue"], dimensions=dimensions)
        for vector in vectors(answer):
            assert len(vector) == dimensions
            assert math.hypot(*vector) == pytest.approx(1, abs=1e-6)

    def test_base64_and_numbers_are_the_same_vector(self, shared_daemon):
        asked = {"model": OLD, "input": "red", "dimensions": 256}
        with Wire(shared_daemon) as wire:
            numbers, text = (
                wire.ask("POST", "/v1/embeddings", {**asked, "encoding_format": form}).json
                for form in ("float", "base64")
            )
        encoded = text["data"][0]["embedding"]
        values = struct.unpack("<256f", base64.b64decode(encoded, validate=True))
        assert numbers["data"][0]["embedding"] == pytest.approx(values, abs=1e-7)

    def test_250_texts_are_three_calls_and_one_answer_in_order(self, client, simulator):
        answer = client.embeddings.create(model=NEW, input=MANY, dimensions=256)
        asked = [texts for _, texts in batches(simulator)]
        assert asked == [MANY[:100], MANY[100:200], MANY[200:]]
        single = client.embeddings.create(model=NEW, input=MANY[150], dimensions=256)
        assert vectors(answer)[150] == vectors(single)[0]
        # "text 150" is two words.
        assert answer.usage.prompt_tokens == 2 * len(MANY)

    def test_2048_texts_at_once(self, client, simulator):
        texts = [f"text {place}" for place in range(2048)]
        answer = client.embeddings.create(model=OLD, input=texts)
        assert len(vectors(answer)) == 2048
        assert [text for _, asked in batches(simulator) for text in asked] == texts
        assert {key for key, _ in batches(simulator)} == {"alpha", "beta"}

    def test_five_megabytes_of_text(self, client, simulator):
        texts = [f"{place} wörter\n" * 220 for place in range(2000)]
        assert sum(len(text.encode()) for text in texts) > 5_000_000
        answer = client.embeddings.create(model=OLD, input=texts, dimensions=8)
        assert len(vectors(answer)) == 2000
        assert [text for _, asked in batches(simulator) for text in asked] == texts

    def test_tasks_reach_either_model(self, client, simulator):
        task = {"task_type": "RETRIEVAL_DOCUMENT", "title": "Fruit"}
        client.embeddings.create(model=OLD, input="red", extra_body=task)
        client.embeddings.create(model=NEW, input="red", extra_body={"google": task})
        first, second = (request["body"]["requests"][0] for request in simulator.requests())
        assert (first["taskType"], first["title"]) == ("RETRIEVAL_DOCUMENT", "Fruit")
        assert second["content"]["parts"] == [{"text": "title: Fruit | text: red"}]

    def test_embedding_models_are_listed(self, client):
        assert {OLD, NEW} <= {model.id for model in client.models.list()}
        assert client.models.retrieve(NEW).id == NEW

    def test_an_alias_is_told_as_the_client_named_it(self, start_daemon, simulator):
        aliases = {"text-embedding-3-small": NEW}
        with sdk_of(start_daemon(models={"aliases": aliases})) as client:
            answer = client.embeddings.create(model="text-embedding-3-small", input="red")
        assert answer.model == "text-embedding-3-small"
        assert simulator.requests()[-1]["model"] == NEW


class TestRefusals:
    @pytest.mark.parametrize("tokens", [[15339, 1917], [[15339, 1917], [42]]])
    def test_token_arrays_are_told_the_way_out(self, client, simulator, tokens):
        error = refused(openai.BadRequestError, client=client, input=tokens)
        assert "check_embedding_ctx_length=False" in error.message
        assert (error.type, error.param) == ("invalid_request_error", "input")
        assert not simulator.requests()

    @pytest.mark.parametrize(
        ("fields", "param"),
        [
            ({"input": ""}, "input"),
            ({"input": []}, "input"),
            ({"input": ["a", "b", ""]}, "input[2]"),
            ({"input": ["a"] * 2049}, "input"),
            ({"dimensions": 0}, "dimensions"),
            ({"encoding_format": "int8"}, "encoding_format"),
            ({"model": "gemini-3.8-flash"}, "model"),
            ({"extra_body": {"title": "T"}}, "title"),
            ({"extra_body": {"google": {"task_type": "SEARCH"}}}, "google.task_type"),
        ],
    )
    def test_mistakes_name_their_field_and_go_nowhere(self, client, simulator, fields, param):
        error = refused(openai.BadRequestError, client=client, **fields)
        assert (error.type, error.param) == ("invalid_request_error", param)
        assert not simulator.requests()

    def test_what_only_google_knows_to_be_wrong(self, client):
        error = refused(openai.BadRequestError, client=client, dimensions=4000)
        assert "3072" in error.message

    def test_an_unknown_model(self, client):
        error = refused(openai.NotFoundError, client=client, model="gemini-embedding-99")
        assert (error.code, error.param) == ("model_not_found", "model")

    def test_a_model_that_is_gone_names_its_successor(self, client):
        error = refused(openai.NotFoundError, client=client, model="text-embedding-004")
        assert "gemini-embedding-001" in error.message
        assert error.code == "model_not_found"

    def test_a_chat_with_an_embedding_model_is_sent_to_the_right_place(self, client, simulator):
        with pytest.raises(openai.BadRequestError) as caught:
            client.chat.completions.create(**said("Hello", NEW))
        assert "/v1/embeddings" in caught.value.message
        assert caught.value.param == "model"
        assert not simulator.requests()

    def test_another_method_is_told_the_right_one(self, shared_daemon):
        with Wire(shared_daemon) as wire:
            answer = wire.ask("GET", "/v1/embeddings")
        assert (answer.status, answer.headers["allow"]) == (405, "POST")

    def test_a_body_that_is_not_said_to_be_json(self, shared_daemon):
        with Wire(shared_daemon) as wire:
            answer = wire.ask(
                "POST", "/v1/embeddings", b'{"model":"m","input":"a"}', content_type="text/plain"
            )
        assert answer.status == 400


class TestFailures:
    def test_a_key_without_quota_in_the_middle_costs_one_more_attempt(
        self, start_daemon, simulator
    ):
        daemon = start_daemon()
        simulator.behave("beta", "rate-limited-day", calls=["embed"])
        with sdk_of(daemon) as client:
            raw = client.embeddings.with_raw_response.create(model=OLD, input=MANY, dimensions=10)
        expected = MANY[:100], MANY[100:200], MANY[200:]
        assert len(vectors(raw.parse())) == 250
        served = [texts for key, texts in batches(simulator) if key == "alpha"]
        assert served == list(expected)
        assert [key for key, _ in batches(simulator)].count("beta") == 1
        line = daemon.request_line(raw.headers["x-request-id"])
        assert raw.headers["x-gemproxy-attempts"] == str(len(batches(simulator))) == "4"
        assert line["route"] == "/v1/embeddings"
        assert (line["status"], line["outcome"], line["model"]) == (200, "success", OLD)
        assert line["attempts"] == 4
        state = daemon.key("beta")
        assert state["cooldowns"]

    def test_the_first_batch_that_fails_for_good_ends_the_request(self, client, simulator):
        texts = [*MANY[:149], "x [simulate:bad-request]", *MANY[150:199], "[simulate:bad-request]"]
        error = refused(openai.BadRequestError, client=client, input=texts)
        assert error.message
        assert len(batches(simulator)) == 2

    def test_tokens_of_the_batches_before_a_failure_are_counted(self, start_daemon):
        daemon = start_daemon()
        texts = [*MANY[:149], "x [simulate:bad-request]"]
        with sdk_of(daemon) as client:
            served = client.embeddings.create(model=NEW, input=MANY[:100]).usage.prompt_tokens
            error = refused(openai.BadRequestError, client=client, model=NEW, input=texts)
        assert daemon.request_line(error.request_id)["prompt_tokens"] == served > 0
        labels = {"model": NEW, "direction": "input"}
        assert daemon.metric("gemproxy_tokens_total", **labels) == 2 * served

    def test_a_batch_that_is_larger_than_a_minutes_tokens_is_cut_in_two(
        self, start_daemon, simulator
    ):
        texts = [f"word word {place}" for place in range(100, 200)]
        told = {"parameters": {"limit": 150}, "times": 2}
        simulator.behave("alpha", "rate-limited-tokens", **told)
        with sdk_of(start_daemon(keys_of("alpha"))) as client:
            answer = client.embeddings.create(model=NEW, input=texts, dimensions=10)
            assert len(vectors(answer)) == 100
            asked = [len(texts) for _, texts in batches(simulator)]
            # 400 tokens, then 200 of them.
            assert asked == [100, 50, 25, 25, 50]
            single = client.embeddings.create(model=NEW, input=texts[77], dimensions=10)
        assert vectors(answer)[77] == vectors(single)[0]

    def test_a_text_that_is_larger_than_a_minutes_tokens_is_refused(self, client, simulator):
        simulator.behave_all("rate-limited-tokens", parameters={"limit": 200})
        error = refused(openai.BadRequestError, client=client, input="word " * 400)
        assert (error.code, error.param) == ("context_length_exceeded", "input")

    def test_no_quota_left(self, start_daemon, simulator):
        daemon = start_daemon()
        for name in ("alpha", "beta"):
            simulator.behave(name, "rate-limited-minute", parameters={"retryDelay": 20})
        with sdk_of(daemon) as client:
            error = refused(openai.RateLimitError, client=client)
        assert error.code == "rate_limit_exceeded"
        assert 0 < int(error.response.headers["retry-after"]) <= 21
        # Chats have a quota of their own.
        simulator.reset()
        with sdk_of(daemon) as client:
            assert client.chat.completions.create(**said("Hello")).choices

    def test_a_vector_too_few_is_asked_for_again_and_then_a_bad_gateway(self, client, simulator):
        simulator.behave("alpha", "fewer-vectors")
        answer = client.embeddings.create(model=OLD, input=["red", "blue"], dimensions=10)
        assert len(vectors(answer)) == 2
        simulator.behave_all("fewer-vectors")
        error = refused(openai.InternalServerError, client=client, input=["red", "blue"])
        assert error.status_code == 502
        assert "1 vectors for 2 texts" in error.message

    @pytest.mark.parametrize(
        "behaviour", ["reset", "garbage-json", "cut", "overloaded", "html-200", "empty"]
    )
    def test_a_broken_answer_is_asked_for_again(self, start_daemon, simulator, behaviour):
        daemon = start_daemon()
        simulator.behave("alpha", behaviour, times=1)
        with sdk_of(daemon) as client:
            answer = client.embeddings.create(model=OLD, input=MANY[:101], dimensions=10)
        assert len(vectors(answer)) == 101
        assert len(batches(simulator)) == 3

    def test_an_outage_is_told_and_opens_no_key(self, start_daemon, simulator):
        daemon = start_daemon()
        simulator.behave_all("overloaded")
        with sdk_of(daemon) as client:
            error = refused(openai.InternalServerError, client=client)
        assert error.status_code == 503
        assert {daemon.key(name)["status"] for name in ("alpha", "beta")} == {"active"}

    def test_a_client_that_leaves_in_the_middle(self, start_daemon, simulator):
        daemon = start_daemon(keys_of("alpha"))
        texts = [*MANY[:199], "[simulate:hang]", *MANY[200:]]
        with Wire(daemon) as wire:
            wire.send(request("POST", "/v1/embeddings", {"model": OLD, "input": texts}))
            simulator.wait_for_request(lambda each: each["behaviour"] == "hang")
            left_at = time.monotonic()
        simulator.wait_for_request(lambda each: each["closedEarly"])
        assert time.monotonic() - left_at < TELLING_SECONDS
        assert [each["closedEarly"] for each in simulator.requests()] == [False, True]
        with sdk_of(daemon) as client:
            assert client.embeddings.create(model=OLD, input="red").data
        assert len(batches(simulator)) == 3

    def test_metrics_and_explanation(self, start_daemon):
        daemon = start_daemon()
        with sdk_of(daemon) as client:
            raw = client.embeddings.with_raw_response.create(model=NEW, input=MANY)
        request_id = raw.headers["x-request-id"]
        daemon.request_line(request_id)
        labels = {"route": "/v1/embeddings", "model": NEW, "status": "200"}
        assert daemon.metric("gemproxy_requests_total", **labels) == 1
        told = daemon.admin("GET", f"requests/{request_id}").json
        assert [attempt["outcome"] for attempt in told["attempts"]] == ["success"] * 3
        assert {attempt["key"] for attempt in told["attempts"]} == {"alpha", "beta"}

    def test_a_large_answer_keeps_its_place_until_the_client_has_taken_it(self, start_daemon):
        daemon = start_daemon(proxy={"maxConcurrentRequests": 1})
        asked = {"model": OLD, "input": MANY, "encoding_format": "float"}
        with Wire(daemon) as wire:
            wire.send(request("POST", "/v1/embeddings", asked, x_request_id="large"))
            assert daemon.request_line("large")["status"] == 200
            with Wire(daemon) as other:
                assert other.ask("GET", "/v1/models").status == 429
                answer = wire.receive()
                assert len(answer.json["data"]) == 250
                assert wire.ask("GET", "/v1/models").status == 200
            wire.send(request("POST", "/v1/embeddings", asked, x_request_id="left"))
            assert daemon.request_line("left")["status"] == 200
        with Wire(daemon) as wire:
            assert eventually(lambda: wire.ask("GET", "/v1/models").status == 200)
