"""``GET /v1/models`` and ``GET /v1/models/{id}`` as OpenAI's clients know them."""

from __future__ import annotations

from typing import Final

from gemproxy.api.base import Head, Route
from gemproxy.api.openai.errors import OPENAI
from gemproxy.api.openai.schema.answers import encode_model, encode_model_list
from gemproxy.api.visible_models import VisibleModels, is_served
from gemproxy.core.context import RequestContext
from gemproxy.translate.openai_models__gemini import to_openai_models


class ModelListEndpoint:
    """All models that can chat or embed."""

    route: Final = Route("/v1/models", (b"GET", b"HEAD"), OPENAI, is_limited=False)

    def __init__(self, models: VisibleModels) -> None:
        self._models = models

    async def answer(self, head: Head, context: RequestContext) -> bytes:
        """See :meth:`gemproxy.api.base.LocalEndpoint.answer`."""
        del head
        return encode_model_list(to_openai_models(await self._models.list_all(context, is_served)))


class ModelEndpoint:
    """One of them."""

    route: Final = Route("/v1/models/{id}", (b"GET", b"HEAD"), OPENAI, is_limited=False)

    def __init__(self, models: VisibleModels) -> None:
        self._models = models

    async def answer(self, head: Head, context: RequestContext) -> bytes:
        """See :meth:`gemproxy.api.base.LocalEndpoint.answer`."""
        name, _ = await self._models.get(head.parameters["id"], context, is_served)
        return encode_model(to_openai_models([name])[0])
