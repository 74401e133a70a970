"""instructor: typed answers through the SDK's client, in each of its modes for OpenAI's API."""

from collections.abc import Iterable

import instructor
import openai
import pytest
from instructor.core import InstructorRetryException
from pydantic import BaseModel, field_validator


class Wheel(BaseModel):
    """A wheel."""

    inches: int
    spokes: int | None


class Bicycle(BaseModel):
    """A bicycle with its wheels."""

    name: str
    wheels: list[Wheel]


class Answer(BaseModel):
    """What the simulator makes up where it is not told a schema."""

    answer: str


#: With what is asked for in each: where the schema only is in the prompt, the simulator knows none.
MODES = {
    instructor.Mode.TOOLS: (Bicycle, "Describe a bicycle."),
    instructor.Mode.TOOLS_STRICT: (Bicycle, "Describe a bicycle."),
    instructor.Mode.PARALLEL_TOOLS: (Iterable[Wheel | Answer], "Wheel and Answer in parallel."),
    instructor.Mode.JSON_SCHEMA: (Bicycle, "Describe a bicycle."),
    instructor.Mode.JSON: (Answer, "Answer."),
    instructor.Mode.MD_JSON: (Answer, '[simulate:echo] ```json\n{"answer": "yes"}\n```'),
}


def client_of(proxy, mode=instructor.Mode.TOOLS, token=None):
    sdk = openai.OpenAI(base_url=proxy.url, api_key=token or proxy.token)
    return instructor.from_openai(sdk, mode=mode)


def asked(proxy, said, name=None):
    return {"model": name or proxy.model, "messages": [{"role": "user", "content": said}]}


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.value)
def test_typed_answer(proxy, simulator, mode):
    kind, said = MODES[mode]
    client = client_of(proxy, mode)
    if mode is instructor.Mode.PARALLEL_TOOLS:
        found = client.create(response_model=kind, **asked(proxy, said))
        assert {type(each) for each in found} == {Wheel, Answer}
        return
    assert isinstance(client.create(response_model=kind, max_retries=0, **asked(proxy, said)), kind)
    assert len(simulator.generations()) == 1


def test_answer_without_a_type(proxy, simulator):
    found = client_of(proxy).create(response_model=None, **asked(proxy, "How are rivers made?"))
    assert found.choices[0].message.content.startswith('You said: "How are rivers made?".')


@pytest.mark.parametrize(
    "mode", [instructor.Mode.TOOLS, instructor.Mode.JSON_SCHEMA], ids=lambda mode: mode.value
)
def test_stream_of_a_typed_answer(proxy, simulator, mode):
    client = client_of(proxy, mode)
    found = list(client.create_partial(response_model=Bicycle, **asked(proxy, "A bicycle.")))
    # Gemini's function calls come whole, not word by word.
    assert len(found) > (1 if mode is instructor.Mode.JSON_SCHEMA else 0)
    assert Bicycle.model_validate(found[-1].model_dump())


def test_several_typed_answers(proxy, simulator):
    found = list(client_of(proxy).create_iterable(response_model=Wheel, **asked(proxy, "Wheels.")))
    assert found
    assert {type(each) for each in found} == {Wheel}


def test_answers_that_are_no_good_are_asked_for_again(proxy, simulator):
    """Its own loop: the call goes back with what was wrong with it, and so does its signature."""
    refused = []

    class Picky(BaseModel):
        """Refuses its first two values."""

        word: str

        @field_validator("word")
        @classmethod
        def not_at_once(cls, word):
            if len(refused) < 2:
                refused.append(word)
                raise ValueError("another word, please")
            return word

    found = client_of(proxy).create(
        response_model=Picky, max_retries=3, **asked(proxy, "Choose a word.")
    )
    assert isinstance(found, Picky)
    assert len(simulator.generations()) == 3
    steps = simulator.calls_that_came_back()
    assert [[call for call, _ in step] for step in steps] == [["Picky"], ["Picky"]]


def test_wrong_token(proxy, simulator):
    with pytest.raises(InstructorRetryException) as caught:
        client_of(proxy, token="wrong").create(response_model=Wheel, **asked(proxy, "Hello"))
    causes = [caught.value]
    while causes[-1].__cause__ is not None:
        causes.append(causes[-1].__cause__)
    assert any(isinstance(cause, openai.AuthenticationError) for cause in causes)
    assert simulator.generations() == []


def test_broken_stream_raises(proxy, simulator, broken):
    prompt, name = broken
    client = client_of(proxy)
    seen = []
    with pytest.raises(openai.APIError):
        seen.extend(client.create(response_model=None, stream=True, **asked(proxy, prompt, name)))
    assert seen
