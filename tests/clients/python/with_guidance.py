"""guidance: its model of OpenAI's API, which only streams, and asks for log probabilities."""

import guidance
import openai
import pytest
from guidance import assistant, gen, system, user
from guidance import json as gen_json
from pydantic import BaseModel


class Wheel(BaseModel):
    """A wheel."""

    inches: int
    spokes: int | None


def get_weather(city: str) -> str:
    """The weather of a city."""
    return f"4 degrees in {city}"


def get_time(zone: str) -> str:
    """The time of a zone."""
    return f"noon in {zone}"


def model_of(proxy, name=None, token=None):
    return guidance.models.OpenAI(
        name or proxy.model, api_key=token or proxy.token, base_url=proxy.url, echo=False
    )


@pytest.fixture(autouse=True)
def known_refusal(request, simulator):
    """The daemon has learned, by one attempt, that this model gives no log probabilities."""
    wanted = "signing" if "signing" in request.fixturenames else "proxy"
    ask(model_of(request.getfixturevalue(wanted)), "Hello")
    simulator.control("POST", "reset")


def ask(model, said):
    with user():
        model += said
    with assistant():
        model += gen("answer")
    return model


def test_answer(proxy, simulator):
    model = model_of(proxy)
    with system():
        model += "Be brief."
    answer = ask(model, "How are rivers made?")["answer"]
    assert answer.startswith('You said: "How are rivers made?".')
    (request,) = simulator.generations()
    assert request["call"] == "streamGenerateContent"
    assert request["body"]["systemInstruction"]["parts"] == [{"text": "Be brief."}]


def test_log_probabilities_where_the_model_has_them(proxy, simulator):
    assert ask(model_of(proxy, "gemini-2.5-flash-lite"), "How are rivers made?")["answer"]
    assert simulator.generations()[-1]["body"]["generationConfig"]["responseLogprobs"] is True


def test_conversation(proxy, simulator):
    model = ask(model_of(proxy), "One?")
    model = ask(model, "Two?")
    assert model["answer"].startswith('You said: "Two?".')
    contents = simulator.generations()[-1]["body"]["contents"]
    assert [content["role"] for content in contents] == ["user", "model", "user"]


def test_tools_go_through_several_steps(signing, simulator):
    said = (
        'call get_weather with {"city": "Oslo"} then call get_weather with {"city": "Rome"}'
        ' then call get_time with {"zone": "Europe/Oslo"}'
    )
    model = model_of(signing)
    with user():
        model += said
    with assistant():
        # It does one step at a time, and asks for one call in each.
        for _ in range(4):
            model += gen(tools=[get_weather, get_time])
    _, _, answer = str(model).rpartition("get_time returned")
    assert "noon in Europe/Oslo" in answer
    assert simulator.calls_that_came_back() == [
        [("get_weather", {"city": "Oslo"})],
        [("get_weather", {"city": "Rome"})],
        [("get_time", {"zone": "Europe/Oslo"})],
    ]


def test_structured_output(proxy, simulator):
    model = model_of(proxy)
    with user():
        model += "Describe a wheel."
    with assistant():
        model += gen_json("wheel", schema=Wheel)
    assert isinstance(Wheel.model_validate_json(model["wheel"]), Wheel)


def test_wrong_token(proxy, simulator):
    with pytest.raises(openai.AuthenticationError):
        ask(model_of(proxy, token="wrong"), "Hello")
    assert simulator.generations() == []


def test_broken_stream_raises(proxy, simulator, broken):
    prompt, name = broken
    with pytest.raises(openai.APIError):
        ask(model_of(proxy, name), prompt)
    assert simulator.generations()
