"""Gemini's list of models, page by page (``models.list``)."""

from __future__ import annotations

import msgspec

from gemproxy.core.errors import UnusableAnswer

_PREFIX = "models/"
_SERVED = frozenset({"generateContent", "embedContent"})


class GeminiModel(msgspec.Struct, frozen=True):
    """An entry of the list. ``id`` is the name without "models/", ``raw`` the entry in JSON."""

    id: str
    display_name: str | None
    input_token_limit: int | None
    output_token_limit: int | None
    supported_generation_methods: list[str] | None
    raw: bytes

    @property
    def is_served(self) -> bool:
        """Whether this program supports an operation of the model, according to the list."""
        methods = self.supported_generation_methods
        return methods is None or not _SERVED.isdisjoint(methods)

    @property
    def generates(self) -> bool:
        """Whether it generates content, according to the list."""
        methods = self.supported_generation_methods
        return methods is None or "generateContent" in methods


class ListedModels(msgspec.Struct, frozen=True):
    """One page; the last one has no token."""

    models: list[GeminiModel]
    next_page_token: str | None


class _Entry(msgspec.Struct, rename="camel", frozen=True):
    name: str | None = None
    display_name: str | None = None
    input_token_limit: int | None = None
    output_token_limit: int | None = None
    supported_generation_methods: list[str] | None = None


class _Page(msgspec.Struct, rename="camel", frozen=True):
    models: list[msgspec.Raw] | None = None
    next_page_token: str | None = None


def decode_models(body: bytes) -> ListedModels:
    """Decode one page. Raises :exc:`UnusableAnswer` if it is not one."""
    try:
        page = _PAGE.decode(body)
        models = [_model(bytes(raw)) for raw in page.models or ()]
    except (msgspec.DecodeError, RecursionError) as error:
        raise UnusableAnswer(f"not a list of models: {error}") from error
    return ListedModels(models, page.next_page_token or None)


def _model(raw: bytes) -> GeminiModel:
    entry = _ENTRY.decode(raw)
    return GeminiModel(
        (entry.name or "").removeprefix(_PREFIX),
        entry.display_name,
        entry.input_token_limit,
        entry.output_token_limit,
        entry.supported_generation_methods,
        raw,
    )


_PAGE = msgspec.json.Decoder(_Page)
_ENTRY = msgspec.json.Decoder(_Entry)
