"""What a new configuration changes of the pool's keys."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from gemproxy.pool.cooldowns import Cooldowns
from gemproxy.pool.key import Key
from gemproxy.pool.state import KeyState
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


def move_cooldowns(
    diff: KeyDiff, entries: Iterable[KeyState], tables: Iterable[Cooldowns], now: float
) -> None:
    """Move the cooldowns of keys that are renamed, where the project is only the key's name.

    ``entries`` are the keys from now on; those whose file entry changed still have the old one.
    A renamed key keeps its cooldowns, and another secret under its old name begins without them.
    """
    moves = [(old, new) for _, old, new in diff.updated if old.project != new.project]
    gone = (*(entry.key for entry in diff.removed), *(old for old, _ in moves))
    left = {key.project for key in gone if key.has_own_project}
    if left:
        # Only now, since it looks at every key.
        left -= {entry.key.project for entry in diff.staying(entries)}
    for cooldowns in tables:
        moved = [
            replace(cooldown, project=new.project)
            for old, new in moves
            if old.has_own_project and new.has_own_project
            for cooldown in cooldowns.of_project(old.project, now)
        ]
        for project in left:
            cooldowns.forget_project(project)
        for cooldown in moved:
            cooldowns.add(cooldown, now)
