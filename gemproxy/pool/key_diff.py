"""What a new configuration changes of the pool's keys."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from gemproxy.pool.key import Key
from gemproxy.pool.key_state import KeyState
from gemproxy.pool.status import PoolChange


@dataclass
class KeyDiff:
    """Keys that came, keys that went, and keys of which the file says something else now."""

    added: list[KeyState] = field(default_factory=list)
    removed: list[KeyState] = field(default_factory=list)
    #: Each with its old and its new key.
    updated: list[tuple[KeyState, Key, Key]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.updated)

    @property
    def lists_models(self) -> bool:
        """Whether an allow-list of models came, went or may have changed."""
        return any(entry.key.models for entry in (*self.added, *self.removed)) or any(
            old.models or new.models for _, old, new in self.updated
        )

    def staying(self, entries: Iterable[KeyState]) -> Iterator[KeyState]:
        """Those of ``entries`` that were here before, in the same project."""
        others = {entry.id for entry in self.added}
        others |= {entry.id for entry, old, new in self.updated if old.project != new.project}
        return (entry for entry in entries if entry.id not in others)

    def told(self) -> PoolChange:
        """The names."""
        return PoolChange(
            added=tuple(entry.key.name for entry in self.added),
            removed=tuple(entry.key.name for entry in self.removed),
            updated=tuple(new.name for _, _, new in self.updated),
        )
