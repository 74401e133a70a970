"""Destinations other than standard output: a file, or syslog."""

from __future__ import annotations

import os
import socket
import stat
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from gemproxy.telemetry.destinations import PRIORITIES, Destination

#: Bytes of a file before it is rotated, and the number of old files kept.
ROTATED_BYTES: Final = 10_000_000
KEPT_FILES: Final = 10
_OPEN: Final = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK

_LOG_DAEMON: Final = 3 << 3
#: Bytes of a datagram that every syslog daemon accepts.
_LONGEST_DATAGRAM: Final = 60_000


class RotatedFile:
    """The file at ``path``; when full it becomes ``path.1``, the former one ``path.2``, and so on.

    Raises :class:`OSError` if it cannot be opened.
    """

    def __init__(self, path: str | Path, most: int = ROTATED_BYTES, kept: int = KEPT_FILES) -> None:
        # twistd may change its working directory.
        self._path = Path(path).absolute()
        self._most = most
        self._kept = kept
        self._is_to_reopen = False
        self._open()

    def destination(self) -> Destination:
        """The writer for this file."""
        return Destination(self._put, kept=self)

    def reopen(self) -> None:
        """Open the path again before the next line.

        For signal handlers: only sets a flag.
        """
        self._is_to_reopen = True

    def _open(self) -> None:
        descriptor = os.open(self._path, _OPEN, 0o666)
        mode = os.fstat(descriptor)
        self._descriptor = descriptor
        self._size = mode.st_size
        self._is_regular = stat.S_ISREG(mode.st_mode)

    def _put(self, data: bytes) -> int:
        if self._is_to_reopen:
            self._is_to_reopen = False
            self._replace()
        elif self._is_regular and self._size and self._size + len(data) > self._most:
            self._rotate()
        written = os.write(self._descriptor, data)
        self._size += written
        return written

    def _rotate(self) -> None:
        """Rotate the files; if that is not permitted, use the same file for some time."""
        self._size = 0
        with suppress(OSError):
            for number in range(self._kept - 1, 0, -1):
                with suppress(FileNotFoundError):
                    self._numbered(number).rename(self._numbered(number + 1))
            self._path.rename(self._numbered(1))
            self._replace()

    def _replace(self) -> None:
        """Open the path again; on failure keep the open file."""
        before = self._descriptor
        with suppress(OSError):
            self._open()
            os.close(before)

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")


class Syslog:
    """The syslog daemon of this machine. It never blocks, and the daemon may restart."""

    def __init__(self, name: str, path: str = "/dev/log") -> None:
        self._name = name
        self._path = path
        self._socket: socket.socket | None = None

    def destination(self) -> Destination:
        """The writer, which sends a datagram for each line."""
        return Destination(self._put, head=self._head, kept=self)

    def _head(self, level: str) -> bytes:
        """RFC 3164, as syslog(3) writes it."""
        now = time.strftime("%b %e %H:%M:%S")
        return f"<{_LOG_DAEMON | PRIORITIES[level]}>{now} {self._name}[{os.getpid()}]: ".encode()

    def _put(self, data: bytes) -> int:
        line = data[:_LONGEST_DATAGRAM].rstrip(b"\n")
        was_connected = self._socket is not None
        try:
            self._connected().send(line, socket.MSG_DONTWAIT)
        except BlockingIOError:
            raise
        except OSError:
            self._disconnect()
            if not was_connected:
                raise
            # The syslog daemon was restarted.
            self._connected().send(line, socket.MSG_DONTWAIT)
        return len(data)

    def _disconnect(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _connected(self) -> socket.socket:
        if self._socket is None:
            made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            try:
                made.connect(self._path)
            except OSError:
                made.close()
                raise
            self._socket = made
        return self._socket
