"""``tool_choice``: a word, or an object whose ``type`` is a word.

OpenAI's words are ``none``, ``auto`` and ``required``; ``any`` and ``validated`` are Gemini's own
modes, which clients of other gateways send. Words are case-insensitive, and a word may also be the
``type`` of an object.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from gemproxy.core.errors import InvalidRequest

_NonEmpty = Annotated[str, msgspec.Meta(min_length=1)]

WORDS = ("none", "auto", "required", "validated", "any")
#: OpenAI's modes of ``allowed_tools`` are the first two.
MODES = ("auto", "required", "validated", "any")
_TYPES = ("function", "allowed_tools")
_LONGEST_VALUE = 60


class _Shape(msgspec.Struct, gc=False, frozen=True):
    """A JSON object that a client sent."""


class FunctionName(_Shape, frozen=True):
    """A function by its name."""

    name: _NonEmpty


class AllowedTool(_Shape, frozen=True):
    """One of the tools that ``allowed_tools`` allows."""

    function: FunctionName
    type: Literal["function"] = "function"


class AllowedTools(_Shape, frozen=True):
    """A subset of the tools and a mode; see ``MODES``."""

    mode: str
    tools: Annotated[list[AllowedTool], msgspec.Meta(min_length=1)]


class ToolChoiceObject(_Shape, frozen=True):
    """A choice that is an object; ``type`` tells which other field counts."""

    type: str
    function: FunctionName | None = None
    allowed_tools: AllowedTools | None = None


ToolChoice = str | ToolChoiceObject


def word_of(choice: ToolChoice) -> str | None:
    """The word in lower case; ``None`` for a choice that is an object."""
    word = (choice if isinstance(choice, str) else choice.type).lower()
    return word if word in WORDS else None


def check_tool_choice(choice: ToolChoice) -> None:
    """Raise :class:`InvalidRequest` for an unknown word or an incomplete object.

    The choice of a custom tool passes here; the translation of tools refuses it by name.
    """
    if word_of(choice) is not None:
        return
    if isinstance(choice, str):
        raise _unknown("tool_choice", choice, WORDS)
    if choice.type == "function" and choice.function is None:
        raise _missing("tool_choice.function")
    if choice.type == "allowed_tools" and choice.allowed_tools is None:
        raise _missing("tool_choice.allowed_tools")
    if choice.type == "allowed_tools" and choice.allowed_tools is not None:
        mode = choice.allowed_tools.mode
        if mode.lower() not in MODES:
            raise _unknown("tool_choice.allowed_tools.mode", mode, MODES)
    if choice.type not in (*_TYPES, "custom"):
        raise _unknown("tool_choice.type", choice.type, (*_TYPES, *WORDS))


def _unknown(path: str, value: str, expected: tuple[str, ...]) -> InvalidRequest:
    shown = value if len(value) <= _LONGEST_VALUE else f"{value[:_LONGEST_VALUE]}…"
    return InvalidRequest(
        f"{path}: invalid value '{shown}', expected one of {', '.join(expected)}.", param=path
    )


def _missing(path: str) -> InvalidRequest:
    return InvalidRequest(
        f"Missing required parameter: '{path}'.", param=path, reason="missing_required_parameter"
    )
