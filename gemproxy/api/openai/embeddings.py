"""``POST /v1/embeddings``: one request of a client's becomes calls for 100 texts each.

Each batch goes through the loop of ``core.dispatch`` by itself, one after the other: it has a key
of its own choice, as many attempts as a chat has, and its failures are attributed by themselves. So
the batches of one request spread over the keys, and a key that is used up in the middle costs
nothing but another attempt. The client gets all vectors or an error: the first batch that fails for
good ends the request.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import NamedTuple, Protocol, TypeVar

from gemproxy.api.openai.schema.embeddings import decode_embeddings
from gemproxy.core.call import Call, ForwardingSettings, UpstreamModel
from gemproxy.core.context import Exchange
from gemproxy.core.dispatch import Forwarder
from gemproxy.core.errors import InvalidRequest, ProxyError
from gemproxy.core.interfaces import ReplyWriter
from gemproxy.providers.gemini.capabilities import Ability
from gemproxy.translate.openai_chat__gemini.context import AnswerContext
from gemproxy.translate.openai_chat__gemini.request import TranslatedRequest
from gemproxy.translate.openai_embeddings__gemini import (
    EmbeddedItems,
    EmbeddingBatch,
    TranslatedEmbeddings,
    read_batch,
    to_gemini,
    to_openai,
)
from gemproxy.translate.shared.usage import TokenUsage

EMBEDDINGS = "/v1/embeddings"
#: Bytes. A longer body may take more than 5 ms to translate.
LARGE_BODY = 256 * 1024
#: Bytes. A longer answer takes more than 2 ms to read: some ten vectors of 3,072 numbers.
LARGE_ANSWER = 512 * 1024

_T = TypeVar("_T")


class InThread(Protocol):
    """Does a work that would hold up the reactor."""

    def __call__(self, work: Callable[[], _T], /) -> Awaitable[_T]:
        """Do it, and give what it returns."""


class Embeddings:
    """The endpoint, without HTTP."""

    def __init__(
        self, forwarder: Forwarder, in_thread: InThread, seconds: Callable[[], float]
    ) -> None:
        self._forwarder = forwarder
        self._in_thread = in_thread
        self._seconds = seconds

    async def serve(self, body: bytes, exchange: Exchange, writer: ReplyWriter) -> None:
        """Answer the request that ``body`` holds. Raises :class:`ProxyError`."""
        settings = self._forwarder.settings
        if len(body) < LARGE_BODY:
            asked = _translate(body, settings)
        else:
            asked = await self._in_thread(partial(_translate, body, settings))
        # The answer may take minutes.
        del body
        exchange.model = asked.upstream.name
        usage, done = TokenUsage(), []
        for batch in asked.embeddings.batches:
            items = await self._embed(batch, asked, settings, exchange, writer)
            usage += items.usage
            done.append(items.items)
        exchange.usage = usage
        name = asked.embeddings.model
        if sum(map(len, done)) < LARGE_ANSWER:
            answer = to_openai(name, done, usage)
        else:
            answer = await self._in_thread(partial(to_openai, name, done, usage))
        exchange.first_byte = self._seconds()
        writer.answer(answer)

    async def _embed(
        self,
        batch: EmbeddingBatch,
        asked: _Asked,
        settings: ForwardingSettings,
        exchange: Exchange,
        writer: ReplyWriter,
    ) -> EmbeddedItems:
        """The items of one batch, whose attempts are noted in ``exchange``."""
        part = Exchange(exchange.id, exchange.route, exchange.started)
        part.epoch_offset = exchange.epoch_offset
        call = _BatchCall(settings, part, writer, asked, batch, self._in_thread)
        try:
            await self._forwarder.forward(call)
        except ProxyError as error:
            if error.param == Call.prompt:
                error.param = call.prompt
            raise
        finally:
            exchange.attempts += part.attempts
            exchange.refused, exchange.outcome = part.refused, part.outcome
        return call.items


class _Asked(NamedTuple):
    upstream: UpstreamModel
    embeddings: TranslatedEmbeddings


def _translate(body: bytes, settings: ForwardingSettings) -> _Asked:
    """What the request in ``body`` asks for. Any thread may."""
    request = decode_embeddings(body)
    upstream = settings.resolve(request.model)
    if upstream.ability is Ability.GENERATE:
        raise InvalidRequest(
            f"model: '{request.model[:80]}' makes no embeddings; use POST /v1/chat/completions.",
            param="model",
        )
    return _Asked(upstream, to_gemini(request, model=upstream.name))


class _BatchCall(Call):
    """What one run of the loop knows of a batch."""

    accepts = True
    prompt = "input"
    items: EmbeddedItems

    def __init__(
        self,
        settings: ForwardingSettings,
        exchange: Exchange,
        writer: ReplyWriter,
        asked: _Asked,
        batch: EmbeddingBatch,
        in_thread: InThread,
    ) -> None:
        self._begin(settings, exchange, writer, asked.upstream.name)
        self.brief = True
        self.path = asked.upstream.embed
        self.tokens = batch.estimated_tokens
        self.translated = TranslatedRequest(
            body=batch.body,
            context=_NO_CHAT,
            estimated_tokens=batch.estimated_tokens,
            names_resources=False,
            signed=False,
            stream=False,
        )
        self._request = None
        self._batch = batch
        self._base64 = asked.embeddings.base64
        self._in_thread = in_thread

    async def accept(self, body: bytes) -> None:
        """See :meth:`Call.accept`."""
        read = partial(read_batch, body, self._batch, base64=self._base64)
        self.items = read() if len(body) < LARGE_ANSWER else await self._in_thread(read)
        self.exchange.usage = self.items.usage


_NO_CHAT = AnswerContext(model="")
