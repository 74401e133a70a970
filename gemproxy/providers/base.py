"""The interface of a provider: it makes requests and classifies responses.

A provider knows the wire of one upstream: paths, the framing of streams, the meaning of errors. It
knows no client dialect. The content of a response is decoded by the translation from that provider
to the client's dialect (``gemproxy.translate``), which knows both sides. So a response is decoded
once, into exactly what its reader needs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol

from msgspec import Struct

from gemproxy.buffer_list import BufferList
from gemproxy.core.errors import FailureKind, UpstreamFailed
from gemproxy.core.interfaces import BodySource, UpstreamRequest
from gemproxy.pool.key import Affinity
from gemproxy.pool.outcome import Outcome, Verdict
from gemproxy.secret import Secret
from gemproxy.translate.shared.listed_model import ListedModel

#: The ``param`` of an outcome about the prompt; each dialect has its own name for it.
PROMPT: Final = "prompt"


class Operation(Enum):
    """What a model is asked for."""

    GENERATE = "generate"
    GENERATE_STREAM = "generate in a stream"
    EMBED = "embed"
    COUNT_TOKENS = "count tokens"

    # Members are singletons, and Enum's own hash is slow Python code.
    __hash__ = object.__hash__


# No Struct: ``isinstance`` is slow with a class that has a metaclass, and each request needs it.
# Not frozen, although nobody changes it: a frozen dataclass sets each field with a call.
@dataclass(slots=True)
class NativeCall:
    """A call that a client wrote in the provider's own form; it is sent as it came.

    ``path`` has the query and no credential. ``headers`` are further lines of the request's head,
    each with its line end. ``array`` tells that a stream comes as one JSON array in pieces, and not
    as server-sent events. ``is_prepared`` is as in
    :class:`~gemproxy.core.interfaces.UpstreamRequest`.
    """

    method: bytes
    path: bytes
    headers: bytes = b""
    array: bool = False
    is_prepared: bool = True
    #: Makes lines for the client's head from headers of the answer, which it reads by their names.
    passed: Callable[[Callable[[str], str | None]], bytes] | None = None
    #: Makes the lines of the client's head from the headers of the answer, if that is no JSON.
    raw: Callable[[Mapping[str, str]], bytes] | None = None
    #: With ``raw``: reads an answer that is short, and returns what is passed on of it.
    tap: Callable[[bytes, Mapping[str, str]], bytes] | None = None
    #: Brings the body, if that is still arriving.
    source: BodySource | None = None
    #: The project whose keys alone can serve the call, if it is known.
    affinity: Affinity | None = None


class StreamDecoder(Protocol):
    """Cuts the body of a stream into the payloads of its events.

    For a :class:`NativeCall` they are the events as they came, together the whole body.
    """

    def receive(self, data: bytes) -> list[bytes]:
        """The payloads that ``data`` completes. Raises :class:`UnusableAnswer`."""

    def close(self) -> list[bytes]:
        """The payloads that the body's end completes. Raises :class:`UnusableAnswer`."""


class ModelPage(Struct, frozen=True):
    """A page of the list of models; ``next_page_token`` is ``None`` on the last one."""

    models: Sequence[ListedModel]
    next_page_token: str | None


class Provider(Protocol):
    """One upstream."""

    def prepare(
        self,
        operation: Operation | NativeCall,
        model: str,
        body: bytes | BufferList,
        key: Secret,
        deadline: float,
    ) -> UpstreamRequest:
        """Return the request for ``operation`` of ``model``; ``body`` is encoded already."""

    def follow(self, operation: NativeCall, headers: Mapping[str, str]) -> NativeCall | None:
        """Return the call that a redirect asks for; ``None`` if it leads elsewhere."""

    def read_stream(self, operation: Operation | NativeCall) -> StreamDecoder:
        """Return a decoder for one stream, the answer to ``operation``."""

    def classify(
        self,
        status: int,
        headers: Mapping[str, str],
        body: bytes,
        *,
        now: float,
        names_resources: bool = False,
    ) -> Outcome:
        """Return the outcome of an unsuccessful response. ``now`` is epoch seconds.

        ``names_resources`` tells that the request names resources that only one project can read.
        """

    def classify_error(self, payload: bytes, *, now: float) -> Outcome:
        """Return the outcome of an error object in a response with a success status."""

    def classify_page(self, headers: Mapping[str, str]) -> Outcome | None:
        """Return an outcome if this success came from something else on the way, else ``None``."""

    def list_models(self, key: Secret, page_token: str, deadline: float) -> UpstreamRequest:
        """Return the request for a page of the list of models; the first token is ``""``."""

    def read_models(self, body: bytes) -> ModelPage:
        """Decode a page of the list. Raises :class:`UnusableAnswer`."""

    def owner_of(self, name: str) -> str | None:
        """Return the name of the resource that ``name`` is a part of, or ``name`` itself.

        ``None`` if the project of ``name`` cannot be known.
        """

    def expiry_of(self, name: str, description: bytes, now: float) -> float:
        """Return when a resource expires, in epoch seconds as ``now``.

        ``description`` is what the provider says of it; it may be empty.
        """

    def describe(self, name: str, key: Secret, deadline: float) -> UpstreamRequest:
        """Return the request for the description of a resource, by its owner's name."""

    def probe(self, key: Secret, deadline: float) -> UpstreamRequest:
        """Return the cheapest request that tells whether ``key`` is valid.

        Its successful response is a page of the list of models.
        """


_FAILURES = {FailureKind.TOO_LARGE: Verdict.UNUSABLE, FailureKind.EXHAUSTED: Verdict.HOST}


def classify_failure(failure: UpstreamFailed) -> Outcome:
    """Return the outcome of an exchange without an HTTP response, for any provider."""
    kind = failure.kind
    public = f"The upstream could not be used: {failure}."
    return Outcome(
        _FAILURES.get(kind, Verdict.NETWORK),
        reason=kind.name.lower(),
        message=f"{public[:-1]}: {failure.detail}" if failure.detail else public,
        public=public,
        timed_out=kind.is_timeout,
        spares_key=failure.spares_key,
    )
