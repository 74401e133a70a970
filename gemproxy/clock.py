"""The two clocks of the program: one for durations, one for the time of day.

Durations use the monotonic clock, which cannot be set. Twisted's reactor uses epoch seconds by
default: if the wall clock is set back by an hour, every timer is an hour late, and if it is set
forward, every stream times out. :func:`use_monotonic_time` changes that in one
place: from then on ``reactor.seconds()`` is monotonic time, with all delayed calls, looping calls
and timeouts of Twisted's own. A ``now`` or ``seconds`` in this program is monotonic time unless its
description says epoch; epoch time comes from :func:`wall_clock` or is called ``wall``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

#: Attempts to read both clocks without an interruption in between.
_TRIES = 5
_INTERRUPTED = 0.001


def use_monotonic_time(reactor: Any) -> None:
    """Let ``reactor`` use monotonic seconds. Calls that are already scheduled keep their delay.

    ``ReactorBase`` looks up its ``seconds`` at each use and passes it to each delayed call.
    """
    if reactor.seconds is time.monotonic:
        return
    shift = time.monotonic() - reactor.seconds()
    for call in reactor.getDelayedCalls():
        call.time += shift
        call.seconds = time.monotonic
    reactor.seconds = time.monotonic
    reactor.wall = time.time


def wall_clock(reactor: Any) -> Callable[[], float]:
    """A function that gives epoch seconds, for code that runs on ``reactor``.

    A reactor without ``wall``, such as ``task.Clock`` in tests, has one clock for both.
    """
    wall: Callable[[], float] = getattr(reactor, "wall", None) or reactor.seconds
    return wall


def epoch_offset(seconds: Callable[[], float], wall: Callable[[], float]) -> float:
    """The difference between epoch seconds and ``seconds`` at this moment."""
    for _ in range(_TRIES):
        before = seconds()
        offset = wall() - before
        if seconds() - before < _INTERRUPTED:
            break
    return offset
