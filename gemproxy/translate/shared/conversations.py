"""Which requests belong to one conversation, without remembering any.

Google keeps the beginning of a prompt in an implicit cache of the project that sent it, so that the
next request of a conversation is cheaper and faster with the same key. A client may name its
conversation. Else the beginning of the conversation names it, because every request repeats it: the
instructions and the first turn.

A request that begins a conversation and is short has no name. No cache holds so short a prompt, and
most of these requests are alone: the pool spreads them by the keys' weights, exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from zlib import crc32

from gemproxy.providers.gemini.wire.requests import Content

#: Estimated tokens. Google caches no prompt of less than 1,024 tokens (ai.google.dev, context
#: caching); an estimate may be a quarter too low.
SHORTEST_PROMPT = 768
#: Characters of a text that are compared.
COMPARED = 1024


def named_conversation(name: str) -> int:
    """The number of a conversation that the client gave a name: a session, a cache key, a user."""
    return crc32(name[:COMPARED].encode("utf-8", "surrogatepass"))


def conversation_named(*names: object) -> int | None:
    """As :func:`named_conversation` for the first of ``names`` that is a text, or bytes."""
    for name in names:
        if name and isinstance(name, bytes):
            return crc32(name[:COMPARED])
        if name and isinstance(name, str):
            return named_conversation(name)
    return None


def session_of(header: Callable[[bytes], bytes | None]) -> bytes | None:
    """The session that a request's head names; ``header`` returns the value of a header."""
    return (
        header(b"session-id")
        or header(b"session_id")
        or header(b"x-session-id")
        or header(b"x-claude-code-session-id")
    )


def conversation_in(
    contents: Sequence[Content], instruction: Content | None, tokens: int
) -> int | None:
    """The number of the conversation that a prompt of about ``tokens`` tokens is a part of."""
    if tokens < SHORTEST_PROMPT and len(contents) < 2:
        return None
    # Only the first part of the instructions and of the first turn: others may be added in the
    # middle of a conversation.
    first = contents[0].parts[0].text or "" if contents else ""
    instructions = instruction.parts[0].text or "" if instruction is not None else ""
    beginning = f"{instructions[:COMPARED]}\0{first[:COMPARED]}"
    return crc32(beginning.encode("utf-8", "surrogatepass"))
