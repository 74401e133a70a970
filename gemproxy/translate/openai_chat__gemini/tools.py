"""Translate tools: declared functions, the choice among them, and the web search."""

from __future__ import annotations

from collections.abc import Sequence

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
from gemproxy.translate.shared.schema_budget import SchemaBudget
from gemproxy.translate.shared.tool_names import ToolNames
from gemproxy.translate.shared.tools import (
    ToolUse,
    TranslatedTools,
    assemble,
    calling_config,
    declare,
    location_sentence,
)


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
    calling = calling_config(choice, {function.name for function in functions}, names)
    if choice.mode == "none" and not family.json_mode_with_tools and _wants_json(request):
        # These models refuse JSON mode beside declarations, even with mode NONE.
        functions, paths, calling = [], [], None
    searches = request.web_search_options is not None and choice.mode != "none"
    declarations = [
        declare(each.name, each.description, each.parameters, f"{path}.parameters", names, budget)
        for each, path in zip(functions, paths, strict=True)
    ]
    search = "web_search_options" if searches else None
    return assemble(declarations, names, calling, family, search=search)


def _refuse_call(request: ChatCompletionRequest) -> None:
    """Raise :class:`InvalidRequest` if a call is required although there are no tools."""
    if request.tool_choice is None and request.function_call is None:
        return
    choice = _choice(request)
    if choice.mode == "required":
        raise InvalidRequest(
            f"{choice.path}: a call is required, but no tools are given.", param=choice.path
        )


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


# The choice -----------------------------------------------------------------------------------


def _choice(request: ChatCompletionRequest) -> ToolUse:
    if request.tool_choice is None:
        return _legacy_choice(request.function_call)
    choice = request.tool_choice
    if (word := word_of(choice)) is not None:
        return ToolUse(_mode(word))
    if isinstance(choice, str):
        # Unreachable: the decoder refuses unknown words.
        return ToolUse()
    if choice.function is not None and choice.type == "function":
        return ToolUse("required", ((choice.function.name, "tool_choice.function.name"),))
    if choice.allowed_tools is not None and choice.type == "allowed_tools":
        path = "tool_choice.allowed_tools.tools"
        only = tuple(
            (tool.function.name, f"{path}[{index}].function.name")
            for index, tool in enumerate(choice.allowed_tools.tools)
        )
        return ToolUse(_mode(choice.allowed_tools.mode), only)
    raise _custom("tool_choice.type")


def _mode(word: str) -> str:
    """The mode for a client's word; ``any`` is Gemini's name for ``required``."""
    word = word.lower()
    return "required" if word == "any" else word


def _legacy_choice(choice: str | FunctionName | None) -> ToolUse:
    if choice is None:
        return ToolUse()
    if isinstance(choice, FunctionName):
        only = ((choice.name, "function_call.name"),)
        return ToolUse("required", only, "function_call")
    return ToolUse(choice, path="function_call")


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
    return location_sentence(place.city, place.region, place.country, place.timezone)
