"""The states of a client's connection, and the table of the transitions between them.

A connection serves one request at a time::

    IDLE -> HEAD -> BODY -> RESPONDING -> IDLE ...            then CLOSING -> CLOSED
    an early answer: IDLE | HEAD | BODY -> LINGERING -> CLOSED

HEAD and BODY are entered only where the bytes at hand do not complete them: a request that arrives
whole leads from IDLE to RESPONDING at once. A client may close at any time, and so may the site.

The rules for this module are those of h11's ``_state.py``: everything that decides which state
comes next stands in this table, and nothing else does. A pair that is not in it is a defect of
ours and raises :class:`InvalidTransition`.
"""

from __future__ import annotations

from enum import IntEnum  # Each request looks them up in a dict: an int hashes fast.


class State(IntEnum):
    """The states. Each but RESPONDING and CLOSED has a deadline."""

    #: Waits for the first byte of a request.
    IDLE = 0
    #: Waits for the rest of a head.
    HEAD = 1
    #: Waits for the rest of a body.
    BODY = 2
    #: Waits for our answer. Bytes that the client sends are kept. A client that does not read is
    #: noticed.
    RESPONDING = 3
    #: Waits for the client to read an answer that it got before it had sent everything. Bytes that
    #: it still sends are discarded.
    LINGERING = 4
    #: Waits for the transport to send its buffer.
    CLOSING = 5
    #: The transport is gone.
    CLOSED = 6


class Event(IntEnum):
    """What happened."""

    #: Bytes came that are the beginning of a head, without its end.
    HEAD_STARTED = 0
    #: The head is complete, the body is not.
    HEAD_COMPLETE = 1
    #: Head and body are complete.
    REQUEST_COMPLETE = 2
    #: The answer to a complete request was written.
    RESPONSE_COMPLETE = 3
    #: The last answer was written, and nothing more is read: the request was refused before its
    #: body was complete, was not HTTP, or was the last one and has bytes behind it.
    EARLY_RESPONSE = 4
    #: We close the connection.
    CLOSE = 5
    #: The transport is gone.
    CONNECTION_LOST = 6


class InvalidTransition(RuntimeError):
    """An event that cannot happen in the connection's state."""


class _Transitions(dict[tuple[State, Event], State]):
    """A dict, because a look-up that succeeds then calls no Python function."""

    def __missing__(self, pair: tuple[State, Event]) -> State:
        state, event = pair
        raise InvalidTransition(f"{event.name} while the connection is {state.name}")


#: (state, event) -> next state.
TRANSITIONS = _Transitions(
    {
        (State.IDLE, Event.HEAD_STARTED): State.HEAD,
        (State.IDLE, Event.HEAD_COMPLETE): State.BODY,
        (State.IDLE, Event.REQUEST_COMPLETE): State.RESPONDING,
        (State.IDLE, Event.EARLY_RESPONSE): State.LINGERING,
        (State.IDLE, Event.CLOSE): State.CLOSING,
        (State.IDLE, Event.CONNECTION_LOST): State.CLOSED,
        (State.HEAD, Event.HEAD_COMPLETE): State.BODY,
        (State.HEAD, Event.REQUEST_COMPLETE): State.RESPONDING,
        (State.HEAD, Event.EARLY_RESPONSE): State.LINGERING,
        (State.HEAD, Event.CLOSE): State.CLOSING,
        (State.HEAD, Event.CONNECTION_LOST): State.CLOSED,
        (State.BODY, Event.REQUEST_COMPLETE): State.RESPONDING,
        (State.BODY, Event.EARLY_RESPONSE): State.LINGERING,
        (State.BODY, Event.CLOSE): State.CLOSING,
        (State.BODY, Event.CONNECTION_LOST): State.CLOSED,
        (State.RESPONDING, Event.RESPONSE_COMPLETE): State.IDLE,
        (State.RESPONDING, Event.CLOSE): State.CLOSING,
        (State.RESPONDING, Event.CONNECTION_LOST): State.CLOSED,
        (State.LINGERING, Event.CLOSE): State.CLOSING,
        (State.LINGERING, Event.CONNECTION_LOST): State.CLOSED,
        # The site closed during an answer, which is still sent.
        (State.CLOSING, Event.RESPONSE_COMPLETE): State.CLOSING,
        (State.CLOSING, Event.CONNECTION_LOST): State.CLOSED,
    }
)
