"""What an operator changed, and who it was: the value that the log and the store are told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

#: What JSON and a log line can hold without further thought.
Value = str | int | float | bool | None | tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Actor:
    """Who did it: the peer's address (never a header's word for it) and the name of its token."""

    address: str
    token: str


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One change that was made; what was refused changed nothing and is no event.

    ``at`` is epoch seconds. ``action`` is a fixed word (``key.disable``, ``config.reload``).
    ``target`` is for people: a key's name, or ``configuration``; ``target_id`` is the key's id,
    which stays when the key is renamed. ``before`` and ``after`` hold only what the action is
    about, under the names that the admin API uses, and never a secret.
    """

    at: float
    actor: Actor
    action: str
    target: str
    target_id: str | None
    before: Mapping[str, Value]
    after: Mapping[str, Value]
