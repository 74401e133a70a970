"""The order in which requests get a key when keys are short.

Theory of operation. Each model has its own queue, since quotas are counted by model. Within it the
priority decides first. Among the requests of one priority the clients take turns (round robin): a
client that was served goes behind the others that wait, so one that sends 200 requests at a time
delays another one by one request. Requests of one client with the same *need* are served in the
order in which they came. The need tells which keys may serve a request; one whose keys are all
busy does not delay those of the same client that other keys can serve.

A request of low priority is not offered a key as long as a higher one waits for the same model.

All queues together hold at most ``capacity`` requests. When one more comes, the client with most
requests of the lowest priority that waits loses its newest one, if the newcomer's client has fewer;
else the newcomer is refused.

The module is pure: :mod:`gemproxy.core.waiting` asks the pool, suspends the requests and wakes
them.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Hashable, Iterator
from itertools import count
from math import inf
from typing import Generic, TypeVar

from msgspec import Struct

#: The ranks of high, normal and low priority. A lower rank is served first.
HIGH, NORMAL, LOW = range(3)

#: Outdated items that may stay in the heap of deadlines before it is swept.
_SLACK = 64


class Waiting(Struct, eq=False):
    """A request that waits for a key of ``model``.

    ``need`` tells which keys may serve it, ``deadline`` when it is refused (monotonic seconds).
    """

    model: str
    client: str | None
    rank: int
    need: Hashable
    deadline: float
    #: Its place in the order of arrival.
    number: int = -1
    is_queued: bool = False


_W = TypeVar("_W", bound=Waiting)

_Line = dict[_W, None]
"""Requests of one client, model, priority and need, in the order in which they came."""
_Turns = OrderedDict[str | None, dict[Hashable, _Line[_W]]]
"""The clients that wait for one model with one priority, the next one first."""


class FairQueue(Generic[_W]):
    """See the module."""

    def __init__(self, capacity: int = 200) -> None:
        self.capacity = capacity
        #: The queue of each model, by rank. A model for which nothing waits has none.
        self.models: dict[str, tuple[_Turns[_W], _Turns[_W], _Turns[_W]]] = {}
        self._groups: dict[tuple[int, str | None], _Line[_W]] = {}
        self._deadlines: list[tuple[float, int, _W]] = []
        self._numbers = count()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def add(self, request: _W) -> bool:
        """Put ``request`` behind those that wait, even if the queue is full.

        The caller asks :meth:`surplus` afterwards. Returns whether the request is the first of its
        client, priority and need: no other one has to be served before it.
        """
        request.number = next(self._numbers)
        request.is_queued = True
        ranks = self.models.get(request.model)
        if ranks is None:
            ranks = self.models[request.model] = (OrderedDict(), OrderedDict(), OrderedDict())
        line = ranks[request.rank].setdefault(request.client, {}).setdefault(request.need, {})
        line[request] = None
        self._groups.setdefault((request.rank, request.client), {})[request] = None
        heapq.heappush(self._deadlines, (request.deadline, request.number, request))
        self._length += 1
        return len(line) == 1

    def remove(self, request: _W) -> bool:
        """Take ``request`` out; whether it was in the queue."""
        if not request.is_queued:
            return False
        request.is_queued = False
        self._length -= 1
        ranks = self.models[request.model]
        turns = ranks[request.rank]
        lines = turns[request.client]
        del lines[request.need][request]
        if not lines[request.need]:
            del lines[request.need]
        if not lines:
            del turns[request.client]
        if not any(ranks):
            del self.models[request.model]
        group = self._groups[request.rank, request.client]
        del group[request]
        if not group:
            del self._groups[request.rank, request.client]
        self._sweep()
        return True

    def served(self, request: _W) -> None:
        """Take ``request`` out, which got a key; its client goes behind the others that wait."""
        self.remove(request)
        ranks = self.models.get(request.model)
        if ranks is not None and request.client in ranks[request.rank]:
            ranks[request.rank].move_to_end(request.client)

    def surplus(self, newcomer: _W) -> _W | None:
        """The request that has to leave, if there are too many after ``newcomer`` was added."""
        if self._length <= self.capacity:
            return None
        lowest = max(rank for rank, _ in self._groups)
        own = sum(
            len(self._groups.get((rank, newcomer.client), ())) for rank in (HIGH, NORMAL, LOW)
        )
        most, newest = own - 1, newcomer
        for (rank, _), group in self._groups.items():
            last = next(reversed(group))
            if rank != lowest or last is newcomer:
                continue
            if len(group) > most or (len(group) == most and last.number > newest.number):
                most, newest = len(group), last
        return newest

    def in_turn(self, model: str) -> Iterator[_W]:
        """The requests for ``model`` that are to be offered a key, in the fair order.

        The caller reports one that got a key with :meth:`served` before it takes the next; of the
        others no further one of the same client and need is offered.
        """
        ranks = self.models.get(model, ())
        for rank, turns in enumerate(ranks):
            if rank == LOW and (ranks[HIGH] or ranks[NORMAL]):
                return
            passed: set[tuple[str | None, Hashable]] = set()
            is_over = False
            while turns and not is_over:
                is_over = True
                for client in list(turns):
                    for request in _heads(turns.get(client, {})):
                        if (client, request.need) in passed:
                            continue
                        yield request
                        if not request.is_queued:
                            is_over = False
                            break
                        passed.add((client, request.need))

    def is_offered(self, request: _W) -> bool:
        """Whether nothing of a higher priority keeps the waiting ``request`` from being offered."""
        ranks = self.models[request.model]
        return request.rank != LOW or not (ranks[HIGH] or ranks[NORMAL])

    @property
    def next_deadline(self) -> float:
        """The first deadline; infinity if nothing waits."""
        heap = self._deadlines
        while heap and not heap[0][2].is_queued:
            heapq.heappop(heap)
        return heap[0][0] if heap else inf

    def expired(self, now: float) -> list[_W]:
        """The requests whose deadline has passed, in its order. They stay in the queue."""
        found = [item for item in self._deadlines if item[0] <= now and item[2].is_queued]
        return [request for _, _, request in sorted(found)]

    def _sweep(self) -> None:
        heap = self._deadlines
        if len(heap) > 2 * self._length + _SLACK:
            heap[:] = [item for item in heap if item[2].is_queued]
            heapq.heapify(heap)


def _heads(lines: dict[Hashable, _Line[_W]]) -> list[_W]:
    """The first request of each need, in the order of their arrival."""
    heads = [next(iter(line)) for line in lines.values()]
    if len(heads) > 1:
        heads.sort(key=lambda head: head.number)
    return heads
