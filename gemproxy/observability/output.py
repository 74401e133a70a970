"""Where the lines of the log go."""

from __future__ import annotations

import threading
from io import RawIOBase, TextIOWrapper
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class LineOutput:
    """Writes each line whole and at once; use it from any thread.

    A line is bytes, its line break included. Past the buffers of ``stream`` where it has any: a
    line that waits in one is lost in a crash, and a system call is all that a line needs.

    It would save a microsecond to gather the lines of one turn of the reactor, at that price.
    """

    def __init__(self, stream: IO[str]) -> None:
        # Held on to, since a stream that nobody has any more is closed.
        self._stream = stream
        self._put = _unbuffered(stream)
        # A finalizer may log while a line is being written, so the thread may come here again.
        lock = threading.RLock()
        # A with statement would cost as much as all the rest.
        self._acquire, self._release = lock.acquire, lock.release
        #: Whether the last line broke off in its middle.
        self._torn = False
        #: Lines that could not be written: the disk is full, or nobody reads the pipe any more.
        self.lost = 0

    def write(self, line: bytes) -> None:
        """Write ``line``; what cannot be written is counted as lost, and nothing is raised."""
        self._acquire()
        try:
            if self._torn:
                self._end_torn_line()
            written = self._put(line)
            if written != len(line):
                self._write_rest(line, written or 0)
        except (OSError, ValueError):
            self.lost += 1
        finally:
            self._release()

    def _write_rest(self, line: bytes, written: int) -> None:
        """Go on after ``written`` bytes, which is where a signal or the end of the disk came."""
        while written < len(line):
            self._torn = written > 0
            more = self._put(line[written:])
            if not more:
                raise BlockingIOError
            written += more
        self._torn = False

    def _end_torn_line(self) -> None:
        """A line break, so that what broke off spoils one line and not two."""
        if not self._put(b"\n"):
            raise BlockingIOError
        self._torn = False


def _unbuffered(stream: IO[str]) -> Callable[[bytes], int | None]:
    """What writes bytes to ``stream`` at once.

    It gives how many it has written, and ``None`` where it would have to wait.
    """
    if isinstance(stream, TextIOWrapper):
        # With PYTHONUNBUFFERED the standard output has one wrapper less.
        raw = getattr(stream.buffer, "raw", stream.buffer)
        if isinstance(raw, RawIOBase):
            stream.flush()
            return raw.write

    def put(data: bytes) -> int:
        stream.write(data.decode())
        stream.flush()
        return len(data)

    return put
