"""The list of models: the provider's models become OpenAI's ``/v1/models``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from gemproxy.api.openai.schema.answers import Model
from gemproxy.translate.shared.model_names import is_pattern

#: Gemini reports no time of creation; this is the day on which its API opened, 2023-12-13, in epoch
#: seconds.
CREATED = 1_702_425_600

_PREFIX = "models/"


class ListedModel(Protocol):
    """An entry of the provider's list."""

    @property
    def id(self) -> str:
        """The name that clients use."""

    @property
    def is_served(self) -> bool:
        """Whether one of the endpoints supports it, according to the list."""


def to_openai_models(
    models: Iterable[ListedModel], aliases: Mapping[str, str], allow: Sequence[str]
) -> list[Model]:
    """The models that can chat or embed, in Gemini's order, then the aliases of such models.

    Each id comes once.
    ``aliases`` maps a client's name to Gemini's. ``allow`` names the models that may be shown, all
    if it is empty; an alias is shown if it or its target is named. A name may carry "models/". An
    alias to a model that the upstream does not list is left out: a list promises what works. So are
    patterns, which are no names.
    """
    known = {model.id: None for model in models if model.is_served and model.id}
    targets = {name: name for name in known}
    targets |= {
        alias: target.removeprefix(_PREFIX)
        for alias, target in aliases.items()
        if not is_pattern(alias)
    }
    allowed = {name.removeprefix(_PREFIX) for name in allow}
    return [
        Model(id=name, created=CREATED)
        for name, target in targets.items()
        if target in known and (not allowed or name in allowed or target in allowed)
    ]
