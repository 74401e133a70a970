"""What the translation of the answer needs to know of the request."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec


class AnswerContext(msgspec.Struct, frozen=True, gc=False):
    """Made once with the translated request, used by every answer to it."""

    #: The model as the client named it; answers echo it.
    model: str
    #: ``n``: how many choices the client asked for.
    choices: int = 1
    #: Names of functions that had to be changed for Gemini: Gemini's name -> the client's.
    tool_names: Mapping[str, str] = msgspec.field(default_factory=dict)
    #: The request used ``functions`` instead of ``tools``; the answer says ``function_call``.
    legacy_functions: bool = False
    #: ``parallel_tool_calls`` was not false.
    parallel_tool_calls: bool = True
    #: ``stream_options.include_usage``.
    include_usage: bool = False
    #: ``logprobs`` was asked for.
    logprobs: bool = False
    #: Takes secrets out of what Google says of a block, which may echo a key, and tells whether one
    #: is in the id or the signature of a call, which are kept for the next turn.
    scrub: Callable[[str], str] = str
