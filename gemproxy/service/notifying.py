"""Notify systemd, by the protocol of sd_notify(3).

Lines of ``NAME=value`` go to the datagram socket that ``NOTIFY_SOCKET`` names. Without the variable
nothing is sent.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

from twisted.application.service import Service
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from gemproxy.pool.status import PoolCounts

#: Seconds between two updates of the status line, and of the extended timeout of a stop.
_PULSE_SECONDS = 5.0
#: Seconds that sending may block the reactor while the system manager is busy.
_PATIENCE_SECONDS = 0.5
#: During a drain each update asks the system manager for this many more seconds.
_EXTENSION_SECONDS = 4 * _PULSE_SECONDS
#: Seconds for what follows a drain: the last checkpoint, closing connections.
_AFTER_DRAIN_SECONDS = 30.0


class NotifySocket:
    """The system manager's socket; ``address`` as in ``NOTIFY_SOCKET``, ``None`` for none.

    An address that begins with ``@`` is an abstract one. Other kinds of address (``vsock:``, for
    virtual machines) are not spoken to.
    """

    _log = Logger()

    def __init__(self, address: str | None) -> None:
        path = address or ""
        self._address = f"\0{path[1:]}" if path.startswith("@") else path
        self.connected = path.startswith(("/", "@"))

    def send(self, *lines: str) -> None:
        """Send the lines as one message. A failure is logged and has no other effect."""
        if not self.connected or not lines:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
                out.settimeout(_PATIENCE_SECONDS)
                out.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            self._log.warn("systemd could not be notified", reason=error.strerror or str(error))


def watchdog_seconds(environ: Mapping[str, str], pid: int) -> float | None:
    """The watchdog's timeout in seconds; ``None`` without a watchdog for this process."""
    if environ.get("WATCHDOG_PID", str(pid)) != str(pid):
        return None
    wanted = environ.get("WATCHDOG_USEC", "")
    return int(wanted) / 1e6 if wanted.isascii() and wanted.isdigit() and int(wanted) else None


class _Phase(Enum):
    STARTING = "starting"
    READY = "ready"
    RELOADING = "reloading"
    STOPPING = "stopping"


class SystemdNotifier(Service):
    """Sends readiness, reloads, the stop, a status line, and watchdog pings.

    It is the first service to start and the last to stop, so the pings go on as long as the reactor
    runs. A blocked reactor sends none, and that is the case for which the watchdog exists.
    ``status`` gives the line that ``systemctl status`` shows, ``drain_seconds`` the longest
    duration of lame duck time and drain.
    """

    def __init__(
        self,
        reactor: Any,
        environ: Mapping[str, str],
        *,
        status: Callable[[], str],
        drain_seconds: Callable[[], float],
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._reactor = reactor
        self._socket = NotifySocket(environ.get("NOTIFY_SOCKET"))
        self._watchdog = watchdog_seconds(environ, os.getpid())
        self._status = status
        self._drain_seconds = drain_seconds
        self._monotonic_ns = monotonic_ns
        self._phase = _Phase.STARTING
        self._last_status = ""
        self._stops_by = 0.0
        self._loop = LoopingCall(self._pulse)
        self._loop.clock = reactor
        self._at_shutdown: object = None

    def startService(self) -> None:
        """Begin to ping."""
        super().startService()
        if not self._socket.connected:
            return
        # Before the drain; this service itself stops after it.
        self._at_shutdown = self._reactor.addSystemEventTrigger("before", "shutdown", self.stopping)
        self._loop.start(min(_PULSE_SECONDS, (self._watchdog or _PULSE_SECONDS * 2) / 2))

    def stopService(self) -> None:
        super().stopService()
        if self._loop.running:
            self._loop.stop()
        if self._at_shutdown is not None and self._phase is not _Phase.STOPPING:
            # Another process notifies from now on.
            self._reactor.removeSystemEventTrigger(self._at_shutdown)
        self._at_shutdown = None

    def ready(self) -> None:
        """Report readiness: at the start, and after a reload."""
        if self._phase is not _Phase.STOPPING:
            self._phase = _Phase.READY
            self._socket.send("READY=1", *self._news())

    def reloading(self) -> None:
        """Report that a reload begins; :meth:`ready` reports its end."""
        if self._phase is _Phase.READY:
            self._phase = _Phase.RELOADING
            # systemd matches this time with that of its request.
            self._socket.send("RELOADING=1", f"MONOTONIC_USEC={self._monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """Report the stop, and ask for the time that lame duck and drain may take."""
        self._phase = _Phase.STOPPING
        limit = self._drain_seconds() + _AFTER_DRAIN_SECONDS
        self._stops_by = self._reactor.seconds() + limit
        self._socket.send("STOPPING=1", *self._extension(), *self._news())

    def _pulse(self) -> None:
        watchdog = ["WATCHDOG=1"] if self._watchdog else []
        extension = self._extension() if self._phase is _Phase.STOPPING else []
        self._socket.send(*watchdog, *extension, *self._news())

    def _extension(self) -> list[str]:
        """Ask for more time, at most until the longest possible drain is over."""
        left = min(_EXTENSION_SECONDS, self._stops_by - self._reactor.seconds())
        return [f"EXTEND_TIMEOUT_USEC={int(left * 1e6)}"] if left > 0 else []

    def _news(self) -> list[str]:
        """The status line, if it has changed."""
        line = " ".join(self._status().split())
        if line == self._last_status:
            return []
        self._last_status = line
        return [f"STATUS={line}"]


def status_line(
    counts: PoolCounts,
    in_flight: int,
    *,
    draining: bool = False,
    leaving: bool = False,
    reload_failed: bool = False,
) -> str:
    """The line for ``systemctl status``: ``2 of 3 keys healthy (1 disabled)``."""
    others = {
        "recovering": counts.recovering,
        "open": counts.unhealthy - counts.recovering,
        "disabled": counts.disabled,
    }
    listed = ", ".join(f"{number} {word}" for word, number in others.items() if number)
    line = f"{counts.healthy} of {counts.total} keys healthy" + (f" ({listed})" if listed else "")
    if counts.needs_attention:
        rejected = ", ".join(f"{number} {reason}" for reason, number in counts.needs_attention)
        line = f"{line}; Google rejects {rejected}"
    if draining:
        line = f"Draining, {in_flight} requests in flight; {line}"
    elif leaving:
        line = f"Serving until the drain begins, {in_flight} requests in flight; {line}"
    return f"{line}; the last reload failed" if reload_failed else line
