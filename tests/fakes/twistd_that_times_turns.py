"""``twistd`` as it is, but that it notes each turn of the reactor that takes long.

A turn is what the reactor does between two waits for events. Its length is the CPU time of the
reactor's thread, which does not grow on a loaded machine. The environment variable
``GEMPROXY_TURNS`` names the file: a line for each turn of more than a millisecond, with its end by
the monotonic clock, and its length, both in seconds.
"""

from __future__ import annotations

import os
import select
import sys
import time
from pathlib import Path

LEAST = 0.001


class TimedEpoll:
    """An ``epoll`` that notes how long its owner was busy between two polls."""

    def __init__(self, size: int = -1) -> None:
        self._epoll = select_epoll(size)
        self._since: float | None = None
        for name in ("register", "unregister", "modify", "close", "fileno"):
            setattr(self, name, getattr(self._epoll, name))

    def poll(self, *arguments: float) -> list[tuple[int, int]]:
        if self._since is not None:
            took = time.thread_time() - self._since
            if took > LEAST:
                with Path(os.environ["GEMPROXY_TURNS"]).open("a") as turns:
                    turns.write(f"{time.monotonic():.6f} {took:.6f}\n")
        events = self._epoll.poll(*arguments)
        self._since = time.thread_time()
        return events


if __name__ == "__main__":
    select_epoll = select.epoll
    select.epoll = TimedEpoll  # type: ignore[assignment,misc]
    from twisted.scripts.twistd import run

    sys.argv[0] = "twistd"
    run()
