"""Declare functions, choose among them and offer the web search, as Gemini takes them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeAlias

import msgspec

from gemproxy.core.errors import InvalidRequest
from gemproxy.providers.gemini.capabilities import ModelFamily
from gemproxy.providers.gemini.wire.requests import (
    FunctionCallingConfig,
    FunctionDeclaration,
    GoogleSearch,
    Tool,
    ToolConfig,
)
from gemproxy.translate.shared.schema import parameters_text
from gemproxy.translate.shared.schema_budget import SchemaBudget
from gemproxy.translate.shared.tool_names import ToolNames


class TranslatedTools(msgspec.Struct, frozen=True):
    """The translated tools of a request; ``None`` without tools."""

    tools: list[Tool] | None = None
    config: ToolConfig | None = None
    names: ToolNames = msgspec.field(default_factory=ToolNames)


class ToolUse(msgspec.Struct, frozen=True):
    """What the model may or must do. ``path`` is that of the client's field.

    ``mode`` is ``auto``, ``none``, ``required`` or ``validated``.
    """

    mode: str = "auto"
    #: The only functions allowed, each with its path; ``None`` for all.
    only: tuple[tuple[str, str], ...] | None = None
    path: str = "tool_choice"


#: Makes the declaration of a function.
Declare: TypeAlias = Callable[[ToolNames, SchemaBudget], FunctionDeclaration]


class OfferedTools:
    """The tools of a request by what they become; a dialect's collector inherits from it."""

    def __init__(self) -> None:
        #: By the client's names.
        self.functions: dict[str, Declare] = {}
        #: The path of the search.
        self.search: str | None = None
        #: Where the user is, as a sentence for the search.
        self.location: str | None = None
        #: Further tools that run on Google's side, each with its path.
        self.others: list[tuple[str, Tool]] = []

    def add_function(self, name: str, make: Declare, path: str) -> None:
        """Add a function. Raises :class:`InvalidRequest` if there is one of this name."""
        if name in self.functions:
            raise InvalidRequest(
                f"{path}.name: '{name[:80]}' is declared twice.", param=f"{path}.name"
            )
        self.functions[name] = make

    def translate(
        self, use: ToolUse, family: ModelFamily, budget: SchemaBudget, *, wants_json: bool
    ) -> TranslatedTools:
        """All tools, and what the model may do with them. Raises :class:`InvalidRequest`."""
        functions = self.functions
        names = ToolNames(functions)
        calling = calling_config(use, functions, names)
        if use.mode == "none" and wants_json and not family.json_mode_with_tools:
            # These models refuse JSON mode beside declarations, even with mode NONE.
            functions, calling = {}, None
        built_in = use.mode != "none"
        return assemble(
            [make(names, budget) for make in functions.values()],
            names,
            calling,
            family,
            search=self.search if built_in else None,
            others=self.others if built_in else (),
        )


def required_name(name: str | None, path: str) -> str:
    """``name`` of the tool at ``path``. Raises :class:`InvalidRequest` if there is none."""
    if not name:
        raise InvalidRequest(
            f"Missing required parameter: '{path}.name'.",
            param=f"{path}.name",
            reason="missing_required_parameter",
        )
    return name


def declare(
    name: str,
    description: str | None,
    parameters: dict[str, Any] | None,
    path: str,
    names: ToolNames,
    budget: SchemaBudget,
) -> FunctionDeclaration:
    """The declaration of a function; ``path`` is that of its schema."""
    declaration = FunctionDeclaration(name=names.sent(name))
    if description:
        declaration.description = description
    if parameters:
        declaration.parameters_json_schema = parameters_text(parameters, path, budget)
    return declaration


def calling_config(
    use: ToolUse, declared: Collection[str], names: ToolNames
) -> FunctionCallingConfig | None:
    """The mode; ``None`` for ``auto``, Gemini's default, and without declarations.

    ``declared`` are the client's names. Raises :class:`InvalidRequest` for a name that is not among
    them, and if a call is required without any.
    """
    allowed = None
    if use.only is not None:
        allowed = _known_names(use.only, declared, names)
    if use.mode == "required":
        if not declared:
            raise InvalidRequest(
                f"{use.path}: a call is required, but no functions are declared.", param=use.path
            )
        return FunctionCallingConfig(mode="ANY", allowed_function_names=allowed)
    if not declared:
        return None
    if use.mode == "none":
        return FunctionCallingConfig(mode="NONE")
    if allowed is not None or use.mode == "validated":
        # The only mode beside ANY with names; the model may still answer with text.
        return FunctionCallingConfig(mode="VALIDATED", allowed_function_names=allowed)
    return None


def assemble(
    declarations: list[FunctionDeclaration],
    names: ToolNames,
    calling: FunctionCallingConfig | None,
    family: ModelFamily,
    *,
    search: str | None,
    others: Sequence[tuple[str, Tool]] = (),
) -> TranslatedTools:
    """All tools of a request.

    ``search`` is the path of the client's search, if there is one. ``others`` are further tools
    that run on Google's side, each with its path.
    """
    tools = []
    if search is not None:
        if declarations and not family.search_with_functions:
            raise InvalidRequest(
                f"{search}: this model cannot search the web while tools are given;"
                " Gemini 3 and later can.",
                param=search,
            )
        tools.append(Tool(google_search=GoogleSearch()))
    for path, tool in others:
        if declarations and not family.search_with_functions:
            raise InvalidRequest(
                f"{path}: this model cannot use a tool of Google's beside the client's tools;"
                " Gemini 3 and later can.",
                param=path,
            )
        tools.append(tool)
    if declarations:
        tools.append(Tool(function_declarations=declarations))
    together = len(tools) > 1 and bool(declarations)
    config = ToolConfig(
        function_calling_config=calling, include_server_side_tool_invocations=together
    )
    return TranslatedTools(tools or None, config if calling or together else None, names)


def location_sentence(
    city: str | None, region: str | None, country: str | None, timezone: str | None
) -> str | None:
    """The user's location as a sentence: Gemini's own setting takes only coordinates."""
    names = ", ".join(name for name in (city, region, country) if name)
    zone = f"time zone {timezone}" if timezone else ""
    where = "; ".join(filter(None, (names, zone)))
    return f"The user's approximate location is: {where}." if where else None


def _known_names(
    chosen: Sequence[tuple[str, str]], declared: Collection[str], names: ToolNames
) -> list[str]:
    for name, path in chosen:
        if name not in declared:
            raise InvalidRequest(f"{path}: no tool is named '{name[:80]}'.", param=path)
    return [names.sent(name) for name in dict.fromkeys(name for name, _ in chosen)]
