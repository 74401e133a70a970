"""The two clocks of the program: one for durations, one for what people and Google call the time.

Durations are measured on the monotonic clock, which nobody can set. Twisted's reactor counts in
epoch seconds by default, so that a wall clock that is set back by an hour delays every timer by an
hour, and one that is set forward cuts every stream. :func:`use_monotonic_time` changes that in one
place: from then on ``reactor.seconds()`` is monotonic time, with all delayed calls, looping calls
and timeouts of Twisted's own. A ``now`` or ``seconds`` in this program is monotonic time unless its
description says epoch; epoch time comes from :func:`wall_clock` or is called ``wall``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

#: Reading both clocks may be interrupted; then their difference is read again, so many times.
_TRIES = 5
_INTERRUPTED = 0.001


def use_monotonic_time(reactor: Any) -> None:
    """Let ``reactor`` count in monotonic seconds. Calls that are scheduled already stay due.

    ``ReactorBase`` looks its own ``seconds`` up at each use, and gives it to each delayed call.
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
    """Epoch seconds, for whatever runs on ``reactor``.

    A reactor that has no ``wall`` has one clock for both, as ``task.Clock`` of the tests.
    """
    wall: Callable[[], float] = getattr(reactor, "wall", None) or reactor.seconds
    return wall


def epoch_offset(seconds: Callable[[], float], wall: Callable[[], float]) -> float:
    """What has to be added to a time of ``seconds`` to have it in epoch seconds, as of now."""
    for _ in range(_TRIES):
        before = seconds()
        offset = wall() - before
        if seconds() - before < _INTERRUPTED:
            break
    return offset
