"""openai: the SDK's own Responses API, in the newest version and in an older major."""

import openai
import pytest
from openai import OpenAI
from pydantic import BaseModel

STEPS = (
    'call get_weather with {"city": "Oslo"} and call get_weather with {"city": "Rome"},'
    ' then call get_time with {"zone": "Europe/Oslo"}'
)
TOOLS = [
    {
        "type": "function",
        "name": name,
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {argument: {"type": "string"}},
            "required": [argument],
            "additionalProperties": False,
        },
    }
    for name, argument in (("get_weather", "city"), ("get_time", "zone"))
]
PNG = "data:image/png;base64,iVBORw0KGgo="


class Wheel(BaseModel):
    """A wheel."""

    inches: int
    spokes: int | None


def client_of(proxy, **more):
    return OpenAI(base_url=proxy.url, **{"api_key": proxy.token, "max_retries": 0, **more})


def respond(client, stream, **asked):
    """A whole response, or the one that a stream comes to."""
    if not stream:
        return client.responses.create(**asked)
    with client.responses.stream(**asked) as events:
        deltas = "".join(
            event.delta for event in events if event.type == "response.output_text.delta"
        )
        final = events.get_final_response()
    assert deltas == final.output_text
    return final


def results_of(response):
    return [
        {"type": "function_call_output", "call_id": item.call_id, "output": f"{item.name} ran"}
        for item in response.output
        if item.type == "function_call"
    ]


@pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])
@pytest.mark.parametrize("store", [False, True], ids=["items", "previous-response"])
def test_three_steps_with_parallel_calls(signing, simulator, stream, store):
    client = client_of(signing)
    asked = {"model": signing.model, "tools": TOOLS, "store": store}
    items, previous = [{"role": "user", "content": STEPS}], None
    for _ in range(3):
        more = {"previous_response_id": previous} if previous else {}
        response = respond(client, stream, input=items, **asked, **more)
        assert response.store is store
        if store:
            items, previous = results_of(response), response.id
        else:
            items += [item.model_dump(exclude_none=True) for item in response.output]
            items += results_of(response)
    assert response.output_text.startswith("get_time returned")
    assert response.usage.total_tokens > 0
    assert simulator.calls_that_came_back() == [
        [("get_weather", {"city": "Oslo"}), ("get_weather", {"city": "Rome"})],
        [("get_time", {"zone": "Europe/Oslo"})],
    ]


def test_structured_output(proxy, simulator):
    client = client_of(proxy)
    parsed = client.responses.parse(model=proxy.model, input="A wheel.", text_format=Wheel)
    assert isinstance(parsed.output_parsed, Wheel)


def test_images_of_the_user_and_of_tools(proxy, simulator):
    image = {"type": "input_image", "image_url": PNG, "detail": "high"}
    client_of(proxy).responses.create(
        model=proxy.model,
        input=[
            {"role": "user", "content": [image]},
            {"type": "function_call", "call_id": "c", "name": "look", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": [image]},
        ],
    )
    user, _, result = simulator.generations()[-1]["body"]["contents"]
    assert user["parts"][0]["inlineData"]
    assert result["parts"][0]["functionResponse"]["parts"][0]["inlineData"]


def test_errors_of_the_right_class(proxy, simulator):
    client = client_of(proxy)
    asked = {"model": proxy.model, "input": "Hi"}
    with pytest.raises(openai.AuthenticationError):
        client_of(proxy, api_key="wrong").responses.create(**asked)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve("resp_unknown")
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(**asked, previous_response_id="resp_unknown")
    assert caught.value.code == "previous_response_not_found"


def test_a_broken_stream_ends_with_its_failure(proxy, simulator, broken):
    prompt, name = broken
    with client_of(proxy).responses.stream(model=name, input=prompt) as events:
        last = list(events)[-1]
        assert last.type == "response.failed"
        assert last.response.error.code == "server_error"
        with pytest.raises(RuntimeError):
            events.get_final_response()
