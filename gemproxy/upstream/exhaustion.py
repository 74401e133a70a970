"""Recognise that this host has run out of descriptors, ports, memory or threads."""

from __future__ import annotations

import errno

from twisted.internet.error import ConnectError

_WORDS = {
    errno.EMFILE: "out of file descriptors",
    errno.ENFILE: "out of file descriptors in the whole system",
    errno.EADDRNOTAVAIL: "out of local ports",
    errno.ENOBUFS: "out of memory for sockets",
    errno.ENOMEM: "out of memory for sockets",
}


class Exhausted(ConnectError):
    """This host has run out of a resource; the text names it."""

    def __init__(self, text: str) -> None:
        super().__init__(string=text)


def exhaustion_of(error: BaseException) -> Exhausted | None:
    """The resource that ``error`` reports as exhausted; ``None`` for another error."""
    number = getattr(error, "osError", None) or getattr(error, "errno", None)
    return Exhausted(_WORDS[number]) if number in _WORDS else None
