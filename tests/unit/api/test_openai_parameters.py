"""The list of parameters, held against the SDK's signature and against the documentation."""

import inspect
import re
from pathlib import Path

import pytest

from gemproxy.api.openai.schema.parameters import PARAMETERS

DOCUMENT = Path(__file__).parents[3] / "docs" / "compatibility.md"
OF_THE_SDK = {"self", "extra_headers", "extra_query", "extra_body", "timeout"}


def test_every_parameter_of_the_sdk_is_decided():
    completions = pytest.importorskip("openai.resources.chat.completions")
    signature = inspect.signature(completions.Completions.create)
    assert set(PARAMETERS) == set(signature.parameters) - OF_THE_SDK


def documented():
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \|", DOCUMENT.read_text(), re.MULTILINE)
    return dict(rows)


@pytest.mark.parametrize("name", PARAMETERS)
def test_every_parameter_is_documented_with_the_same_word(name):
    assert documented()[name] == PARAMETERS[name].fate.value


def test_every_note_is_a_sentence():
    for parameter in PARAMETERS.values():
        assert parameter.note.endswith(".")
