"""The endpoint of the Responses API: conversations that go on."""

import json
from itertools import count
from types import SimpleNamespace

import pytest

from gemproxy.api.openai.responses import ResponsesEndpoint
from gemproxy.core.context import RequestContext
from gemproxy.core.stored_answers import AnswerStore
from gemproxy.translate.shared.model_names import ModelNames
from gemproxy.translate.shared.schema_budget import OutOfSteps
from gemproxy.translate.shared.signatures import SignatureStore

MODEL = "gemini-3.8-flash"
PARTS = {"content": {"parts": [{"text": "Fine."}]}, "finishReason": "STOP"}
ANSWER = json.dumps({"candidates": [PARTS]}).encode()
#: A request without headers.
HEAD = SimpleNamespace(parameters={}, query=b"", header=lambda _name: None)


def endpoint():
    numbers = count(1)
    return ResponsesEndpoint(
        ModelNames(),
        SignatureStore(),
        AnswerStore(),
        new_id=lambda: f"call_{next(numbers)}",
        new_base=lambda: f"{next(numbers):032x}",
        scrub=str,
        wall=lambda: 1700.0,
    )


def respond(asked, text, *, brief=False, **fields):
    """Ask, and give the job and the response to ``ANSWER``."""
    body = json.dumps({"model": MODEL, "input": text, **fields}).encode()
    context = RequestContext("id", "route", 0.0, client="anna")
    job = asked.decode(body, HEAD, context, brief=brief)
    answer = job.whole_answer(1700)
    assert answer.receive(ANSWER) is None
    return job, json.loads(answer.encode().body)


def texts_of(job):
    return [content["parts"][0]["text"] for content in json.loads(bytes(job.body))["contents"]]


def test_a_conversation_of_many_steps_is_kept_once():
    asked = endpoint()
    previous = {}
    for step in range(30):
        job, response = respond(asked, f"{step} " + "x" * 5_000, **previous)
        previous = {"previous_response_id": response["id"]}
    assert len(texts_of(job)) == 59
    assert 150_000 < asked.answers.bytes < 250_000


def test_a_long_conversation_is_translated_in_a_thread():
    asked = endpoint()
    _, first = respond(asked, "x" * 300_000)
    previous = {"previous_response_id": first["id"]}
    with pytest.raises(OutOfSteps):
        respond(asked, "And now?", brief=True, **previous)
    job, _ = respond(asked, "And now?", **previous)
    assert texts_of(job)[1:] == ["Fine.", "And now?"]
