"""A pid file for twistd that never blocks a start when it is stale."""

from __future__ import annotations

import atexit
import os
from pathlib import Path
from typing import Final

from twisted.application.service import Service

from gemproxy.core.errors import StartRefused
from gemproxy.service.file_lock import FileLock, LockHeld

#: twistd's default path.
DEFAULT: Final = "twistd.pid"


class PidFile(Service):
    """The pid file.

    twistd refuses to start while *any* process has the pid in the file. Here a lock on the file
    decides, which the kernel drops with the process. The lock is taken at once; the pid is written
    when the service starts, since twistd forks in between.

    Raises :class:`StartRefused` where another process holds it, or where it cannot be written,
    though it was asked for. A ``DEFAULT`` that cannot be written is done without.
    """

    def __init__(self, path: Path) -> None:
        self._lock: FileLock | None = None
        try:
            self._lock = FileLock(path)
        except LockHeld as held:
            pid = held.content.decode("ascii", "replace").strip() or "unknown"
            reason = f"process {pid} runs already and holds {path}"
            raise StartRefused(1, f"{reason}; another one needs another --pidfile") from None
        except OSError as error:
            if path.name != DEFAULT:
                raise StartRefused(1, f"cannot write {path}: {error.strerror}") from None

    def privilegedStartService(self) -> None:
        super().privilegedStartService()
        if self._lock is not None:
            self._lock.write(b"%d" % os.getpid())
            # At the very end, as twistd does: until then somebody may have to send a signal.
            atexit.register(self._lock.unlock)
