"""Destinations of log lines, and how to write to them without blocking.

A ``write`` blocks on a pipe that nobody reads, on the socket of a stopped journald, and on a
terminal in scroll lock. The flag ``O_NONBLOCK`` would prevent that, but it belongs to the *open
file description*, which standard output shares with the shell and every other program of the
pipeline, so it must not be set. Instead:

- a socket gets each line with ``MSG_DONTWAIT``;
- a pipe or a terminal is opened again, which gives a separate description with the flag set;
- if that is not permitted (a pipe of another user, as in a container that runs as another user),
  ``poll`` is called before each write, and no more is written than then has room;
- anything else, such as a file, is written to directly.
"""

from __future__ import annotations

import os
import select
import socket
import stat
from collections.abc import Callable, Mapping
from functools import partial
from io import RawIOBase, TextIOWrapper
from typing import IO, Final

#: Of which levels journald and syslog know (sd-daemon(3), syslog(3)).
PRIORITIES: Final = {"debug": 7, "info": 6, "warn": 4, "error": 3, "critical": 2}

#: Bytes for which a pipe that poll(2) calls writable has room (pipe(7)), and a terminal: the kernel
#: gives it memory in pieces of that size.
_ROOM_OF_PIPE: Final = select.PIPE_BUF
_ROOM_OF_TERMINAL: Final = 256
_NEVER_WAIT: Final = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL

#: The prefix of a line of a level.
Head = Callable[[str], bytes]


class Destination:
    """Takes bytes.

    ``put`` returns the number of bytes taken. It returns ``None`` or raises
    :class:`BlockingIOError` if it would block; another :class:`OSError` says why nothing can be
    written. ``descriptor`` is for ``poll`` while it would block. ``head`` gives the prefix of a
    line of a level; ``None`` for none.
    """

    __slots__ = ("descriptor", "head", "kept", "put")

    def __init__(
        self,
        put: Callable[[bytes], int | None],
        descriptor: int | None = None,
        head: Head | None = None,
        kept: object = None,
    ) -> None:
        self.put = put
        self.descriptor = descriptor
        self.head = head
        #: Keeps the object open; it closes with the last reference.
        self.kept = kept


def standard(stream: IO[str] | None, environ: Mapping[str, str] | None = None) -> Destination:
    """The destination of ``stream``, any text stream; ``None`` discards all lines.

    Python has no stream if the process started with a closed standard output.
    ``environ`` tells whether systemd has connected it to the journal (``JOURNAL_STREAM``).
    """
    if stream is None:
        return Destination(len)
    raw = _raw(stream)
    if raw is None:
        return Destination(_putter(stream), kept=stream)
    stream.flush()
    try:
        descriptor = raw.fileno()
        mode = os.fstat(descriptor)
    except OSError:
        return Destination(raw.write, kept=stream)
    head = _journal_head if _is_journal(mode, environ or {}) else None
    if stat.S_ISSOCK(mode.st_mode):
        # A duplicate, since a socket object closes its descriptor.
        connection = socket.socket(fileno=os.dup(descriptor))
        return Destination(_socket_putter(connection), descriptor, head, (stream, connection))
    is_terminal = os.isatty(descriptor)
    if stat.S_ISFIFO(mode.st_mode) or is_terminal:
        return _unhurried(descriptor, raw, stream, is_terminal=is_terminal)
    return Destination(raw.write, descriptor, head, stream)


def _raw(stream: IO[str]) -> RawIOBase | None:
    """The unbuffered stream: a line in a buffer is lost in a crash."""
    if isinstance(stream, TextIOWrapper):
        # With PYTHONUNBUFFERED the standard output has one wrapper less.
        raw = getattr(stream.buffer, "raw", stream.buffer)
        if isinstance(raw, RawIOBase):
            return raw
    return None


def _putter(stream: IO[str]) -> Callable[[bytes], int]:
    def put(data: bytes) -> int:
        stream.write(data.decode())
        stream.flush()
        return len(data)

    return put


def _socket_putter(connection: socket.socket) -> Callable[[bytes], int]:
    send = connection.send

    def put(data: bytes) -> int:
        return send(data, _NEVER_WAIT)

    return put


def _unhurried(
    descriptor: int, raw: RawIOBase, stream: IO[str], *, is_terminal: bool
) -> Destination:
    """A pipe or a terminal."""
    if not os.get_blocking(descriptor):
        return Destination(raw.write, descriptor, kept=stream)
    try:
        own = os.open(
            f"/proc/self/fd/{descriptor}",
            os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC | os.O_APPEND,
        )
    except OSError:
        room = _ROOM_OF_TERMINAL if is_terminal else _ROOM_OF_PIPE
        return Destination(_asking_putter(descriptor, room), descriptor, kept=stream)
    return Destination(partial(os.write, own), own, kept=stream)


def _asking_putter(descriptor: int, room: int) -> Callable[[bytes], int | None]:
    poller = select.poll()
    poller.register(descriptor, select.POLLOUT)

    def put(data: bytes) -> int | None:
        return os.write(descriptor, data[:room]) if poller.poll(0) else None

    return put


# -- the journal ---------------------------------------------------------------------------------


def _is_journal(mode: os.stat_result, environ: Mapping[str, str]) -> bool:
    """Whether it is systemd's socket; a shell may have redirected it (systemd.exec(5))."""
    return environ.get("JOURNAL_STREAM") == f"{mode.st_dev}:{mode.st_ino}"


def _journal_head(level: str) -> bytes:
    """Journald removes this prefix from the stored line."""
    return _JOURNAL_HEADS[level]


_JOURNAL_HEADS: Final = {level: b"<%d>" % number for level, number in PRIORITIES.items()}
