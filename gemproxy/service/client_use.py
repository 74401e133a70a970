"""What clients have used of limits that they have not, or did not have so far.

The accounts of :mod:`gemproxy.core.limits` begin with the first request of a client that has a
limit. A day and a month begin earlier. So when an account begins, what the client has used until
then is taken over from the usage, in the background: a budget that is set in the middle of a month
holds for the whole month. A request that comes in the same moment may pass before.

Of clients without limits the usage tells what they have used. It has no minutes: for these the sums
since the start are noted every :data:`SAMPLE_SECONDS`, and the last minute is the difference.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Final, TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from gemproxy.core.clients import Client
from gemproxy.core.limits import ANONYMOUS, ClientLimits, Used
from gemproxy.core.sliding_window import WINDOW_SECONDS
from gemproxy.state.model import UsageRow
from gemproxy.telemetry.usage import UsageCounts, UsageLedger
from gemproxy.telemetry.usage_reports import UsageReports

SAMPLE_SECONDS: Final = 5.0
#: Endpoints that count against no limit.
_UNLIMITED: Final = frozenset({"models", "other"})

#: Clients, or rows of usage, that are looked at between two pauses: about a millisecond.
_AT_ONCE: Final = 100

_T = TypeVar("_T")
_NOTHING: Final = (0, 0)
#: Requests and tokens by client.
_Sums = dict[str, tuple[int, int]]


class ClientUse:
    """See the module. Call :meth:`sample` every :data:`SAMPLE_SECONDS`.

    ``seconds`` gives monotonic time, ``wall`` epoch time. ``pause`` lets other requests run while
    many clients are looked at.
    """

    _log = Logger()

    def __init__(
        self,
        limits: ClientLimits,
        ledger: UsageLedger,
        reports: UsageReports,
        seconds: Callable[[], float],
        wall: Callable[[], float],
        pause: Callable[[], Awaitable[None]],
    ) -> None:
        self._limits = limits
        self._ledger = ledger
        self._reports = reports
        self._seconds = seconds
        self._wall = wall
        self._pause = pause
        self._samples: deque[tuple[float, _Sums]] = deque()
        limits.began = self._begin

    async def sample(self) -> None:
        """Note the present sums."""
        sums, now = await self._sums(), self._seconds()
        self._samples.append((now, sums))
        # The oldest one is a minute old, so that the difference is never of less than a minute.
        while len(self._samples) > 1 and self._samples[1][0] <= now - WINDOW_SECONDS:
            self._samples.popleft()

    async def used(self, clients: Sequence[Client]) -> dict[str, Used]:
        """What each of ``clients`` has used, by name."""
        used: dict[str, Used] = {}
        others: list[str] = []
        async for client in self._in_turns(clients):
            name = client.name or ANONYMOUS
            if client.is_limited and self._limits.has_account(name):
                used[name] = self._limits.used(client, self._seconds(), self._wall())
            else:
                others.append(name)
        if others:
            used |= await self._from_usage(others)
        return used

    async def _from_usage(self, names: list[str]) -> dict[str, Used]:
        now = self._reports.now()
        today, month = (self._reports.days(first, now) for first in (now, now.replace(day=1)))
        # Many clients are asked for at once, and then it is cheaper to read all.
        filters = {"client": (names[0],)} if len(names) == 1 else {}
        of_day: dict[str, UsageCounts] = {}
        found = await self._reports.counts(today, ("client", "endpoint"), filters)
        async for (client, endpoint), counts in self._in_turns(found.items()):
            of_day.setdefault(client, UsageCounts()).add(_limited(endpoint, counts))
        of_month = await self._reports.counts(month, ("client",), filters)
        sums = await self._sums()
        before = self._samples[0][1] if self._samples else {}
        none = UsageCounts()
        used: dict[str, Used] = {}
        async for name in self._in_turns(names):
            used[name] = _used(
                _difference(sums.get(name, _NOTHING), before.get(name, _NOTHING)),
                of_day.get(name, none),
                of_month.get((name,), none),
            )
        return used

    def _begin(self, name: str) -> None:
        taking_over = Deferred.fromCoroutine(self._take_over(name))
        taking_over.addErrback(
            lambda failure: self._log.failure("the usage of a client is not known", failure)
        )

    async def _take_over(self, name: str) -> None:
        now = self._reports.now()
        month = self._reports.days(now.replace(day=1), now)
        today = now.date().isoformat()
        of_day, of_month = UsageCounts(), UsageCounts()
        # One question, so that day and month are of the moment at which the account began.
        found = await self._reports.counts(month, ("endpoint", "day"), {"client": (name,)})
        for (endpoint, day), counts in found.items():
            of_month.add(counts)
            if day == today:
                of_day.add(_limited(endpoint, counts))
        self._limits.add_earlier(name, _used(_NOTHING, of_day, of_month), self._wall())

    async def _sums(self) -> _Sums:
        totals: Mapping[tuple[str, str], UsageCounts] = self._ledger.totals()
        sums: _Sums = {}
        async for (client, endpoint), counts in self._in_turns(totals.items()):
            requests, tokens = sums.get(client, _NOTHING)
            requests += _limited_requests(endpoint, counts)
            sums[client] = requests, tokens + counts.input + counts.output
        return sums

    async def _in_turns(self, values: Iterable[_T]) -> AsyncIterator[_T]:
        """All of ``values``, as they are now."""
        for number, value in enumerate(list(values), 1):
            yield value
            if number % _AT_ONCE == 0:
                await self._pause()


def _used(minute: tuple[int, int], day: UsageCounts, month: UsageCounts | UsageRow) -> Used:
    costs = round(day.cost, 9), round(month.cost, 9)
    return Used(*minute, day.requests, day.input + day.output, *costs)


def _difference(present: tuple[int, int], past: tuple[int, int]) -> tuple[int, int]:
    return present[0] - past[0], present[1] - past[1]


def _limited(endpoint: str, counts: UsageCounts | UsageRow) -> UsageCounts:
    """``counts`` with those requests only that count against limits, as far as can be told."""
    requests = _limited_requests(endpoint, counts)
    return UsageCounts(requests, input=counts.input, output=counts.output, cost=counts.cost)


def _limited_requests(endpoint: str, counts: UsageCounts | UsageRow) -> int:
    return 0 if endpoint in _UNLIMITED else counts.requests - counts.theirs
