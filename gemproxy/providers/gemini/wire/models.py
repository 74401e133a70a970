"""Gemini's list of models, page by page (``models.list``)."""

from __future__ import annotations

import msgspec

from gemproxy.core.errors import UnusableAnswer

_PREFIX = "models/"
_SERVED = frozenset({"generateContent", "embedContent"})


class GeminiModel(msgspec.Struct, rename="camel", frozen=True):
    """An entry of the list; ``name`` is "models/…"."""

    name: str | None = None
    supported_generation_methods: list[str] | None = None
    output_token_limit: int | None = None

    @property
    def id(self) -> str:
        """The name without its prefix."""
        return (self.name or "").removeprefix(_PREFIX)

    @property
    def is_served(self) -> bool:
        """Whether this program supports an operation of the model, according to the list."""
        methods = self.supported_generation_methods
        return methods is None or not _SERVED.isdisjoint(methods)


class ListedModels(msgspec.Struct, rename="camel", frozen=True):
    """One page; the last one has no token."""

    models: list[GeminiModel] | None = None
    next_page_token: str | None = None


def decode_models(body: bytes) -> ListedModels:
    """Decode one page. Raises :exc:`UnusableAnswer` if it is not one."""
    try:
        return _PAGE.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise UnusableAnswer(f"not a list of models: {error}") from error


_PAGE = msgspec.json.Decoder(ListedModels)
