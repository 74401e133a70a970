"""Which project a file, a cache or another resource of the upstream belongs to.

A resource can be used with keys of one project only. The registry learns names from answers, and
forgets each when the resource itself expires. It is a memory and not the truth: what it has
forgotten can be searched for (see :mod:`gemproxy.core.affinity`). So it may be bounded, and a name
whose project is wrong by now does no harm for long.

A name is the upstream's, such as ``files/x``; it is no secret. Nothing is known here of who made
the resource: as with one key at Google, each client of this proxy may use what it can name.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

#: Entries that are kept; each takes some 300 bytes.
CAPACITY: Final = 50_000
#: Characters of a name; the upstream's are shorter.
LONGEST_NAME: Final = 200


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource, its project, and when it expires, in epoch seconds."""

    name: str
    project: str
    expires: float


class ResourceRegistry:
    """The latest ``capacity`` resources by name. Times are epoch seconds."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._resources: dict[str, Resource] = {}
        self._next_expiry = math.inf
        self._listed: tuple[Resource, ...] | None = ()

    def project_of(self, name: str, now: float) -> str | None:
        """The project of a resource; ``None`` if it is not known or has expired."""
        found = self._resources.get(name)
        return found.project if found is not None and found.expires > now else None

    def learn(self, name: str, project: str, expires: float) -> None:
        """Note that ``name`` belongs to ``project`` until it expires."""
        if len(name) > LONGEST_NAME:
            return
        known = self._resources.pop(name, None)
        if known is not None and known.project == project and known.expires == expires:
            self._resources[name] = known
            return
        self._resources[name] = Resource(name, project, expires)
        self._next_expiry = min(self._next_expiry, expires)
        self._listed = None
        if len(self._resources) > self._capacity:
            del self._resources[next(iter(self._resources))]

    def forget(self, name: str) -> None:
        """Note that ``name`` was deleted, or is not where it was."""
        if self._resources.pop(name, None) is not None:
            self._listed = None

    def resources(self, now: float) -> tuple[Resource, ...]:
        """All resources; the same objects as before if they have not changed."""
        if now >= self._next_expiry:
            kept = {each.name: each for each in self._resources.values() if each.expires > now}
            self._resources = kept
            self._next_expiry = min((each.expires for each in kept.values()), default=math.inf)
            self._listed = None
        if self._listed is None:
            self._listed = tuple(self._resources.values())
        return self._listed

    def restore(self, resources: Iterable[Resource]) -> None:
        """Insert stored resources before those that were learned since."""
        present = self._resources
        older = {each.name: each for each in resources if each.name not in present}
        merged = [*older.values(), *present.values()][-self._capacity :]
        self._resources = {each.name: each for each in merged}
        self._next_expiry = min((each.expires for each in merged), default=math.inf)
        self._listed = None

    def __len__(self) -> int:
        return len(self._resources)
