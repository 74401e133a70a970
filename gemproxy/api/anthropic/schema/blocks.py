"""Content blocks of messages, as the official SDK's types describe them.

Unknown fields are ignored, ``cache_control`` among them. Blocks that mean nothing to Gemini are
decoded so that a history with them is not refused; a block of an unknown type is refused by name.
Source: ``anthropic.types`` and ``anthropic.types.beta``, version 2.14.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

NonEmpty = Annotated[str, msgspec.Meta(min_length=1)]
_EMPTY_OBJECT = msgspec.Raw(b"{}")


class _Shape(msgspec.Struct, gc=False, frozen=True):
    """A JSON object that a client sent."""


# Text and media -----------------------------------------------------------------------------


class TextBlock(_Shape, frozen=True, tag_field="type", tag="text"):
    """Plain text."""

    text: str


class Base64Source(_Shape, frozen=True, tag_field="type", tag="base64"):
    """Media in the request itself."""

    media_type: NonEmpty
    data: NonEmpty


class URLSource(_Shape, frozen=True, tag_field="type", tag="url"):
    """Media at an address."""

    url: NonEmpty


class FileSource(_Shape, frozen=True, tag_field="type", tag="file"):
    """An uploaded file."""

    file_id: NonEmpty


class TextSource(_Shape, frozen=True, tag_field="type", tag="text"):
    """A document that is plain text."""

    data: str


class ImageBlock(_Shape, frozen=True, tag_field="type", tag="image"):
    """An image."""

    source: Base64Source | URLSource | FileSource


class BlocksSource(_Shape, frozen=True, tag_field="type", tag="content"):
    """A document in blocks."""

    content: str | list[TextBlock | ImageBlock]


class DocumentBlock(_Shape, frozen=True, tag_field="type", tag="document"):
    """A document; its title, context and citations have no equivalent in Gemini."""

    source: Base64Source | TextSource | BlocksSource | URLSource | FileSource


class SearchResultBlock(_Shape, frozen=True, tag_field="type", tag="search_result"):
    """A result of the client's own search."""

    source: str
    title: str
    content: list[TextBlock]


class ToolReferenceBlock(_Shape, frozen=True, tag_field="type", tag="tool_reference"):
    """A tool that a search for tools found."""

    tool_name: str


class BrowserStateBlock(_Shape, frozen=True, tag_field="type", tag="browser_state"):
    """The state of a browser that the client runs; decoded and left out."""


class ContainerUploadBlock(_Shape, frozen=True, tag_field="type", tag="container_upload"):
    """A file for a container; decoded so that the error can name it."""


# Thinking -----------------------------------------------------------------------------------


class ThinkingBlock(_Shape, frozen=True, tag_field="type", tag="thinking"):
    """Earlier thinking; the signature carries a thought signature of Gemini's."""

    signature: str | None = None


class RedactedThinkingBlock(_Shape, frozen=True, tag_field="type", tag="redacted_thinking"):
    """Earlier thinking that cannot be read; ``data`` may carry a signature as well."""

    data: str | None = None


# Tools --------------------------------------------------------------------------------------


class ToolUseBlock(_Shape, frozen=True, tag_field="type", tag="tool_use"):
    """A call of one of the client's tools; ``input`` is the text of its JSON."""

    id: str
    name: NonEmpty
    input: msgspec.Raw = _EMPTY_OBJECT


ResultContent = (
    TextBlock
    | ImageBlock
    | DocumentBlock
    | SearchResultBlock
    | ToolReferenceBlock
    | BrowserStateBlock
)


class ToolResultBlock(_Shape, frozen=True, tag_field="type", tag="tool_result"):
    """The result of a call."""

    tool_use_id: str
    content: str | list[ResultContent] | None = None
    is_error: bool | None = None


# Server tools: calls and results that an earlier answer had ------------------------------------


class WebSearchResultBlock(_Shape, frozen=True, tag_field="type", tag="web_search_tool_result"):
    """Results of a web search: a list of ``web_search_result``, or an error object."""

    content: Any = None


class ServerToolUseBlock(_Shape, frozen=True, tag_field="type", tag="server_tool_use"):
    """A call of a server tool; left out, as the blocks below."""


class WebFetchResultBlock(_Shape, frozen=True, tag_field="type", tag="web_fetch_tool_result"):
    """A fetched page."""


class CodeResultBlock(_Shape, frozen=True, tag_field="type", tag="code_execution_tool_result"):
    """The output of code that ran on the server."""


class BashResultBlock(_Shape, frozen=True, tag_field="type", tag="bash_code_execution_tool_result"):
    """The output of a shell on the server."""


class EditorResultBlock(
    _Shape, frozen=True, tag_field="type", tag="text_editor_code_execution_tool_result"
):
    """The result of an editor on the server."""


class ToolSearchResultBlock(_Shape, frozen=True, tag_field="type", tag="tool_search_tool_result"):
    """Tools that a search on the server found."""


class MCPToolUseBlock(_Shape, frozen=True, tag_field="type", tag="mcp_tool_use"):
    """A call of an MCP server's tool."""


class MCPToolResultBlock(_Shape, frozen=True, tag_field="type", tag="mcp_tool_result"):
    """The result of an MCP server's tool."""


class MCPToolListingBlock(_Shape, frozen=True, tag_field="type", tag="mcp_tool_listing"):
    """The tools of an MCP server."""


class AdvisorResultBlock(_Shape, frozen=True, tag_field="type", tag="advisor_tool_result"):
    """The advice of another model."""


# Beta blocks ----------------------------------------------------------------------------------


class CompactionBlock(_Shape, frozen=True, tag_field="type", tag="compaction"):
    """A summary of what stood before it."""

    content: str | None = None


class ToolAdditionBlock(_Shape, frozen=True, tag_field="type", tag="tool_addition"):
    """A tool becomes available; all declared tools always are."""


class ToolRemovalBlock(_Shape, frozen=True, tag_field="type", tag="tool_removal"):
    """A tool is withdrawn."""


class FallbackBlock(_Shape, frozen=True, tag_field="type", tag="fallback"):
    """Another model continued an earlier answer."""


Block = (
    TextBlock
    | ImageBlock
    | DocumentBlock
    | SearchResultBlock
    | ToolReferenceBlock
    | ContainerUploadBlock
    | ThinkingBlock
    | RedactedThinkingBlock
    | ToolUseBlock
    | ToolResultBlock
    | WebSearchResultBlock
    | ServerToolUseBlock
    | WebFetchResultBlock
    | CodeResultBlock
    | BashResultBlock
    | EditorResultBlock
    | ToolSearchResultBlock
    | MCPToolUseBlock
    | MCPToolResultBlock
    | MCPToolListingBlock
    | AdvisorResultBlock
    | CompactionBlock
    | ToolAdditionBlock
    | ToolRemovalBlock
    | FallbackBlock
)


class Message(_Shape, frozen=True):
    """One message. Claude Code sends those of ``system`` between the others as well."""

    role: Literal["user", "assistant", "system"]
    content: str | list[Block]
