"""The body of an upload on its way through: bytes in from the client, out to the upstream.

Nothing of it is kept but what one read of the client's socket brings. The connection reads that
socket only while the body is wanted: after the upstream's side has begun to take it, and not while
that side is congested.
"""

from __future__ import annotations

from collections.abc import Callable

from gemproxy.core.errors import ProxyError


class StreamedBody:
    """Implements :class:`gemproxy.core.interfaces.BodySource`.

    ``length`` is in bytes, ``None`` for a chunked body. ``wake`` is called when the body is wanted
    again.
    """

    def __init__(self, length: int | None, wake: Callable[[], None]) -> None:
        self.length = length
        #: Whether the upstream's side has begun to take it; it cannot be sent twice.
        self.begun = False
        self.received = 0
        self._wake = wake
        self._paused = False
        self._write: Callable[[bytes], None] | None = None
        self._end: Callable[[ProxyError | None], None] | None = None
        self._held: list[bytes] = []
        self._is_complete = False
        self._error: ProxyError | None = None

    # -- the client's side -------------------------------------------------------------------------

    @property
    def wanted(self) -> bool:
        """Whether bytes can be passed on now."""
        return self._write is not None and not self._paused

    def receive(self, data: bytes) -> None:
        """Pass ``data`` on, or keep it if the upstream's side has not begun."""
        self.received += len(data)
        if self._write is not None:
            self._write(data)
        elif not self.begun:
            self._held.append(data)

    def complete(self) -> None:
        """The client has sent everything."""
        self._is_complete = True
        self._tell_end()

    def fail(self, error: ProxyError) -> None:
        """The client may send no more; the upload ends with ``error``."""
        self._error = error
        self._tell_end()

    # -- the upstream's side -----------------------------------------------------------------------

    def begin(
        self, write: Callable[[bytes], None], end: Callable[[ProxyError | None], None]
    ) -> None:
        """Take the body: ``write`` gets its bytes, ``end`` is called after the last one."""
        self.begun = True
        self._write, self._end = write, end
        held, self._held = self._held, []
        for data in held:
            write(data)
        if self._is_complete or self._error is not None:
            self._tell_end()
        else:
            self._wake()

    def pause(self) -> None:
        """Bring no bytes for now."""
        self._paused = True

    def resume(self) -> None:
        """Bring bytes again."""
        if self._paused:
            self._paused = False
            if self._write is not None:
                self._wake()

    def stop(self) -> None:
        """Bring nothing more: nobody takes it."""
        self._write = self._end = None

    def _tell_end(self) -> None:
        end = self._end
        if end is not None:
            self.stop()
            end(self._error)
