"""Translate the tools of the Responses API, and the choice among them.

Gemini knows functions only. A function of a namespace is declared as ``namespace__function``, a
custom tool as a function with one text; answers name both as the client did.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from gemproxy.api.openai.schema.responses import (
    ChosenTools,
    Location,
    ResponsesRequest,
    ToolItem,
)
from gemproxy.core.errors import InvalidRequest
from gemproxy.providers.gemini.capabilities import ModelFamily
from gemproxy.providers.gemini.wire.requests import CodeExecution, FunctionDeclaration, Tool
from gemproxy.translate.shared.schema_budget import SchemaBudget
from gemproxy.translate.shared.tool_names import ToolNames
from gemproxy.translate.shared.tools import (
    OfferedTools,
    ToolUse,
    TranslatedTools,
    declare,
    location_sentence,
    required_name,
)

_SEARCHES: Final = frozenset(
    {
        "web_search",
        "web_search_2025_08_26",
        "web_search_preview",
        "web_search_preview_2025_03_11",
    }
)
#: The tool that runs code on Google's side.
CODE: Final = "code_interpreter"
#: Tools without an effect: a client's hint, or what only its own service has.
IGNORED: Final = frozenset({"tool_search"})
#: Why some tools are refused; others are unknown to Gemini.
REFUSALS: Final = {
    "file_search": "OpenAI's vector stores are not Gemini's file search stores",
    "mcp": "MCP servers are not called from here; let the client call them",
    "image_generation": "one answer cannot use a second model; ask an image model itself",
}
_CUSTOM_PARAMETERS: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {"input": {"type": "string"}},
    "required": ["input"],
}


class ClientTool(msgspec.Struct, frozen=True, gc=False):
    """A function or a custom tool, as the client named it."""

    name: str
    namespace: str | None
    custom: bool

    @property
    def joined(self) -> str:
        """The name of the function for Gemini, before illegal characters are replaced."""
        return joined_name(self.name, self.namespace)


class ResponsesTools(msgspec.Struct, frozen=True):
    """The translated tools, and what answers and the system instruction need of them."""

    translated: TranslatedTools
    #: By :attr:`ClientTool.joined`.
    by_name: dict[str, ClientTool]
    location: str | None = None


def joined_name(name: str, namespace: str | None) -> str:
    """The name of a function of a namespace."""
    return f"{namespace}__{name}" if namespace else name


def translate_tools(
    request: ResponsesRequest,
    added: Sequence[tuple[str, ToolItem]],
    family: ModelFamily,
    budget: SchemaBudget,
) -> ResponsesTools:
    """Declarations, choice and built-in tools; ``added`` are tools of items, with their paths.

    Raises :class:`InvalidRequest` for tools that cannot be offered, for a choice that names none,
    and for combinations that the model refuses.
    """
    if not request.tools and not added and request.tool_choice is None:
        return ResponsesTools(TranslatedTools(), {})
    tools = [(f"tools[{index}]", tool) for index, tool in enumerate(request.tools or ())]
    collected = _Collected()
    for path, tool in tools:
        collected.add(tool, path)
    for path, tool in added:
        collected.add(tool, path, again=True)
    use = _tool_use(request.tool_choice, collected)
    translated = collected.translate(use, family, budget, wants_json=_wants_json(request))
    return ResponsesTools(translated, collected.clients, collected.location)


class _Collected(OfferedTools):
    """What OpenAI's kinds of tools become."""

    def __init__(self) -> None:
        super().__init__()
        #: The functions as the client named them, by their joined names.
        self.clients: dict[str, ClientTool] = {}
        #: Types of built-in tools that are offered or ignored.
        self.built_in: set[str] = set()

    def add(self, tool: ToolItem, path: str, *, again: bool = False) -> None:
        """Add a tool; ``again`` if it may have been added before."""
        if tool.type in {"function", "custom"}:
            self._function(tool, None, path, again=again)
        elif tool.type == "namespace":
            for index, inner in enumerate(tool.tools or ()):
                self._function(inner, tool.name, f"{path}.tools[{index}]", again=again)
        elif tool.type in _SEARCHES:
            # Without access to the web it is an index of OpenAI's. Codex sends it that way.
            if tool.external_web_access is not False:
                self.search = path
                self.location = _location(tool.user_location)
            self.built_in.add(tool.type)
        elif tool.type == CODE:
            self.others = [(path, Tool(code_execution=CodeExecution()))]
            self.built_in.add(tool.type)
        elif tool.type not in IGNORED:
            why = REFUSALS.get(tool.type, "Gemini has no such tool")
            raise InvalidRequest(
                f"{path}.type: '{tool.type[:60]}' is not supported: {why}.",
                param=f"{path}.type",
                reason="unsupported_value",
            )

    def _function(self, tool: ToolItem, namespace: str | None, path: str, *, again: bool) -> None:
        client = ClientTool(required_name(tool.name, path), namespace, tool.type == "custom")
        joined = client.joined
        if again and joined in self.functions:
            return
        parameters = _CUSTOM_PARAMETERS if client.custom else tool.parameters

        def make(names: ToolNames, budget: SchemaBudget) -> FunctionDeclaration:
            place = f"{path}.parameters"
            return declare(joined, _description(tool), parameters, place, names, budget)

        self.add_function(joined, make, path)
        self.clients[joined] = client


def _description(tool: ToolItem) -> str | None:
    described = tool.description
    form = tool.format
    if tool.type != "custom" or form is None or not form.definition:
        return described
    grammar = f"The input has to follow this {form.syntax or ''} grammar:\n{form.definition}"
    return f"{described}\n\n{grammar}" if described else grammar


def _location(place: Location | None) -> str | None:
    if place is None:
        return None
    return location_sentence(place.city, place.region, place.country, place.timezone)


def _wants_json(request: ResponsesRequest) -> bool:
    wanted = request.text.format if request.text is not None else None
    return wanted is not None and wanted.type != "text"


# The choice -----------------------------------------------------------------------------------


def _tool_use(choice: str | ChosenTools | None, collected: _Collected) -> ToolUse:
    if choice is None:
        return ToolUse()
    if isinstance(choice, str):
        return ToolUse(_mode(choice, "tool_choice"))
    if choice.type in {"function", "custom"}:
        only = ((_chosen(choice.name, choice.namespace, collected), "tool_choice.name"),)
        return ToolUse("required", only)
    if choice.type == "allowed_tools":
        return ToolUse(choice.mode or "auto", tuple(_allowed(choice, collected)) or None)
    if choice.type in collected.built_in:
        # A built-in tool is offered; it cannot be forced.
        return ToolUse()
    raise InvalidRequest(
        f"tool_choice.type: '{choice.type[:60]}' cannot be chosen; no such tool is offered.",
        param="tool_choice.type",
        reason="unsupported_value",
    )


def _allowed(choice: ChosenTools, collected: _Collected) -> Iterator[tuple[str, str]]:
    for index, tool in enumerate(choice.tools or ()):
        if tool.type in {"function", "custom"}:
            name = _chosen(tool.name, tool.namespace, collected)
            yield name, f"tool_choice.tools[{index}].name"


def _chosen(name: str | None, namespace: str | None, collected: _Collected) -> str:
    """The declared name. A client may leave out the namespace if the name is unique without it."""
    joined = joined_name(name or "", namespace)
    if joined in collected.functions or namespace:
        return joined
    found = [each for each, tool in collected.clients.items() if tool.name == name]
    return found[0] if len(found) == 1 else joined


_WORDS: Final = {
    "auto": "auto",
    "none": "none",
    "required": "required",
    "any": "required",
    "validated": "validated",
}


def _mode(word: str, path: str) -> str:
    mode = _WORDS.get(word.lower())
    if mode is None:
        raise InvalidRequest(
            f"{path}: invalid value '{word[:60]}', expected one of {', '.join(_WORDS)}.",
            param=path,
        )
    return mode
