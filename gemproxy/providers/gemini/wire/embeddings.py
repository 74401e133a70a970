"""Wire types of ``batchEmbedContents`` of the Gemini API, v1beta.

A response for 100 texts is 7 MB of decimal fractions. A JSON decoder reads that in 90 ms and holds
the interpreter's lock meanwhile. So :func:`decode_batch` takes the lists of numbers out of the text
and decodes only the rest. The caller reads one vector at a time with :data:`decode_vector`, so that
other threads can run in between.
Source: ai.google.dev/api/embeddings.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import msgspec

from gemproxy.core.errors import ErrorInAnswer, MalformedUpstreamResponse
from gemproxy.providers.gemini.wire.answers import UsageMetadata
from gemproxy.providers.gemini.wire.requests import Content

#: Requests in one batch; Google answers 400 to more.
MAX_BATCH = 100


class EmbedContentRequest(
    msgspec.Struct, omit_defaults=True, rename="camel", gc=False, kw_only=True
):
    """One text to embed; ``model`` is the model of the path, with ``models/``.

    Google makes one vector of all parts of a content, so each text needs a request of its own.
    """

    model: str
    content: Content
    task_type: str | None = None
    title: str | None = None
    output_dimensionality: int | None = None


class BatchEmbedContentsRequest(msgspec.Struct, gc=False):
    """The body of ``batchEmbedContents``: at most :data:`MAX_BATCH` requests."""

    requests: list[EmbedContentRequest]


#: The request as compact JSON.
encode_batch: Callable[[BatchEmbedContentsRequest], bytes] = msgspec.json.Encoder().encode


class _RawRequests(msgspec.Struct, frozen=True):
    requests: list[msgspec.Raw]


#: The requests of a batch that was encoded here, each as its JSON.
decode_requests: Callable[[bytes], _RawRequests] = msgspec.json.Decoder(_RawRequests).decode


class EmbeddedBatch(msgspec.Struct, frozen=True):
    """The response to a batch: the JSON text of each vector, in the order of the requests."""

    vectors: list[memoryview]
    usage: UsageMetadata | None


#: The numbers of one vector. Raises :exc:`msgspec.DecodeError`.
decode_vector: Callable[[memoryview], list[float]] = msgspec.json.Decoder(list[float]).decode


def decode_batch(body: bytes) -> EmbeddedBatch:
    """Decode the response to a batch.

    Raises :exc:`MalformedUpstreamResponse` if ``body`` is not a batch, and :exc:`ErrorInAnswer` if
    it is an error. Does not decode the numbers.
    """
    vectors: list[memoryview] = []
    rest: list[memoryview] = []
    whole, end = memoryview(body), 0
    while (name := body.find(_VALUES, end)) >= 0:
        start = body.find(b"[", name)
        close = body.find(b"]", start)
        if start < 0 or close < 0:
            break
        vectors.append(whole[start : close + 1])
        rest.append(whole[end : start + 1])
        end = close
    rest.append(whole[end:])
    try:
        answer = _decode(b"".join(rest))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedUpstreamResponse(f"not a batch of embeddings: {error}") from error
    if answer.error is not None:
        raise ErrorInAnswer(body)
    if answer.embeddings is None or len(answer.embeddings) != len(vectors):
        raise MalformedUpstreamResponse("not a batch of embeddings")
    return EmbeddedBatch(vectors, answer.usage_metadata)


class _Embedding(msgspec.Struct, frozen=True, gc=False):
    #: Empty: the numbers were taken out.
    values: Annotated[list[Any], msgspec.Meta(max_length=0)]


class _Answer(msgspec.Struct, rename="camel", frozen=True, gc=False):
    embeddings: list[_Embedding] | None = None
    usage_metadata: UsageMetadata | None = None
    error: dict[str, msgspec.Raw] | None = None


_VALUES = b'"values"'
_decode = msgspec.json.Decoder(_Answer).decode
