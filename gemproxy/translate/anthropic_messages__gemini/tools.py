"""Translate tools: the client's, those with a schema that Anthropic defines, and Google's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from gemproxy.api.anthropic.schema.requests import Prompt, ToolChoice, ToolDefinition
from gemproxy.core.errors import InvalidRequest
from gemproxy.providers.gemini.capabilities import ModelFamily
from gemproxy.providers.gemini.wire.requests import (
    CodeExecution,
    FunctionDeclaration,
    Tool,
    UrlContext,
)
from gemproxy.translate.shared.schema_budget import OutOfSteps, SchemaBudget
from gemproxy.translate.shared.tool_names import ToolNames
from gemproxy.translate.shared.tools import (
    OfferedTools,
    ToolUse,
    TranslatedTools,
    declare,
    location_sentence,
    required_name,
)

_TEXT: Final = {"type": "string"}
_LINE: Final = {"type": "integer"}


class _Known(NamedTuple):
    """A tool that the client runs and whose schema Anthropic's models know."""

    name: str
    description: str
    schema: dict[str, Any]


_BASH: Final = _Known(
    "bash",
    "Run a command in a persistent bash session. With restart, begin a new session instead.",
    {"type": "object", "properties": {"command": _TEXT, "restart": {"type": "boolean"}}},
)
_EDITOR: Final = _Known(
    "str_replace_based_edit_tool",
    "View, create and edit text files. view: the file or folder at path, lines view_range only if"
    " given. create: write file_text to path. str_replace: replace old_str, which must occur once,"
    " by new_str. insert: put insert_text after line insert_line.",
    {
        "type": "object",
        "properties": {
            "command": {"type": "string", "enum": ["view", "create", "str_replace", "insert"]},
            "path": _TEXT,
            "file_text": _TEXT,
            "old_str": _TEXT,
            "new_str": _TEXT,
            "insert_line": _LINE,
            "insert_text": _TEXT,
            "view_range": {"type": "array", "items": _LINE},
        },
        "required": ["command", "path"],
    },
)
#: By the beginning of the type; the rest is a version.
_KNOWN: Final = {"bash_": _BASH, "text_editor_": _EDITOR}
_SEARCH: Final = "web_search_"
_SERVER_TOOLS: Final[Mapping[str, Callable[[], Tool]]] = {
    "web_fetch_": lambda: Tool(url_context=UrlContext()),
    "code_execution_": lambda: Tool(code_execution=CodeExecution()),
}
#: Tools that are declared in the reactor's thread: some two milliseconds.
_FEW_TOOLS: Final = 1000
#: All tools are loaded, so there is nothing to search.
_NEEDLESS: Final = "tool_search_tool_"


class MessagesTools(NamedTuple):
    """The tools of a request, and whether the web search is among them."""

    translated: TranslatedTools
    searches: bool = False
    #: Where the user is, for the search.
    location: str | None = None


def translate_tools(request: Prompt, family: ModelFamily, budget: SchemaBudget) -> MessagesTools:
    """All tools of the request, and the choice; ``budget`` bounds the work on their schemas.

    Raises :class:`InvalidRequest` for tools that Gemini has no equivalent of, for two tools of one
    name, for a choice that names no tool, and for combinations that the model refuses. With a brief
    budget raises :class:`OutOfSteps` for very many tools.
    """
    if not request.tools:
        _refuse_call(request.tool_choice)
        return MessagesTools(TranslatedTools())
    if budget.brief and len(request.tools) > _FEW_TOOLS:
        raise OutOfSteps("too many tools to declare")
    collected = _Collected()
    for index, tool in enumerate(request.tools):
        collected.add(tool, f"tools[{index}]")
    use = collected.use(request.tool_choice)
    translated = collected.translate(use, family, budget, wants_json=wants_json(request))
    searches = collected.search is not None and use.mode != "none"
    return MessagesTools(translated, searches, collected.location if searches else None)


def wants_json(request: Prompt) -> bool:
    """Whether the answer has to be JSON."""
    config = request.output_config
    return request.output_format is not None or (config is not None and config.format is not None)


class _Collected(OfferedTools):
    """What Anthropic's kinds of tools become."""

    def __init__(self) -> None:
        super().__init__()
        #: The names of tools that are no functions here.
        self._named: set[str] = set()

    def add(self, tool: ToolDefinition, path: str) -> None:
        kind = tool.type
        if kind is None or kind == "custom":
            self._add_function(tool, path)
        elif kind.startswith(_SEARCH):
            self.search = path
            where = tool.user_location
            if where is not None:
                self.location = location_sentence(
                    where.city, where.region, where.country, where.timezone
                )
        elif kind.startswith(_NEEDLESS):
            pass
        elif known := next((_KNOWN[each] for each in _KNOWN if kind.startswith(each)), None):
            self._add_known(tool, known, path)
            return
        elif make := next(
            (_SERVER_TOOLS[each] for each in _SERVER_TOOLS if kind.startswith(each)), None
        ):
            self.others.append((path, make()))
        else:
            raise InvalidRequest(
                f"{path}.type: '{kind[:60]}' is not supported; Gemini has no equivalent.",
                param=f"{path}.type",
                reason="unsupported_value",
            )
        if kind is not None and kind != "custom" and tool.name:
            self._named.add(tool.name)

    def _add_function(self, tool: ToolDefinition, path: str) -> None:
        name, schema = required_name(tool.name, path), tool.input_schema

        def make(names: ToolNames, budget: SchemaBudget) -> FunctionDeclaration:
            place = f"{path}.input_schema"
            return declare(name, tool.description, schema, place, names, budget)

        self.add_function(name, make, path)

    def _add_known(self, tool: ToolDefinition, known: _Known, path: str) -> None:
        name = tool.name or known.name

        def make(names: ToolNames, budget: SchemaBudget) -> FunctionDeclaration:
            return declare(name, known.description, known.schema, path, names, budget)

        self.add_function(name, make, path)

    def use(self, choice: ToolChoice | None) -> ToolUse:
        """What the model may or must do.

        It cannot be made to use a tool of Google's, so a choice of one leaves it to the model.
        """
        if choice is None or choice.type == "auto":
            return ToolUse()
        if choice.type == "none":
            return ToolUse("none")
        if choice.type == "any":
            server_tools = self.search is not None or bool(self.others)
            return ToolUse("auto" if server_tools and not self.functions else "required")
        if choice.name is None:
            raise InvalidRequest(
                "Missing required parameter: 'tool_choice.name'.",
                param="tool_choice.name",
                reason="missing_required_parameter",
            )
        if choice.name in self._named and choice.name not in self.functions:
            return ToolUse()
        return ToolUse("required", ((choice.name, "tool_choice.name"),))


def _refuse_call(choice: ToolChoice | None) -> None:
    """Raise :class:`InvalidRequest` if a call is required although there are no tools."""
    if choice is not None and choice.type in ("any", "tool"):
        raise InvalidRequest(
            "tool_choice: a call is required, but no tools are given.", param="tool_choice"
        )
