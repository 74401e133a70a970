"""The list of models: pages of ``models.list`` become OpenAI's ``/v1/models``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from gemproxy.api.openai.schema.answers import Model
from gemproxy.core.errors import UnusableAnswer

__all__ = [
    "CREATED",
    "GeminiModel",
    "ModelPage",
    "decode_page",
    "to_openai_models",
]

#: Gemini tells no time of creation; this is the day its API was opened, 2023-12-13, in epoch
#: seconds.
CREATED = 1_702_425_600

_PREFIX = "models/"
_SERVED = frozenset({"generateContent", "embedContent"})


class GeminiModel(msgspec.Struct, rename="camel", frozen=True):
    """An entry of Gemini's list; ``name`` is "models/…"."""

    name: str | None = None
    supported_generation_methods: list[str] | None = None

    @property
    def id(self) -> str:
        """The name without its prefix."""
        return (self.name or "").removeprefix(_PREFIX)

    @property
    def is_served(self) -> bool:
        """Whether one of the endpoints here works with it, as far as the list tells."""
        methods = self.supported_generation_methods
        return methods is None or not _SERVED.isdisjoint(methods)


@dataclass(frozen=True, slots=True)
class ModelPage:
    """One page; ``next_page_token`` is ``None`` on the last."""

    models: tuple[GeminiModel, ...]
    next_page_token: str | None


def decode_page(body: bytes) -> ModelPage:
    """Read one page of ``models.list``. Raises :exc:`UnusableAnswer` when it is not one."""
    try:
        page = _PAGE.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise UnusableAnswer(f"not a list of models: {error}") from error
    return ModelPage(tuple(page.models or ()), page.next_page_token or None)


def to_openai_models(
    models: Iterable[GeminiModel], aliases: Mapping[str, str], allow: Sequence[str]
) -> list[Model]:
    """The models that can chat or embed, in Gemini's order, then the aliases of such models.

    Each id comes once.
    ``aliases`` maps a client's name to Gemini's. ``allow`` names the models that may be shown, all
    if it is empty; an alias is shown if it or its target is named. A name may carry "models/". An
    alias to a model that the upstream does not list is left out: a list promises what works.
    """
    known = {model.id: None for model in models if model.is_served and model.id}
    targets = {name: name for name in known}
    targets |= {alias: target.removeprefix(_PREFIX) for alias, target in aliases.items()}
    allowed = {name.removeprefix(_PREFIX) for name in allow}
    return [
        Model(id=name, created=CREATED)
        for name, target in targets.items()
        if target in known and (not allowed or name in allowed or target in allowed)
    ]


class _Page(msgspec.Struct, rename="camel", frozen=True):
    models: list[GeminiModel] | None = None
    next_page_token: str | None = None


_PAGE = msgspec.json.Decoder(_Page)
