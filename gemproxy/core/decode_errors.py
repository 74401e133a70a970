"""Turn a decoder's error about a JSON body into a client's error that names the field.

msgspec says ``Expected `int`, got `str` - at `$.messages[0].content```; a client sees
``messages[0].content: expected an integer, got a string``, with ``param`` set to the path.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from gemproxy.core.errors import InvalidRequest

_PLACE = re.compile(r"(?P<what>.*) - at `(?P<path>[^`]*)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(?P<field>[^`]*)`")
_SURPLUS = re.compile(r"Object contains unknown field `(?P<field>[^`]*)`")
_WRONG = re.compile(
    r"Expected `(?P<expected>[^`]*)`(?: of length)?(?P<rule> [<>]=? [\d.-]+)?"
    r"(?:, got `(?P<got>[^`]*)`)?"
)
_UNKNOWN = re.compile(r"Invalid (?:enum )?value '?(?P<value>.*?)'?", re.DOTALL)
_LONGEST_VALUE = 60

_WORDS = {
    "str": "a string",
    "int": "an integer",
    "float": "a number",
    "bool": "a boolean",
    "object": "an object",
    "array": "an array",
    "null": "null",
}

_NOTHING: Mapping[str, tuple[str, ...]] = {}


def malformed(
    error: Exception,
    options: Mapping[str, tuple[str, ...]] = _NOTHING,
    choices: Mapping[str, tuple[str, ...]] = _NOTHING,
) -> InvalidRequest:
    """The client's error for an exception of the JSON decoder.

    ``options`` lists the known fields of objects that refuse unknown ones, by the last name of
    their path. ``choices`` lists the values of enumerations, by the path without indexes.
    """
    if isinstance(error, RecursionError):
        return InvalidRequest("The request body is not usable: its JSON is nested too deeply.")
    if isinstance(error, UnicodeDecodeError):
        return InvalidRequest(
            f"The request body is not valid UTF-8: invalid bytes at offset {error.start}."
        )
    if isinstance(error, msgspec.ValidationError):
        return _invalid_field(str(error), options, choices)
    detail = str(error).removeprefix("JSON is malformed: ").replace("(byte ", "(at byte ")
    return InvalidRequest(f"The request body is not valid JSON: {detail[0].lower()}{detail[1:]}.")


def _invalid_field(
    text: str, options: Mapping[str, tuple[str, ...]], choices: Mapping[str, tuple[str, ...]]
) -> InvalidRequest:
    what, path = text, ""
    if place := _PLACE.fullmatch(text):
        what, path = place["what"], place["path"].removeprefix("$").removeprefix(".")
    path = path.replace("[...]", "")
    if missing := _MISSING.fullmatch(what):
        return _missing(f"{path}.{missing['field']}" if path else missing["field"])
    if surplus := _SURPLUS.fullmatch(what):
        return _surplus(path, surplus["field"], options)
    words = choices.get(re.sub(r"\[\d+\]", "", path), ())
    if not path:
        return InvalidRequest(f"The request body is not usable: {_sentence(what, words)}.")
    return InvalidRequest(f"{path}: {_sentence(what, words)}.", param=path)


def _missing(path: str) -> InvalidRequest:
    return InvalidRequest(
        f"Missing required parameter: '{path}'.", param=path, reason="missing_required_parameter"
    )


def _surplus(path: str, field: str, options: Mapping[str, tuple[str, ...]]) -> InvalidRequest:
    name = field if len(field) <= _LONGEST_VALUE else f"{field[:_LONGEST_VALUE]}…"
    whole = f"{path}.{name}"
    known = ", ".join(options.get(path.rpartition(".")[2], ()))
    return InvalidRequest(
        f"Unknown parameter: '{whole}'" + (f"; expected {known}." if known else "."),
        param=whole,
        reason="unknown_parameter",
    )


def _sentence(what: str, choices: tuple[str, ...]) -> str:
    if wrong := _WRONG.fullmatch(what):
        return _expectation(wrong["expected"], wrong["rule"] or "", wrong["got"] or "")
    if unknown := _UNKNOWN.fullmatch(what):
        value = unknown["value"]
        shown = value if len(value) <= _LONGEST_VALUE else f"{value[:_LONGEST_VALUE]}…"
        if value in choices:
            # The word is valid for another role: instructions hold text only.
            return f"'{value}' cannot stand here: messages of this role hold text only"
        return f"invalid value '{shown}'" + (
            f", expected one of {', '.join(choices)}" if choices else ""
        )
    return what[0].lower() + what[1:]


def _expectation(expected: str, rule: str, got: str) -> str:
    kinds = " or ".join(_WORDS.get(word, word) for word in expected.split(" | "))
    if rule:
        of_length = " of length" if expected in {"str", "array"} else ""
        return f"expected {kinds}{of_length}{rule.replace('.0', '')}"
    return f"expected {kinds}, got {_WORDS.get(got, got)}" if got else f"expected {kinds}"
