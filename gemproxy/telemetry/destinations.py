"""Where lines go, and how bytes get there without waiting for whoever reads them.

A pipe that nobody reads, the socket of a journald that is stopped and a terminal in scroll lock
keep a ``write`` waiting until somebody reads again. The flag against that, ``O_NONBLOCK``, belongs
to the *open file description*, which standard output shares with the shell and with every other
program of the pipeline: it is not ours to set. So

- a socket is asked for each line (``MSG_DONTWAIT``);
- a pipe or a terminal is opened anew, which gives a description of our own with the flag set;
- where that is not permitted (a pipe that another user has made, as in a container that runs as
  somebody else), ``poll`` is asked before each write, and no more is written than then has room;
- anything else, a file above all, is written to as it is.
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

#: What stands before a line of a level.
Head = Callable[[str], bytes]


class Destination:
    """Takes bytes.

    ``put`` gives how many it took, and ``None`` or :class:`BlockingIOError` where it would have to
    wait; any other :class:`OSError` says why nothing can be written. ``descriptor`` is what
    ``poll`` looks at while it takes nothing. ``head`` gives what a line of a level begins with;
    ``None`` for nothing.
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
        #: What nobody holds any more is closed.
        self.kept = kept


def standard(stream: IO[str] | None, environ: Mapping[str, str] | None = None) -> Destination:
    """The destination behind ``stream``, which may be any text stream; ``None`` takes all lines.

    Python has none where the process was started with its standard output closed.
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
        # A descriptor of its own, since a socket object closes what it has.
        connection = socket.socket(fileno=os.dup(descriptor))
        return Destination(_socket_putter(connection), descriptor, head, (stream, connection))
    is_terminal = os.isatty(descriptor)
    if stat.S_ISFIFO(mode.st_mode) or is_terminal:
        return _unhurried(descriptor, raw, stream, is_terminal=is_terminal)
    return Destination(raw.write, descriptor, head, stream)


def _raw(stream: IO[str]) -> RawIOBase | None:
    """What writes to the descriptor at once: a line that waits in a buffer is lost in a crash."""
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
    """Whether systemd has connected it: a shell may have redirected it since (systemd.exec(5))."""
    return environ.get("JOURNAL_STREAM") == f"{mode.st_dev}:{mode.st_ino}"


def _journal_head(level: str) -> bytes:
    """Journald takes it off again, so that what it keeps is the line."""
    return _JOURNAL_HEADS[level]


_JOURNAL_HEADS: Final = {level: b"<%d>" % number for level, number in PRIORITIES.items()}
