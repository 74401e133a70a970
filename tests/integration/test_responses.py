"""``/v1/responses`` at the daemon, asked by the official SDK and by hand."""

import base64
import json

import openai
import pytest
from fakes.clients import sdk_of
from fakes.responses_grammar import checked
from fakes.running import keys_of
from fakes.wire import MODEL, Wire
from pydantic import BaseModel

RESPONSES = "/v1/responses"
STEPS = (
    'call get_weather with {"city": "Oslo"} and call get_weather with {"city": "Rome"},'
    ' then call get_time with {"zone": "Europe/Oslo"}'
)
TOOLS = [
    {
        "type": "function",
        "name": name,
        "parameters": {
            "type": "object",
            "properties": {argument: {"type": "string"}},
            "required": [argument],
        },
        "strict": True,
    }
    for name, argument in (("get_weather", "city"), ("get_time", "zone"))
]
TOKENS = [{"name": name, "token": f"the-token-of-{name}-0123456789"} for name in ("anna", "bert")]


class Wheel(BaseModel):
    inches: int
    spokes: int | None


@pytest.fixture
def client(shared_daemon, simulator):
    simulator.reset()
    with sdk_of(shared_daemon) as client:
        yield client


def generations(simulator):
    """The requests that asked for an answer."""
    return [each for each in simulator.requests() if each["call"].endswith("enerateContent")]


def signed_steps(simulator):
    """The calls of the last request; the first of each step has the model's own signature."""
    requests = generations(simulator)
    assert {request["status"] for request in requests} == {200}
    steps = []
    for content in requests[-1]["body"]["contents"]:
        calls = [part for part in content["parts"] if "functionCall" in part]
        if calls:
            signature = base64.b64decode(calls[0]["thoughtSignature"] + "==", altchars=b"-_")
            assert signature.startswith(b"simulated")
            steps.append([call["functionCall"]["name"] for call in calls])
    return steps


def results_of(response):
    return [
        {
            "type": "function_call_output",
            "call_id": item.call_id,
            "output": f"{item.name} is fine",
        }
        for item in response.output
        if item.type == "function_call"
    ]


def ask(daemon, body, method="POST", path=RESPONSES, token=None, **headers):
    """One request by hand."""
    if token is not None:
        headers["authorization"] = f"Bearer {token}"
    with Wire(daemon) as wire:
        return wire.ask(method, path, body, **headers)


class TestAnswers:
    def test_a_text(self, client, simulator):
        response = client.responses.create(
            model=MODEL, input="How are rivers made?", instructions="Be brief."
        )
        assert response.output_text.startswith('You said: "How are rivers made?".')
        assert (response.status, response.model, response.store) == ("completed", MODEL, True)
        assert response.usage.total_tokens > 0
        (request,) = generations(simulator)
        assert request["body"]["systemInstruction"]["parts"] == [{"text": "Be brief."}]

    def test_the_bytes_of_a_stream(self, shared_daemon, simulator):
        simulator.reset()
        answer = ask(
            shared_daemon,
            {"model": MODEL, "input": "Hi [simulate:words n=40]", "stream": True},
        )
        assert answer.headers["content-type"].startswith("text/event-stream")
        events = checked(answer.body)
        assert sum(each["type"] == "response.output_text.delta" for each in events) > 3

    def test_a_stream_of_the_sdk(self, client):
        with client.responses.stream(
            model=MODEL,
            input='Hm. call get_time with {"zone": "x"}',
            reasoning={"effort": "high", "summary": "auto"},
            tools=TOOLS,
        ) as stream:
            seen = [event.type for event in stream]
            final = stream.get_final_response()
        assert "response.reasoning_summary_text.delta" in seen
        assert [item.type for item in final.output] == ["reasoning", "function_call"]
        assert final.output[0].encrypted_content.startswith("gp1.")

    @pytest.mark.parametrize("stream", [False, True])
    def test_structured_output(self, client, stream):
        asked = {"model": MODEL, "input": "A wheel.", "text_format": Wheel}
        if stream:
            with client.responses.stream(**asked) as events:
                for _ in events:
                    pass
                response = events.get_final_response()
        else:
            response = client.responses.parse(**asked)
        assert isinstance(response.output_parsed, Wheel)

    def test_an_image_of_the_user_and_of_a_tool(self, client, simulator):
        image = {"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgo="}
        client.responses.create(
            model=MODEL,
            input=[
                {"role": "user", "content": [image, {"type": "input_text", "text": "What?"}]},
                {"type": "function_call", "call_id": "c", "name": "look", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "c", "output": [image]},
            ],
        )
        user, _, result = generations(simulator)[-1]["body"]["contents"]
        assert user["parts"][0]["inlineData"]["mimeType"] == "image/png"
        assert result["parts"][0]["functionResponse"]["parts"][0]["inlineData"]

    def test_its_tokens_can_be_counted(self, client, simulator):
        first = client.responses.create(model=MODEL, input="One")
        asked = {"model": MODEL, "input": "Two", "instructions": "Be brief.", "tools": TOOLS}
        alone = client.responses.input_tokens.count(**asked)
        assert alone.object == "response.input_tokens"
        more = client.responses.input_tokens.count(**asked, previous_response_id=first.id)
        assert more.input_tokens > alone.input_tokens > 0
        counted = [each for each in simulator.requests() if each["call"] == "countTokens"]
        prompt = counted[-1]["body"]["generateContentRequest"]
        assert len(prompt["contents"]) == 3
        assert prompt["tools"]


class TestToolLoops:
    """Three steps with parallel calls at an upstream that wants its signatures back."""

    def test_with_the_items_themselves(self, client, simulator):
        items = [{"role": "user", "content": STEPS}]
        for _ in range(3):
            response = client.responses.create(model=MODEL, input=items, tools=TOOLS, store=False)
            items += [item.model_dump() for item in response.output] + results_of(response)
        assert response.output_text.startswith("get_time returned")
        assert signed_steps(simulator) == [["get_weather", "get_weather"], ["get_time"]]

    @pytest.mark.parametrize("stream", [False, True])
    def test_from_the_response_before(self, client, simulator, stream):
        asked, previous = STEPS, None
        for _ in range(3):
            arguments = {
                "model": MODEL,
                "input": asked,
                "tools": TOOLS,
                "previous_response_id": previous,
            }
            if stream:
                with client.responses.stream(**arguments) as events:
                    for _ in events:
                        pass
                    response = events.get_final_response()
            else:
                response = client.responses.create(**arguments)
            asked, previous = results_of(response), response.id
        assert response.output_text.startswith("get_time returned")
        assert signed_steps(simulator) == [["get_weather", "get_weather"], ["get_time"]]

    def test_with_references_to_items(self, client, simulator):
        """As the AI SDK replays: thoughts and texts by their ids, calls in full without ids."""
        items = [{"role": "user", "content": STEPS}]
        for _ in range(3):
            response = client.responses.create(
                model=MODEL,
                input=items,
                tools=TOOLS,
                reasoning={"effort": "high", "summary": "auto"},
            )
            for item in response.output:
                if item.type == "function_call":
                    dumped = item.model_dump()
                    items.append(
                        {name: dumped[name] for name in ("type", "call_id", "name", "arguments")}
                    )
                else:
                    items.append({"type": "item_reference", "id": item.id})
            items += results_of(response)
        assert response.output_text.startswith("get_time returned")
        assert signed_steps(simulator) == [["get_weather", "get_weather"], ["get_time"]]


class TestStored:
    def test_it_can_be_read_and_deleted(self, client):
        first = client.responses.create(model=MODEL, input="One")
        second = client.responses.create(
            model=MODEL, input="Two", previous_response_id=first.id, instructions="Be brief."
        )
        assert client.responses.retrieve(second.id) == second
        items = client.responses.input_items.list(second.id, order="asc", limit=2)
        assert [item.role for item in items.data] == ["user", "assistant"]
        assert items.has_more
        everything = list(client.responses.input_items.list(second.id, order="asc", limit=2))
        assert [item.content[0].text for item in everything] == ["One", first.output_text, "Two"]
        client.responses.delete(first.id)
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(first.id)
        # The conversation of the second one does not depend on it.
        client.responses.create(model=MODEL, input="Three", previous_response_id=second.id)

    def test_what_is_unknown(self, client):
        with pytest.raises(openai.BadRequestError) as caught:
            client.responses.create(model=MODEL, input="x", previous_response_id="resp_x")
        assert caught.value.code == "previous_response_not_found"
        with pytest.raises(openai.BadRequestError, match="set store to false"):
            client.responses.create(model=MODEL, input=[{"type": "item_reference", "id": "msg_x"}])
        client.responses.create(
            model=MODEL,
            input=[{"role": "user", "content": "x"}, {"type": "item_reference", "id": "rs_x"}],
        )
        with pytest.raises(openai.NotFoundError):
            client.responses.cancel("resp_x")

    def test_a_response_that_is_not_stored(self, client):
        response = client.responses.create(model=MODEL, input="x", store=False)
        assert response.store is False
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(response.id)

    def test_it_belongs_to_its_client(self, start_daemon):
        daemon = start_daemon(proxy={"accessTokens": TOKENS})
        anna, bert = (token["token"] for token in TOKENS)
        made = ask(daemon, {"model": MODEL, "input": "secret"}, token=anna).json
        path = f"{RESPONSES}/{made['id']}"
        assert ask(daemon, None, "GET", path, token=anna).json == made
        for method, below in (("GET", ""), ("GET", "/input_items"), ("DELETE", "")):
            assert ask(daemon, None, method, path + below, token=bert).status == 404
        refused = ask(
            daemon,
            {"model": MODEL, "input": "x", "previous_response_id": made["id"]},
            token=bert,
        )
        assert refused.error["code"] == "previous_response_not_found"
        item = {"type": "item_reference", "id": made["output"][0]["id"]}
        assert ask(daemon, {"model": MODEL, "input": [item]}, token=bert).status == 400
        assert ask(daemon, None, "GET", path, token=anna).json == made

    def test_it_belongs_to_the_token_and_not_to_its_place_in_the_list(
        self, start_daemon, simulator
    ):
        keys, store = keys_of("alpha", "beta"), {"store": "state"}
        alice, bob, carol = (
            f"the-token-of-{name}-0123456789" for name in ("alice", "bob", "carol")
        )
        daemon = start_daemon(proxy={"accessTokens": [alice, bob]}, responses=store)
        made = ask(daemon, {"model": MODEL, "input": "secret"}, token=alice).json
        own = ask(daemon, {"model": MODEL, "input": "mine"}, token=bob).json
        path, of_bob = f"{RESPONSES}/{made['id']}", f"{RESPONSES}/{own['id']}"
        proxy = {"accessTokens": [bob, carol]}
        daemon.configure(keys, proxy=proxy, responses=store)
        assert daemon.reload().status == 200
        assert ask(daemon, None, "GET", path, token=bob).status == 404
        assert ask(daemon, None, "GET", of_bob, token=bob).status == 200
        daemon.stop()
        again = type(daemon)(daemon.folder, simulator.url, keys, proxy=proxy, responses=store)
        try:
            assert ask(again, None, "GET", path, token=bob).status == 404
            assert ask(again, None, "GET", of_bob, token=carol).status == 404
            assert ask(again, None, "GET", of_bob, token=bob).json == own
        finally:
            again.stop()

    @pytest.mark.parametrize("limit", ["0001" + "0" * 5000, "0", "101", "-1", "+1", "%D9%A1", "x"])
    def test_the_limit_of_a_page_is_a_number_from_1_to_100(self, shared_daemon, limit):
        made = ask(shared_daemon, {"model": MODEL, "input": "x"}).json
        path = f"{RESPONSES}/{made['id']}/input_items?limit={limit}"
        got = ask(shared_daemon, None, "GET", path)
        assert (got.status, got.error["param"]) == (400, "limit")

    def test_it_may_outlive_a_restart(self, start_daemon, simulator):
        daemon = start_daemon(responses={"store": "state"})
        first = ask(daemon, {"model": MODEL, "input": "One"}).json
        second = ask(
            daemon, {"model": MODEL, "input": "Two", "previous_response_id": first["id"]}
        ).json
        daemon.stop()
        again = type(daemon)(
            daemon.folder, simulator.url, keys_of("alpha", "beta"), responses={"store": "state"}
        )
        try:
            assert ask(again, None, "GET", f"{RESPONSES}/{second['id']}").json == second
            body = {"model": MODEL, "input": "Three", "previous_response_id": second["id"]}
            assert ask(again, body).status == 200
            texts = [
                content["parts"][0]["text"]
                for content in generations(simulator)[-1]["body"]["contents"]
            ]
            assert (texts[0], texts[2], texts[4]) == ("One", "Two", "Three")
            # A reload can switch it off.
            again.configure(keys_of("alpha", "beta"), responses={"store": False})
            assert again.reload().status == 200
            assert ask(again, None, "GET", f"{RESPONSES}/{second['id']}").status == 404
            assert ask(again, {"model": MODEL, "input": "x"}).json["store"] is False
        finally:
            again.stop()

    def test_a_large_image_of_an_earlier_request(self, start_daemon, simulator):
        """It is passed by without being decoded, and kept as the client wrote it."""
        daemon = start_daemon()
        picture = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 6000).decode()
        url = f"data:image/png;base64,{picture}"
        content = [{"type": "input_image", "image_url": url}]
        first = ask(daemon, {"model": MODEL, "input": [{"role": "user", "content": content}]}).json
        body = {"model": MODEL, "input": "And now?", "previous_response_id": first["id"]}
        assert ask(daemon, body).status == 200
        # The simulator shortens what it remembers.
        (before, after) = (
            request["body"]["contents"][0]["parts"][0]["inlineData"]
            for request in generations(simulator)
        )
        assert before == after
        path = f"{RESPONSES}/{first['id']}/input_items"
        (item,) = ask(daemon, None, "GET", path).json["data"]
        assert item["content"] == content


class TestErrors:
    @pytest.mark.parametrize(
        ("fields", "param"),
        [
            ({"input": []}, "input"),
            ({"background": True}, "background"),
            ({"tools": [{"type": "file_search"}]}, "tools[0].type"),
            ({"temperature": 3}, "temperature"),
        ],
    )
    def test_a_mistake_is_named(self, shared_daemon, fields, param):
        error = ask(shared_daemon, {"model": MODEL, "input": "x", **fields}).error
        assert error["param"] == param

    def test_errors_of_the_right_class(self, start_daemon, simulator):
        with sdk_of(start_daemon()) as client:
            simulator.behave_all("rate-limited-minute")
            with pytest.raises(openai.RateLimitError):
                client.responses.create(model=MODEL, input="x")
            with pytest.raises(openai.NotFoundError):
                client.responses.create(model="gpt-4o:x", input="x")
            with pytest.raises(openai.NotFoundError) as caught:
                client.post("/responses/compact", cast_to=object, body={"model": MODEL})
            assert caught.value.code == "unsupported_endpoint"

    @pytest.mark.parametrize("behaviour", ["cut", "truncated", "error-mid-stream"])
    def test_a_broken_stream_fails(self, start_daemon, behaviour):
        daemon = start_daemon()
        asked = {"model": MODEL, "input": f"[simulate:words n=80] [simulate:{behaviour} chunks=3]"}
        events = checked(ask(daemon, {**asked, "stream": True}).body)
        assert events[-1]["response"]["error"]["code"] == "server_error"
        with sdk_of(daemon) as client, client.responses.stream(**asked) as stream:
            for _ in stream:
                pass
            with pytest.raises(RuntimeError):
                stream.get_final_response()

    def test_a_failure_before_the_first_event(self, start_daemon, simulator):
        """The head may be sent early; then the failure is a response that failed."""
        daemon = start_daemon(streaming={"headersAfterSeconds": 0})
        simulator.behave_all("overloaded")
        body = ask(daemon, {"model": MODEL, "input": "x", "stream": True}).body
        assert checked(body)[-1]["type"] == "response.failed"

    def test_a_blocked_prompt_is_a_refusal(self, client):
        response = client.responses.create(model=MODEL, input="x [simulate:block]")
        assert (response.status, response.incomplete_details.reason) == (
            "incomplete",
            "content_filter",
        )
        assert response.output[0].content[0].type == "refusal"


def test_each_request_is_logged_by_its_route(start_daemon):
    daemon = start_daemon()
    answer = ask(daemon, {"model": MODEL, "input": "x"})
    line = daemon.request_line(answer.headers["x-request-id"])
    assert (line["route"], line["model"], line["status"]) == (RESPONSES, MODEL, 200)
    shown = ask(daemon, None, "GET", f"{RESPONSES}/{json.loads(answer.body)['id']}")
    line = daemon.request_line(shown.headers["x-request-id"])
    assert line["route"] == f"{RESPONSES}/{{id}}"
