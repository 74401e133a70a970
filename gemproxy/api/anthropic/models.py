"""``GET /v1/models`` and ``GET /v1/models/{id}`` as Anthropic's clients know them."""

from __future__ import annotations

from typing import Final

from gemproxy.api.anthropic.errors import ANTHROPIC
from gemproxy.api.anthropic.schema.models import encode
from gemproxy.api.base import Head, Route
from gemproxy.api.query import parameters_of, whole_number
from gemproxy.api.visible_models import VisibleModels, generates
from gemproxy.core.context import RequestContext
from gemproxy.core.errors import InvalidRequest
from gemproxy.translate.anthropic_models__gemini import (
    MOST_ON_A_PAGE,
    PAGE_SIZE,
    to_anthropic_model,
    to_anthropic_page,
)


class ModelListEndpoint:
    """All models that generate content, page by page."""

    route: Final = Route("/v1/models", (b"GET", b"HEAD"), ANTHROPIC, is_limited=False)

    def __init__(self, models: VisibleModels) -> None:
        self._models = models

    async def answer(self, head: Head, context: RequestContext) -> bytes:
        """See :meth:`gemproxy.api.base.LocalEndpoint.answer`."""
        given = parameters_of(head.query)
        limit = _limit(given.get("limit", [str(PAGE_SIZE)])[-1])
        after, before = (given.get(name, [""])[-1] for name in ("after_id", "before_id"))
        models = await self._models.list_all(context, generates)
        return encode(to_anthropic_page(models, limit, after, before))


class ModelEndpoint:
    """One of them."""

    route: Final = Route("/v1/models/{id}", (b"GET", b"HEAD"), ANTHROPIC, is_limited=False)

    def __init__(self, models: VisibleModels) -> None:
        self._models = models

    async def answer(self, head: Head, context: RequestContext) -> bytes:
        """See :meth:`gemproxy.api.base.LocalEndpoint.answer`."""
        found = await self._models.get(head.parameters["id"], context, generates)
        return encode(to_anthropic_model(*found))


def _limit(text: str) -> int:
    limit = whole_number(text)
    if not limit or limit > MOST_ON_A_PAGE:
        raise InvalidRequest(f"limit: must be between 1 and {MOST_ON_A_PAGE}.", param="limit")
    return limit
