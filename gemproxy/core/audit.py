"""The change that an operator made, as a value for the log and the store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

#: Values that JSON and a log line can hold as they are.
Value = str | int | float | bool | None | tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Actor:
    """Who made the change: the peer's address (no header is trusted) and the name of its token."""

    address: str
    token: str


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One change that was made. A refused change is not an event.

    ``at`` is epoch seconds. ``action`` is a fixed word (``key.disable``, ``config.reload``).
    ``target`` is for people: a key's name, or ``configuration``; ``target_id`` is the key's id,
    which stays when the key is renamed. ``before`` and ``after`` hold only what the action changes,
    under the names of the admin API, and never a secret.
    """

    at: float
    actor: Actor
    action: str
    target: str
    target_id: str | None
    before: Mapping[str, Value]
    after: Mapping[str, Value]
