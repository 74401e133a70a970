"""Which models of the provider's list a client may see, and under which names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, TypeVar

from gemproxy.translate.shared.model_names import is_pattern

_PREFIX = "models/"


class Named(Protocol):
    """An entry of the provider's list."""

    @property
    def id(self) -> str:
        """The name that clients use."""


_T = TypeVar("_T", bound=Named)


def listed_names(
    models: Iterable[_T], aliases: Mapping[str, str], allow: Sequence[str]
) -> dict[str, _T]:
    """The models by the names that clients use: in the provider's order, then the aliases.

    ``aliases`` maps a client's name to the provider's. ``allow`` names the models that may be
    shown, all if it is empty; an alias is shown if it or its target is named. A name may carry
    "models/". An alias to a model that is not in ``models`` is left out: a list promises what
    works. So are patterns, which are no names.
    """
    known = {model.id: model for model in models if model.id}
    targets = {name: name for name in known}
    targets |= {
        alias: target.removeprefix(_PREFIX)
        for alias, target in aliases.items()
        if not is_pattern(alias)
    }
    allowed = {name.removeprefix(_PREFIX) for name in allow}
    return {
        name: known[target]
        for name, target in targets.items()
        if target in known and (not allowed or name in allowed or target in allowed)
    }
