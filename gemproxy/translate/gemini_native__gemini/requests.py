"""Look at the bodies of native calls, and put in the upstream's names of models.

A body goes upstream as it came. Only a model's name that the operator has given an alias is
replaced, in place, so that every other byte stays: numbers, unknown fields and their order.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from zlib import crc32

import msgspec

from gemproxy.media_bypass import MIN_BYTES, extract
from gemproxy.translate.shared.conversations import COMPARED, SHORTEST_PROMPT
from gemproxy.translate.shared.media import resource_of

_CHARACTERS_PER_TOKEN = 4
#: Tokens of an image for third-generation models; other media is not estimated.
_TOKENS_PER_MEDIUM = 1100

#: Strings and the characters of the structure. Strings are matched whole or not at all.
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[{}\[\],:]', re.DOTALL)
#: Where the body of a call names its model, as the names of the fields around it.
_PLACES_OF_MODELS = frozenset(
    {
        ("model",),
        ("requests", "model"),
        ("generateContentRequest", "model"),
        ("generate_content_request", "model"),
        ("batch", "inputConfig", "requests", "requests", "request", "model"),
        ("batch", "input_config", "requests", "requests", "request", "model"),
    }
)
_PREFIX = "models/"
_NAMES_OF_RESOURCES = (
    (b"ileUri", b"ile_uri"),
    (b"achedContent", b"ached_content"),
    (b"ileSearchStoreNames", b"ile_search_store_names"),
    (b"ileName", b"ile_name"),
)
_RESOURCES = re.compile(
    rb'"(?:fileUri|file_uri|fileName|file_name|cachedContent|cached_content)"\s*:'
    rb'\s*("(?:[^"\\]++|\\.)*+")'
    rb'|"(?:fileSearchStoreNames|file_search_store_names)"\s*:\s*(\[[^\]]*\])',
    re.DOTALL,
)
_NOTHING = msgspec.Raw(b"")
_COLLECTIONS = ("cachedContents/", "fileSearchStores/", "files/")
#: What an interaction names: files by their addresses, and the interaction that it continues.
_OF_INTERACTIONS = re.compile(
    rb'"(uri|previous_interaction_id|previousInteractionId)"\s*:\s*("(?:[^"\\]++|\\.)*+")',
    re.DOTALL,
)


_MODELS_TURN = b'"model"'


class _Prompt(msgspec.Struct, frozen=True, gc=False):
    contents: list[msgspec.Raw] | None = None
    system_instruction: msgspec.Raw = msgspec.field(default=_NOTHING, name="systemInstruction")
    snake_instruction: msgspec.Raw = msgspec.field(default=_NOTHING, name="system_instruction")


class _Named(msgspec.Struct, frozen=True, gc=False):
    model: str | None = None
    agent: str | None = None
    stream: bool | None = None


_PROMPT = msgspec.json.Decoder(_Prompt).decode
_NAMED = msgspec.json.Decoder(_Named).decode


def estimated_tokens(body: bytes) -> int:
    """A rough estimate of the tokens of a body, for budgets; never exact."""
    if len(body) < MIN_BYTES:
        return len(body) // _CHARACTERS_PER_TOKEN
    rest, media = extract(body)
    return len(rest) // _CHARACTERS_PER_TOKEN + _TOKENS_PER_MEDIUM * len(media.pieces)


def named_resources(body: bytes) -> list[str]:
    """The resources that a body names and that belong to one project: ``files/x`` and others."""
    if not any(name in body for names in _NAMES_OF_RESOURCES for name in names):
        return []
    found = []
    for match in _RESOURCES.finditer(body):
        for text in _texts(match[1] or match[2]):
            name = resource_name(text)
            if name is not None:
                found.append(name)
    return found


def interaction_resources(body: bytes) -> list[str]:
    """The resources that the request for an interaction names."""
    found = named_resources(body)
    for match in _OF_INTERACTIONS.finditer(body):
        text = _text(match[2])
        name = resource_of(text) if match[1] == b"uri" else f"interactions/{text}"
        if text and name is not None:
            found.append(name)
    return found


def model_in(body: bytes) -> str:
    """The model or agent that the body of a call names; empty if it names none."""
    try:
        named = _NAMED(body)
    except (msgspec.DecodeError, RecursionError):
        return ""
    return (named.model or named.agent or "").removeprefix(_PREFIX)


def streams(body: bytes) -> bool:
    """Whether the body of a request for an interaction asks for a stream."""
    try:
        return _NAMED(body).stream is True
    except (msgspec.DecodeError, RecursionError):
        return False


def resource_name(text: str) -> str | None:
    """The name of the resource that ``text``, a name or a URI, names; ``None`` if it is none."""
    return text if text.startswith(_COLLECTIONS) else resource_of(text)


def conversation_of(body: bytes, tokens: int) -> int | None:
    """The number of the conversation of a body of about ``tokens`` tokens.

    See :mod:`gemproxy.translate.shared.conversations`. The same beginning spelled differently
    counts as another conversation; only a cache hit is lost.
    """
    if tokens < SHORTEST_PROMPT and _MODELS_TURN not in body:
        return None
    try:
        prompt = _PROMPT(body)
    except (msgspec.DecodeError, RecursionError):
        return None
    if not prompt.contents or (tokens < SHORTEST_PROMPT and len(prompt.contents) < 2):
        return None
    instructions = prompt.system_instruction or prompt.snake_instruction
    return crc32(
        memoryview(prompt.contents[0])[:COMPARED], crc32(memoryview(instructions)[:COMPARED])
    )


def with_models(body: bytes, rename: Callable[[str], str]) -> bytes:
    """``body`` with the names of its models replaced by what ``rename`` returns for them.

    Names are passed without ``models/``. Raises what ``rename`` raises.
    """
    parts: list[bytes] = []
    done = 0
    for begin, end in _models(body):
        name = _text(body[begin:end])
        bare = name.removeprefix(_PREFIX)
        other = rename(bare)
        if other != bare:
            prefix = name[: len(name) - len(bare)]
            parts += (body[done:begin], msgspec.json.encode(prefix + other))
            done = end
    if not parts:
        return body
    return b"".join((*parts, body[done:]))


def _models(body: bytes) -> Iterator[tuple[int, int]]:
    """The places of the strings that are names of models."""
    #: The stack: for each open object or array the field that holds it.
    fields: list[str | None] = []
    #: The current field of the innermost object.
    field: str | None = None
    last: re.Match[bytes] | None = None
    for token in _TOKEN.finditer(body):
        character = token[0]
        if character == b":":
            field = _text(last[0]) if last is not None else None
            last = None
            continue
        if character[0] == _QUOTE:
            last = token
            continue
        if last is not None and character in b",}]":
            if (*filter(None, fields[1:]), field) in _PLACES_OF_MODELS:
                yield last.span()
            last = None
        if character in b"{[":
            fields.append(field)
            field = None
        elif character in b"}]" and fields:
            field = fields.pop()


_QUOTE = b'"'[0]


def _text(string: bytes) -> str:
    try:
        return msgspec.json.decode(string, type=str)
    except msgspec.DecodeError:
        return ""


def _texts(value: bytes) -> list[str]:
    try:
        decoded = msgspec.json.decode(value, type=str | list[str])
    except msgspec.DecodeError:
        return []
    return [decoded] if isinstance(decoded, str) else decoded
