"""A lock that is released when its process ends in any way.

A process id in a file is not enough: after ``kill -9`` another process may have that id, and in a
container the next start has id 1 again. The kernel drops a lock on an open file with the process.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from contextlib import suppress
from pathlib import Path

#: Do not follow a symbolic link: it may point to another user's file.
_OPEN = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
#: Errors of a file system without locks.
_NO_LOCKS = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})


class LockHeld(Exception):
    """Another process holds it; ``content`` is what that process has written into the file."""

    def __init__(self, content: bytes) -> None:
        super().__init__("another process holds the lock")
        self.content = content


class FileLock:
    """The lock of the file at ``path``, which is made for it; held until :meth:`unlock`.

    Processes that this one forks hold it as well. Raises :class:`LockHeld`, or :class:`OSError`
    where there can be no such file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        while True:
            self._descriptor = os.open(path, _OPEN, 0o644)
            #: A device such as /dev/null is neither locked nor truncated.
            self._is_file = stat.S_ISREG(os.fstat(self._descriptor).st_mode)
            if not self._is_file:
                return
            self._lock()
            if self._is_in_place():
                return
            # The previous holder has removed the file in the meantime.
            os.close(self._descriptor)

    def write(self, content: bytes) -> None:
        """Replace the content of the file."""
        if self._is_file:
            os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, content, 0)

    def unlock(self) -> None:
        """Remove the file and let others lock it."""
        if self._is_file and self._is_in_place():
            with suppress(OSError):
                self.path.unlink()
        os.close(self._descriptor)

    def _lock(self) -> None:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            content = os.pread(self._descriptor, 100, 0)
            os.close(self._descriptor)
            raise LockHeld(content) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                os.close(self._descriptor)
                raise

    def _is_in_place(self) -> bool:
        try:
            return os.path.samestat(self.path.stat(), os.fstat(self._descriptor))
        except OSError:
            return False
