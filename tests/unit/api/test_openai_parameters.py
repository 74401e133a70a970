"""The list of parameters, held against the SDK's signature and against the documentation."""

import inspect
import re
from pathlib import Path

import pytest

from gemproxy.api.openai.schema.parameters import EMBEDDING_PARAMETERS, PARAMETERS

DOCUMENT = Path(__file__).parents[3] / "docs" / "compatibility.md"
OF_THE_SDK = {"self", "extra_headers", "extra_query", "extra_body", "timeout"}


def test_every_parameter_of_the_sdk_is_decided():
    completions = pytest.importorskip("openai.resources.chat.completions")
    signature = inspect.signature(completions.Completions.create)
    assert set(PARAMETERS) == set(signature.parameters) - OF_THE_SDK


def test_every_parameter_of_embeddings_is_decided():
    embeddings = pytest.importorskip("openai.resources.embeddings")
    signature = inspect.signature(embeddings.Embeddings.create)
    assert set(EMBEDDING_PARAMETERS) == set(signature.parameters) - OF_THE_SDK


def documented(heading):
    """Parameters and fates of the section's table."""
    rest = DOCUMENT.read_text().partition(f"\n## {heading}\n")[2]
    section = rest.partition("\n## ")[0]
    return dict(re.findall(r"^\| `(\w+)` \| (\w+) \|", section, re.MULTILINE))


@pytest.mark.parametrize(
    ("heading", "name", "parameter"),
    [
        *(("Parameters", *item) for item in PARAMETERS.items()),
        *(("Embeddings", *item) for item in EMBEDDING_PARAMETERS.items()),
    ],
)
def test_every_parameter_is_documented_with_the_same_word(heading, name, parameter):
    assert documented(heading)[name] == parameter.fate.value


def test_every_note_is_a_sentence():
    for parameter in (*PARAMETERS.values(), *EMBEDDING_PARAMETERS.values()):
        assert parameter.note.endswith(".")
