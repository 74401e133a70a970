"""What becomes of clients when the process may open no more files.

Twisted closes such clients with the help of one spare descriptor. Where somebody else has taken
that, its listener stays ready to read and turns the reactor in circles; and it logs a line for each
client. Here the listener takes a pause instead.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any

from twisted.logger import Logger

#: Seconds until it is tried again.
PAUSE_SECONDS = 0.1
#: So many clients are closed in one go.
_MOST_AT_ONCE = 100
_USED_UP = (errno.EMFILE, errno.ENFILE)


class AcceptGuard:
    """Stands before the ``doRead`` of a listening ``port`` of Twisted's.

    ``refused`` is told how many clients were closed for want of a descriptor.
    """

    _log = Logger()

    def __init__(self, port: Any, reactor: Any, refused: Callable[[int], None]) -> None:
        self._port = port
        self._reactor = reactor
        self._refused = refused
        self._spare = _open_spare()
        self._accept = port.doRead
        port.doRead = self.read

    def read(self) -> object:
        """Somebody wants to connect. As Twisted's ``doRead``."""
        try:
            os.close(os.dup(self._port.fileno()))
        except OSError as error:
            if error.errno in _USED_UP:
                self._refuse(error)
                return None
        return self._accept()

    def _refuse(self, error: OSError) -> None:
        self._close_spare()
        count = 0
        try:
            while count < _MOST_AT_ONCE:
                self._port.socket.accept()[0].close()
                count += 1
        except OSError:
            pass  # No more clients, or somebody else was quicker to take the descriptor.
        self._spare = _open_spare()
        self._refused(count)
        self._log.warn(
            "no more files can be opened ({reason}): {count} clients were closed at once",
            reason=os.strerror(error.errno or 0),
            count=count,
        )
        # Whoever is to close something needs a turn for it.
        self._port.stopReading()
        self._reactor.callLater(PAUSE_SECONDS, self._go_on)

    def _go_on(self) -> None:
        if self._port.connected:
            self._port.startReading()

    def _close_spare(self) -> None:
        spare, self._spare = self._spare, None
        if spare is not None:
            os.close(spare)


def _open_spare() -> int | None:
    try:
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
