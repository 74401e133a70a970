"""Translate tools: declared functions, the choice among them, and the web search."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from gemproxy.api.openai.schema.requests import (
    ChatCompletionRequest,
    CustomTool,
    FunctionDefinition,
    TextFormat,
    WebSearchOptions,
)
from gemproxy.api.openai.schema.tool_choice import FunctionName, word_of
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


class _Choice(msgspec.Struct, frozen=True):
    """What the model may or must do. ``path`` is that of the client's field."""

    mode: str = "auto"
    #: The only functions allowed, each with its path; ``None`` for all.
    only: tuple[tuple[str, str], ...] | None = None
    path: str = "tool_choice"


def translate_tools(
    request: ChatCompletionRequest, family: ModelFamily, budget: SchemaBudget
) -> TranslatedTools:
    """Declarations, choice and search of the request; ``budget`` bounds the work on their schemas.

    Raises :class:`InvalidRequest` for custom tools, for a choice that names no declared function,
    and for combinations that the model refuses.
    """
    if not request.tools and not request.functions and request.web_search_options is None:
        _refuse_call(request)
        return TranslatedTools()
    functions, paths = _functions(request)
    choice = _choice(request)
    names = ToolNames(function.name for function in functions)
    calling = _calling_config(choice, functions, names)
    if choice.mode == "none" and not family.json_mode_with_tools and _wants_json(request):
        # These models refuse JSON mode beside declarations, even with mode NONE.
        functions, paths, calling = [], [], None
    searches = request.web_search_options is not None and choice.mode != "none"
    declarations = [
        _declaration(function, path, names, budget)
        for function, path in zip(functions, paths, strict=True)
    ]
    return _assembled(declarations, names, calling, family, searches=searches)


def _refuse_call(request: ChatCompletionRequest) -> None:
    """Raise :class:`InvalidRequest` if a call is required although there are no tools."""
    if request.tool_choice is None and request.function_call is None:
        return
    choice = _choice(request)
    if choice.mode == "required":
        raise InvalidRequest(
            f"{choice.path}: a call is required, but no tools are given.", param=choice.path
        )


def _assembled(
    declarations: list[FunctionDeclaration],
    names: ToolNames,
    calling: FunctionCallingConfig | None,
    family: ModelFamily,
    *,
    searches: bool,
) -> TranslatedTools:
    tools = []
    if searches:
        if declarations and not family.search_with_functions:
            raise InvalidRequest(
                "web_search_options: this model cannot search the web while tools are given;"
                " Gemini 3 and later can.",
                param="web_search_options",
            )
        tools.append(Tool(google_search=GoogleSearch()))
    if declarations:
        tools.append(Tool(function_declarations=declarations))
    together = searches and bool(declarations)
    config = ToolConfig(
        function_calling_config=calling, include_server_side_tool_invocations=together
    )
    return TranslatedTools(tools or None, config if calling or together else None, names)


def _functions(request: ChatCompletionRequest) -> tuple[list[FunctionDefinition], list[str]]:
    """The declared functions, and the path of each one."""
    if request.tools and request.functions:
        raise InvalidRequest(
            "functions: cannot be combined with tools, which replace them.", param="functions"
        )
    functions: list[FunctionDefinition] = list(request.functions or ())
    paths = [f"functions[{index}]" for index in range(len(functions))]
    for index, tool in enumerate(request.tools or ()):
        if isinstance(tool, CustomTool):
            raise _custom(f"tools[{index}].type")
        functions.append(tool.function)
        paths.append(f"tools[{index}].function")
    _refuse_doubles(functions, paths)
    return functions, paths


def _refuse_doubles(functions: Sequence[FunctionDefinition], paths: Sequence[str]) -> None:
    seen: set[str] = set()
    for function, path in zip(functions, paths, strict=True):
        if function.name in seen:
            raise InvalidRequest(
                f"{path}.name: '{function.name[:80]}' is declared twice.", param=f"{path}.name"
            )
        seen.add(function.name)


def _custom(path: str) -> InvalidRequest:
    return InvalidRequest(
        f"{path}: custom tools are not supported; Gemini knows functions only.",
        param=path,
        reason="unsupported_value",
    )


def _declaration(
    function: FunctionDefinition, path: str, names: ToolNames, budget: SchemaBudget
) -> FunctionDeclaration:
    declaration = FunctionDeclaration(name=names.sent(function.name))
    if function.description:
        declaration.description = function.description
    if function.parameters:
        text = parameters_text(function.parameters, f"{path}.parameters", budget)
        declaration.parameters_json_schema = text
    return declaration


# The choice -----------------------------------------------------------------------------------


def _choice(request: ChatCompletionRequest) -> _Choice:
    if request.tool_choice is None:
        return _legacy_choice(request.function_call)
    choice = request.tool_choice
    if (word := word_of(choice)) is not None:
        return _Choice(_mode(word))
    if isinstance(choice, str):
        # Unreachable: the decoder refuses unknown words.
        return _Choice()
    if choice.function is not None and choice.type == "function":
        return _Choice("required", ((choice.function.name, "tool_choice.function.name"),))
    if choice.allowed_tools is not None and choice.type == "allowed_tools":
        path = "tool_choice.allowed_tools.tools"
        only = tuple(
            (tool.function.name, f"{path}[{index}].function.name")
            for index, tool in enumerate(choice.allowed_tools.tools)
        )
        return _Choice(_mode(choice.allowed_tools.mode), only)
    raise _custom("tool_choice.type")


def _mode(word: str) -> str:
    """The mode for a client's word; ``any`` is Gemini's name for ``required``."""
    word = word.lower()
    return "required" if word == "any" else word


def _legacy_choice(choice: str | FunctionName | None) -> _Choice:
    if choice is None:
        return _Choice()
    if isinstance(choice, FunctionName):
        only = ((choice.name, "function_call.name"),)
        return _Choice("required", only, "function_call")
    return _Choice(choice, path="function_call")


def _calling_config(
    choice: _Choice, functions: Sequence[FunctionDefinition], names: ToolNames
) -> FunctionCallingConfig | None:
    """The mode; ``None`` for ``auto``, Gemini's default, and without declarations."""
    allowed = None
    if choice.only is not None:
        allowed = _known_names(choice.only, functions, names)
    if choice.mode == "required":
        if not functions:
            raise InvalidRequest(
                f"{choice.path}: a call is required, but no functions are declared.",
                param=choice.path,
            )
        return FunctionCallingConfig(mode="ANY", allowed_function_names=allowed)
    if not functions:
        return None
    if choice.mode == "none":
        return FunctionCallingConfig(mode="NONE")
    if allowed is not None or choice.mode == "validated":
        # The only mode beside ANY with names; the model may still answer with text.
        return FunctionCallingConfig(mode="VALIDATED", allowed_function_names=allowed)
    return None


def _known_names(
    chosen: Sequence[tuple[str, str]], functions: Sequence[FunctionDefinition], names: ToolNames
) -> list[str]:
    declared = {function.name for function in functions}
    for name, path in chosen:
        if name not in declared:
            raise InvalidRequest(f"{path}: no tool is named '{name[:80]}'.", param=path)
    return [names.sent(name) for name in dict.fromkeys(name for name, _ in chosen)]


def _wants_json(request: ChatCompletionRequest) -> bool:
    return request.response_format is not None and not isinstance(
        request.response_format, TextFormat
    )


# The search -----------------------------------------------------------------------------------


def location_hint(search: WebSearchOptions | None) -> str | None:
    """The user's location as a sentence: Gemini's own setting takes only coordinates."""
    if search is None or search.user_location is None:
        return None
    place = search.user_location.approximate
    names = ", ".join(name for name in (place.city, place.region, place.country) if name)
    zone = f"time zone {place.timezone}" if place.timezone else ""
    where = "; ".join(filter(None, (names, zone)))
    return f"The user's approximate location is: {where}." if where else None
