"""How a key stands, in the one word that people filter and sort by."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol


class _Key(Protocol):
    """What is looked at of a key's status, of the pool's or of the admin API's."""

    @property
    def status(self) -> str: ...

    @property
    def enabled(self) -> bool: ...

    @property
    def needs_attention(self) -> str | None: ...

    @property
    def cooldowns(self) -> Sequence[object]: ...


def _of_status(word: str) -> Callable[[_Key], bool]:
    return lambda key: key.status == word


def _needs_attention(key: _Key) -> bool:
    return key.enabled and key.needs_attention is not None


def _cools_down(key: _Key) -> bool:
    return key.enabled and len(key.cooldowns) > 0


def _in_trouble(key: _Key) -> bool:
    return condition_of(key) in _TROUBLES


STATES: Final[Mapping[str, Callable[[_Key], bool]]] = {
    "attention": _needs_attention,
    "open": _of_status("circuit_open"),
    "half-open": _of_status("circuit_half_open"),
    "cooling": _cools_down,
    "disabled": _of_status("disabled"),
    "active": _of_status("active"),
    "trouble": _in_trouble,
}
"""The states that one may ask for, the worst first. A key may be in several: a rejected one has an
open breaker as well. ``trouble`` are the first four together."""

#: As the admin API spells them.
_SPELLINGS: Final = {"circuit_open": "open", "circuit_half_open": "half-open"}
_TROUBLES: Final = frozenset({"attention", "open", "half-open", "cooling"})


def condition_of(key: _Key) -> str:
    """The worst of the key's states; a disabled key is nothing else."""
    if not key.enabled:
        return "disabled"
    return next(
        (state for state, holds in STATES.items() if state != "trouble" and holds(key)), "active"
    )


def state_named(name: str) -> str | None:
    """The state of this name; ``None`` where there is none."""
    state = _SPELLINGS.get(name, name)
    return state if state in STATES else None


def is_in(key: _Key, state: str) -> bool:
    """Whether the key is in this state, one of :data:`STATES`."""
    return STATES[state](key)


def badness(key: _Key) -> int:
    """For sorting, the worst first."""
    return _ORDER[condition_of(key)]


_ORDER: Final = {state: place for place, state in enumerate(STATES)}
