"""How the lines of the log get out: whole, in their order, and without keeping anybody waiting."""

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

#: Bytes of the lines that wait for a destination that takes none.
MAX_WAITING_BYTES: Final = 1024 * 1024
#: How long the process's end may be held up by lines that wait, in seconds.
LAST_SECONDS: Final = 1.0
#: How often the destination is tried when poll(2) says nothing of it, in seconds.
_TRY_AGAIN_SECONDS: Final = 0.25
#: A thread that had nothing to do for so long ends.
_IDLE_SECONDS: Final = 10.0
#: Lines of those that wait that are written before others get their turn.
_AT_ONCE: Final = 16
_LINE_BREAK: Final = b"\n"


class _Note(bytes):
    """The line that tells of so many that were ``dropped``."""

    dropped: int


class LineOutput:
    """Writes each line whole and at once; use it from any thread.

    A line is bytes, its line break included. Past the buffers of the stream where it has any: a
    line that waits in one is lost in a crash, and a system call is all that a line needs.

    What the destination does not take waits here, up to ``limit`` bytes, and a thread writes it as
    soon as it is taken. Beyond the limit lines are dropped until half of what waits is gone. What
    ``note`` makes of their count stands where they are missing.

    It would save a microsecond to gather the lines of one turn of the reactor, at the price of
    those that are lost in a crash.
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
        # A finalizer may log while a line is being written, so the thread may come here again.
        lock = threading.RLock()
        # A with statement would cost as much as all the rest.
        self._acquire, self._release = lock.acquire, lock.release
        #: Lines that were not written: too many waited, the disk is full, or the reader is gone.
        self.lost = 0
        #: Whether a line may not go out before something else.
        self._is_troubled = False
        #: What waits, and how many bytes that is; of the first a part may be out already.
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._is_begun = False
        #: Whether a line broke off in its middle, for good.
        self._is_torn = False
        self._is_full = False
        self._is_flushing = False
        #: Lost lines that no note tells of.
        self._untold = 0
        self._drainer: threading.Thread | None = None
        self._has_work = threading.Event()

    def write(self, line: bytes) -> None:
        """Write ``line`` now or as soon as it is taken. Raises nothing and waits for nobody."""
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
        """Write what waits, for at most ``seconds``; the rest is given up with the process."""
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
            # So that what broke off spoils one line and not two.
            self._is_torn = False
            self._append(_LINE_BREAK)
        self._waiting.append(line)
        self._waiting_bytes += len(line)

    def _append_note(self) -> None:
        """Tell of what was lost, before what comes after it."""
        if self._untold and self._note is not None:
            note = _Note(self._note(self._untold))
            note.dropped = self._untold
            self._append(note)
        self._untold = 0

    def _flush(self, most: int) -> bool:
        """Write what waits, as long as it is taken; whether nothing waits any more."""
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
        """Whether anything was taken of what waits longest."""
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
        """Nothing can be written, and what waits would only grow old."""
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
                # No more threads: the next line tries it.
                self._drainer = None
                return
        self._has_work.set()

    def _drain(self) -> None:
        """In a thread of its own, which the reactor need not know: it may not even run yet."""
        while self._has_work.wait(_IDLE_SECONDS) or not self._is_idle():
            self._has_work.clear()
            before = -1
            while not self._try():
                if self._waiting_bytes == before:
                    # poll(2) promises more room than there is: no reason to run in circles.
                    time.sleep(_TRY_AGAIN_SECONDS / 10)
                before = self._waiting_bytes
                self._wait_for_room(_TRY_AGAIN_SECONDS)

    def _is_idle(self) -> bool:
        """Whether the thread may end; the next trouble begins another one."""
        self._acquire()
        idle = not self._is_troubled
        if idle:
            self._drainer = None
        self._release()
        return idle

    def _try(self) -> bool:
        """Whether nothing waits any more."""
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
