"""The exchanges that a simulator had, for tests and users.

Bounded in number and in bytes. Of a credential only the place and a mask are kept.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from gemproxy.secret import Secret

_SECRET_HEADERS = frozenset({"x-goog-api-key", "authorization", "cookie", "proxy-authorization"})


@dataclass(slots=True)
class Exchange:
    """One request and its result.

    ``key`` is the name of the key, None without a valid one; ``call`` a method such as
    ``generateContent`` or ``models.list``; ``behaviour`` the one that was applied. ``status`` is
    None until headers were sent. ``closed_early`` means that the client disconnected before the
    end, ``finished`` that the exchange has ended in any way.
    """

    number: int
    time: float
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    credentials: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    size: int = 0
    key: str | None = None
    model: str | None = None
    call: str | None = None
    body: Mapping[str, Any] | None = None
    behaviour: str = "ok"
    status: int | None = None
    closed_early: bool = False
    finished: bool = False
    #: The latest ``usageMetadata`` that was sent.
    reported: Mapping[str, Any] | None = field(default=None, repr=False)

    def describe(self) -> dict[str, Any]:
        """The exchange for the control API, without any secret."""
        return {
            "number": self.number,
            "time": self.time,
            "method": self.method,
            "path": self.path,
            "query": dict(self.query),
            "headers": dict(self.headers),
            "credentials": [place for place, _ in self.credentials],
            "key": self.key,
            "model": self.model,
            "call": self.call,
            "behaviour": self.behaviour,
            "status": self.status,
            "closedEarly": self.closed_early,
            "finished": self.finished,
            "body": self.body,
        }


def received(
    number: int,
    now: float,
    method: str,
    path: str,
    query: Mapping[str, str],
    headers: Mapping[str, str],
) -> Exchange:
    """Create an exchange; names in ``headers`` are in lower case. Secrets are masked."""
    return Exchange(
        number,
        now,
        method,
        path,
        {name: value for name, value in query.items() if name != "key"},
        {name: _shown(name, value) for name, value in headers.items()},
        _credentials(query, headers),
    )


class ExchangeLog:
    """The last exchanges, at most ``limit`` of them, their bodies at most ``bytes_limit`` long."""

    def __init__(self, limit: int, bytes_limit: int) -> None:
        self._exchanges: deque[Exchange] = deque()
        self._limit = limit
        self._bytes_limit = bytes_limit
        self._bytes = 0

    def add(self, exchange: Exchange) -> None:
        self._exchanges.append(exchange)
        self._bytes += exchange.size
        while self._exchanges and (
            len(self._exchanges) > self._limit or self._bytes > self._bytes_limit
        ):
            self._bytes -= self._exchanges.popleft().size

    def clear(self) -> None:
        self._exchanges.clear()
        self._bytes = 0

    def __iter__(self) -> Iterator[Exchange]:
        return iter(tuple(self._exchanges))

    def __len__(self) -> int:
        return len(self._exchanges)

    def __getitem__(self, at: int) -> Exchange:
        return self._exchanges[at]


def _credentials(
    query: Mapping[str, str], headers: Mapping[str, str]
) -> tuple[tuple[str, str], ...]:
    """Every credential in the request, with its place."""
    found = []
    if "x-goog-api-key" in headers:
        found.append(("x-goog-api-key", headers["x-goog-api-key"]))
    if "key" in query:
        found.append(("key", query["key"]))
    if "authorization" in headers:
        found.append(("authorization", headers["authorization"]))
    return tuple(found)


def _shown(name: str, value: str) -> str:
    return Secret(value).masked if name in _SECRET_HEADERS else value
