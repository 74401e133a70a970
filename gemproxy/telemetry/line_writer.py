"""Write log lines whole, in order, and without blocking the caller."""

from __future__ import annotations

import atexit
import select
import threading
import time
from collections import deque
from typing import IO, TYPE_CHECKING, Final

from gemproxy.telemetry.destinations import Destination, standard

if TYPE_CHECKING:
    from collections.abc import Callable

#: Bytes of lines that may wait for a blocked destination.
MAX_WAITING_BYTES: Final = 1024 * 1024
#: Seconds that waiting lines may delay the end of the process.
LAST_SECONDS: Final = 1.0
#: Seconds between two attempts if poll(2) does not report the destination.
_TRY_AGAIN_SECONDS: Final = 0.25
#: Seconds after which an idle thread ends.
_IDLE_SECONDS: Final = 10.0
#: Waiting lines that are written before the lock is released.
_AT_ONCE: Final = 16
_LINE_BREAK: Final = b"\n"


class _Note(bytes):
    """The line that reports how many lines were ``dropped``."""

    dropped: int


class LineOutput:
    """Writes each line whole and at once; use it from any thread.

    A line is bytes, line break included. It bypasses the buffers of the stream: a line in a buffer
    is lost in a crash, and one system call is enough for a line.

    If the destination would block, lines wait here, up to ``limit`` bytes, and a thread writes them
    later. Beyond the limit, lines are dropped until half of the waiting bytes are written. In their
    place stands a line that ``note`` makes of their number.

    Batching the lines of one turn of the reactor would save a microsecond a line, but a crash would
    lose them.
    """

    def __init__(
        self,
        destination: Destination | IO[str],
        note: Callable[[int], bytes] | None = None,
        limit: int = MAX_WAITING_BYTES,
    ) -> None:
        if not isinstance(destination, Destination):
            destination = standard(destination)
        self._destination = destination
        self._put = destination.put
        self._note = note
        self._limit = limit
        # Reentrant: a finalizer may log while a line is being written.
        lock = threading.RLock()
        # A with statement would double the cost.
        self._acquire, self._release = lock.acquire, lock.release
        #: Lines that were not written: the limit was reached, the disk is full, or the reader is
        #: gone.
        self.lost = 0
        #: Whether lines have to wait.
        self._is_troubled = False
        #: The waiting lines and their bytes; a part of the first may be written already.
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._is_begun = False
        #: Whether a line was cut off and will not be completed.
        self._is_torn = False
        self._is_full = False
        self._is_flushing = False
        #: Lost lines that no note reports yet.
        self._untold = 0
        self._drainer: threading.Thread | None = None
        self._has_work = threading.Event()

    def write(self, line: bytes) -> None:
        """Write ``line`` now or later. Never raises, never blocks."""
        self._acquire()
        try:
            if self._is_troubled:
                self._queue(line)
                self._flush(_AT_ONCE)
                return
            written = self._put(line)
            if written != len(line):
                self._wait_for_rest(line, written or 0)
        except BlockingIOError:
            self._wait_for_rest(line, 0)
        except (OSError, ValueError):
            self._append(line)
            self._lose()
        finally:
            self._release()

    def close(self, seconds: float = LAST_SECONDS) -> None:
        """Write waiting lines for at most ``seconds``; the rest is lost with the process."""
        end = time.monotonic() + seconds
        while not self._try() and (left := end - time.monotonic()) > 0:
            self._wait_for_room(min(left, _TRY_AGAIN_SECONDS))

    # -- with the lock held ----------------------------------------------------------------------

    def _wait_for_rest(self, line: bytes, written: int) -> None:
        """Go on after ``written`` bytes: there came a signal, the end of the disk, a full pipe."""
        self._waiting.appendleft(line[written:])
        self._waiting_bytes += len(line) - written
        self._is_begun = written > 0
        self._flush(_AT_ONCE)

    def _queue(self, line: bytes) -> None:
        if self._waiting_bytes + len(line) > (self._limit // 2 if self._is_full else self._limit):
            self._is_full = True
            self.lost += 1
            self._untold += 1
            return
        self._is_full = False
        self._append_note()
        self._append(line)

    def _append(self, line: bytes) -> None:
        if self._is_torn:
            # Ends the cut-off line, so that it does not damage the next one.
            self._is_torn = False
            self._append(_LINE_BREAK)
        self._waiting.append(line)
        self._waiting_bytes += len(line)

    def _append_note(self) -> None:
        """Insert the note about lost lines before the next line."""
        if self._untold and self._note is not None:
            note = _Note(self._note(self._untold))
            note.dropped = self._untold
            self._append(note)
        self._untold = 0

    def _flush(self, most: int) -> bool:
        """Write waiting lines until the destination would block; returns whether none is left."""
        if self._is_flushing:
            return False
        self._is_flushing = True
        try:
            for _ in range(most):
                if not self._waiting:
                    self._append_note()
                if not self._waiting:
                    self._is_troubled = self._is_torn
                    return True
                if not self._put_first():
                    break
        except (OSError, ValueError):
            self._lose()
            return True
        finally:
            self._is_flushing = False
        self._await_room()
        return False

    def _put_first(self) -> bool:
        """Write of the oldest waiting line; returns whether any of it was taken."""
        line = self._waiting[0]
        try:
            written = self._put(line)
        except BlockingIOError:
            written = 0
        if not written:
            return False
        self._waiting_bytes -= written
        if written == len(line):
            self._waiting.popleft()
        else:
            self._waiting[0] = line[written:]
        self._is_begun = written < len(line)
        return True

    def _lose(self) -> None:
        """Drop the waiting lines: the destination has failed."""
        for line in self._waiting:
            if isinstance(line, _Note):
                self._untold += line.dropped
            elif line is not _LINE_BREAK:
                self.lost += 1
                self._untold += 1
        self._is_torn = self._is_begun or _LINE_BREAK in self._waiting
        self._waiting.clear()
        self._waiting_bytes = 0
        self._is_begun = self._is_full = False
        self._is_troubled = True

    # -- until it is taken -----------------------------------------------------------------------

    def _await_room(self) -> None:
        self._is_troubled = True
        if self._drainer is None:
            self._drainer = threading.Thread(target=self._drain, name="log", daemon=True)
            atexit.unregister(self.close)
            atexit.register(self.close)
            try:
                self._drainer.start()
            except RuntimeError:
                # The thread limit is reached; the next line tries again.
                self._drainer = None
                return
        self._has_work.set()

    def _drain(self) -> None:
        """Runs in its own thread, independent of the reactor, which may not run yet."""
        while self._has_work.wait(_IDLE_SECONDS) or not self._is_idle():
            self._has_work.clear()
            before = -1
            while not self._try():
                if self._waiting_bytes == before:
                    # poll(2) may report room although there is none; do not spin.
                    time.sleep(_TRY_AGAIN_SECONDS / 10)
                before = self._waiting_bytes
                self._wait_for_room(_TRY_AGAIN_SECONDS)

    def _is_idle(self) -> bool:
        """Whether the thread may end; the next blocked line starts another one."""
        self._acquire()
        idle = not self._is_troubled
        if idle:
            self._drainer = None
        self._release()
        return idle

    def _try(self) -> bool:
        """Write waiting lines; returns whether none is left."""
        self._acquire()
        try:
            return not self._is_troubled or self._flush(_AT_ONCE)
        finally:
            self._release()

    def _wait_for_room(self, seconds: float) -> None:
        descriptor = self._destination.descriptor
        if descriptor is None:
            time.sleep(seconds)
            return
        poller = select.poll()
        poller.register(descriptor, select.POLLOUT)
        poller.poll(seconds * 1000)
