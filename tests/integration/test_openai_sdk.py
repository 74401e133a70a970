"""The official OpenAI SDK with nothing changed but its base_url, sync and async."""

import asyncio
import base64
import enum
import json
from typing import Literal

import openai
import pytest
from fakes.clients import MODEL, async_sdk_of, said, sdk_of
from fakes.running import RunningDaemon, keys_of, secret_of
from pydantic import BaseModel

from gemproxy.simulator import calls, words

PLAIN = "gemini-2.5-flash-lite"  # does not think unless it is told to
SIGNING = ("gemini-3.8-flash", "gemini-3.1-pro-preview", "gemini-3-flash-preview")


def function(name, **properties):
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    described = {"name": name, "description": f"The function {name}.", "parameters": parameters}
    return {"type": "function", "function": described}


TOOLS = [
    function("get_weather", city={"type": "string"}),
    function("get_time", zone={"type": "string"}),
]
WEATHER = 'call get_weather with {"city": "Oslo"}'
BOTH = WEATHER + ' and call get_time with {"zone": "Europe/Oslo"}'


@pytest.fixture
def client(shared_daemon, simulator):
    simulator.reset()
    with sdk_of(shared_daemon) as client:
        yield client


@pytest.fixture(params=["sync", "async"])
def create(request, client, shared_daemon):
    """``chat.completions.create`` of either client; a stream comes as the list of its chunks."""
    if request.param == "sync":
        yield lambda **arguments: whole(client.chat.completions.create(**arguments))
        return

    async def ask(arguments):
        async with async_sdk_of(shared_daemon) as asynchronous:
            answer = await asynchronous.chat.completions.create(**arguments)
            if isinstance(answer, openai.AsyncStream):
                return [chunk async for chunk in answer]
            return answer

    yield lambda **arguments: asyncio.run(ask(arguments))


def whole(answer):
    return list(answer) if isinstance(answer, openai.Stream) else answer


def text_of(chunks, index=0, field="content"):
    return "".join(
        getattr(choice.delta, field, None) or ""
        for chunk in chunks
        for choice in chunk.choices
        if choice.index == index
    )


def finish_of(chunks, index=0):
    return [
        choice.finish_reason
        for chunk in chunks
        for choice in chunk.choices
        if choice.index == index and choice.finish_reason
    ]


def streamed_calls(chunks):
    """The tool calls of a stream, put together as the API reference says."""
    made = {}
    for chunk in chunks:
        for piece in chunk.choices[0].delta.tool_calls or [] if chunk.choices else []:
            call = made.setdefault(piece.index, {"type": "function", "name": "", "arguments": ""})
            call["id"] = piece.id or call["id"]
            call["name"] += piece.function.name or ""
            call["arguments"] += piece.function.arguments or ""
    return [made[index] for index in range(len(made))]


def parts_sent(simulator, content=-1):
    return simulator.requests()[-1]["body"]["contents"][content]["parts"]


# ---- text --------------------------------------------------------------------------------------


def test_completion(create, simulator):
    completion = create(**said("How are rivers made?"))
    (choice,) = completion.choices
    assert completion.object == "chat.completion"
    assert completion.id.startswith("chatcmpl-")
    assert completion.model == MODEL
    assert choice.index == 0
    assert choice.finish_reason == "stop"
    assert choice.message.role == "assistant"
    assert choice.message.content.startswith('You said: "How are rivers made?".')
    assert choice.message.refusal is None
    usage = completion.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert 0 < usage.completion_tokens_details.reasoning_tokens < usage.completion_tokens
    (request,) = simulator.requests()
    assert request["credentials"] == ["x-goog-api-key"]


def test_stream_says_what_the_unary_answer_says(create):
    asked = said("How are rivers made? [simulate:words n=60]")
    completion = create(**asked)
    chunks = create(**asked, stream=True)
    assert text_of(chunks) == completion.choices[0].message.content
    assert finish_of(chunks) == ["stop"]
    assert len(chunks) > 5
    assert len({chunk.id for chunk in chunks}) == 1
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert [c.choices[0].delta.role for c in chunks if c.choices[0].delta.role] == ["assistant"]
    assert all(chunk.usage is None for chunk in chunks)


def test_stream_ends_with_the_usage_that_was_asked_for(create):
    asked = said("How are rivers made?")
    *chunks, last = create(**asked, stream=True, stream_options={"include_usage": True})
    assert last.choices == []
    assert last.usage == create(**asked).usage
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)


def test_system_message_and_earlier_turns_reach_the_model(client, simulator):
    client.chat.completions.create(
        model=MODEL,
        messages=[
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": "One?"},
            {"role": "assistant", "content": "Yes."},
            {"role": "user", "content": [{"type": "text", "text": "Two?"}]},
        ],
    )
    body = simulator.requests()[-1]["body"]
    assert body["systemInstruction"]["parts"] == [{"text": "Be brief."}]
    assert [(c["role"], c["parts"][0]["text"]) for c in body["contents"]] == [
        ("user", "One?"),
        ("model", "Yes."),
        ("user", "Two?"),
    ]


# ---- tools -------------------------------------------------------------------------------------


def as_it_came(message):
    return message


def with_known_fields_only(message):
    """What a client keeps that knows no field of Google's."""
    kept = [
        {"id": c.id, "type": "function", "function": c.function.model_dump(include=FUNCTION)}
        for c in message.tool_calls
    ]
    return {"role": "assistant", "content": message.content, "tool_calls": kept}


FUNCTION = {"name", "arguments"}


@pytest.mark.parametrize("replay", [as_it_came, with_known_fields_only])
@pytest.mark.parametrize("model", SIGNING)
def test_tool_round_trip_keeps_the_thought_signature(create, simulator, model, replay):
    asked = said(WEATHER, model, tools=TOOLS)
    first = create(**asked).choices[0]
    assert first.finish_reason == "tool_calls"
    assert first.message.content is None
    (call,) = first.message.tool_calls
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments) == {"city": "Oslo"}

    result = {"role": "tool", "tool_call_id": call.id, "content": '{"celsius": 4}'}
    asked["messages"] += [replay(first.message), result]
    second = create(**asked).choices[0]
    assert second.finish_reason == "stop"
    assert second.message.content.startswith('get_weather returned {"celsius": 4}.')

    (called,), (answered,) = parts_sent(simulator, 1), parts_sent(simulator, 2)
    assert called["functionCall"]["args"] == {"city": "Oslo"}
    assert called["thoughtSignature"] == issued(called["functionCall"])
    assert called["functionCall"].get("id") == answered["functionResponse"].get("id")
    assert ("id" in called["functionCall"]) == (model != "gemini-3-flash-preview")


def issued(call):
    """The signature that the simulator gave to a call, with its seed of 0."""
    return calls.sign(0, call)


def test_signature_of_a_streamed_call_comes_from_the_proxys_own_store(create, simulator):
    asked = said(WEATHER, tools=TOOLS)
    chunks = create(**asked, stream=True)
    assert finish_of(chunks) == ["tool_calls"]
    (call,) = streamed_calls(chunks)
    kept = {"id": call["id"], "type": "function", "function": {k: call[k] for k in FUNCTION}}
    asked["messages"] += [
        {"role": "assistant", "tool_calls": [kept]},
        {"role": "tool", "tool_call_id": call["id"], "content": "4 degrees"},
    ]
    text = text_of(create(**asked, stream=True))
    assert text.startswith('get_weather returned {"output": "4 degrees"}.')
    (called,) = parts_sent(simulator, 1)
    assert called["thoughtSignature"] == issued(called["functionCall"])


def test_parallel_tool_calls(create, simulator):
    asked = said(BOTH, tools=TOOLS)
    choice = create(**asked).choices[0]
    made = choice.message.tool_calls
    assert choice.finish_reason == "tool_calls"
    assert [(c.function.name, json.loads(c.function.arguments)) for c in made] == [
        ("get_weather", {"city": "Oslo"}),
        ("get_time", {"zone": "Europe/Oslo"}),
    ]
    assert made[0].id != made[1].id
    asked["messages"] += [
        choice.message,
        *({"role": "tool", "tool_call_id": c.id, "content": c.function.name} for c in made[::-1]),
    ]
    assert create(**asked).choices[0].finish_reason == "stop"
    answered = [part["functionResponse"] for part in parts_sent(simulator, 2)]
    assert [(a["name"], a["response"]) for a in answered] == [
        ("get_weather", {"output": "get_weather"}),
        ("get_time", {"output": "get_time"}),
    ]


def test_parallel_tool_calls_in_a_stream_equal_the_unary_ones(create):
    asked = said(BOTH, tools=TOOLS)
    chunks = create(**asked, stream=True)
    made = create(**asked).choices[0].message.tool_calls
    assert finish_of(chunks) == ["tool_calls"]
    assert [(c["name"], c["arguments"]) for c in streamed_calls(chunks)] == [
        (c.function.name, c.function.arguments) for c in made
    ]
    assert len({c["id"] for c in streamed_calls(chunks)}) == 2


def test_tool_choice(create):
    forced = {"type": "function", "function": {"name": "get_time"}}
    chosen = create(**said("Hello", tools=TOOLS, tool_choice=forced)).choices[0]
    assert [call.function.name for call in chosen.message.tool_calls] == ["get_time"]
    none = create(**said(WEATHER, tools=TOOLS, tool_choice="none")).choices[0]
    assert none.message.tool_calls is None
    assert none.finish_reason == "stop"


# ---- structured output -------------------------------------------------------------------------


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Wheel(BaseModel):
    inches: int
    spokes: int | None


class Bicycle(BaseModel):
    name: str
    colour: Colour
    kind: Literal["road", "city"]
    wheels: list[Wheel]
    owner: str | None
    price: float


def test_parse_gives_the_pydantic_model(client, shared_daemon):
    asked = said("Describe a bicycle.", response_format=Bicycle)
    message = client.chat.completions.parse(**asked).choices[0].message
    assert isinstance(message.parsed, Bicycle)
    assert isinstance(message.parsed.wheels[0], Wheel)

    async def parse():
        async with async_sdk_of(shared_daemon) as asynchronous:
            return await asynchronous.chat.completions.parse(**asked)

    assert asyncio.run(parse()).choices[0].message.parsed == message.parsed


def test_stream_helper_parses_as_it_goes(client):
    asked = said("Describe a bicycle.", response_format=Bicycle)
    with client.chat.completions.stream(**asked) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_completion().choices[0]
    assert kinds.count("content.delta") > 1
    assert kinds.count("content.done") == 1
    assert final.finish_reason == "stop"
    assert final.message.parsed == client.chat.completions.parse(**asked).choices[0].message.parsed


def test_stream_helper_of_the_async_client_collects_tool_calls(shared_daemon):
    tools = [openai.pydantic_function_tool(Wheel, name="make_wheel")]

    async def collect():
        async with (
            async_sdk_of(shared_daemon) as client,
            client.chat.completions.stream(**said("make_wheel please", tools=tools)) as stream,
        ):
            kinds = [event.type async for event in stream]
            return kinds, await stream.get_final_completion()

    kinds, completion = asyncio.run(collect())
    (call,) = completion.choices[0].message.tool_calls
    assert "tool_calls.function.arguments.done" in kinds
    assert isinstance(call.function.parsed_arguments, Wheel)


def test_json_mode(create):
    completion = create(**said("Hello", response_format={"type": "json_object"}))
    assert isinstance(json.loads(completion.choices[0].message.content), dict)


# ---- media -------------------------------------------------------------------------------------

PICTURE = words.picture(words.dice_for("vision"), side=2)
SOUND = base64.b64encode(b"RIFF\x24\0\0\0WAVEfmt ").decode()
DOCUMENT = base64.b64encode(b"%PDF-1.4\n%%EOF\n").decode()
MEDIA = {
    "vision": (
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PICTURE}"}},
        {"mimeType": "image/png", "data": PICTURE},
    ),
    "sound": (
        {"type": "input_audio", "input_audio": {"data": SOUND, "format": "wav"}},
        {"mimeType": "audio/wav", "data": SOUND},
    ),
    "document": (
        {
            "type": "file",
            "file": {
                "filename": "letter.pdf",
                "file_data": f"data:application/pdf;base64,{DOCUMENT}",
            },
        },
        {"mimeType": "application/pdf", "data": DOCUMENT},
    ),
}


@pytest.mark.parametrize("kind", MEDIA)
def test_media_reach_the_model_byte_for_byte(create, simulator, kind):
    part, blob = MEDIA[kind]
    content = [{"type": "text", "text": "What is this?"}, part]
    completion = create(model=MODEL, messages=[{"role": "user", "content": content}])
    assert f"With it came {blob['mimeType']} of" in completion.choices[0].message.content
    assert parts_sent(simulator) == [{"text": "What is this?"}, {"inlineData": blob}]


# ---- parameters --------------------------------------------------------------------------------


def test_reasoning_effort_brings_reasoning_content(create, simulator):
    asked = said("Think hard.", reasoning_effort="high")
    completion = create(**asked)
    thoughts = completion.choices[0].message.reasoning_content
    assert "Weighing the Question" in thoughts
    assert "Weighing" not in completion.choices[0].message.content
    assert completion.usage.completion_tokens_details.reasoning_tokens > 0
    config = simulator.requests()[-1]["body"]["generationConfig"]["thinkingConfig"]
    assert config["includeThoughts"] is True
    assert config["thinkingLevel"].upper() == "HIGH"
    chunks = create(**asked, stream=True)
    assert text_of(chunks, field="reasoning_content") == thoughts
    assert text_of(chunks) == completion.choices[0].message.content


def test_two_choices(create):
    asked = said("Hello", "gemini-2.5-flash", n=2)
    choices = create(**asked).choices
    assert [choice.index for choice in choices] == [0, 1]
    assert choices[0].message.content != choices[1].message.content
    chunks = create(**asked, stream=True)
    for index in (0, 1):
        assert text_of(chunks, index) == choices[index].message.content
        assert finish_of(chunks, index) == ["stop"]


def test_logprobs(create):
    # The one model here that gives them, also in a stream.
    asked = said("[simulate:echo] one two", "gemini-2.5-flash-lite", logprobs=True, top_logprobs=2)
    choice = create(**asked).choices[0]
    assert [item.token for item in choice.logprobs.content] == ["one", " two"]
    for item in choice.logprobs.content:
        assert item.logprob < 0
        assert bytes(item.bytes).decode() == item.token
        assert len(item.top_logprobs) == 2
    streamed = [
        item
        for chunk in create(**asked, stream=True)
        for chunk_choice in chunk.choices
        if chunk_choice.logprobs
        for item in chunk_choice.logprobs.content
    ]
    assert streamed == choice.logprobs.content


def test_stop_sequence(create):
    choice = create(**said("[simulate:echo] one two three", stop=[" two"])).choices[0]
    assert choice.message.content == "one"
    assert choice.finish_reason == "stop"


def test_token_limit_ends_with_length(create):
    asked = said("[simulate:words n=100]", PLAIN, max_completion_tokens=12)
    completion = create(**asked)
    assert completion.choices[0].finish_reason == "length"
    assert completion.usage.completion_tokens == 12
    assert completion.choices[0].message.content
    assert finish_of(create(**asked, stream=True)) == ["length"]


def test_token_limit_that_thinking_eats_up_is_no_error(create):
    completion = create(**said("Hello", max_completion_tokens=5))
    assert completion.choices[0].finish_reason == "length"
    assert not completion.choices[0].message.content
    assert completion.usage.completion_tokens_details.reasoning_tokens == 5


def test_blocked_prompt_is_a_content_filter_with_the_reason_as_refusal(create):
    asked = said("[simulate:block reason=PROHIBITED_CONTENT] Hello")
    choice = create(**asked).choices[0]
    assert choice.finish_reason == "content_filter"
    assert "PROHIBITED_CONTENT" in choice.message.refusal
    assert not choice.message.content
    chunks = create(**asked, stream=True)
    assert finish_of(chunks) == ["content_filter"]
    assert text_of(chunks, field="refusal") == choice.message.refusal


def test_blocked_answer_keeps_its_beginning(create):
    choice = create(**said("[simulate:safety text=true] Hello")).choices[0]
    assert choice.finish_reason == "content_filter"
    assert "SAFETY" in choice.message.refusal
    assert choice.message.content


def test_parse_raises_for_what_was_blocked(client):
    with pytest.raises(openai.ContentFilterFinishReasonError):
        client.chat.completions.parse(**said("[simulate:block]", response_format=Bicycle))


# ---- errors ------------------------------------------------------------------------------------


def failing(create, expected, **arguments):
    """The error of exactly the expected class."""
    with pytest.raises(openai.APIStatusError) as caught:
        create(**arguments)
    assert type(caught.value) is expected
    error = caught.value
    assert error.request_id == error.response.headers["x-request-id"]
    assert set(error.body) == {"message", "type", "param", "code"}
    assert error.message
    return error


@pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])
def test_mistake_in_the_request_names_its_place(create, simulator, stream):
    bad = {"role": "wizard", "content": "Hello"}
    error = failing(create, openai.BadRequestError, model=MODEL, messages=[bad], stream=stream)
    assert (error.type, error.param) == ("invalid_request_error", "messages[0].role")
    assert "wizard" in error.message
    assert simulator.requests() == []


@pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])
def test_request_that_google_refuses_is_a_bad_request(create, simulator, stream):
    error = failing(create, openai.BadRequestError, **said("[simulate:bad-request]", stream=stream))
    assert error.type == "invalid_request_error"
    assert len(simulator.requests()) == 1


def test_prompt_that_is_too_long(create):
    error = failing(create, openai.BadRequestError, **said("[simulate:context-too-long]"))
    assert error.code == "context_length_exceeded"


@pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])
def test_unknown_model(create, simulator, stream):
    error = failing(create, openai.NotFoundError, **said("Hi", "gemini-99-none", stream=stream))
    assert (error.type, error.code, error.param) == (
        "invalid_request_error",
        "model_not_found",
        "model",
    )
    assert len(simulator.requests()) == 1


# Each uses a model of its own: what they do to a model's breaker or quota is the model's alone.
@pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])
@pytest.mark.parametrize(
    ("behaviour", "model", "status", "code"),
    [
        ("overloaded", "gemini-3.7-flash", 503, "upstream_error"),
        ("internal-error", "gemini-3.6-flash", 500, "upstream_error"),
        ("bad-gateway", "gemini-3.5-flash", 502, "upstream_error"),
        ("deadline-exceeded", "gemini-3.5-flash-lite", 504, "upstream_timeout"),
        ("reset", "gemini-2.5-pro", 502, "upstream_error"),
        ("garbage", "gemini-4-argon", 502, "upstream_error"),
    ],
)
def test_upstream_that_fails_with_every_key(client, behaviour, model, status, code, stream):
    error = failing(
        client.chat.completions.create,
        openai.InternalServerError,
        **said(f"[simulate:{behaviour}]", model, stream=stream),
    )
    assert (error.status_code, error.code, error.type) == (status, code, "server_error")
    assert error.response.headers["x-gemproxy-attempts"] == "3"
    client.chat.completions.create(**said("Hello again", model))


def test_rate_limit_of_every_key_says_when_to_come_back(client):
    asked = said("[simulate:rate-limited-minute retryDelay=34]", "gemini-4-carbon")
    error = failing(client.chat.completions.create, openai.RateLimitError, **asked)
    assert (error.type, error.code) == ("rate_limit_error", "rate_limit_exceeded")
    assert 30 <= int(error.response.headers["retry-after"]) <= 34
    assert "x-should-retry" not in error.response.headers
    again = failing(client.chat.completions.create, openai.RateLimitError, **asked, stream=True)
    assert again.response.headers["x-gemproxy-attempts"] == "0"


def test_quota_of_the_day_tells_the_sdk_not_to_try_again(shared_daemon, simulator, client):
    asked = said("[simulate:rate-limited-day]", "gemini-4-hydrogen")
    with sdk_of(shared_daemon, max_retries=2) as patient:
        error = failing(patient.chat.completions.create, openai.RateLimitError, **asked)
    assert (error.type, error.code) == ("rate_limit_error", "insufficient_quota")
    assert error.response.headers["x-should-retry"] == "false"
    assert 37 < int(error.response.headers["retry-after"]) <= 25 * 3600
    assert len(simulator.requests()) == 2


@pytest.fixture(scope="module")
def guarded(simulator, tmp_path_factory):
    running = RunningDaemon(
        tmp_path_factory.mktemp("guarded"),
        simulator.url,
        keys_of("alpha"),
        proxy={"accessTokens": ["a-token-of-the-clients"]},
    )
    yield running
    running.stop()


def test_wrong_token_is_an_authentication_error(guarded):
    for stream in (False, True):
        with sdk_of(guarded, api_key=secret_of("alpha")) as client:
            error = failing(
                client.chat.completions.create,
                openai.AuthenticationError,
                **said("Hello", stream=stream),
            )
        assert (error.type, error.code) == ("invalid_request_error", "invalid_api_key")


def test_right_token_is_let_in_and_goes_no_further(guarded, simulator):
    simulator.reset()
    with sdk_of(guarded, api_key="a-token-of-the-clients") as client:
        assert client.chat.completions.create(**said("Hello")).choices
    (request,) = simulator.requests()
    assert request["credentials"] == ["x-goog-api-key"]
    assert "a-token-of-the-clients" not in json.dumps(request)


# ---- headers and the log -----------------------------------------------------------------------


def test_answer_has_the_usual_headers_and_names_no_key(client):
    raw = client.chat.completions.with_raw_response.create(**said("Hello"))
    assert raw.headers["x-request-id"].startswith("req_")
    assert raw.headers["x-gemproxy-attempts"] == "1"
    assert float(raw.headers["openai-processing-ms"]) >= 0
    assert "x-gemproxy-key" not in raw.headers
    assert raw.parse()._request_id == raw.headers["x-request-id"]


@pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])
def test_each_request_has_one_line_in_the_log(shared_daemon, simulator, client, stream):
    raw = client.chat.completions.with_raw_response.create(**said("Hello", stream=stream))
    if stream:
        list(raw.parse())
    line = shared_daemon.request_line(raw.headers["x-request-id"])
    assert line["route"] == "/v1/chat/completions"
    assert line["key"] == simulator.requests()[-1]["key"]
    assert (line["model"], line["stream"]) == (MODEL, stream)
    assert (line["status"], line["outcome"], line["attempts"]) == (200, "success", 1)
    assert 0 < line["first_byte_ms"] <= line["ms"] < 60_000
    assert line["prompt_tokens"] > 0
    assert line["completion_tokens"] > 0
    same = [e for e in shared_daemon.events() if e.get("request_id") == line["request_id"]]
    assert same == [line]
