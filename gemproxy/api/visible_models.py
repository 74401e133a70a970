"""The models that clients may see, for the lists of all dialects."""

from __future__ import annotations

from collections.abc import Callable

from gemproxy.core.catalogue import ModelCatalogue
from gemproxy.core.clients import may_ask
from gemproxy.core.context import RequestContext
from gemproxy.core.errors import ModelNotFound
from gemproxy.translate.shared.listed_model import ListedModel
from gemproxy.translate.shared.listed_names import listed_names
from gemproxy.translate.shared.model_names import ModelNames


class VisibleModels:
    """The ``catalogue``, filtered and under the clients' names.

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

    async def list_all(
        self, context: RequestContext, is_shown: Callable[[ListedModel], bool]
    ) -> dict[str, ListedModel]:
        """The models for which ``is_shown`` that the client may ask, by name.

        Raises :class:`ProxyError`.
        """
        upstream = await self._catalogue.models(context)
        allowed = self._key_models()
        shown = [
            model
            for model in upstream
            if (allowed is None or model.id in allowed) and is_shown(model)
        ]
        named = listed_names(shown, self.names.aliases, self.names.allow)
        patterns = context.caller.models
        if not patterns:
            return named
        return {
            name: model for name, model in named.items() if may_ask(patterns, name, model.id or "")
        }

    async def get(
        self, name: str, context: RequestContext, is_shown: Callable[[ListedModel], bool]
    ) -> tuple[str, ListedModel]:
        """One model and its name. Raises :class:`ModelNotFound`, or as :meth:`list_all`."""
        bare = name.removeprefix("models/")
        model = (await self.list_all(context, is_shown)).get(bare)
        if model is None:
            raise ModelNotFound(f"The model '{name[:200]}' does not exist.", param="model")
        return bare, model


def is_served(model: ListedModel) -> bool:
    """Whether this program supports an operation of the model."""
    return model.is_served


def generates(model: ListedModel) -> bool:
    """Whether the model generates content."""
    return model.generates


def is_any(_: ListedModel) -> bool:
    """Every model is shown."""
    return True
