"""Listen on a Unix socket whatever an earlier process has left at its path."""

from __future__ import annotations

import errno
import os
import socket
import stat
from contextlib import suppress
from typing import Any

from twisted.internet import tcp, unix
from twisted.internet.error import CannotListenError
from twisted.python.failure import Failure

from gemproxy.service.file_lock import FileLock, LockHeld

_ABSTRACT = b"\0"


class UnixSockets:
    """A reactor that protects Unix sockets with kernel locks.

    Twisted's own lock is a symbolic link to a pid. It blocks every later start if another process
    has that pid, which is always so in a container. Everything else is delegated to ``reactor``.
    The lock file is the path plus ``.lock``, as with Twisted.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def listenUNIX(
        self,
        address: str | bytes,
        factory: Any,
        backlog: int = 50,
        mode: int = 0o666,
        wantPID: int = 0,  # noqa: ARG002 - Twisted's lock, in whose place ours is taken
    ) -> Any:
        """See :class:`twisted.internet.interfaces.IReactorUNIX`."""
        path = os.fsencode(address)
        if path.startswith(_ABSTRACT):
            return self._reactor.listenUNIX(address, factory, backlog, mode, False)
        lock = _lock(path)
        try:
            _remove_stale(path)
            port = _OwnPort(path, factory, backlog, mode, self._reactor)
            port.startListening()
            port.remember(lock)
        except BaseException:
            lock.unlock()
            raise
        return port


class _OwnPort(unix.Port):
    """Removes its own socket when it closes, and no other one at the same path.

    Twisted's port fails to stop if the socket file is gone.
    """

    _inode: os.stat_result | None = None
    _lock: FileLock | None = None

    def remember(self, lock: FileLock) -> None:
        """Note the identity of the socket file and the ``lock``."""
        self._inode = os.lstat(self._bindPath)
        self._lock = lock

    def connectionLost(self, reason: Failure) -> None:
        with suppress(OSError):
            if self._inode and os.path.samestat(self._inode, os.lstat(self._bindPath)):
                os.unlink(self._bindPath)  # noqa: PTH108
        if self._lock is not None:
            self._lock.unlock()
        tcp.Port.connectionLost(self, reason)


def _lock(path: bytes) -> FileLock:
    place = os.fsdecode(path) + ".lock"
    try:
        # Left by an earlier version, which used Twisted's lock.
        if os.path.islink(place):  # noqa: PTH114 - a path of bytes
            if _is_alive(path):
                raise _taken(path)
            os.unlink(place)  # noqa: PTH108
        return FileLock(place)
    except LockHeld:
        raise _taken(path) from None
    except OSError as error:
        raise CannotListenError(None, path, error) from error


def _remove_stale(path: bytes) -> None:
    """Remove the socket of a process that has ended, and nothing else."""
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return
    if not stat.S_ISSOCK(mode):
        reason = OSError(errno.EEXIST, "something that is no socket is there")
        raise CannotListenError(None, path, reason)
    if _is_alive(path):
        raise _taken(path)
    with suppress(OSError):
        os.unlink(path)  # noqa: PTH108


def _is_alive(path: bytes) -> bool:
    """Whether a process listens there, or this cannot be found out."""
    with socket.socket(socket.AF_UNIX) as caller:
        caller.setblocking(False)
        try:
            result = caller.connect_ex(path)
        except OSError:
            return False  # The path is too long: listening reports it.
    return result not in {errno.ECONNREFUSED, errno.ENOENT}


def _taken(path: bytes) -> CannotListenError:
    return CannotListenError(None, path, OSError(errno.EADDRINUSE, "in use"))
