"""Answers that a client may name in a later request, for a limited time.

An answer is stored with the conversation that led to it, so that a request can go on from any of
them. A conversation is a tuple of texts (``history``), and each answer's begins with that of the
answer before it: the same objects, whose bytes are counted once. The oldest answers are evicted.

An answer belongs to the client that asked for it. For any other client it does not exist.

For the state the texts of histories are rows of their own, named by a digest (:class:`AnswerRow`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from threading import Lock

import msgspec

from gemproxy.core.owner import Owner

#: Estimated overhead per answer and per text; bytes per reference.
_OVERHEAD = 200
_REFERENCE = 8


class StoredAnswer(msgspec.Struct, frozen=True, gc=False):
    """A complete answer.

    Its body is ``start``, ``output`` and ``end``: ``output`` is the text of a JSON array, as are
    the texts of ``history``, which are the conversation before it. ``client`` is the label of its
    :class:`~gemproxy.core.owner.Owner`. ``created`` is in epoch seconds.
    """

    id: str
    client: str
    created: float
    start: bytes
    output: bytes
    end: bytes
    history: tuple[bytes, ...]

    @property
    def body(self) -> bytes:
        """The whole answer, as the client got it."""
        return self.start + self.output + self.end

    @property
    def own_size(self) -> int:
        """The bytes that it takes beside the texts of its history, about."""
        own = len(self.start) + len(self.output) + len(self.end)
        return own + _OVERHEAD + _REFERENCE * len(self.history)


class AnswerRow(msgspec.Struct, frozen=True, gc=False):
    """An answer in the state; ``history`` has the digests of its texts."""

    id: str
    client: str
    created: float
    start: bytes
    output: bytes
    end: bytes
    history: tuple[str, ...]


class AnswerStore:
    """The latest answers: at most ``capacity``, ``max_bytes`` and ``lifetime`` seconds.

    Thread-safe: large answers are encoded outside the reactor's thread. Times are epoch seconds.
    """

    def __init__(
        self,
        capacity: int = 10_000,
        max_bytes: int = 64 * 1024 * 1024,
        lifetime: float = 3600.0,
        *,
        enabled: bool = True,
    ) -> None:
        self.enabled = enabled
        #: Whether the answers belong to the state.
        self.persists = False
        self._capacity = capacity
        self._max_bytes = max_bytes
        self._lifetime = lifetime
        self._answers: OrderedDict[str, StoredAnswer] = OrderedDict()
        #: How many histories have each text, by identity.
        self._holders: dict[int, int] = {}
        self._bytes = 0
        self._lock = Lock()
        # For the state: rows by id; digests and texts by the text's identity.
        self._rows: dict[str, AnswerRow] = {}
        self._texts: dict[int, tuple[str, bytes]] = {}

    def configure(
        self,
        capacity: int,
        max_bytes: int,
        lifetime: float,
        *,
        enabled: bool,
        persists: bool = False,
    ) -> None:
        """Change the limits. What is stored is dropped if the store is not ``enabled``."""
        with self._lock:
            self.enabled = enabled
            self.persists = persists
            self._capacity = capacity if enabled else 0
            self._max_bytes = max_bytes
            self._lifetime = lifetime
            self._evict(0.0)

    def put(self, answer: StoredAnswer, now: float) -> None:
        """Store ``answer``, unless it is larger than the whole store."""
        own = answer.own_size
        if own + sum(map(len, answer.history)) > self._max_bytes:
            return
        with self._lock:
            if answer.id in self._answers:
                self._drop(answer.id)
            self._answers[answer.id] = answer
            self._bytes += own
            holders = self._holders
            for text in answer.history:
                number = holders[id(text)] = holders.get(id(text), 0) + 1
                if number == 1:
                    self._bytes += len(text) + _OVERHEAD
            self._evict(now)

    def get(self, identity: str, owner: Owner, now: float) -> StoredAnswer | None:
        """The answer of ``owner``; ``None`` if it is another client's, gone or unknown."""
        with self._lock:
            self._evict(now)
            answer = self._answers.get(identity)
        return answer if answer is not None and owner.owns(answer.client) else None

    def delete(self, identity: str, owner: Owner, now: float) -> bool:
        """Drop the answer of ``owner``. Whether there was one."""
        if self.get(identity, owner, now) is None:
            return False
        with self._lock:
            self._drop(identity)
        return True

    def answers(self) -> Iterator[StoredAnswer]:
        """All answers, the oldest first."""
        with self._lock:
            return iter(list(self._answers.values()))

    def evict(self, now: float) -> None:
        """Drop what is too old; reading and storing does it too."""
        with self._lock:
            self._evict(now)

    def rows(self) -> tuple[tuple[AnswerRow, ...], Mapping[str, bytes]]:
        """All answers for the state, the oldest first, and the texts of their histories.

        A row is the same object each time.
        """
        with self._lock:
            for answer in self._answers.values():
                if answer.id not in self._rows:
                    self._rows[answer.id] = self._row(answer)
            rows = tuple(self._rows[identity] for identity in self._answers)
            return rows, dict(self._texts.values())

    def restore(self, rows: Iterable[AnswerRow], texts: Mapping[str, bytes], now: float) -> None:
        """Insert stored answers before those of this run. Some without all texts are dropped."""
        present = list(self.answers())
        for row in rows:
            history = tuple(texts[each] for each in row.history if each in texts)
            if len(history) == len(row.history) and row.id not in self._answers:
                answer = StoredAnswer(
                    row.id, row.client, row.created, row.start, row.output, row.end, history
                )
                self.put(answer, now)
        for answer in present:
            self.put(answer, now)

    def _row(self, answer: StoredAnswer) -> AnswerRow:
        for text in answer.history:
            if id(text) not in self._texts:
                self._texts[id(text)] = blake2b(text, digest_size=16).hexdigest(), text
        return AnswerRow(
            answer.id,
            answer.client,
            answer.created,
            answer.start,
            answer.output,
            answer.end,
            tuple(self._texts[id(text)][0] for text in answer.history),
        )

    def __len__(self) -> int:
        return len(self._answers)

    @property
    def bytes(self) -> int:
        """The bytes of all texts, and an estimate of what else they take."""
        return self._bytes

    def _evict(self, now: float) -> None:
        answers = self._answers
        while answers:
            oldest = next(iter(answers.values()))
            if (
                len(answers) <= self._capacity
                and self._bytes <= self._max_bytes
                and oldest.created + self._lifetime > now
            ):
                return
            self._drop(oldest.id)

    def _drop(self, identity: str) -> None:
        answer = self._answers.pop(identity, None)
        if answer is None:
            return
        self._rows.pop(identity, None)
        self._bytes -= answer.own_size
        for text in answer.history:
            self._holders[id(text)] -= 1
            if not self._holders[id(text)]:
                del self._holders[id(text)]
                self._texts.pop(id(text), None)
                self._bytes -= len(text) + _OVERHEAD
