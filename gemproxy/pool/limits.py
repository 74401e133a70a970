"""What one key has used of its limits: requests and tokens per minute, requests per day."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from gemproxy.pool.cooldowns import Calendar
from gemproxy.pool.key import Limits
from gemproxy.pool.pace import Pace

_MINUTE = 60.0


class Use:
    """One request that counts against a key's limits; its tokens are an estimate at first."""

    __slots__ = ("counts", "time", "tokens")

    def __init__(self, time: float, tokens: int) -> None:
        self.time = time
        self.tokens = tokens
        #: Whether a ledger still counts it in the last minute.
        self.counts = True


@dataclass(frozen=True, slots=True)
class Shortage:
    """A limit is reached until ``until``.

    ``momentary``: only this request is too large for what is left; a smaller one fits.
    """

    until: float
    for_the_day: bool = False
    momentary: bool = False


@dataclass(frozen=True, slots=True)
class LimitUse:
    """How much of one limit is used. ``rate`` is that of the last hour, in uses a second.

    ``ends`` is when the present use does not count any more, ``horizon`` how far a forecast goes.
    """

    dimension: str
    limit: int
    used: int
    rate: float
    ends: float | None
    horizon: float


@dataclass(frozen=True, slots=True)
class LedgerSnapshot:
    """The state to keep over a restart: (time, tokens) of a minute, the day's count and end."""

    uses: tuple[tuple[float, int], ...] = ()
    today: int = 0
    day_ends: float = 0.0


class Ledger:
    """The uses of one key: those of the last 60 seconds, and how many there were this Pacific day.

    A request with more tokens than ``tpm`` is admitted if the minute is otherwise empty: the number
    is an estimate, and Google decides. ``calendar`` gives the end of a day.
    """

    __slots__ = ("_calendar", "_day_ends", "_today", "_tokens", "_uses", "limits", "pace")

    def __init__(self, limits: Limits, calendar: Calendar | None = None) -> None:
        self.limits = limits
        self._calendar = calendar or Calendar()
        self._uses: deque[Use] = deque()
        self._tokens = 0
        self._today = 0
        self._day_ends = -math.inf
        self.pace = Pace()

    def shortage(self, now: float, tokens: int = 0, reserve: float = 0.0) -> Shortage | None:
        """The limit for which a request of about ``tokens`` tokens must wait, if there is one.

        The request leaves the last ``reserve`` of the minute's limits (0 to 1) to others.
        """
        self._forget(now)
        day = self._day_ends if _reached(self.limits.rpd, self._today) else now
        minute = max(self._requests_fit_at(now), self._tokens_fit_at(now, 1))
        if max(day, minute) > now:
            return Shortage(max(day, minute), for_the_day=day > now)
        fits = self._tokens_fit_at(now, tokens, reserve)
        if reserve:
            fits = max(fits, self._requests_fit_at(now, reserve))
        return Shortage(fits, momentary=True) if fits > now else None

    def reserve(self, now: float, tokens: int) -> Use:
        """Count a request that is about to be sent."""
        self._forget(now)
        use = Use(now, tokens)
        self._uses.append(use)
        self._tokens += tokens
        self._today += 1
        self.pace.add(now, 1, tokens)
        return use

    def correct(self, use: Use, tokens: int, now: float) -> None:
        """The request took ``tokens``, in place of the estimate that was reserved."""
        self._forget(now)
        self.pace.add(now, 0, tokens - use.tokens)
        if use.counts:
            self._tokens += tokens - use.tokens
            use.tokens = tokens

    def close(self) -> None:
        """End this ledger; its uses do not count in the ledger that may follow it."""
        for use in self._uses:
            use.counts = False

    def wall_clock_set(self, now: float) -> None:
        """Adapt to a change of the wall clock: the day ends at another time, the counts stay."""
        self._forget(now)
        self._day_ends = self._calendar.next_midnight(now)

    def status(self, now: float) -> Iterator[LimitUse]:
        """How much of each limit is used."""
        self._forget(now)
        ends = self._uses[-1].time + _MINUTE if self._uses else None
        limits, minute = self.limits, now + _MINUTE
        requests, tokens = (self.pace.rate(now, tokens=each) for each in (False, True))
        if limits.rpm is not None:
            yield LimitUse("rpm", limits.rpm, len(self._uses), requests, ends, minute)
        if limits.tpm is not None:
            yield LimitUse("tpm", limits.tpm, self._tokens, tokens, ends, minute)
        if limits.rpd is not None:
            day = self._day_ends
            yield LimitUse("rpd", limits.rpd, self._today, requests, day, day)

    def snapshot(self) -> LedgerSnapshot:
        """The state to keep over a restart."""
        uses = tuple((use.time, use.tokens) for use in self._uses)
        if self._day_ends == -math.inf:
            return LedgerSnapshot(uses)
        return LedgerSnapshot(uses, self._today, self._day_ends)

    def restore(self, snapshot: LedgerSnapshot, now: float) -> None:
        """Restore a :meth:`snapshot`; nothing in it counts for longer than a day."""
        # Sorted, and none in the future, since _forget() begins with the first one.
        uses = sorted((min(time, now), tokens) for time, tokens in snapshot.uses)
        self._uses = deque(Use(time, tokens) for time, tokens in uses)
        self._tokens = sum(use.tokens for use in self._uses)
        self._today = snapshot.today
        self._day_ends = min(snapshot.day_ends, self._calendar.next_midnight(now))
        self._forget(now)

    def _forget(self, now: float) -> None:
        while self._uses and self._uses[0].time <= now - _MINUTE:
            use = self._uses.popleft()
            self._tokens -= use.tokens
            use.counts = False
        if now >= self._day_ends:
            self._today, self._day_ends = 0, self._calendar.next_midnight(now)

    def _requests_fit_at(self, now: float, reserve: float = 0.0) -> float:
        limit = _without(self.limits.rpm, reserve)
        if limit is None or not _reached(limit, len(self._uses)):
            return now
        return self._uses[len(self._uses) - limit].time + _MINUTE

    def _tokens_fit_at(self, now: float, tokens: int, reserve: float = 0.0) -> float:
        """When ``tokens`` more fit under ``tpm``; ``now`` if they fit already."""
        limit = _without(self.limits.tpm, reserve)
        if limit is None:
            return now
        excess = self._tokens + min(tokens, limit) - limit
        if excess <= 0:
            return now
        for use in self._uses:
            excess -= use.tokens
            if excess <= 0:
                return use.time + _MINUTE
        return now


def _without(limit: int | None, reserve: float) -> int | None:
    """``limit`` without the last ``reserve`` of it; at least 1, so that it can be used at all."""
    return limit if limit is None or not reserve else max(1, int(limit * (1.0 - reserve)))


def _reached(limit: int | None, used: int) -> bool:
    return limit is not None and used >= limit
