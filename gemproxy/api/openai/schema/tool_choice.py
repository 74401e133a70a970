"""``tool_choice`` as clients write it: a word, or an object whose ``type`` is one.

OpenAI's words are ``none``, ``auto`` and ``required``; ``any`` and ``validated`` are Gemini's own
modes, which clients of other gateways ask for. Letters may be of either case, and a word may stand
as the ``type`` of an object.
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
    """A function, by its name alone."""

    name: _NonEmpty


class AllowedTool(_Shape, frozen=True):
    """One of the tools that an ``allowed_tools`` choice leaves open."""

    function: FunctionName
    type: Literal["function"] = "function"


class AllowedTools(_Shape, frozen=True):
    """A part of the tools, and whether one of them must be called: see ``MODES``."""

    mode: str
    tools: Annotated[list[AllowedTool], msgspec.Meta(min_length=1)]


class ToolChoiceObject(_Shape, frozen=True):
    """A choice with more to it than a word; ``type`` says which of the others counts."""

    type: str
    function: FunctionName | None = None
    allowed_tools: AllowedTools | None = None


ToolChoice = str | ToolChoiceObject


def word_of(choice: ToolChoice) -> str | None:
    """The word in small letters; ``None`` for a choice that is more than a word."""
    word = (choice if isinstance(choice, str) else choice.type).lower()
    return word if word in WORDS else None


def check_tool_choice(choice: ToolChoice) -> None:
    """Raise :class:`InvalidRequest` for a word that is none, and for an object that is not whole.

    A custom tool's choice is whole, and refused by name where tools are translated.
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
