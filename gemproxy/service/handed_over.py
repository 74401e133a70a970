"""The listening sockets that systemd has handed over, by sd_listen_fds(3).

They stay open as long as the process lives. A listener uses a duplicate, so that a later listener
can use the same socket and no waiting connection is lost between the two.

Twisted has its own ``systemd:`` endpoint, which closes the descriptor that it was given. Twisted
reads the variables when it is imported and removes two of the three; the third is enough here.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

from twisted.internet import tcp, unix
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamServerEndpoint
from zope.interface import implementer

#: The first descriptor that is handed over, by the protocol.
_FIRST = 3
#: More than any unit has; bounds the loop.
_MOST = 256


class HandedOver:
    """Sockets by name (``FileDescriptorName=``), in the order in which they came."""

    def __init__(self, sockets: Sequence[tuple[str, socket.socket]] = ()) -> None:
        self._sockets = tuple(sockets)

    @classmethod
    def take(cls, environ: Mapping[str, str], pid: int) -> HandedOver:
        """The sockets of this process; none if the variables name another process."""
        names = environ.get("LISTEN_FDNAMES", "")
        count = len(names.split(":")) if names else 0
        if "LISTEN_PID" in environ:
            given = environ.get("LISTEN_FDS", "")
            mine = environ["LISTEN_PID"] == str(pid)
            count = min(int(given), count) if mine and given.isdecimal() else 0
        taken = []
        for number, name in enumerate(names.split(":")[: min(count, _MOST)], _FIRST):
            if _listens(number):
                # socket() asks the kernel for the family of the descriptor.
                taken.append((name, socket.socket(fileno=number)))
        for _, each in taken:
            # Otherwise accept(2) blocks the process if a client has disconnected in the meantime.
            # The socket must not be inherited either.
            each.setblocking(False)
            os.set_inheritable(each.fileno(), False)
        return cls(taken)

    def __bool__(self) -> bool:
        return bool(self._sockets)

    @property
    def names(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(name for name, _ in self._sockets)

    def endpoint(self, reactor: Any, description: Sequence[str]) -> IStreamServerEndpoint:
        """The endpoint of a description in parts, such as ``systemd:domain=INET:name=gemproxy``.

        Raises :class:`ValueError` where there is no such socket.
        """
        return HandedOverEndpoint(reactor, self.find(arguments(description)))

    def find(self, asked: Mapping[str, str]) -> socket.socket:
        """The socket by its ``name`` or ``index``. Raises :class:`ValueError`."""
        if ("name" in asked) == ("index" in asked):
            raise ValueError("expected either name= or index=")
        index = asked.get("index", "")
        for number, (name, found) in enumerate(self._sockets):
            if asked.get("name") == name or index == str(number):
                return found
        have = ", ".join(self.names) or "none"
        raise ValueError(f"systemd has handed over no such socket; what there is: {have}")

    def each(self) -> Sequence[tuple[str, socket.socket]]:
        """Names and sockets."""
        return self._sockets

    def close(self) -> None:
        """Close them: from now on new connections wait in systemd's socket."""
        for _, each in self._sockets:
            each.close()


@implementer(IStreamServerEndpoint)
class HandedOverEndpoint:
    """Listens on a duplicate of ``listening``."""

    def __init__(self, reactor: Any, listening: socket.socket) -> None:
        self._reactor = reactor
        self._listening = listening

    def listen(self, factory: IProtocolFactory) -> Deferred[IListeningPort]:
        """See ``IStreamServerEndpoint``."""
        number, family = self._listening.fileno(), self._listening.family
        try:
            if family == socket.AF_UNIX:
                port = _KeptUNIXPort._fromListeningDescriptor(self._reactor, number, factory)
                port.startListening()
            else:
                port = self._reactor.adoptStreamPort(number, family, factory)
        except Exception:  # noqa: BLE001 - told to whoever waits, as of every endpoint
            failed: Deferred[IListeningPort] = fail()
            return failed
        return succeed(port)


class _KeptUNIXPort(unix.Port):
    """A Unix socket whose path, mode and queue are systemd's.

    Twisted would change its mode, shorten its queue and remove its path at the stop. Then no
    client could reach the next process.
    """

    def startListening(self) -> None:
        tcp.Port.startListening(self)

    def connectionLost(self, reason: Any) -> None:
        tcp.Port.connectionLost(self, reason)


def arguments(description: Sequence[str]) -> MutableMapping[str, str]:
    """What an endpoint's description says behind its type."""
    known = ("domain", "index", "name")
    found: dict[str, str] = {}
    for position, part in enumerate(description[1:]):
        name, given, value = part.partition("=")
        if given:
            found[name] = value
        elif position < len(known):
            found[known[position]] = part
    return found


def _listens(number: int) -> bool:
    """Whether the descriptor is a stream socket that listens."""
    try:
        if not stat.S_ISSOCK(os.fstat(number).st_mode):
            return False
        with socket.socket(fileno=os.dup(number)) as found:
            listens = found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            return bool(listens) and found.type == socket.SOCK_STREAM
    except OSError:
        return False
