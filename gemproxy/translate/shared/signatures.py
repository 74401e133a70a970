"""Thought signatures of function calls, kept for clients that drop unknown fields.

Gemini 3 and later answer 400 if the first call of a step is sent back without its signature, and
most client libraries keep only the fields that they know. Every client sends back a call's id, its
name and its arguments, so a signature is stored under all three: Gemini's ids are short numbers,
which repeat, and the signature of another call is worse than none. Some clients replace the ids;
for them name and arguments are enough.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from threading import Lock
from typing import Any

import msgspec

#: Separates a call's id from its mark in the key.
_SEPARATOR = "#"
_MARKED = re.compile(r"#([0-9a-f]{24})\Z")
#: Integers up to this size are exact as a float.
_EXACT = 2.0**53


def call_mark(name: str, arguments: bytes | str) -> str:
    """A digest of a call's name and arguments, which are compared as JSON values.

    The order of members, white space, escapes and ``1.0`` for ``1`` make no difference: clients
    decode the arguments and encode them again.
    """
    try:
        value = _encode(_decode(arguments))
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError):
        value = _bytes(arguments)
    return blake2b(b"%b\0%b" % (_bytes(name), value), digest_size=12).hexdigest()


def call_key(call_id: str, mark: str) -> str:
    """The key of a call in :class:`SignatureStore`."""
    return f"{call_id}{_SEPARATOR}{mark}"


def _bytes(text: bytes | str) -> bytes:
    return text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text


def _number(text: str) -> float | int:
    value = float(text)
    return int(value) if value.is_integer() and -_EXACT < value < _EXACT else value


_decode = msgspec.json.Decoder(Any, float_hook=_number).decode
_encode = msgspec.json.Encoder(order="sorted").encode


@dataclass(frozen=True)
class RememberedCall:
    """A function call that was seen in an answer.

    ``issued_upstream`` tells whether Gemini gave the call its id; only such ids are sent back to
    it.
    """

    signature: str | None
    issued_upstream: bool


class SignatureStore:
    """Calls by key, the latest ``capacity`` calls and at most ``max_bytes`` of signatures.

    The key of a call is :func:`call_key`; other signed things have different keys.

    Thread-safe: large requests are translated outside the reactor's thread.
    """

    def __init__(self, capacity: int = 10_000, max_bytes: int = 32 * 1024 * 1024) -> None:
        self._calls: OrderedDict[str, RememberedCall] = OrderedDict()
        self._capacity = capacity
        self._max_bytes = max_bytes
        self._bytes = 0
        #: For each name and arguments, the key of the latest signed call.
        self._by_mark: dict[str, str] = {}
        self._lock = Lock()

    def remember(self, key: str, call: RememberedCall) -> None:
        """Store ``call``; the oldest calls are evicted."""
        with self._lock:
            self._forget(key)
            self._calls[key] = call
            self._bytes += len(call.signature or "")
            if call.signature and (marked := _MARKED.search(key)):
                self._by_mark[marked[1]] = key
            while len(self._calls) > self._capacity or self._bytes > self._max_bytes:
                self._forget(next(iter(self._calls)))

    def recall(self, key: str) -> RememberedCall | None:
        """Return the stored call, and mark it as used."""
        with self._lock:
            return self._recall(key)

    def recall_like(self, mark: str) -> RememberedCall | None:
        """Return the latest signed call with this mark, whatever its id."""
        with self._lock:
            key = self._by_mark.get(mark)
            return None if key is None else self._recall(key)

    def items(self) -> Iterator[tuple[str, RememberedCall]]:
        """All calls, oldest first, in the form that :meth:`remember` accepts."""
        with self._lock:
            return iter(list(self._calls.items()))

    def __len__(self) -> int:
        return len(self._calls)

    def _recall(self, key: str) -> RememberedCall | None:
        call = self._calls.get(key)
        if call is not None:
            self._calls.move_to_end(key)
        return call

    def _forget(self, key: str) -> None:
        previous = self._calls.pop(key, None)
        if previous is None:
            return
        self._bytes -= len(previous.signature or "")
        if previous.signature and (marked := _MARKED.search(key)):
            mark = marked[1]
            if self._by_mark.get(mark) == key:
                del self._by_mark[mark]
