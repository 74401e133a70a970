"""Google's own SDK, nothing changed but its base URL. The older major runs the same tests."""

import base64
import io
import struct
import zlib

import pytest
from google import genai
from google.genai import errors, types
from pydantic import BaseModel

MAJOR = int(genai.__version__.partition(".")[0])


class Wheel(BaseModel):
    """A wheel."""

    inches: int
    spokes: int | None


def _picture():
    """A PNG of one grey pixel."""

    def chunk(name, data):
        body = name + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n"
        + header
        + chunk(b"IDAT", zlib.compress(b"\0\x80"))
        + chunk(b"IEND", b"")
    )


PICTURE = _picture()


@pytest.fixture
def client(proxy):
    with genai.Client(
        api_key=proxy.token,
        http_options={"base_url": proxy.url.removesuffix("/v1"), "timeout": 60_000},
    ) as client:
        yield client


def test_answer(client, proxy, simulator):
    answer = client.models.generate_content(
        model=proxy.model,
        contents="How are rivers made?",
        config={"thinking_config": {"include_thoughts": True}},
    )
    assert answer.text.startswith('You said: "How are rivers made?".')
    assert answer.candidates[0].finish_reason is types.FinishReason.STOP
    assert any(part.thought for part in answer.parts)
    assert answer.usage_metadata.total_token_count > 0
    (request,) = simulator.generations()
    sent = request["headers"]
    assert sent["x-goog-api-client"].startswith("google-genai-sdk/")
    assert request["path"].startswith("/v1/" if MAJOR >= 3 else "/v1beta/")


def test_stream(client, proxy, simulator):
    asked = {"model": proxy.model, "contents": "How are rivers made? [simulate:words n=60]"}
    chunks = list(client.models.generate_content_stream(**asked))
    whole = client.models.generate_content(**asked)
    assert len(chunks) > 2
    assert "".join(chunk.text or "" for chunk in chunks) == whole.text
    last, total = chunks[-1].usage_metadata, whole.usage_metadata
    assert last.total_token_count == total.total_token_count


def test_three_steps_with_parallel_calls_and_genuine_signatures(client, signing, simulator):
    ran = []

    def get_weather(city: str) -> str:
        """The weather of a city."""
        ran.append(("get_weather", city))
        return "4 degrees"

    def get_time(zone: str) -> str:
        """The time of a zone."""
        ran.append(("get_time", zone))
        return "12:30"

    chat = client.chats.create(
        model=signing.model,
        config=types.GenerateContentConfig(tools=[get_weather, get_time]),
    )
    for step in range(3):
        answer = chat.send_message(
            f'Step {step}: call get_weather with {{"city": "Oslo"}} and'
            f' call get_time with {{"zone": "Europe/Oslo"}}'
        )
        assert answer.text
    assert ran == [("get_weather", "Oslo"), ("get_time", "Europe/Oslo")] * 3
    both = [("get_weather", {"city": "Oslo"}), ("get_time", {"zone": "Europe/Oslo"})]
    assert simulator.calls_that_came_back() == [both] * 3


def test_a_streamed_step_with_calls(client, signing, simulator):
    declared = [
        types.FunctionDeclaration(
            name="get_weather",
            parameters_json_schema={"type": "object", "properties": {"city": {"type": "string"}}},
        )
    ]
    config = types.GenerateContentConfig(tools=[types.Tool(function_declarations=declared)])
    contents = [types.UserContent('call get_weather with {"city": "Oslo"}')]
    parts = []
    asked = {"model": signing.model, "config": config}
    for chunk in client.models.generate_content_stream(contents=contents, **asked):
        parts += chunk.candidates[0].content.parts or []
    contents.append(types.ModelContent([part for part in parts if part.function_call]))
    call = contents[-1].parts[0].function_call
    assert (call.name, call.args) == ("get_weather", {"city": "Oslo"})
    result = types.Part.from_function_response(name=call.name, response={"degrees": 4})
    result.function_response.id = call.id
    contents.append(types.UserContent([result]))
    answer = client.models.generate_content(contents=contents, **asked)
    assert answer.text
    assert simulator.calls_that_came_back() == [[("get_weather", {"city": "Oslo"})]]


def test_structured_output(client, proxy, simulator):
    answer = client.models.generate_content(
        model=proxy.model,
        contents="A wheel.",
        config={"response_mime_type": "application/json", "response_schema": Wheel},
    )
    assert isinstance(answer.parsed, Wheel)


def test_images_in_both_directions(client, proxy, simulator):
    image = types.Part.from_bytes(data=PICTURE, mime_type="image/png")
    contents = [types.UserContent(["What is it?", image])]
    assert client.models.generate_content(model=proxy.model, contents=contents).text
    sent = simulator.generations()[-1]["body"]["contents"][0]["parts"][1]["inlineData"]
    assert base64.b64decode(sent["data"], altchars=b"-_") == PICTURE
    made = client.models.generate_content(
        model="gemini-3.1-flash-image",
        contents="Draw a wheel.",
        config={"response_modalities": ["TEXT", "IMAGE"]},
    )
    assert any(part.inline_data for part in made.parts)


def test_counting_embedding_and_models(client, proxy, simulator):
    assert client.models.count_tokens(model=proxy.model, contents="Hello").total_tokens > 0
    texts = [f"text {place}" for place in range(3)]
    made = client.models.embed_content(
        model="gemini-embedding-001", contents=texts, config={"output_dimensionality": 64}
    )
    assert [len(each.values) for each in made.embeddings] == [64] * 3
    names = [model.name for model in client.models.list(config={"page_size": 5})]
    assert len(names) == len(set(names)) > 5
    assert f"models/{proxy.model}" in names
    assert client.models.get(model=proxy.model).input_token_limit > 0


def test_a_file_is_uploaded_used_listed_and_deleted(client, proxy, simulator, tmp_path):
    path = tmp_path / "notes.txt"
    path.write_bytes(b"a line of notes\n" * 20_000)
    file = client.files.upload(file=path, config={"display_name": "notes"})
    assert (file.display_name, file.size_bytes) == ("notes", 320_000)
    assert client.files.get(name=file.name).uri == file.uri
    assert file.name in [each.name for each in client.files.list(config={"page_size": 1})]
    assert client.files.download(file=file) == path.read_bytes()
    for _ in range(3):
        answer = client.models.generate_content(model=proxy.model, contents=["Sum it up.", file])
        assert answer.text
    assert len({request["key"] for request in simulator.generations()}) == 1
    client.files.delete(name=file.name)
    with pytest.raises(errors.ClientError):
        client.files.get(name=file.name)


def test_a_file_of_bytes_and_one_in_a_store(client, proxy, simulator, tmp_path):
    config = {"mime_type": "text/csv", "display_name": "table"}
    file = client.files.upload(file=io.BytesIO(b"a,b\n" * 100), config=config)
    assert (file.mime_type, file.size_bytes) == ("text/csv", 400)
    store = client.file_search_stores.create(config={"display_name": "kept"})
    path = tmp_path / "notes.txt"
    path.write_bytes(b"a line of notes\n")
    operation = client.file_search_stores.upload_to_file_search_store(
        file_search_store_name=store.name, file=path
    )
    assert client.operations.get(operation).done
    search = types.Tool(file_search=types.FileSearch(file_search_store_names=[store.name]))
    config = types.GenerateContentConfig(tools=[search])
    answer = client.models.generate_content(
        model=proxy.model, contents="What is in it?", config=config
    )
    assert answer.text
    client.file_search_stores.delete(name=store.name, config={"force": True})


def test_an_image_in_the_result_of_a_call(client, proxy, simulator):
    config = types.GenerateContentConfig(
        tools=[types.Tool(function_declarations=[types.FunctionDeclaration(name="look")])]
    )
    contents = [types.UserContent("call look with {}")]
    asked = {"model": proxy.model, "config": config}
    call = client.models.generate_content(contents=contents, **asked)
    contents.append(call.candidates[0].content)
    blob = types.FunctionResponseBlob(mime_type="image/png", data=PICTURE)
    result = types.Part.from_function_response(
        name="look",
        response={"result": "see"},
        parts=[types.FunctionResponsePart(inline_data=blob)],
    )
    result.function_response.id = call.function_calls[0].id
    contents.append(types.UserContent([result]))
    assert client.models.generate_content(contents=contents, **asked).text
    (sent,) = simulator.generations()[-1]["body"]["contents"][-1]["parts"]
    # The SDK names it in snake case here.
    data = sent["functionResponse"]["parts"][0]["inline_data"]["data"]
    assert base64.b64decode(data, altchars=b"-_") == PICTURE


def test_a_cache_and_a_batch(client, proxy, simulator):
    config = {"contents": ["a long text"], "ttl": "300s", "display_name": "kept"}
    cache = client.caches.create(model=proxy.model, config=config)
    for _ in range(3):
        assert client.models.generate_content(
            model=proxy.model, contents="Go on.", config={"cached_content": cache.name}
        ).text
    assert cache.name in [each.name for each in client.caches.list()]
    client.caches.delete(name=cache.name)
    inlined = [{"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]}]
    batch = client.batches.create(model=proxy.model, src=inlined)
    assert client.batches.get(name=batch.name).name == batch.name
    assert batch.name in [each.name for each in client.batches.list()]
    client.batches.cancel(name=batch.name)


@pytest.mark.parametrize(
    ("behaviour", "model", "code", "kind"),
    [
        ("overloaded", "gemini-3.5-flash-lite", 503, errors.ServerError),
        ("internal-error", "gemini-3.1-flash-lite", 500, errors.ServerError),
        ("rate-limited", "gemini-4-hydrogen", 429, errors.ClientError),
    ],
)
def test_errors_are_of_the_right_class(client, simulator, behaviour, model, code, kind):
    # Each has a model of its own, whose breaker it may open.
    asked = {"model": model, "contents": f"[simulate:{behaviour}] Hello"}
    with pytest.raises(kind) as caught:
        client.models.generate_content(**asked)
    assert caught.value.code == code
    with pytest.raises(kind):
        list(client.models.generate_content_stream(**asked))


def test_a_wrong_token_and_an_unknown_model(proxy, client, simulator):
    with pytest.raises(errors.ClientError) as unknown:
        client.models.generate_content(model="nothing-of-the-kind", contents="Hello")
    assert (unknown.value.code, unknown.value.status) == (404, "NOT_FOUND")
    options = {"base_url": proxy.url.removesuffix("/v1")}
    wrong = genai.Client(api_key="a-wrong-token", http_options=options)
    with pytest.raises(errors.ClientError) as refused:
        wrong.models.generate_content(model=proxy.model, contents="Hello")
    assert (refused.value.code, refused.value.status) == (401, "UNAUTHENTICATED")


def test_a_broken_stream_raises(client, broken, simulator):
    prompt, model = broken
    with pytest.raises(Exception) as caught:  # noqa: PT011 - each transport has its own
        list(client.models.generate_content_stream(model=model, contents=prompt))
    assert not isinstance(caught.value, (AssertionError, ValueError))
