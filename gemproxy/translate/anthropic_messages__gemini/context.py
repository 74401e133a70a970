"""What the translation of the answer needs to know of the request."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec


class AnswerContext(msgspec.Struct, frozen=True, gc=False):
    """Made once with the translated request, used by every answer to it."""

    #: The model as the client named it; answers echo it.
    model: str
    #: The model as Google names it; signatures are valid for it only.
    upstream_model: str = ""
    #: Names of functions that had to be changed for Gemini: Gemini's name -> the client's.
    tool_names: Mapping[str, str] = msgspec.field(default_factory=dict)
    #: The client asked for thinking, so it takes thinking blocks and sends them back.
    thinks: bool = False
    #: ``disable_parallel_tool_use``.
    single_call: bool = False
    #: The web search is among the tools.
    searches: bool = False
    #: Removes secrets from block messages; also used to detect a secret in a call's id or
    #: signature.
    scrub: Callable[[str], str] = str
