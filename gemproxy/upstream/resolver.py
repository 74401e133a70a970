"""Look up the addresses of names, in threads of their own, with a cache.

Only ``getaddrinfo`` honours all of the system's ways to find a name, and it blocks: half a minute
if a name server does not answer. In the reactor's thread pool a few such look-ups would delay
reloads and the exit. So they run in a bounded number of daemon threads.

Callers that ask for the same name share one look-up. A result is fresh for up to a minute. For a
day it is used as a stale one while look-ups fail or hang: after such a failure callers get it at
once for ten seconds, else after a wait.
"""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from msgspec import Struct, field
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import DNSLookupError
from twisted.logger import Logger

from gemproxy.upstream.exhaustion import Exhausted, exhaustion_of

#: Longest time that a result is fresh, whatever the maximum age of connections is.
MAX_FRESH_SECONDS = 60.0
#: How long a stale result is used while look-ups fail.
STALE_SECONDS = 86_400.0
#: After a failed or hanging look-up, a stale result is given at once for this time.
STALE_AT_ONCE_SECONDS = 10.0
#: After this time a look-up counts as hanging, and another one may start.
HUNG_SECONDS = 10.0
#: Threads for all names, and for one name.
MAX_THREADS = 8
MAX_THREADS_PER_NAME = 2
#: The settings have two names at most; names of earlier settings are kept too.
_MAX_NAMES = 16
_LOG_SECONDS = 60.0
#: Each address may become a socket.
MAX_ADDRESSES = 16

#: The result of ``socket.getaddrinfo``; the family and the address are used.
_Found = list[tuple[Any, ...]]
#: A family and an address of it.
Address = tuple[int, str]

_NO_SUCH_NAME = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})
_NEVER = float("-inf")


class NameLookupFailed(DNSLookupError):
    """The name has no address, or the look-up failed; the text says which.

    ``number`` is ``getaddrinfo``'s error, such as ``socket.EAI_NONAME``; 0 if there is none.
    """

    def __init__(self, text: str, number: int = 0) -> None:
        super().__init__(text)
        self.text = text
        self.number = number

    def __str__(self) -> str:
        return self.text


class _Name(Struct, eq=False):
    """The state of one name. Times are the reactor's seconds."""

    host: str
    addresses: list[Address] = field(default_factory=list)
    fresh_until: float = _NEVER
    stale_until: float = _NEVER
    #: Until this time a stale result is given at once, since the last look-up failed.
    stale_at_once_until: float = _NEVER
    #: Time of the last log line about stale addresses.
    logged_at: float = _NEVER
    waiting: list[Deferred[list[Address]]] = field(default_factory=list)
    #: Start times of the running look-ups.
    running: list[float] = field(default_factory=list)


class Resolver:
    """Looks up names; ``look_up`` is ``socket.getaddrinfo`` or a substitute.

    A result is fresh for ``max_age`` seconds, at most a minute. It is used for a day while look-ups
    fail: the addresses of a service nearly always stay valid during an outage of name servers, and
    TLS verifies the peer. If a name server says that the name does not exist, the result is dropped
    at once.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        max_age: float = MAX_FRESH_SECONDS,
        look_up: Callable[..., _Found] | None = None,
    ) -> None:
        self._reactor = reactor
        self.max_age = max_age
        self._look_up = look_up or socket.getaddrinfo
        self._names: dict[str, _Name] = {}
        self._busy = 0
        self._queue: list[_Name] = []

    def addresses(self, host: str, patience: float) -> Deferred[list[Address]]:
        """Return the addresses of ``host``, best first.

        Fails with :class:`NameLookupFailed`, or :class:`~gemproxy.upstream.exhaustion.Exhausted`. A
        stale result is given after ``patience`` seconds without a fresh one.
        """
        now = self._reactor.seconds()
        name = self._names.get(host)
        if name is None:
            name = self._names[host] = _Name(host)
            while len(self._names) > _MAX_NAMES:
                del self._names[next(iter(self._names))]
        if now < name.fresh_until:
            return succeed(name.addresses)
        self._begin(name, now)
        stale = now < name.stale_until
        if stale and now < name.stale_at_once_until:
            return succeed(name.addresses)
        waiting: Deferred[list[Address]] = Deferred(name.waiting.remove)
        name.waiting.append(waiting)
        if stale:

            def outdated(_failure: object, seconds: float) -> list[Address]:
                self._use_stale(name, f"no answer in {seconds:g} s")
                return name.addresses

            waiting.addTimeout(patience, self._reactor, outdated)
        return waiting

    def forget(self) -> None:
        """Look up every name again; present results become stale."""
        for host, old in list(self._names.items()):
            name = self._names[host] = _Name(
                host,
                old.addresses,
                stale_until=old.stale_until,
                logged_at=old.logged_at,
                waiting=old.waiting,
            )
            old.waiting = []
            if name.waiting:
                # Their look-up may hang at a name server that is gone.
                self._begin(name, self._reactor.seconds())

    # -- the threads -----------------------------------------------------------------------------

    def _begin(self, name: _Name, now: float) -> None:
        """Start a look-up of ``name`` unless one is running, or queue it for a free thread."""
        running = name.running
        if running and (now < running[-1] + HUNG_SECONDS or len(running) >= MAX_THREADS_PER_NAME):
            return
        if self._busy >= MAX_THREADS:
            if name not in self._queue:
                self._queue = [each for each in self._queue if self._names.get(each.host) is each]
                self._queue.append(name)
            return
        self._busy += 1
        running.append(now)
        try:
            threading.Thread(
                target=self._work, args=(name, now), name="name look-up", daemon=True
            ).start()
        except RuntimeError:
            error = Exhausted("out of threads for a name look-up")
            self._reactor.callLater(0, self._ended, name, now, error)

    def _work(self, name: _Name, began: float) -> None:
        """Runs in a thread."""
        result: list[Address] | Exception
        try:
            result = _interleaved(self._look_up(name.host, None, 0, socket.SOCK_STREAM))
        except Exception as error:  # noqa: BLE001 - told to those who wait
            result = _lookup_error(name.host, error)
        # The reactor may have stopped by now.
        with suppress(Exception):
            self._reactor.callFromThread(self._ended, name, began, result)

    def _ended(self, name: _Name, began: float, result: list[Address] | Exception) -> None:
        self._busy -= 1
        name.running.remove(began)
        if self._queue:
            self._begin(self._queue.pop(0), self._reactor.seconds())
        if isinstance(result, Exception):
            self._failed(name, result)
            return
        now = self._reactor.seconds()
        name.addresses = result
        name.fresh_until = now + min(self.max_age, MAX_FRESH_SECONDS)
        name.stale_until = now + STALE_SECONDS
        name.stale_at_once_until = _NEVER
        for waiting in _take_waiting(name):
            waiting.callback(result)

    def _failed(self, name: _Name, error: Exception) -> None:
        now = self._reactor.seconds()
        if isinstance(error, NameLookupFailed) and error.number in _NO_SUCH_NAME:
            name.fresh_until = name.stale_until = _NEVER
        elif now < name.stale_until:
            self._use_stale(name, str(error))
            for waiting in _take_waiting(name):
                waiting.callback(name.addresses)
            return
        if not name.running:
            for waiting in _take_waiting(name):
                waiting.errback(error)

    def _use_stale(self, name: _Name, why: str) -> None:
        """Give the stale result at once for some seconds."""
        now = self._reactor.seconds()
        name.stale_at_once_until = now + STALE_AT_ONCE_SECONDS
        if now >= name.logged_at + _LOG_SECONDS:
            name.logged_at = now
            self._log.warn(
                "a name could not be looked up, its old addresses serve on",
                host=name.host,
                reason=why,
            )


def _take_waiting(name: _Name) -> Iterator[Deferred[list[Address]]]:
    """Iterate over the waiting Deferreds; firing one may cancel another."""
    waiting, name.waiting = name.waiting, []
    return (each for each in tuple(waiting) if not each.called)


def _interleaved(found: _Found) -> list[Address]:
    """The addresses without duplicates, with alternating families.

    So broken IPv6 costs one failed attempt and not one for each address (RFC 8305 section 4).
    """
    addresses = dict.fromkeys(
        (int(each[0]), str(each[4][0]))
        for each in found
        if each[0] in (socket.AF_INET, socket.AF_INET6)
    )
    if not addresses:
        raise socket.gaierror(socket.EAI_NONAME, "no address of a family that is known")
    first = next(iter(addresses))[0]
    preferred = [each for each in addresses if each[0] == first]
    others = [each for each in addresses if each[0] != first]
    mixed: list[Address] = []
    while preferred or others:
        mixed += preferred[:1] + others[:1]
        del preferred[:1], others[:1]
    return mixed[:MAX_ADDRESSES]


def _lookup_error(host: str, error: Exception) -> Exception:
    """The error of a failed look-up. Runs in the look-up's thread."""
    exhausted = exhaustion_of(error) or _no_descriptor_left()
    if exhausted is not None:
        return exhausted
    if isinstance(error, OSError):
        text = error.strerror or str(error)
        return NameLookupFailed(f"name look-up of {host} failed: {text}", error.errno or 0)
    return NameLookupFailed(f"name look-up of {host} failed: {error}")


def _no_descriptor_left() -> Exception | None:
    """Check for free descriptors: without one, getaddrinfo reports a name server's failure."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            return exhaustion_of(error)
    return None
