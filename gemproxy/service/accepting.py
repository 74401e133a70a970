"""Accept connections when the process has no free file descriptor.

Twisted keeps one spare descriptor to accept and close such connections, and writes a log line for
each. If another thread takes the spare one, Twisted logs a traceback, the listener stays readable
and the reactor spins. So the lack is hidden from Twisted, and the listener pauses instead.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from typing import Any

from twisted.logger import Logger

#: Seconds of the pause before the next accept.
PAUSE_SECONDS = 0.1
#: Connections that are closed in one go.
_MOST_AT_ONCE = 100
_USED_UP = (errno.EMFILE, errno.ENFILE)


class AcceptGuard:
    """Wraps the ``doRead`` of a listening ``port`` of Twisted.

    ``refused`` is called with the number of clients that were closed for lack of a descriptor.
    """

    _log = Logger()

    def __init__(self, port: Any, reactor: Any, refused: Callable[[int], None]) -> None:
        self._port = port
        self._reactor = reactor
        self._refused = refused
        self._spare = _open_spare()
        self._waiting = _WaitingClients(port.socket)
        port.socket = self._waiting
        self._accept = port.doRead
        port.doRead = self.read

    def read(self) -> object:
        """Accept connections; replaces Twisted's ``doRead``."""
        result = self._accept()
        lack, self._waiting.lack = self._waiting.lack, None
        if lack is not None:
            self._refuse(lack)
        return result

    def _refuse(self, error: OSError) -> None:
        self._close_spare()
        count = 0
        try:
            while count < _MOST_AT_ONCE:
                self._port.socket.accept()[0].close()
                count += 1
        except OSError:
            pass  # No client is left, or another thread took the descriptor first.
        self._spare = _open_spare()
        self._refused(count)
        self._log.warn(
            "no more files can be opened ({reason}): {count} clients were closed at once",
            reason=os.strerror(error.errno or 0),
            count=count,
        )
        # Other connections need a turn of the reactor to close.
        self._port.stopReading()
        self._reactor.callLater(PAUSE_SECONDS, self._go_on)

    def _go_on(self) -> None:
        if self._port.connected:
            self._port.startReading()

    def _close_spare(self) -> None:
        spare, self._spare = self._spare, None
        if spare is not None:
            os.close(spare)


class _WaitingClients:
    """A listening socket from which Twisted accepts until no client waits or none can be accepted.

    Only the owner sees which of the two ended it: ``lack`` is the error of the latter.
    """

    def __init__(self, listening: socket.socket) -> None:
        self._listening = listening
        self.lack: OSError | None = None

    def accept(self) -> tuple[socket.socket, Any]:
        """As that of the socket."""
        try:
            return self._listening.accept()
        except OSError as error:
            if error.errno not in _USED_UP:
                raise
            self.lack = error
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._listening, name)


def _open_spare() -> int | None:
    try:
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
