"""The first sentence of an error, without what it quotes."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemproxy.core.sentences import LONGEST, first_sentence

_SAMPLES = {
    "API key not valid. Please pass a valid API key.": "API key not valid.",
    "Resource has been exhausted (e.g. check quota).": (
        "Resource has been exhausted (e.g. check quota)."
    ),
    "* GenerateContentRequest.model: unexpected model name format\n": (
        "GenerateContentRequest.model: unexpected model name format"
    ),
    "This model models/gemini-2.5-pro is no longer available to new users. Please update.": (
        "This model models/gemini-2.5-pro is no longer available to new users."
    ),
    "Function calling with a response mime type: 'application/json' is unsupported": (
        "Function calling with a response mime type: 'application/json' is unsupported"
    ),
    "Permission denied: Consumer 'api_key:AIzaSyNobody' has been suspended.": (
        "Permission denied: Consumer '…' has been suspended."
    ),
    "You exceeded your current quota, please check your plan.\n* Quota exceeded for: x": (
        "You exceeded your current quota, please check your plan."
    ),
    "": "",
}


@pytest.mark.parametrize(("message", "expected"), _SAMPLES.items())
def test_google_s_own_words_stay(message: str, expected: str) -> None:
    """The first sentence is what an operator needs; links and advice are not."""
    assert first_sentence(message) == expected


_PROMPT = "my pin is 1234. Tell nobody"


@pytest.mark.parametrize(
    "message",
    [
        f"Invalid value at 'contents[0].parts[0].text' (TYPE_STRING), \"{_PROMPT}\"",
        f'Invalid value "{_PROMPT}" at some field. Look it up.',
        f'Invalid value "he said "{_PROMPT}" and left" at some field.',
        f"Invalid value '{_PROMPT}' at some field.",
        f"Invalid value 'he said '{_PROMPT}' and nobody' at some field.",
        f"Invalid value '{_PROMPT} and it doesn't end",
        f'Unterminated: "{_PROMPT}',
        f"Function call `{_PROMPT}` is missing.",
        f"“{_PROMPT}” is not allowed.",
        f"«{_PROMPT}» is not allowed.",
        f'Bad payload {{"text": "{_PROMPT}"}} received.',
        f"Bad payload {{text: {_PROMPT}}} received.",
        f"Cannot parse.\n{_PROMPT}",
    ],
)
def test_what_is_quoted_goes(message: str) -> None:
    """No word of the client's text is left, whichever marks stand around it."""
    kept = first_sentence(message)
    assert kept
    for word in ("pin", "1234", "Tell", "nobody"):
        assert word not in kept


def test_a_single_word_in_double_quotes_goes_as_well() -> None:
    """Google writes values in double quotes and names of fields in single ones."""
    kept = first_sentence("Invalid value at 'contents[0].role' (TYPE_STRING), \"hunter2\"")
    assert kept == "Invalid value at 'contents[0].role' (TYPE_STRING), \"…\""


def test_data_without_quotes_is_cut() -> None:
    """Base64 and other long words are no words of Google's."""
    assert first_sentence(f"Bad data {'A' * 500} found.") == "Bad data … found."


@given(st.text())
def test_the_result_is_one_short_line(message: str) -> None:
    """Whatever the message is."""
    kept = first_sentence(message)
    assert len(kept) <= LONGEST
    assert kept.isprintable()


@pytest.mark.parametrize("piece", ["'", "' ", "`a", '"', "{", "[ ", "a. ", "< ", "\u201c", "'a' "])
def test_hostile_messages_cost_little(piece: str) -> None:
    """A pattern that backtracks would take seconds for some of these."""
    began = time.process_time()
    for _ in range(10):
        first_sentence(piece * 100_000)
    assert time.process_time() - began < 1.0
