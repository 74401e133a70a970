"""What a reload changes: new, removed and updated keys, and the cooldowns that move with them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from gemproxy.pool.cooldowns import Cooldowns
from gemproxy.pool.key import Key
from gemproxy.pool.quotas import LearnedQuotas
from gemproxy.pool.state import KeyState
from gemproxy.pool.status import PoolChange


@dataclass
class KeyDiff:
    """New keys, removed keys, and keys whose entry in the file has changed."""

    added: list[KeyState] = field(default_factory=list)
    removed: list[KeyState] = field(default_factory=list)
    #: Each with its old and its new key.
    updated: list[tuple[KeyState, Key, Key]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.updated)

    @property
    def lists_models(self) -> bool:
        """Whether an allow-list of models is new, removed or may have changed."""
        return any(entry.key.models for entry in (*self.added, *self.removed)) or any(
            old.models or new.models for _, old, new in self.updated
        )

    def staying(self, entries: Iterable[KeyState]) -> Iterator[KeyState]:
        """Those of ``entries`` that are not new and whose project is the same."""
        others = {entry.id for entry in self.added}
        others |= {entry.id for entry, old, new in self.updated if old.project != new.project}
        return (entry for entry in entries if entry.id not in others)

    def names(self) -> PoolChange:
        """The names of the keys."""
        return PoolChange(
            added=tuple(entry.key.name for entry in self.added),
            removed=tuple(entry.key.name for entry in self.removed),
            updated=tuple(new.name for _, _, new in self.updated),
        )


def compare_keys(
    previous: Mapping[str, KeyState], keys: Iterable[Key], new: Callable[[Key], KeyState]
) -> tuple[dict[str, KeyState], KeyDiff]:
    """The entries for ``keys``, by id and in their order, and the differences to ``previous``.

    ``new`` makes the entry of a new key. Of ten thousand keys a reload changes one or two, so the
    others cost one look-up each; a key that is the same object as before is not even compared.
    """
    entries: dict[str, KeyState] = {}
    diff = KeyDiff()
    for key in keys:
        key_id = key.secret.id
        entry = previous.get(key_id)
        if entry is None:
            entry = new(key)
            diff.added.append(entry)
        elif entry.key is not key and entry.key != key:
            diff.updated.append((entry, entry.key, key))
        entries[key_id] = entry
    if len(previous) > len(entries) - len(diff.added):
        gone = previous.keys() - entries.keys()
        diff.removed += [entry for entry in previous.values() if entry.id in gone]
    return entries, diff


def move_cooldowns(
    diff: KeyDiff,
    entries: Iterable[KeyState],
    tables: Iterable[Cooldowns],
    quotas: LearnedQuotas,
    now: float,
) -> None:
    """Move cooldowns and quotas of keys that are renamed, if the project is only the key's name.

    ``entries`` are the new keys; those whose file entry changed still have the old one. A renamed
    key keeps its cooldowns, and a new secret under its old name begins without them.
    """
    moves = [(old, new) for _, old, new in diff.updated if old.project != new.project]
    gone = (*(entry.key for entry in diff.removed), *(old for old, _ in moves))
    left = {key.project for key in gone if key.has_own_project}
    if left:
        # Only now, since it looks at every key.
        left -= {entry.key.project for entry in diff.staying(entries)}
    renamed = [
        (old.project, new.project)
        for old, new in moves
        if old.has_own_project and new.has_own_project
    ]
    quotas.move(renamed, left)
    for cooldowns in tables:
        moved = [
            replace(cooldown, project=new)
            for old, new in renamed
            for cooldown in cooldowns.of_project(old, now)
        ]
        for project in left:
            cooldowns.forget_project(project)
        for cooldown in moved:
            cooldowns.add(cooldown, now)
