"""``GET /{version}/{collection}``: one list of what the keys of all projects can see.

A list at Google shows the resources of the key's project. Here one key of each project is asked,
one project after the other, and a page ends where the client's page size is reached. A token is
given only if something follows, because some clients fail at an empty page that a token has led to.

The token of the next page holds Google's own token in a project. The project may have the name of a
key, so it is not in the token: a digest of both, keyed with a secret of this process, says which
project it is, and that the token was given here. After a restart a client begins its list again.

With keys of one project Google's answer passes as it came.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from hashlib import blake2s
from itertools import islice
from typing import Final
from urllib.parse import quote

import msgspec

from gemproxy.api.base import Head, Route
from gemproxy.api.gemini.errors import GEMINI
from gemproxy.api.gemini.passing import Downloads, passed_query
from gemproxy.api.gemini.resources import Learns
from gemproxy.api.query import parameters_of, whole_number
from gemproxy.core.affinity import MAX_KEYS, MAX_PROJECTS
from gemproxy.core.client_errors import error_for
from gemproxy.core.context import Attempt, RequestContext
from gemproxy.core.errors import InvalidRequest, NoHealthyKeys, UpstreamFailed
from gemproxy.core.interfaces import Upstream, UpstreamRequest, WholeResponse
from gemproxy.pool.key import Key
from gemproxy.pool.outcome import Outcome, Verdict
from gemproxy.pool.pool import KeyPool
from gemproxy.providers.base import Provider, classify_failure
from gemproxy.translate.gemini_native__gemini.resources import (
    Page,
    name_in,
    read_page,
    with_downloads_from,
    write_page,
)

#: Collections with a list, and the field that holds its items.
_FIELDS: Final = {
    "files": "files",
    "cachedContents": "cachedContents",
    "batches": "operations",
    "fileSearchStores": "fileSearchStores",
}
#: Items of a page if the client does not say; what Google gives for most collections.
_DEFAULT_SIZE: Final = 50
_MAX_SIZE: Final = 1000
#: A page of 1,000 descriptions is about 1 MB; batches may have their results in them.
_MAX_PAGE_BYTES: Final = 64 * 1024 * 1024
#: Bytes of the digest in a token.
_SEAL: Final = 16
_GONE: Final = frozenset({Verdict.KEY, Verdict.FORBIDDEN})


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a list goes on: in which project, and with which token of Google's."""

    project: str
    token: str = ""


class ListEndpoint:
    """See the module and :class:`gemproxy.api.base.LocalEndpoint`.

    ``seconds`` gives monotonic time, ``wall`` epoch time; ``timeout`` is in seconds.
    ``token_key``, 16 random bytes, is the key of page tokens.
    """

    route: Final = Route(
        "/{version}/{collection}", (b"GET",), GEMINI, values={"collection": frozenset(_FIELDS)}
    )

    def __init__(
        self,
        provider: Provider,
        pool: KeyPool,
        upstream: Upstream,
        learns: Learns,
        downloads: Downloads,
        *,
        seconds: Callable[[], float],
        wall: Callable[[], float],
        scrub: Callable[[str], str],
        token_key: bytes,
        timeout: float = 60.0,
    ) -> None:
        self._provider = provider
        self._pool = pool
        self._upstream = upstream
        self._learns = learns
        self._downloads = downloads
        self._seconds = seconds
        self._wall = wall
        self._scrub = scrub
        self._timeout = timeout
        self._token_key = token_key

    def answer(self, head: Head, context: RequestContext) -> Awaitable[bytes]:
        """See :meth:`gemproxy.api.base.LocalEndpoint.answer`."""
        return self._list(head, context)

    async def _list(self, head: Head, context: RequestContext) -> bytes:
        version, collection = head.parameters["version"], head.parameters["collection"]
        projects = list(islice(self._pool.projects(), MAX_PROJECTS))
        query = passed_query(head.query)
        if len(projects) <= 1:
            path = f"/{version}/{collection}".encode("ascii") + (b"?%b" % query if query else b"")
            for project in projects:
                response = await self._ask(project, path, context)
                if response is not None:
                    self._note(read_page(response.body, _FIELDS[collection]), project)
                    return with_downloads_from(self._downloads.origin(head), response.body)
            raise _no_keys()
        asked = parameters_of(head.query)
        size = _size(asked.get("pageSize") or asked.get("page_size") or [""])
        token = (asked.get("pageToken") or asked.get("page_token") or [""])[-1]
        place = self._place(token, collection, projects) if token else None
        pages = _Pages(self, f"/{version}/{collection}", _FIELDS[collection], context)
        items, following = await pages.read(projects, place, size)
        following_token = self._token(collection, following) if following is not None else ""
        page = write_page(_FIELDS[collection], items, following_token)
        return with_downloads_from(self._downloads.origin(head), page)

    def _place(self, token: str, collection: str, projects: list[str]) -> _Place:
        """The place that ``token`` names. Raises :class:`InvalidRequest`."""
        try:
            sealed = base64.b64decode(token, b"-_", validate=True)
            rest = sealed[_SEAL:].decode()
        except ValueError:
            sealed, rest = b"", ""
        for project in projects:
            place = _Place(project, rest)
            if hmac.compare_digest(self._seal(collection, place), sealed[:_SEAL]):
                return place
        raise InvalidRequest("pageToken: it is not one that this proxy has given.")

    def _token(self, collection: str, place: _Place) -> str:
        sealed = self._seal(collection, place) + place.token.encode()
        return base64.urlsafe_b64encode(sealed).decode("ascii")

    def _seal(self, collection: str, place: _Place) -> bytes:
        text = msgspec.json.encode((collection, place.project, place.token))
        return blake2s(text, digest_size=_SEAL, key=self._token_key).digest()

    async def page(
        self, project: str, path: str, field: str, size: int, token: str, context: RequestContext
    ) -> Page | None:
        """A page of one project's list; ``None`` if none of its keys works."""
        more = f"&pageToken={quote(token, safe='')}" if token else ""
        target = f"{path}?pageSize={size}{more}".encode("ascii")
        response = await self._ask(project, target, context)
        if response is None:
            return None
        page = read_page(response.body, field)
        self._note(page, project)
        return page

    def _note(self, page: Page, project: str) -> None:
        for item in page.items:
            described = bytes(item)
            name = name_in(described)
            if name:
                self._learns.learn(name, project, described)

    async def _ask(
        self, project: str, path: bytes, context: RequestContext
    ) -> WholeResponse | None:
        """The successful answer of a key of ``project``; ``None`` if none of its keys works."""
        failed: Outcome | None = None
        for key in self._pool.keys_to_ask(project, self._seconds(), MAX_KEYS):
            attempt = Attempt(key.id, key.name, self._seconds())
            context.attempts.append(attempt)
            try:
                answer = await self._fetch(key, path)
            finally:
                attempt.end(self._seconds())
            if isinstance(answer, WholeResponse):
                attempt.outcome = Outcome(Verdict.SUCCESS, 200)
                return answer
            attempt.outcome = failed = answer
            if answer.verdict not in _GONE:
                break
        if failed is not None and failed.verdict not in _GONE:
            raise error_for(failed)
        return None

    async def _fetch(self, key: Key, path: bytes) -> WholeResponse | Outcome:
        deadline = self._seconds() + self._timeout
        request = UpstreamRequest(b"GET", path, key.secret, deadline=deadline)
        try:
            response = await self._upstream.fetch(request, _MAX_PAGE_BYTES)
        except UpstreamFailed as failure:
            return self._scrubbed(classify_failure(failure))
        if response.status == 200:
            hidden = key.secret.masked_in(response.body)
            return WholeResponse(response.status, response.headers, hidden)
        return self._scrubbed(
            self._provider.classify(
                response.status, response.headers, response.body, now=self._wall()
            )
        )

    def _scrubbed(self, outcome: Outcome) -> Outcome:
        return replace(outcome, message=self._scrub(outcome.message))


class _Pages:
    """The pages of all projects, read one after the other for one request."""

    def __init__(
        self, endpoint: ListEndpoint, path: str, field: str, context: RequestContext
    ) -> None:
        self._endpoint = endpoint
        self._path = path
        self._field = field
        self._context = context

    async def read(
        self, projects: list[str], place: _Place | None, size: int
    ) -> tuple[list[msgspec.Raw], _Place | None]:
        """At most ``size`` items from ``place`` on, and where the list goes on, if it does."""
        begin = projects.index(place.project) if place is not None else 0
        token = place.token if place is not None else ""
        items: list[msgspec.Raw] = []
        is_answered = False
        for project in projects[begin:]:
            while True:
                if len(items) >= size:
                    # Look whether anything follows, so that no token leads to an empty page.
                    peeked = await self._page(project, 1, token)
                    if peeked is not None and peeked.items:
                        return items, _Place(project, token)
                    if peeked is None or not peeked.next_page_token:
                        break
                    token = peeked.next_page_token
                    continue
                page = await self._page(project, size - len(items), token)
                if page is None:
                    break
                is_answered = True
                items += page.items
                token = page.next_page_token
                if not token:
                    break
            token = ""
        if not is_answered:
            raise _no_keys()
        return items, None

    def _page(self, project: str, size: int, token: str) -> Awaitable[Page | None]:
        return self._endpoint.page(project, self._path, self._field, size, token, self._context)


def _size(given: list[str]) -> int:
    size = whole_number(given[-1] or "0")
    if size is None:
        raise InvalidRequest("pageSize: expected a number that is not negative.")
    return min(size or _DEFAULT_SIZE, _MAX_SIZE)


def _no_keys() -> NoHealthyKeys:
    return NoHealthyKeys("No key of any project can be asked for the list now.", retry_after=1.0)
