"""``POST /v1/embeddings``: one client's request becomes jobs of up to 100 texts each."""

from __future__ import annotations

from functools import partial
from typing import Final

from gemproxy.api.base import Batches, Head, Route, StreamedAnswer, WholeAnswer
from gemproxy.api.openai.errors import OPENAI
from gemproxy.api.openai.schema.embeddings import decode_embeddings
from gemproxy.core.clients import require_model
from gemproxy.core.context import RequestContext
from gemproxy.core.errors import InvalidRequest
from gemproxy.core.retry import Revision
from gemproxy.pool.outcome import Outcome
from gemproxy.providers.base import Operation
from gemproxy.translate.openai_embeddings__gemini import (
    EmbeddingBatch,
    WholeBatch,
    split_batch,
    to_gemini,
    to_openai,
)
from gemproxy.translate.shared.model_names import ModelNames

EMBEDDINGS: Final = "/v1/embeddings"


class EmbeddingsEndpoint:
    """Makes jobs of embeddings requests; see :class:`gemproxy.api.base.Endpoint`.

    ``names`` may be replaced between two requests.
    """

    route: Final = Route(EMBEDDINGS, (b"POST",), OPENAI)

    def __init__(self, names: ModelNames) -> None:
        self.names = names

    def decode(self, body: bytes, head: Head, context: RequestContext, *, brief: bool) -> Batches:
        """See :meth:`gemproxy.api.base.Endpoint.decode`; ``brief`` makes no difference."""
        del head, brief
        request = decode_embeddings(body)
        model = self.names.resolve(request.model)
        if context.caller.models:
            require_model(context.caller, request.model, model.name)
        if not model.embeds:
            use = model.elsewhere or "makes no embeddings; use POST /v1/chat/completions"
            raise InvalidRequest(f"model: '{request.model[:80]}' {use}.", param="model")
        translated = to_gemini(request, model=model.name)
        context.model = model.name
        base64 = translated.base64
        jobs = [EmbeddingsJob(model.name, batch, base64=base64) for batch in translated.batches]
        return Batches(jobs, partial(to_openai, translated.model))


class EmbeddingsJob:
    """One batch of texts; see :class:`gemproxy.api.base.BatchJob`."""

    operation = Operation.EMBED
    stream = False
    resources = ()
    conversation = None
    is_brief = True
    prompt_param = "input"

    def __init__(self, model: str, batch: EmbeddingBatch, *, base64: bool) -> None:
        self.model = model
        self.body = batch.body
        self.tokens = batch.estimated_tokens
        self._batch = batch
        self._base64 = base64

    def split(self) -> list[EmbeddingsJob]:
        """See :meth:`gemproxy.api.base.BatchJob.split`."""
        halves = split_batch(self._batch)
        return [EmbeddingsJob(self.model, half, base64=self._base64) for half in halves]

    def revision(self, failed: Outcome) -> Revision | None:
        """``None``: there is no other form."""
        del failed
        return None

    def revise(self, revision: Revision) -> None:
        """Not used: there is no other form."""

    def served(self, now: float) -> None:
        """See :meth:`gemproxy.api.base.Job.served`."""

    def whole_answer(self, created: int) -> WholeAnswer:
        """See :meth:`gemproxy.api.base.Job.whole_answer`."""
        del created
        return WholeBatch(self._batch, base64=self._base64)

    def streamed_answer(self, created: int) -> StreamedAnswer:
        """Not used: embeddings are never streamed."""
        raise NotImplementedError
