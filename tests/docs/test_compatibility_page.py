"""The page on compatibility names what the code knows, and what the contract does."""

from __future__ import annotations

import re
from typing import get_args

import msgspec
import pytest
import yaml
from fakes.pages import REPOSITORY

from gemproxy.api.openai.schema import embeddings, messages, requests
from gemproxy.translate.shared.finish import FinishState

TEXT = (REPOSITORY / "docs" / "compatibility.md").read_text("utf-8")
#: Every word that stands in code on the page, also as a part of a path: ``a.b[].c``.
WORDS = set(re.findall(r"\w+", " ".join(re.findall(r"`[^`]+`", TEXT))))
CONTRACT = REPOSITORY.parent / "shared" / "contracts" / "proxy-api.yaml"


def shapes(module):
    """The wire shapes that a module defines."""
    return [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, msgspec.Struct)
        and value.__module__ == module.__name__
        # It has the same fields, and one of its own that is not on the wire.
        and value is not requests.LargeChatCompletionRequest
    ]


@pytest.mark.parametrize(
    "field",
    [
        field.name
        for shape in (requests.ChatCompletionRequest, embeddings.EmbeddingsRequest)
        for field in msgspec.structs.fields(shape)
    ],
)
def test_every_field_of_the_request_is_named(field):
    assert field in WORDS


SHAPES = [*shapes(requests), *shapes(messages), *shapes(embeddings)]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
def test_every_field_inside_of_it_is_named(shape):
    unnamed = {field.encode_name for field in msgspec.structs.fields(shape)} - WORDS
    assert not unnamed, f"{shape.__name__}: {sorted(unnamed)}"


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
def test_every_kind_of_part_tool_and_message_is_named(shape):
    tag = msgspec.inspect.type_info(shape).tag
    assert tag is None or tag in WORDS


def test_every_parameter_of_the_contract_is_named():
    if not CONTRACT.is_file():
        pytest.skip(f"the contract is not beside this repository: {CONTRACT}")
    contract = yaml.safe_load(CONTRACT.read_text())
    request = contract["components"]["schemas"]["ChatCompletionRequest"]
    assert set(request["properties"]) <= WORDS


def endings():
    """Gemini's reasons on the page, each with the first word that OpenAI's clients get."""
    table = TEXT.partition("### Finish reasons")[2].partition("### Usage")[0]
    for line in table.splitlines():
        cells = line.split(" | ")
        if len(cells) == 2 and cells[1].startswith("`"):
            for reason in re.findall(r"`([A-Z_]+)`", cells[0]):
                yield reason, re.findall(r"`(\w+)`", cells[1])[0]


def test_finish_reasons_are_those_of_the_code():
    told = dict(endings())
    assert {reason: FinishState(reason).finish_reason(calls=False) for reason in told} == told
    assert len(told) > 15


def test_every_task_type_is_named():
    assert set(get_args(embeddings.TaskType)) <= WORDS
