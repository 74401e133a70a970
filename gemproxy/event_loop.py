"""A cheaper way from the kernel's events to Twisted's transports.

Twisted's reactors call each ready transport within a context that names it, so that the old log
(``twisted.python.log``) can name it. gemproxy does not use that log, and making the context costs
8 % of a request. Most events only say that there is something to read, and these also skip
Twisted's look at what an event says. Other reactors than Linux's are left as they are.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import Any

from twisted.logger import Logger

#: Elsewhere than on Linux its module cannot be imported.
_EPOLL = ("twisted.internet.epollreactor", "EPollReactor")
_log = Logger()


def skip_log_context(reactor: Any) -> None:
    """Let an epoll ``reactor`` call ready transports directly. Replaces its ``doIteration``."""
    kind = type(reactor)
    if (kind.__module__, kind.__qualname__) != _EPOLL:
        return
    poll, transports = reactor._poller.poll, reactor._selectables
    read_or_write, end = reactor._doReadOrWrite, reactor._disconnectSelectable
    readable = select.EPOLLIN

    def wait(timeout: float | None) -> None:
        for number, event in poll(-1 if timeout is None else timeout, len(transports)):
            transport = transports.get(number)
            if transport is None:  # An event before this one has closed it.
                continue
            try:
                if event == readable:
                    reason = transport.doRead()
                    if reason:
                        end(transport, reason, True)
                else:
                    read_or_write(transport, number, event)
            except Exception as error:  # noqa: BLE001 - other connections did nothing
                _log.failure("a connection failed")
                if transports.get(number) is transport:
                    _end(end, transport, error)

    reactor.doIteration = wait


def _end(end: Callable[[Any, object, bool], object], transport: object, error: Exception) -> None:
    """End a connection that has failed while it was read."""
    try:
        end(transport, error, True)
    except Exception:  # noqa: BLE001 - as above
        _log.failure("a connection failed to end")
