"""Thought signatures of function calls, kept for clients that drop unknown fields.

Gemini 3 and later answer 400 when the first call of a step is replayed without the signature it
came with, and most client libraries keep only the fields that they know. The id of a call is the
one thing that every client echoes, so it is the name under which a signature is found again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from threading import Lock


@dataclass(frozen=True)
class RememberedCall:
    """What was known of a function call when it passed by.

    ``issued_upstream`` tells whether Gemini gave the call its id; only such ids go back to it.
    """

    signature: str | None
    issued_upstream: bool


class SignatureStore:
    """Calls by id, the latest ``capacity`` calls and at most ``max_bytes`` of signatures.

    May be used from any thread: large requests are translated off the reactor's.
    """

    def __init__(self, capacity: int = 10_000, max_bytes: int = 32 * 1024 * 1024) -> None:
        self._calls: OrderedDict[str, RememberedCall] = OrderedDict()
        self._capacity = capacity
        self._max_bytes = max_bytes
        self._bytes = 0
        self._lock = Lock()

    def remember(self, call_id: str, call: RememberedCall) -> None:
        """Keep ``call``; the oldest calls make room."""
        with self._lock:
            self._forget(call_id)
            self._calls[call_id] = call
            self._bytes += len(call.signature or "")
            while len(self._calls) > self._capacity or self._bytes > self._max_bytes:
                _, oldest = self._calls.popitem(last=False)
                self._bytes -= len(oldest.signature or "")

    def recall(self, call_id: str) -> RememberedCall | None:
        """What is known of the call, and mark it as used."""
        with self._lock:
            call = self._calls.get(call_id)
            if call is not None:
                self._calls.move_to_end(call_id)
            return call

    def items(self) -> Iterator[tuple[str, RememberedCall]]:
        """All calls as they are now, oldest first, as :meth:`remember` takes them back."""
        with self._lock:
            return iter(list(self._calls.items()))

    def __len__(self) -> int:
        return len(self._calls)

    def _forget(self, call_id: str) -> None:
        previous = self._calls.pop(call_id, None)
        if previous is not None:
            self._bytes -= len(previous.signature or "")
