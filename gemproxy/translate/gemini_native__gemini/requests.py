"""Look at the bodies of native calls, and put in the upstream's names of models.

A body goes upstream as it came. Only a model's name that the operator has given an alias is
replaced, in place, so that every other byte stays: numbers, unknown fields and their order.

Clients choose these bodies, so each step takes time in proportion to the length. The JSON decoder
reads the structure. The patterns find single fields, never give back what they have matched, and
begin at strings only: in valid JSON a quote opens a string if no backslash is before it and a
field's name follows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import count, islice
from zlib import crc32

import msgspec

from gemproxy.core.decode_errors import malformed
from gemproxy.core.decoding import DECODE_ERRORS, decode_json
from gemproxy.core.errors import InvalidRequest
from gemproxy.media_bypass import MIN_BYTES, extract
from gemproxy.translate.shared.conversations import COMPARED, SHORTEST_PROMPT
from gemproxy.translate.shared.media import resource_of

_CHARACTERS_PER_TOKEN = 4
#: Tokens of an image for third-generation models; other media is not estimated.
_TOKENS_PER_MEDIUM = 1100

_PREFIX = "models/"
_NAMES_OF_RESOURCES = (
    (b"ileUri", b"ile_uri"),
    (b"achedContent", b"ached_content"),
    (b"ileSearchStoreNames", b"ile_search_store_names"),
    (b"ileName", b"ile_name"),
)
_STRING = rb'"(?:[^"\\]++|\\.)*+"'
_FIELD = rb'"(?<!\\")(?:%b)"\s*+:\s*+'
_RESOURCE_FIELDS = (
    b"file(?:Uri|_uri|Name|_name|SearchStoreNames|_search_store_names)|cached(?:Content|_content)"
)
_RESOURCES = re.compile(
    _FIELD % _RESOURCE_FIELDS + rb"(%b|\[\s*+(?:%b\s*+,?\s*+)*+\])" % (_STRING, _STRING),
    re.DOTALL,
)
_COLLECTIONS = ("cachedContents/", "fileSearchStores/", "files/")
#: What an interaction names: files by their addresses, and the interactions that it continues.
_URIS = re.compile(_FIELD % b"uri" + b"(%b)" % _STRING, re.DOTALL)
_PREVIOUS = re.compile(
    _FIELD % b"previous(?:_interaction_id|InteractionId)" + b"(%b)" % _STRING, re.DOTALL
)
#: More than Gemini takes files in one prompt. Each name costs time here and in the choice of a key.
_MOST_RESOURCES = 4000


def _escaped(name: str) -> bytes:
    """A pattern for ``name`` in JSON, where any letter may be an escape."""
    letters = (rb"(?:%b|\\u00(?i:%02x))" % (each.encode(), ord(each)) for each in name)
    return b"".join(letters)


#: A field that may name a model, with its value if that is a string or null.
_MODEL_FIELD = re.compile(
    b"("
    + _FIELD % b"|".join(map(_escaped, ("model", "agent", "embeddingModel", "embedding_model")))
    + b")(%b|null)" % _STRING,
    re.DOTALL,
)
_Places = dict[str, "_Places"]
_LEAF: _Places = {}
_CALL: _Places = {"model": _LEAF}
_BATCHED: _Places = {"requests": {"requests": {"request": _CALL}}}
#: The fields of :class:`_Named` that lead to the names of models, and those within them.
_PLACES: _Places = {
    "model": _LEAF,
    "agent": _LEAF,
    "embeddingModel": _LEAF,
    "embedding_model": _LEAF,
    "requests": _CALL,
    "generateContentRequest": _CALL,
    "generate_content_request": _CALL,
    "batch": {"inputConfig": _BATCHED, "input_config": _BATCHED},
}
_LEADING = frozenset((*_PLACES, *_PLACES["batch"], "request"))
#: A call has one model, which a client may write in a few ways.
_MOST_NAMES = 16
#: A budget of time and memory: some 0.2 s. A body of 256 KiB cannot have so many.
_MOST_FIELDS = 100_000

_ABSENT = msgspec.Raw(b"")


class _Generation(msgspec.Struct, frozen=True, gc=False):
    model: str | None = None


class _BatchedCall(msgspec.Struct, frozen=True, gc=False):
    request: _Generation | None = None


class _BatchedCalls(msgspec.Struct, frozen=True, gc=False):
    requests: list[_BatchedCall | None] | None = None


class _BatchInput(msgspec.Struct, frozen=True, gc=False):
    requests: _BatchedCalls | None = None


class _Batch(msgspec.Struct, frozen=True, gc=False):
    input_config: _BatchInput | None = msgspec.field(default=None, name="inputConfig")
    snake_input_config: _BatchInput | None = msgspec.field(default=None, name="input_config")


class _Named(msgspec.Struct, frozen=True, gc=False):
    """Where the body of a call names models. They have to be readable; Google checks the rest."""

    model: str | None = None
    agent: str | None = None
    requests: list[_Generation | None] | None = None
    counted: _Generation | None = msgspec.field(default=None, name="generateContentRequest")
    snake_counted: _Generation | None = msgspec.field(default=None, name="generate_content_request")
    batch: _Batch | None = None
    #: Of a file search store.
    embedding_model: str | None = msgspec.field(default=None, name="embeddingModel")
    snake_embedding_model: str | None = msgspec.field(default=None, name="embedding_model")
    system_instruction: msgspec.Raw = msgspec.field(default=_ABSENT, name="systemInstruction")
    snake_instruction: msgspec.Raw = msgspec.field(default=_ABSENT, name="system_instruction")
    stream: msgspec.Raw = _ABSENT

    def models(self) -> Iterator[str]:
        """The names as they stand."""
        calls = [self.counted, self.snake_counted, *(self.requests or ())]
        if self.batch is not None:
            for inputs in (self.batch.input_config, self.batch.snake_input_config):
                if inputs is not None and inputs.requests is not None:
                    calls += [each and each.request for each in inputs.requests.requests or ()]
        own = (self.model, self.agent, self.embedding_model, self.snake_embedding_model)
        for name in (*own, *[each and each.model for each in calls]):
            if name:
                yield name


class NativeBody(_Named, frozen=True, gc=False):
    """What the body of a call says about it."""

    contents: list[msgspec.Raw] | None = None

    @property
    def streams(self) -> bool:
        """Whether it asks for a stream, as the body of a request for an interaction can."""
        return bytes(self.stream) == b"true"

    @property
    def main_model(self) -> str:
        """The model, or else the agent, that it names itself; empty if it names none."""
        return (self.model or self.agent or "").removeprefix(_PREFIX)


class PlainBody(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """A prompt whose fields are these. None of them leads to the name of a model."""

    contents: list[msgspec.Raw] | None = None
    system_instruction: msgspec.Raw = msgspec.field(default=_ABSENT, name="systemInstruction")
    snake_instruction: msgspec.Raw = msgspec.field(default=_ABSENT, name="system_instruction")
    generation_config: msgspec.Raw = msgspec.field(default=_ABSENT, name="generationConfig")
    safety_settings: msgspec.Raw = msgspec.field(default=_ABSENT, name="safetySettings")
    tools: msgspec.Raw = _ABSENT
    tool_config: msgspec.Raw = msgspec.field(default=_ABSENT, name="toolConfig")
    cached_content: msgspec.Raw = msgspec.field(default=_ABSENT, name="cachedContent")


class _Object(msgspec.Struct, frozen=True, gc=False):
    """Any object."""


_PLAIN = msgspec.json.Decoder(PlainBody)
_BODY = msgspec.json.Decoder(NativeBody)
_NAMED = msgspec.json.Decoder(_Named)
_OBJECT = msgspec.json.Decoder(_Object)
_TEXTS: msgspec.json.Decoder[str | list[str]] = msgspec.json.Decoder(str | list[str])


def read_body(body: bytes) -> NativeBody:
    """What ``body`` says about its call.

    Raises :class:`InvalidRequest` if it is no JSON object in UTF-8, or if what stands where models
    are named is no name.
    """
    try:
        return decode_json(_BODY, body)
    except msgspec.ValidationError:
        # Google says what is wrong with a prompt; the names of models have to be readable.
        pass
    except DECODE_ERRORS as error:
        raise malformed(error) from error
    try:
        named = _NAMED.decode(body)
    except DECODE_ERRORS as error:
        raise malformed(error) from error
    return NativeBody(**msgspec.structs.asdict(named))


def read_prompt(body: bytes) -> NativeBody | PlainBody:
    """As :func:`read_body`; a :class:`PlainBody` has no names of models to look for.

    Raises as :func:`read_body`.
    """
    try:
        return decode_json(_PLAIN, body)
    except DECODE_ERRORS:
        return read_body(body)


def check_object(body: bytes) -> None:
    """Raise :class:`InvalidRequest` if ``body`` is no JSON object in UTF-8."""
    try:
        decode_json(_OBJECT, body)
    except DECODE_ERRORS as error:
        raise malformed(error) from error


def estimated_tokens(body: bytes) -> int:
    """A rough estimate of the tokens of a body, for budgets; never exact."""
    if len(body) < MIN_BYTES:
        return len(body) // _CHARACTERS_PER_TOKEN
    rest, media = extract(body)
    return len(rest) // _CHARACTERS_PER_TOKEN + _TOKENS_PER_MEDIUM * len(media.pieces)


def named_resources(body: bytes) -> list[str]:
    """The resources that a body names and that belong to one project: ``files/x`` and others."""
    # Most bodies end here. A search for one byte is much faster than one for a word, and each of
    # these names has a slash.
    if b"/" not in body and (b"\\" not in body or b"\\u002" not in body):
        return []
    if b"ile" not in body and b"ached" not in body:
        return []
    if not any(name in body for names in _NAMES_OF_RESOURCES for name in names):
        return []
    return _resources(_RESOURCES.findall(body), resource_name)


def interaction_resources(body: bytes) -> list[str]:
    """The resources that the request for an interaction names."""
    found = named_resources(body)
    if b'"uri"' in body:
        found += _resources(_URIS.findall(body), resource_of)
    if b'"previous' in body:
        found += _resources(_PREVIOUS.findall(body), _interaction)
    return found


def _interaction(text: str) -> str | None:
    return f"interactions/{text}" if text else None


def _resources(values: Iterable[bytes], name_of: Callable[[str], str | None]) -> list[str]:
    """The resources in ``values``, which are strings or arrays of strings, as JSON."""
    found: dict[str, None] = {}
    for value in dict.fromkeys(values):
        for text in _texts(value):
            name = name_of(text)
            if name is not None:
                found[name] = None
        if len(found) > _MOST_RESOURCES:
            raise InvalidRequest(
                f"The request names more than {_MOST_RESOURCES:,} files and other resources."
            )
    return list(found)


def resource_name(text: str) -> str | None:
    """The name of the resource that ``text``, a name or a URI, names; ``None`` if it is none."""
    return text if text.startswith(_COLLECTIONS) else resource_of(text)


def conversation_of(body: NativeBody | PlainBody, tokens: int) -> int | None:
    """The number of the conversation of a body of about ``tokens`` tokens.

    See :mod:`gemproxy.translate.shared.conversations`. The same beginning spelled differently
    counts as another conversation; only a cache hit is lost.
    """
    contents = body.contents
    if not contents or (tokens < SHORTEST_PROMPT and len(contents) < 2):
        return None
    instructions = body.system_instruction or body.snake_instruction
    return crc32(memoryview(contents[0])[:COMPARED], crc32(memoryview(instructions)[:COMPARED]))


def with_models(body: bytes, said: NativeBody, rename: Callable[[str], str]) -> bytes:
    """``body`` with the names of its models replaced by what ``rename`` returns for them.

    ``said`` is what :func:`read_body` found in it. Names are passed without ``models/``, each
    once. Raises what ``rename`` raises, and :class:`InvalidRequest` for more than a few names.
    """
    # One of these is in each body with such a field. The backslash is looked for first, since a
    # search for one byte is much faster.
    if not (b'odel"' in body or b'agent"' in body or (b"\\" in body and rb"\u00" in body)):
        return body
    renamed: dict[bytes, bytes] = {}
    parts: list[bytes] = []
    done = 0
    for field in _models(body, said):
        string = field[2]
        if string not in renamed:
            if len(renamed) >= _MOST_NAMES:
                raise InvalidRequest("The request names too many models.", param="model")
            renamed[string] = _renamed(string, rename)
        other = renamed[string]
        if other != string:
            parts += (body[done : field.start(2)], other)
            done = field.end(2)
    if not parts:
        return body
    return b"".join((*parts, body[done:]))


def _renamed(string: bytes, rename: Callable[[str], str]) -> bytes:
    """``string`` itself if the name in it stays."""
    name = "".join(_texts(string))
    bare = name.removeprefix(_PREFIX)
    other = rename(bare) if bare else bare
    if other == bare:
        return string
    return msgspec.json.encode(name[: len(name) - len(bare)] + other)


def _models(body: bytes, said: NativeBody) -> list[re.Match[bytes]]:
    """The fields that name models.

    A field of the same name may stand elsewhere, in the arguments of a function. So each value is
    replaced by its number, and the decoder tells which numbers stand where models are named.
    """
    fields = list(islice(_MODEL_FIELD.finditer(body), _MOST_FIELDS + 1))
    if len(fields) > _MOST_FIELDS:
        raise InvalidRequest(
            f"The request has more than {_MOST_FIELDS:,} fields 'model' or 'agent'.", param="model"
        )
    if len(fields) == sum(1 for _ in said.models()):
        return fields
    _check_once(body)
    numbers = count()
    numbered = _MODEL_FIELD.sub(lambda field: b'%b"%d"' % (field[1], next(numbers)), body)
    found = [fields[int(name)] for name in _NAMED.decode(numbered).models()]
    found.sort(key=re.Match.start)
    return found


def _check_once(body: bytes) -> None:
    """Raise :class:`InvalidRequest` if a field that leads to a model stands twice in one object.

    The decoder sees the last of the two. Google may see the first, or both.
    """
    try:
        # msgspec does not tell that a field stands twice. Numbers are not read, since a long one
        # takes quadratic time.
        pairs = json.loads(body, object_pairs_hook=_LeadingPairs, parse_int=str, parse_float=str)
    except (ValueError, RecursionError) as error:
        raise malformed(error) from error
    _check_places(pairs, _PLACES)


class _LeadingPairs(list[tuple[str, object]]):
    """Those pairs of an object that may lead to a model; the others are dropped."""

    def __init__(self, pairs: list[tuple[str, object]]) -> None:
        super().__init__([pair for pair in pairs if pair[0] in _LEADING])


def _check_places(value: object, places: _Places) -> None:
    for each in value if type(value) is list else (value,):
        if not isinstance(each, _LeadingPairs):
            continue
        seen = set()
        for name, inner in each:
            if name not in places:
                continue
            if name in seen:
                raise InvalidRequest(
                    "The request names a model twice in one object.", param="model"
                )
            seen.add(name)
            _check_places(inner, places[name])


def _texts(value: bytes) -> list[str]:
    try:
        decoded = _TEXTS.decode(value)
    except DECODE_ERRORS:
        return []
    return [decoded] if isinstance(decoded, str) else decoded
