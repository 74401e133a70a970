"""``GET /{version}/models`` and ``GET /{version}/models/{model}`` as Gemini's clients know them."""

from __future__ import annotations

from typing import Final

from gemproxy.api.base import Head, Route
from gemproxy.api.gemini.errors import GEMINI
from gemproxy.api.query import parameters_of
from gemproxy.api.visible_models import VisibleModels, is_any
from gemproxy.core.context import RequestContext
from gemproxy.translate.gemini_models__gemini import page_size_of, to_gemini_model, to_gemini_page


class ModelListEndpoint:
    """All models with Google's own fields, page by page."""

    route: Final = Route("/{version}/models", (b"GET", b"HEAD"), GEMINI, is_limited=False)

    def __init__(self, models: VisibleModels) -> None:
        self._models = models

    async def answer(self, head: Head, context: RequestContext) -> bytes:
        """See :meth:`gemproxy.api.base.LocalEndpoint.answer`."""
        given = parameters_of(head.query)
        size = page_size_of(given.get("pageSize", ()))
        token = given.get("pageToken", [""])[-1]
        return to_gemini_page(await self._models.list_all(context, is_any), size, token)


class ModelEndpoint:
    """One of them."""

    route: Final = Route("/{version}/models/{model}", (b"GET", b"HEAD"), GEMINI, is_limited=False)

    def __init__(self, models: VisibleModels) -> None:
        self._models = models

    async def answer(self, head: Head, context: RequestContext) -> bytes:
        """See :meth:`gemproxy.api.base.LocalEndpoint.answer`."""
        return to_gemini_model(*await self._models.get(head.parameters["model"], context, is_any))
