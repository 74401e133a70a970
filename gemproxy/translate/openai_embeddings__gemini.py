"""Translate OpenAI's embeddings to Gemini's ``batchEmbedContents``, and back.

Google accepts 100 texts in a call, and OpenAI's clients send up to 2,048: :func:`to_gemini` divides
the inputs into batches. Each is a call with its own choice of a key; all keys give the same
vectors. :func:`read_batch` converts the answer to one batch to the client's items, and
:func:`to_openai` joins the items of all batches.

OpenAI's vectors have the length 1, and clients depend on it: they use dot products as cosines. If
fewer dimensions are asked for, Google truncates a vector of ``gemini-embedding-001``, whose length
is then about 0.6. A vector that has the length 1 already is not changed.

The numbers are processed vector by vector with functions written in C, so that 2,048 vectors of
3,072 numbers take half a second of a thread, and never more than a fraction of a millisecond at a
time.
"""

from __future__ import annotations

import math
from array import array
from binascii import b2a_base64
from collections.abc import Iterable, Sequence
from sys import byteorder
from typing import Literal, NamedTuple

import msgspec

from gemproxy.api.openai.schema.embeddings import (
    EmbeddingsRequest,
    EmbeddingUsage,
    GoogleEmbeddingOptions,
    TaskType,
)
from gemproxy.buffer_list import BufferList
from gemproxy.core.errors import InvalidRequest, MalformedUpstreamResponse, UnusableAnswer
from gemproxy.providers.gemini.capabilities import takes_task_as_text
from gemproxy.providers.gemini.wire.embeddings import (
    MAX_BATCH,
    BatchEmbedContentsRequest,
    EmbedContentRequest,
    decode_batch,
    decode_requests,
    decode_vector,
    encode_batch,
)
from gemproxy.providers.gemini.wire.requests import Content, Part
from gemproxy.translate.shared.usage import TokenUsage

_BYTES_PER_TOKEN = 4
#: Bytes.
_LARGE_ANSWER = 512 * 1024
#: Numbers have seven digits, so a length this close to 1 may be exactly 1.
_TOLERANCE = 1e-5
#: The inverse of a shorter length may be infinite.
_SHORTEST = 1e-300
_WHITE_SPACE = b" \t\r\n"

#: The prefix of a text for models that take the task from it (ai.google.dev, embeddings guide).
_TASKS: dict[TaskType, str] = {
    "RETRIEVAL_QUERY": "task: search result | query: ",
    "QUESTION_ANSWERING": "task: question answering | query: ",
    "FACT_VERIFICATION": "task: fact checking | query: ",
    "CODE_RETRIEVAL_QUERY": "task: code retrieval | query: ",
    "CLASSIFICATION": "task: classification | query: ",
    "CLUSTERING": "task: clustering | query: ",
    "SEMANTIC_SIMILARITY": "task: sentence similarity | query: ",
}
_DOCUMENT: Literal["RETRIEVAL_DOCUMENT"] = "RETRIEVAL_DOCUMENT"


class EmbeddingBatch(msgspec.Struct, frozen=True, gc=False):
    """One call of ``batchEmbedContents``."""

    #: Compact JSON.
    body: bytes
    #: The index of its first text among the client's inputs, and the number of texts.
    first: int
    count: int
    #: A rough estimate of the tokens of its texts, for budgets; never exact.
    estimated_tokens: int


class TranslatedEmbeddings(msgspec.Struct, frozen=True):
    """The request for Gemini, and what is needed to answer the client."""

    #: The name that the client asked for.
    model: str
    base64: bool
    batches: Sequence[EmbeddingBatch]


class EmbeddedItems(NamedTuple):
    """The answer to one batch: the items of ``data`` as JSON, joined by commas, and the tokens."""

    items: bytes
    usage: TokenUsage


def to_gemini(request: EmbeddingsRequest, *, model: str) -> TranslatedEmbeddings:
    """The calls for ``model``, the upstream's name without ``models/``.

    Raises :class:`InvalidRequest`, with ``param``, for options that exclude each other.
    """
    task, title = _options(request)
    before = ""
    if task is not None and takes_task_as_text(model):
        before = f"title: {title or 'none'} | text: " if task == _DOCUMENT else _TASKS[task]
        task = title = None
    name = f"models/{model}"
    texts = request.texts
    batches = []
    for first in range(0, len(texts), MAX_BATCH):
        part = texts[first : first + MAX_BATCH]
        requests = [
            EmbedContentRequest(
                model=name,
                content=Content(parts=[Part(text=before + text)]),
                task_type=task,
                title=title,
                output_dimensionality=request.dimensions,
            )
            for text in part
        ]
        body = encode_batch(BatchEmbedContentsRequest(requests))
        tokens = sum(map(_estimated_tokens, part))
        batches.append(EmbeddingBatch(body, first, len(part), tokens))
    return TranslatedEmbeddings(request.model, request.encoding_format == "base64", batches)


def split_batch(batch: EmbeddingBatch) -> list[EmbeddingBatch]:
    """Divide a batch that is too large into two halves; returns nothing for a single text."""
    if batch.count == 1:
        return []
    half = batch.count // 2
    halves = []
    requests = decode_requests(batch.body).requests
    for first, part in ((0, requests[:half]), (half, requests[half:])):
        body = b'{"requests":[%b]}' % b",".join(part)
        tokens = batch.estimated_tokens * len(body) // len(batch.body)
        halves.append(EmbeddingBatch(body, batch.first + first, len(part), tokens))
    return halves


def read_batch(body: bytes, batch: EmbeddingBatch, *, base64: bool) -> EmbeddedItems:
    """Make the answer to ``batch`` into items of the client's answer.

    Raises :class:`MalformedUpstreamResponse` if ``body`` is no answer, :class:`UnusableAnswer` if
    it has not one vector with numbers for each text, and
    :class:`~gemproxy.core.errors.ErrorInAnswer` if it is an error.
    """
    answer = decode_batch(body)
    if len(answer.vectors) != batch.count:
        raise UnusableAnswer(f"{len(answer.vectors)} vectors for {batch.count} texts")
    write = _base64 if base64 else _numbers
    try:
        items = [
            b'{"object":"embedding","index":%d,"embedding":%b}' % (index, write(vector))
            for index, vector in enumerate(answer.vectors, batch.first)
        ]
    except (msgspec.DecodeError, OverflowError) as error:
        raise MalformedUpstreamResponse(f"not a vector: {error}") from error
    usage = answer.usage
    if usage is not None and usage.counts:
        return EmbeddedItems(b",".join(items), TokenUsage.from_gemini(usage))
    # gemini-embedding-001 reports no usage, and OpenAI's clients need a number.
    tokens = batch.estimated_tokens
    return EmbeddedItems(b",".join(items), TokenUsage(input=tokens, total=tokens))


class EncodedBatch(msgspec.Struct, frozen=True, gc=False):
    """The items of one batch, as :class:`gemproxy.api.base.EncodedAnswer`."""

    body: bytes
    usage: TokenUsage
    blocked: bool = False
    empty: bool = False


class WholeBatch:
    """Reads the answer to one batch; see :class:`gemproxy.api.base.WholeAnswer`."""

    def __init__(self, batch: EmbeddingBatch, *, base64: bool) -> None:
        self._batch = batch
        self._base64 = base64
        self._body = b""

    @property
    def is_large(self) -> bool:
        """Whether reading takes more than 2 ms: some ten vectors of 3,072 numbers."""
        return len(self._body) >= _LARGE_ANSWER

    def receive(self, body: bytes) -> None:
        """Keep the body. There is only one step."""
        self._body = body

    def encode(self) -> EncodedBatch:
        """Encode the items. Raises as :func:`read_batch`."""
        body, self._body = self._body, b""
        items = read_batch(body, self._batch, base64=self._base64)
        return EncodedBatch(items.items, items.usage)


def to_openai(model: str, batches: Iterable[bytes], usage: TokenUsage) -> BufferList:
    """The client's answer: the items of all ``batches``, in order."""
    tail = _encode(_Tail(model, EmbeddingUsage(usage.input, usage.total)))
    parts = [b'{"object":"list","data":[']
    for items in batches:
        parts += (items, b",")
    parts[-1] = b"]," + tail[1:]
    # Not joined: 2,048 vectors are 34 MB.
    return BufferList(parts)


class _Tail(msgspec.Struct, gc=False):
    model: str
    usage: EmbeddingUsage


def _options(request: EmbeddingsRequest) -> tuple[TaskType | None, str | None]:
    """Task and title, each from the place with the highest priority, as the options of a chat."""
    nested = request.extra_body.google if request.extra_body is not None else None
    task, title = request.task_type, request.title
    title_path = "title"
    for options, path in ((request.google, "google"), (nested, "extra_body.google")):
        if options is None:
            continue
        task = _task_of(options, path) or task
        if options.title is not None:
            title, title_path = options.title, f"{path}.title"
    if title is not None and task != _DOCUMENT:
        raise InvalidRequest(
            f"{title_path}: a title needs the task_type {_DOCUMENT}.", param=title_path
        )
    return task, title


def _task_of(options: GoogleEmbeddingOptions, path: str) -> TaskType | None:
    if options.task_type is not None and options.camel_task_type is not None:
        raise InvalidRequest(
            f"{path}.taskType: sent twice, also as {path}.task_type.", param=f"{path}.taskType"
        )
    return options.task_type or options.camel_task_type


def _estimated_tokens(text: str) -> int:
    size = len(text) if text.isascii() else len(text.encode())
    return -(-size // _BYTES_PER_TOKEN)


def _numbers(vector: memoryview) -> bytes:
    """The vector as a JSON array."""
    values = decode_vector(vector)
    factor = _factor(values)
    if factor == 1.0:
        return bytes(vector).translate(None, _WHITE_SPACE)
    return _encode([value * factor for value in values])


def _base64(vector: memoryview) -> bytes:
    """The vector as a JSON string: base64 of 32-bit floats, little endian."""
    values = decode_vector(vector)
    factor = _factor(values)
    packed = array("f", values if factor == 1.0 else [value * factor for value in values])
    if byteorder == "big":
        packed.byteswap()
    return b'"%b"' % b2a_base64(packed, newline=False)


def _factor(values: list[float]) -> float:
    """The factor that gives ``values`` the length 1; 1 if they are all zero.

    Raises :class:`UnusableAnswer` if there are no values.
    """
    if not values:
        raise UnusableAnswer("a vector without numbers")
    length = math.hypot(*values)
    if not _SHORTEST < length < math.inf or abs(length - 1.0) <= _TOLERANCE:
        return 1.0
    return 1.0 / length


_encode = msgspec.json.Encoder().encode
