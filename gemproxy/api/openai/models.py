"""``GET /v1/models`` and ``GET /v1/models/{id}``: the provider's models under OpenAI's names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from gemproxy.api.base import Head, LocalEndpoint, Route
from gemproxy.api.openai.errors import OPENAI
from gemproxy.api.openai.schema.answers import Model, encode_model, encode_model_list
from gemproxy.core.catalogue import ModelCatalogue
from gemproxy.core.context import RequestContext
from gemproxy.core.errors import ModelNotFound
from gemproxy.translate.openai_models__gemini import to_openai_models
from gemproxy.translate.shared.model_names import ModelNames

MODELS: Final = Route("/v1/models", (b"GET", b"HEAD"), OPENAI)
MODEL: Final = Route("/v1/models/{id}", (b"GET", b"HEAD"), OPENAI)


class ModelsEndpoint:
    """Answers both routes from the ``catalogue``.

    ``names`` may be replaced between two requests. ``key_models`` tells which models the keys may
    serve (``None``: all).
    """

    def __init__(
        self,
        catalogue: ModelCatalogue,
        names: ModelNames,
        key_models: Callable[[], frozenset[str] | None],
    ) -> None:
        self.names = names
        self._catalogue = catalogue
        self._key_models = key_models

    def endpoints(self) -> list[LocalEndpoint]:
        """Both routes."""
        return [_Listed(self), _Shown(self)]

    async def list_all(self, context: RequestContext) -> bytes:
        """The body with all models. Raises :class:`~gemproxy.core.errors.ProxyError`."""
        return encode_model_list(await self._models(context))

    async def get(self, name: str, context: RequestContext) -> bytes:
        """The body with one model. Raises :class:`ModelNotFound`, or as :meth:`list_all`."""
        for model in await self._models(context):
            if model.id == name.removeprefix("models/"):
                return encode_model(model)
        raise ModelNotFound(f"The model '{name[:200]}' does not exist.", param="model")

    async def _models(self, context: RequestContext) -> list[Model]:
        upstream = await self._catalogue.models(context)
        allowed = self._key_models()
        if allowed is not None:
            upstream = [model for model in upstream if model.id in allowed]
        return to_openai_models(upstream, self.names.aliases, self.names.allow)


class _Listed:
    route: Final = MODELS

    def __init__(self, models: ModelsEndpoint) -> None:
        self._models = models

    async def answer(self, body: bytes, head: Head, context: RequestContext) -> bytes:
        del body, head
        return await self._models.list_all(context)


class _Shown:
    route: Final = MODEL

    def __init__(self, models: ModelsEndpoint) -> None:
        self._models = models

    async def answer(self, body: bytes, head: Head, context: RequestContext) -> bytes:
        del body
        return await self._models.get(head.parameters["id"], context)
