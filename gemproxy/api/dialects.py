"""Which dialect a client speaks, and what all answers in one dialect have in common.

Theory of operation. Clients of OpenAI, of Gemini and of Anthropic share one port and some paths.
The path of a request decides its dialect if only one of them has that path
(:func:`dialect_by_path`). Else the headers do (:func:`dialect_by_headers`), because each official
client sends some that no other one sends. So every answer is in the dialect of its request, also
the refusal of a request that has no route, no valid token or a malformed head.

No dialect is imported here: ``gemproxy.api.openai``, ``.gemini`` and ``.anthropic`` each make one
:class:`Dialect`, and :class:`Dialects` chooses between them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple, Protocol
from urllib.parse import unquote_to_bytes

from gemproxy.api.query import pairs_of
from gemproxy.api.rate_limits import LimitHeaders, openai_limit_headers
from gemproxy.core.errors import ProxyError

OPENAI_NAME: Final = "openai"
GEMINI_NAME: Final = "gemini"
ANTHROPIC_NAME: Final = "anthropic"

#: The first segments of paths that belong to this program itself. It answers as OpenAI does.
_OWN: Final = frozenset({"admin", "livez", "readyz", "healthz"})
#: Versions of Gemini's API that no other API has.
_GEMINI_VERSIONS: Final = frozenset({"v1beta", "v1alpha"})
#: Methods of Gemini's API that stand behind a colon at the end of a path. Any other colon may be
#: part of an id: OpenAI's ``ft:gpt-4o:org::id``.
VERBS: Final = frozenset(
    {
        "asyncBatchEmbedContent",
        "batchCreate",
        "batchDelete",
        "batchEmbedContents",
        "batchEmbedText",
        "batchGenerateContent",
        "batchUpdate",
        "bidiGenerateContent",
        "cancel",
        "countMessageTokens",
        "countTextTokens",
        "countTokens",
        "download",
        "embedContent",
        "embedText",
        "generateAnswer",
        "generateContent",
        "generateMessage",
        "generateText",
        "importFile",
        "predict",
        "predictLongRunning",
        "query",
        "register",
        "streamGenerateContent",
        "transferOwnership",
        "updateEmbedContentBatch",
        "updateGenerateContentBatch",
        "uploadToFileSearchStore",
        "wait",
    }
)
#: What follows ``/v1/`` in the paths of one dialect only.
_COLLECTIONS: Final = {
    **dict.fromkeys(
        (
            "assistants",
            "audio",
            "chat",
            "completions",
            "containers",
            "conversations",
            "edits",
            "embeddings",
            "engines",
            "evals",
            "fine_tuning",
            "fine-tunes",
            "images",
            "moderations",
            "organization",
            "realtime",
            "responses",
            "threads",
            "uploads",
            "vector_stores",
            "videos",
        ),
        OPENAI_NAME,
    ),
    **dict.fromkeys(
        (
            "auth_tokens",
            "cachedContents",
            "corpora",
            "dynamic",
            "fileSearchStores",
            "generatedFiles",
            "interactions",
            "operations",
            "ragStores",
            "tunedModels",
        ),
        GEMINI_NAME,
    ),
    **dict.fromkeys(("complete", "messages"), ANTHROPIC_NAME),
}
#: What follows ``/v1/`` in paths that Gemini and Anthropic have, and OpenAI has not.
_NOT_OPENAIS: Final = frozenset(
    {"agents", "credentials", "decisions", "environments", "triggers", "voices", "webhooks"}
)
#: The result of :func:`dialect_by_path` for these.
_GEMINI_OR_ANTHROPIC: Final = "gemini or anthropic"
#: Bytes. The dialects of shorter paths are remembered, of this number of them.
_LONGEST_KNOWN: Final = 200
_MOST_KNOWN: Final = 1024


class EncodedError(NamedTuple):
    """An error as an answer: the status, its additional headers, and the JSON body."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a dialect encodes what is no endpoint's own: errors, and the frame of a stream.

    ``answer`` makes a whole answer of an error and the request's id, ``event`` the last event of a
    stream that had begun; if it is empty, the connection is closed before the stream is complete.
    ``heartbeat`` is sent while a stream is silent; if it is empty, nothing is. ``media_type`` is
    the Content-Type of streams. ``id_header`` is the name of a further header with the request's
    id, beside ``x-request-id``; empty for none. ``limit_headers`` encode what is left of the
    client's own limits.
    """

    name: str
    answer: Callable[[ProxyError, str], EncodedError]
    event: Callable[[ProxyError, str], bytes]
    heartbeat: bytes = b": heartbeat\n\n"
    media_type: bytes = b"text/event-stream; charset=utf-8"
    id_header: bytes = b""
    limit_headers: LimitHeaders = openai_limit_headers

    def of(self, target: bytes, headers: Mapping[bytes, bytes]) -> Dialect:
        """Return itself: a listener of one dialect uses it as its :class:`DialectChoice`."""
        del target, headers
        return self


class DialectChoice(Protocol):
    """Chooses the dialect of a request from its head."""

    def of(self, target: bytes, headers: Mapping[bytes, bytes]) -> Dialect:
        """Return the dialect for a request's target and its headers by name in lower case."""


class Dialects:
    """All dialects; see :class:`DialectChoice`.

    ``gemini_array`` is the form of Gemini's streams without ``alt=sse``: one JSON array.
    """

    def __init__(
        self, openai: Dialect, gemini: Dialect, gemini_array: Dialect, anthropic: Dialect
    ) -> None:
        self._gemini_array = gemini_array
        self._by_name = {each.name: each for each in (openai, gemini, anthropic)}
        #: The dialects of targets without a query, as far as the path alone decides.
        self._by_target: dict[bytes, Dialect] = {}

    def of(self, target: bytes, headers: Mapping[bytes, bytes]) -> Dialect:
        """See :class:`DialectChoice`."""
        known = self._by_target.get(target)
        if known is not None:
            return known
        path, _, query = target.partition(b"?")
        name = dialect_of(path, query, headers)
        if name is GEMINI_NAME and is_array(path, query):
            dialect = self._gemini_array
        else:
            dialect = self._by_name[name]
        # A query may hold a credential, which is not kept.
        if path == target and len(path) <= _LONGEST_KNOWN and _known_by_path(path) == name:
            if len(self._by_target) >= _MOST_KNOWN:
                self._by_target.clear()
            self._by_target[target] = dialect
        return dialect


def dialect_of(path: bytes, query: bytes, headers: Mapping[bytes, bytes]) -> str:
    """Return the name of the dialect of a request. ``path`` is not decoded yet."""
    by_path = _known_by_path(path) if len(path) <= _LONGEST_KNOWN else dialect_by_path(path)
    if by_path is None:
        return dialect_by_headers(query, headers)
    if by_path is _GEMINI_OR_ANTHROPIC:
        is_anthropic = dialect_by_headers(query, headers) is ANTHROPIC_NAME
        return ANTHROPIC_NAME if is_anthropic else GEMINI_NAME
    return by_path


def dialect_by_path(path: bytes) -> str | None:
    """Return the name of the only dialect that has ``path``, ``None`` if OpenAI and another do.

    For one that Gemini and Anthropic have, return neither's name.
    A path that nobody has gets OpenAI's answer, unless it begins with ``/v1``.
    """
    segments = unquote_to_bytes(path).decode("utf-8", "replace").split("/")[1:]
    first = segments[0] if segments else ""
    second = segments[1] if len(segments) > 1 else ""
    if first in _OWN:
        return OPENAI_NAME
    if first in _GEMINI_VERSIONS:
        # Google's own imitation of OpenAI's API, which clients of OpenAI may have in their base
        # URL.
        return OPENAI_NAME if second == "openai" else GEMINI_NAME
    if first in {"upload", "download"} or (first == "ws" and second.startswith("google.")):
        return GEMINI_NAME
    if segments and segments[-1].rpartition(":")[2] in VERBS and ":" in segments[-1]:
        return GEMINI_NAME
    if first != "v1":
        return OPENAI_NAME
    return _GEMINI_OR_ANTHROPIC if second in _NOT_OPENAIS else _COLLECTIONS.get(second)


_known_by_path = lru_cache(maxsize=_MOST_KNOWN)(dialect_by_path)


def dialect_by_headers(query: bytes, headers: Mapping[bytes, bytes]) -> str:
    """Return the name of the dialect of a client that asks for a path of several dialects."""
    is_google = any(name.startswith(b"x-goog-") for name in headers)
    if b"anthropic-version" in headers or (b"x-api-key" in headers and not is_google):
        return ANTHROPIC_NAME
    if b"x-goog-api-key" in headers or b"x-goog-api-client" in headers:
        return GEMINI_NAME
    if query and any(name == b"key" for name, _, _ in pairs_of(query)):
        return GEMINI_NAME
    return OPENAI_NAME


def is_array(path: bytes, query: bytes) -> bool:
    """Whether a native request asks for a stream in the form of one JSON array."""
    if b"%" in path:
        path = unquote_to_bytes(path)
    return path.endswith(b"streamGenerateContent") and not asks_for_events(query)


def asks_for_events(query: bytes) -> bool:
    """Whether the query of a native request asks for server-sent events.

    ``$alt`` does not: no system parameter is passed on.
    """
    return any(name == b"alt" and value == b"sse" for name, value, _ in pairs_of(query))
