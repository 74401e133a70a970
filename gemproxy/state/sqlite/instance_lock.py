"""Only one process at a time may write the state."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from gemproxy.core.errors import StorageUnavailable


class InstanceLock:
    """Held while a process uses the database; the kernel releases it when the process dies.

    SQLite's own locks last for one transaction. This lock prevents a second daemon, or the command
    line, from writing while the daemon has newer state in memory. The file is never removed:
    otherwise two processes could lock two files of the same name.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.with_name(f"{path.name}.lock")
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Acquire the lock. Raises :class:`StorageUnavailable` if another process has it.

        If the file was removed, the lock protects nothing and is acquired again.
        """
        if self._descriptor is not None:
            if self._is_in_place(self._descriptor):
                return
            self.release()
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
        except BlockingIOError:
            holder = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(descriptor)
            raise StorageUnavailable(f"a running gemproxy uses it (process {holder})") from None
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor

    def _is_in_place(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), self._path.stat())
        except OSError:
            return False

    def release(self) -> None:
        """Release the lock."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)
