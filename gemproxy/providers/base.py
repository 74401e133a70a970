"""What the core asks of a provider: requests to send, and the judgement on what comes back.

A provider knows the wire of one upstream: paths, the framing of its streams, what its errors mean.
It knows no client's dialect. What an answer says is read by the translation from that provider to
the client's dialect (``gemproxy.translate``), which knows both sides; so an answer is decoded once,
into exactly what its reader needs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Final, Protocol

from msgspec import Struct

from gemproxy.buffer_list import BufferList
from gemproxy.core.errors import FailureKind, UpstreamFailed
from gemproxy.core.interfaces import UpstreamRequest
from gemproxy.pool.outcome import Outcome, Verdict
from gemproxy.secret import Secret

#: The ``param`` of an outcome that is about the prompt, wherever that stands in a dialect.
PROMPT: Final = "prompt"


class Operation(Enum):
    """What a model is asked for."""

    GENERATE = "generate"
    GENERATE_STREAM = "generate in a stream"
    EMBED = "embed"

    # There is one object for each, and Enum's own hash is Python code.
    __hash__ = object.__hash__


class StreamDecoder(Protocol):
    """Cuts the body of a stream into the payloads of its events."""

    def receive(self, data: bytes) -> list[bytes]:
        """The payloads that ``data`` completes. Raises :class:`UnusableAnswer`."""

    def close(self) -> list[bytes]:
        """The payloads that the body's end completes. Raises :class:`UnusableAnswer`."""


class ListedModel(Protocol):
    """An entry of the provider's list of models."""

    @property
    def id(self) -> str:
        """The name by which it is asked for."""

    @property
    def is_served(self) -> bool:
        """Whether an operation here works with it, as far as the list tells."""


class ModelPage(Struct, frozen=True):
    """A part of the list of models; ``next_page_token`` is ``None`` on the last one."""

    models: Sequence[ListedModel]
    next_page_token: str | None


class Provider(Protocol):
    """One upstream."""

    def prepare(
        self,
        operation: Operation,
        model: str,
        body: bytes | BufferList,
        key: Secret,
        deadline: float,
    ) -> UpstreamRequest:
        """The request that asks ``model`` for ``operation`` with ``key``; ``body`` is ready."""

    def read_stream(self) -> StreamDecoder:
        """The decoder of one stream."""

    def classify(
        self,
        status: int,
        headers: Mapping[str, str],
        body: bytes,
        *,
        now: float,
        names_resources: bool = False,
    ) -> Outcome:
        """The judgement on an answer that is no success. ``now`` is epoch seconds.

        ``names_resources`` says that the request names what only keys of one project can read.
        """

    def classify_error(self, payload: bytes, *, now: float) -> Outcome:
        """The judgement on an error object that came inside a success."""

    def classify_page(self, headers: Mapping[str, str]) -> Outcome | None:
        """The judgement on a success that somebody else sent in the provider's place, if it is."""

    def list_models(self, key: Secret, page_token: str, deadline: float) -> UpstreamRequest:
        """The request for a page of the list of models; the first has the token ``""``."""

    def read_models(self, body: bytes) -> ModelPage:
        """Read a page of the list. Raises :class:`UnusableAnswer`."""

    def probe(self, key: Secret, deadline: float) -> UpstreamRequest:
        """The cheapest request that tells whether ``key`` is valid.

        A success is a page of the list of models.
        """


_FAILURES = {FailureKind.TOO_LARGE: Verdict.UNUSABLE, FailureKind.EXHAUSTED: Verdict.HOST}


def classify_failure(failure: UpstreamFailed) -> Outcome:
    """The judgement on an exchange that brought no HTTP answer, whoever the provider is."""
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
