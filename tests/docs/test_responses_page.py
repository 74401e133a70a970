"""The page on the Responses API names what the code knows."""

import re

import msgspec
import pytest
from fakes.pages import REPOSITORY

from gemproxy.api.openai.schema import response_objects, responses
from gemproxy.translate.openai_responses__gemini import items, tools

PAGE = (REPOSITORY / "docs" / "responses.md").read_text("utf-8")
TEXT = re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL)
#: Every word that stands in code on the page, also as a part of a path.
WORDS = set(re.findall(r"\w+", " ".join(re.findall(r"`[^`]+`", TEXT))))


@pytest.mark.parametrize(
    "shape",
    [responses.ResponsesRequest, responses.ItemPart, responses.ToolItem, responses.Location],
)
def test_every_field_of_a_request_is_named(shape):
    unnamed = {field.encode_name for field in msgspec.structs.fields(shape)} - WORDS - {"type"}
    assert not unnamed


def test_every_kind_of_item_is_named():
    for item in response_objects.OutputItem.__args__:
        kind = next(field for field in msgspec.structs.fields(item) if field.name == "type")
        assert kind.default in WORDS
    for kind in (*items.CALLS, *items.RESULTS, *items.SKIPPED):
        assert any(kind.startswith(word) for word in WORDS), kind


def test_every_refused_or_built_in_tool_is_named():
    assert {*tools.REFUSALS, *tools.IGNORED, tools.CODE, "web_search"} <= WORDS
