"""Look-ups in a parsed request: its functions, its tools, the payloads of a turn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_BUILT_IN_TOOLS = (
    "googleSearch",
    "googleSearchRetrieval",
    "urlContext",
    "codeExecution",
    "googleMaps",
    "fileSearch",
    "computerUse",
)


def declarations(request: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every function that the request declares, in order."""
    return [
        function
        for tool in request.get("tools", ())
        for function in tool.get("functionDeclarations", ())
    ]


def built_in_tools(request: Mapping[str, Any]) -> list[str]:
    """The names of the server-side tools that the request switches on."""
    return [name for tool in request.get("tools", ()) for name in _BUILT_IN_TOOLS if name in tool]


def parts_of(content: Mapping[str, Any], kind: str) -> list[dict[str, Any]]:
    """The payloads of the given kind in a content."""
    return [part[kind] for part in content.get("parts", ()) if kind in part]


def current_turn(contents: list[dict[str, Any]]) -> int:
    """The index where the current turn begins: after the last real message of the user."""
    for at in range(len(contents) - 1, -1, -1):
        content = contents[at]
        if content.get("role", "user") == "user" and not parts_of(content, "functionResponse"):
            return at + 1
    return 0


def calls_of_turn(contents: list[dict[str, Any]]) -> list[list[str]]:
    """The names of the functions that were called in each step of the current turn."""
    turn = contents[current_turn(contents) :]
    steps = [[call["name"] for call in parts_of(content, "functionCall")] for content in turn]
    return [step for step in steps if step]
