"""Find the project that the resources of a request belong to.

A file, a cache or another resource of the upstream can be used with the keys of one project only. A
request that names resources gets an :class:`~gemproxy.pool.key.Affinity`, and the pool then gives
it keys of that project only.

The registry knows most names: it learns them from the answers that go through this proxy, and
survives restarts. A name that it does not know is searched for: one key of each project is asked to
read it, which changes nothing at the upstream, until one has it. Two resources of different
projects cannot be in one request, because no key can read both.

With keys of one project nothing of this is needed, and nothing is asked.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Final

from gemproxy.core.errors import InvalidRequest, NoHealthyKeys, NotFound, UpstreamFailed
from gemproxy.core.interfaces import Upstream
from gemproxy.pool.key import Affinity, Key
from gemproxy.pool.outcome import Verdict
from gemproxy.pool.pool import KeyPool
from gemproxy.pool.resources import ResourceRegistry
from gemproxy.pool.unavailable import project_without_keys
from gemproxy.providers.base import Provider

#: Projects that are asked for one unknown name or for a list; a pool may have thousands.
MAX_PROJECTS: Final = 32
#: Keys of one project that are asked, since the first one may be rejected.
MAX_KEYS: Final = 2
#: A description of a file or a cache is about 1 KB, one of a batch may have its results in it.
MAX_DESCRIPTION_BYTES: Final = 1024 * 1024
#: Seconds for one question; a resource is described at once.
PATIENCE: Final = 10.0
#: Seconds in which a name that was found nowhere is not searched for again, and how many are kept.
_ABSENT_SECONDS: Final = 5.0
_MOST_ABSENT: Final = 1000

_NOT_THERE: Final = frozenset({Verdict.REQUEST, Verdict.FORBIDDEN})


class ResourceLocator:
    """See the module. ``seconds`` gives monotonic time, ``wall`` epoch time."""

    def __init__(
        self,
        registry: ResourceRegistry,
        provider: Provider,
        pool: KeyPool,
        upstream: Upstream,
        *,
        seconds: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self._registry = registry
        self._provider = provider
        self._pool = pool
        self._upstream = upstream
        self._seconds = seconds
        self._wall = wall
        #: Names that no project has, and until when that is believed.
        self._absent: OrderedDict[str, float] = OrderedDict()

    def learn(self, name: str, project: str, description: bytes = b"") -> None:
        """Note that a key of ``project`` can read ``name``.

        ``description`` is what the upstream says of it, if it is at hand: it tells when the
        resource expires.
        """
        owner = self._provider.owner_of(name)
        if owner is None:
            return
        self._absent.pop(owner, None)
        # What a part of a resource says of itself is not when the whole expires.
        told = description if owner == name else b""
        expires = self._provider.expiry_of(owner, told, self._wall())
        self._registry.learn(owner, project, expires)

    def forget(self, names: Sequence[str]) -> None:
        """Note that ``names`` were deleted, or that their project has refused them."""
        for name in names:
            owner = self._provider.owner_of(name)
            if owner is not None:
                self._registry.forget(owner)

    async def locate(self, names: Sequence[str], deadline: float) -> Affinity | None:
        """The project that a request with these resources is bound to; ``None`` if to none.

        ``deadline`` is in monotonic seconds. Raises :class:`InvalidRequest` for resources of two
        projects, :class:`NotFound` if no project has one of them, and :class:`NoHealthyKeys` if it
        cannot be found out now.
        """
        found: Affinity | None = None
        for name in dict.fromkeys(map(self._provider.owner_of, names)):
            project = None if name is None else await self._project_of(name, deadline)
            if name is None or project is None:
                continue
            if found is not None and found.project != project:
                raise InvalidRequest(
                    f"{found.resource} and {name} belong to different projects, and no key can"
                    " read both. A request may name resources of one project only.",
                    reason="resources_of_two_projects",
                )
            found = found or Affinity(project, name)
        return found

    async def _project_of(self, name: str, deadline: float) -> str | None:
        known = self._registry.project_of(name, self._wall())
        if known is not None and self._pool.has_project(known):
            return known
        if known is None and self._pool.has_one_project():
            return None
        found = await self._search(name, deadline)
        if found is None and known is not None:
            raise project_without_keys(name)
        if found is None:
            raise _not_found(name)
        return found

    async def _search(self, name: str, deadline: float) -> str | None:
        """Ask one project after the other; ``None`` if none of them has ``name``."""
        now = self._seconds()
        if self._absent.get(name, now) > now:
            return None
        silent = 0
        for project in islice(self._pool.projects(), MAX_PROJECTS):
            has = await self._asked(name, project, deadline)
            if has:
                return project
            silent += has is None
        if silent:
            raise NoHealthyKeys(
                f"The project of {name} is not known, and {silent} of the projects could not be"
                " asked for it.",
                retry_after=1.0,
                reason="resource_not_located",
            )
        self._absent[name] = self._seconds() + _ABSENT_SECONDS
        if len(self._absent) > _MOST_ABSENT:
            self._absent.popitem(last=False)
        return None

    async def _asked(self, name: str, project: str, deadline: float) -> bool | None:
        """Whether ``project`` has the resource; ``None`` if that could not be found out."""
        for key in self._pool.keys_to_ask(project, self._seconds(), MAX_KEYS):
            has = await self._ask(name, key, deadline)
            if has is not None:
                return has
        return None if self._pool.is_enabled(project) else False

    async def _ask(self, name: str, key: Key, deadline: float) -> bool | None:
        until = min(deadline, self._seconds() + PATIENCE)
        request = self._provider.describe(name, key.secret, until)
        try:
            response = await self._upstream.fetch(request, MAX_DESCRIPTION_BYTES)
        except UpstreamFailed:
            return None
        if response.status == 200:
            self.learn(name, key.project, response.body)
            return True
        outcome = self._provider.classify(
            response.status,
            response.headers,
            response.body,
            now=self._wall(),
            names_resources=True,
        )
        return False if outcome.verdict in _NOT_THERE else None


def _not_found(name: str) -> NotFound:
    return NotFound(
        f"{name} was found in none of the projects of this proxy's keys. It may have expired or"
        " been deleted.",
        reason="resource_not_found",
    )
