"""What clients have used of their own limits and budgets, and whether another request fits.

Theory of operation. Each client that has a limit or a budget has an :class:`Account` under its
name. A request takes its part of it in three steps, through a :class:`Reservation`: with its head
it counts as a request and as one in flight (:meth:`Reservation.admit`), after decoding the estimate
of its prompt is reserved (:meth:`Reservation.reserve`), and at its end the estimate is replaced by
what Gemini has reported (:meth:`Reservation.settle`). A request that is refused before it is served
takes nothing (:meth:`Reservation.cancel`). The later requests of an upload are only in flight
(:meth:`Reservation.admit_part`): else a large file would use up the limit of its own client.

``rpm`` and ``tpm`` hold in every 60 seconds (:mod:`gemproxy.core.sliding_window`). A prompt counts
from the admission of its request, an answer from its end. A request whose estimate is larger than
``tpm`` or ``tpd`` is admitted if nothing else is counted: it is an estimate.

Days and months are calendar ones (:mod:`gemproxy.core.local_days`). Their counts are rows of
absolute counts (:class:`LimitCount`), which are kept with each checkpoint. An account keeps those
of its latest three days and months, so that a clock that was set and is set back finds its counts.
The cost is counted when it is known; nothing of it is reserved.

``now`` is monotonic time; ``wall`` is epoch time. Both may step in either direction.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, tzinfo
from itertools import chain
from typing import Final, NamedTuple

from msgspec import Struct

from gemproxy.core.clients import Budget, Client
from gemproxy.core.errors import BudgetSpent, ClientLimitReached, Forbidden
from gemproxy.core.local_days import LocalDays, Today
from gemproxy.core.sliding_window import SlidingWindow, Slot

#: The name under which everybody without a token is counted.
ANONYMOUS: Final = "anonymous"
#: ``LimitCount.period``.
DAY: Final = "day"
MONTH: Final = "month"

#: Seconds after which a client with too many requests in flight may ask again.
_SOON: Final = 1.0
#: Days, and months, whose counts an account keeps.
_MOST_PERIODS: Final = 3
#: With this many accounts those are dropped of which nothing counts at present; more are only kept
#: if so many clients are active.
MOST_ACCOUNTS: Final = 4096
#: Largest count of one request, whatever the upstream says, so that sums fit 64 bits.
_MOST_TOKENS: Final = 10**12
_EPOCH: Final = date(1970, 1, 1)

_MEANINGS: Final = {
    "rpm": "requests a minute",
    "tpm": "tokens a minute",
    "rpd": "requests a day",
    "tpd": "tokens a day",
    "concurrent": "requests at a time",
    "usdPerDay": "US dollars a day",
    "usdPerMonth": "US dollars a month",
}


@dataclass(frozen=True, slots=True)
class LimitCount:
    """What a client has used on a calendar day, or in a calendar month.

    ``start`` is the number of the first day, counted from 1970-01-01. ``cost`` is in US dollars.
    """

    client: str
    period: str
    start: int
    requests: int = 0
    tokens: int = 0
    cost: float = 0.0

    @property
    def identity(self) -> tuple[str, str, int]:
        """Unique among the rows of a store."""
        return self.client, self.period, self.start


class Used(Struct, frozen=True):
    """What a client has used: in the last 60 seconds, today and this month, and in flight."""

    requests_minute: int = 0
    tokens_minute: int = 0
    requests_day: int = 0
    tokens_day: int = 0
    usd_day: float = 0.0
    usd_month: float = 0.0
    concurrent: int = 0


class LimitShare(NamedTuple):
    """The part of one limit or budget that its client has used: 1 if nothing is left."""

    client: str
    #: As in the settings: ``rpm``, ``usdPerDay``.
    limit: str
    used: float


class WindowState(Struct, frozen=True, gc=False):
    """A limit, what is left of it, and the seconds until nothing in its window counts."""

    limit: int
    remaining: int
    reset: float


class Standing(Struct, frozen=True):
    """The limits that the headers of an answer tell; ``None`` for those that are not set."""

    requests: WindowState | None = None
    tokens: WindowState | None = None


class _Counts:
    """The counts of one day or month."""

    __slots__ = ("cost", "requests", "row", "tokens")

    def __init__(self) -> None:
        self.requests = 0
        self.tokens = 0
        self.cost = 0.0
        #: The row, until something is added.
        self.row: LimitCount | None = None

    def add(self, requests: int, tokens: int, cost: float) -> None:
        self.requests += requests
        self.tokens += tokens
        self.cost += cost
        self.row = None

    def as_row(self, client: str, period: str, start: int) -> LimitCount:
        """The row; the same object until something is added."""
        if self.row is None:
            self.row = LimitCount(client, period, start, self.requests, self.tokens, self.cost)
        return self.row


class Account:
    """What one client has used."""

    __slots__ = (
        "_day",
        "_days",
        "_month",
        "_months",
        "_today",
        "client",
        "in_flight",
        "name",
        "reserved",
        "window",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        #: The client as its latest request had it.
        self.client: Client | None = None
        self.window = SlidingWindow()
        #: Requests that were admitted and have not ended, and the tokens reserved for them.
        self.in_flight = 0
        self.reserved = 0
        self._days: dict[int, _Counts] = {}
        self._months: dict[int, _Counts] = {}
        self._today: Today | None = None
        self._day = self._month = _Counts()

    def at(self, today: Today) -> tuple[_Counts, _Counts]:
        """The counts of the day ``today`` and of its month."""
        if today is not self._today:
            self._today = today
            self._day = _counts_of(self._days, _number(today.day))
            self._month = _counts_of(self._months, _number(today.day.replace(day=1)))
        return self._day, self._month

    def is_idle(self, today: Today, now: float) -> bool:
        """Whether nothing in it counts at present."""
        self.window.forget(now)
        return not (
            self.in_flight
            or self.window.requests
            or _number(today.day) in self._days
            or _number(today.day.replace(day=1)) in self._months
        )

    def restore(self, row: LimitCount) -> None:
        """Add the counts of ``row``, unless enough days or months are known."""
        periods = self._days if row.period == DAY else self._months
        if row.start in periods or len(periods) < _MOST_PERIODS:
            counts = periods.setdefault(row.start, _Counts())
            counts.add(row.requests, row.tokens, row.cost)

    def rows(self) -> Iterator[LimitCount]:
        """The rows of all days and months that it knows."""
        for period, known in ((DAY, self._days), (MONTH, self._months)):
            for start, counts in known.items():
                if counts.requests or counts.tokens or counts.cost:
                    yield counts.as_row(self.name, period, start)


class ClientLimits:
    """The accounts of all clients that have limits or budgets, by the client's name.

    A client that is removed and made again under its name goes on with what it has used, and so
    does one whose token or limits change. All without a token are one client. ``is_unpriced``
    tells that a request for a model has no known cost; it is asked for clients with a budget, and
    their requests for such models are refused. ``None``: they are admitted.
    """

    def __init__(
        self, zone: tzinfo = UTC, is_unpriced: Callable[[str], bool] | None = None
    ) -> None:
        self.is_unpriced = is_unpriced
        #: Called with the name of a client whose account begins.
        self.began: Callable[[str], object] = _ignore
        self.days = LocalDays(zone)
        self._accounts: dict[str, Account] = {}
        #: When there are so many accounts, those are dropped of which nothing counts.
        self._most = MOST_ACCOUNTS
        #: The rows of each account, and the accounts that have changed since.
        self._rows: dict[str, tuple[LimitCount, ...]] = {}
        self._changed: set[Account] = set()

    def reservation(self, client: Client, now: float, wall: float) -> Reservation:
        """What a request of ``client`` takes; nothing yet."""
        name = client.name or ANONYMOUS
        account = self._accounts.get(name)
        if account is None:
            account = self._make(name, now, wall)
        account.client = client
        return Reservation(self, account, client)

    def used(self, client: Client, now: float, wall: float) -> Used:
        """What ``client`` has used of its limits and budgets."""
        account = self._accounts.get(client.name or ANONYMOUS)
        return Used() if account is None else self._used(account, now, wall)

    def has_account(self, name: str) -> bool:
        """Whether anything is counted for the client of this name."""
        return name in self._accounts

    def shares(self, now: float, wall: float) -> Iterator[LimitShare]:
        """The used parts of all limits of clients that have asked since the start."""
        for name, account in self._accounts.items():
            client = account.client
            if client is None:
                continue
            used = self._used(account, now, wall)
            for limit, most, taken in each_limit(client, used):
                if most is not None:
                    yield LimitShare(name, limit, taken / most if most else 1.0)

    def _used(self, account: Account, now: float, wall: float) -> Used:
        account.window.forget(now)
        day, month = account.at(self.days.at(wall))
        return Used(
            account.window.requests,
            account.window.tokens,
            day.requests,
            day.tokens + account.reserved,
            # Without the noise of many sums.
            round(day.cost, 9),
            round(month.cost, 9),
            account.in_flight,
        )

    def add_earlier(self, name: str, used: Used, wall: float) -> None:
        """Count also what a client had ``used`` today and this month when its account began."""
        account = self._accounts.get(name)
        if account is not None:
            day, month = account.at(self.days.at(wall))
            day.add(used.requests_day, used.tokens_day, used.usd_day)
            month.add(0, 0, used.usd_month)
            self.note_change(account)

    def rows(self) -> tuple[LimitCount, ...]:
        """All rows; unchanged ones are the same objects again."""
        for account in self._changed:
            self._rows[account.name] = tuple(account.rows())
        self._changed.clear()
        return tuple(chain.from_iterable(self._rows.values()))

    def note_change(self, account: Account) -> None:
        """The counts of ``account`` have changed."""
        self._changed.add(account)

    def restore(self, rows: Iterable[LimitCount]) -> None:
        """Take back what :meth:`rows` gave; counts of the same day or month are added up."""
        for row in sorted(rows, key=_start, reverse=True):
            account = self._accounts.get(row.client)
            if account is None:
                account = self._accounts[row.client] = Account(row.client)
            account.restore(row)
            self.note_change(account)

    def _make(self, name: str, now: float, wall: float) -> Account:
        if len(self._accounts) >= self._most:
            today = self.days.at(wall)
            for account in list(self._accounts.values()):
                if account.is_idle(today, now):
                    del self._accounts[account.name]
                    self._rows.pop(account.name, None)
                    self._changed.discard(account)
            self._most = max(MOST_ACCOUNTS, 2 * len(self._accounts))
        account = self._accounts[name] = Account(name)
        self.began(name)
        return account


class Reservation:
    """What one request takes of its client's account; see the module.

    Each method may be called at any time; what was settled or cancelled stays so.
    """

    __slots__ = (
        "_account",
        "_client",
        "_day",
        "_estimate",
        "_input",
        "_is_open",
        "_ledger",
        "_output",
        "_prompt",
        "_slot",
    )

    def __init__(self, ledger: ClientLimits, account: Account, client: Client) -> None:
        self._ledger = ledger
        self._account = account
        self._client = client
        #: Whether the request is admitted and in flight.
        self._is_open = False
        #: Where the request counts, until it is settled or cancelled, and where its prompt does.
        self._slot: Slot | None = None
        self._prompt: Slot | None = None
        self._day: _Counts | None = None
        #: Tokens that are reserved, and those that are counted in their place.
        self._estimate = 0
        self._input = 0
        self._output = 0

    def admit(self, now: float, wall: float) -> None:
        """Count the request. Raises :class:`ClientLimitReached`; then it does not count."""
        account, limits = self._account, self._client.limits
        window = account.window
        window.forget(now)
        today = self._ledger.days.at(wall)
        day, month = account.at(today)
        self._check_budget(day, month, today, wall)
        shortages = []
        if limits.concurrent is not None and account.in_flight >= limits.concurrent:
            shortages.append((_SOON, "concurrent"))
        if limits.rpm is not None and window.requests >= limits.rpm:
            shortages.append((window.requests_fit_after(now, limits.rpm), "rpm"))
        if limits.rpd is not None and day.requests >= limits.rpd:
            shortages.append((today.ends - wall, "rpd"))
        if shortages:
            # It must fit as a whole when the client asks again.
            raise self._reached(*max(shortages + self._token_shortages(1, now, wall)))
        self._slot, self._day = window.add(now, 1, 0), day
        day.add(1, 0, 0.0)
        self._ledger.note_change(account)
        account.in_flight += 1
        self._is_open = True

    def admit_part(self) -> None:
        """Count a part of an admitted request, only as one in flight.

        Raises :class:`ClientLimitReached`.
        """
        most = self._client.limits.concurrent
        if most is not None and self._account.in_flight >= most:
            raise self._reached(_SOON, "concurrent")
        self._account.in_flight += 1
        self._is_open = True

    def reserve(self, model: str, tokens: int, now: float, wall: float) -> None:
        """Reserve the estimated ``tokens`` of the prompt; ``model`` may be "".

        Raises :class:`ClientLimitReached`; then the request does not count either. Raises
        :class:`Forbidden` for a model whose cost is not known, if such are refused.
        """
        is_unpriced, budget = self._ledger.is_unpriced, self._client.budget
        if is_unpriced is not None and model and _has_money(budget) and is_unpriced(model):
            raise Forbidden(
                f"The price of the model {model!r} is not known, and this client has a budget in"
                " US dollars (budget.unpriced: refuse).",
                reason="model_not_allowed",
            )
        if self._slot is None or self._prompt is not None:
            return
        account = self._account
        account.window.forget(now)
        # A call that is about no model takes no tokens.
        shortages = self._token_shortages(tokens, now, wall) if model else []
        if shortages:
            self.cancel()
            raise self._reached(*max(shortages))
        self._estimate = tokens
        account.reserved += tokens
        self._prompt = account.window.add(now, 0, tokens)

    def _token_shortages(self, tokens: int, now: float, wall: float) -> list[tuple[float, str]]:
        """The limits under which ``tokens`` more do not fit, each with the seconds until they do.

        Of a request without an estimate it is supposed that it takes some.
        """
        account, limits = self._account, self._client.limits
        shortages = []
        if limits.tpm is not None:
            needed = max(1, min(tokens, limits.tpm))
            delay = account.window.tokens_fit_after(now, limits.tpm, needed)
            if delay > 0:
                shortages.append((delay, "tpm"))
        if limits.tpd is not None:
            today = self._ledger.days.at(wall)
            used = account.at(today)[0].tokens + account.reserved
            if used + max(1, min(tokens, limits.tpd)) > limits.tpd:
                shortages.append((today.ends - wall, "tpd"))
        return shortages

    def correct(self, input_tokens: int, output_tokens: int, now: float, wall: float) -> None:
        """Count the tokens that Gemini has reported so far, in place of the estimate."""
        if self._slot is None:
            return
        input_tokens = min(input_tokens, _MOST_TOKENS)
        output_tokens = min(output_tokens, _MOST_TOKENS)
        account = self._account
        window = account.window
        window.forget(now)
        account.reserved -= self._estimate
        more_input, more_output = input_tokens - self._input, output_tokens - self._output
        if self._prompt is not None:
            window.change(self._prompt, 0, more_input - self._estimate)
        elif more_input > 0:
            window.add(now, 0, more_input)
        self._estimate = 0
        if more_output > 0:
            window.add(now, 0, more_output)
        if more_input or more_output:
            account.at(self._ledger.days.at(wall))[0].add(0, more_input + more_output, 0.0)
            self._ledger.note_change(account)
        self._input, self._output = input_tokens, output_tokens

    def leave(self) -> None:
        """The answer is complete: the request is not in flight any more."""
        if self._is_open:
            self._is_open = False
            self._account.in_flight -= 1

    def settle(
        self, input_tokens: int, output_tokens: int, cost: float | None, now: float, wall: float
    ) -> None:
        """The request has ended; ``cost`` is ``None`` if it is not known."""
        self.leave()
        if self._slot is None:
            return
        self.correct(input_tokens, output_tokens, now, wall)
        self._slot = None
        if cost:
            for counts in self._account.at(self._ledger.days.at(wall)):
                counts.add(0, 0, cost)
            self._ledger.note_change(self._account)

    def cancel(self) -> None:
        """The request is not served: it counts against nothing."""
        self.leave()
        slot, day = self._slot, self._day
        if slot is None or day is None:
            return
        account = self._account
        account.reserved -= self._estimate
        if self._prompt is not None:
            account.window.change(self._prompt, 0, -self._estimate)
        account.window.change(slot, -1, 0)
        day.add(-1, 0, 0.0)
        self._ledger.note_change(account)
        self._slot, self._estimate = None, 0

    def standing(self, now: float, wall: float) -> Standing:
        """What the headers of an answer tell: of the minute, or where only it is limited, the day.

        The requests and tokens of the request itself are included.
        """
        limits, account = self._client.limits, self._account
        window = account.window
        window.forget(now)
        today = self._ledger.days.at(wall)
        day, _ = account.at(today)
        requests = tokens = None
        if limits.rpm is not None:
            requests = _state(limits.rpm, window.requests, window.requests_left_after(now))
        elif limits.rpd is not None:
            requests = _state(limits.rpd, day.requests, today.ends - wall)
        if limits.tpm is not None:
            tokens = _state(limits.tpm, window.tokens, window.tokens_left_after(now))
        elif limits.tpd is not None:
            tokens = _state(limits.tpd, day.tokens + account.reserved, today.ends - wall)
        return Standing(requests, tokens)

    def _check_budget(self, day: _Counts, month: _Counts, today: Today, wall: float) -> None:
        budget = self._client.budget
        if budget.usd_per_month is not None and month.cost >= budget.usd_per_month:
            raise self._spent(
                "usdPerMonth", budget.usd_per_month, today.next_month, today.month_ends - wall
            )
        if budget.usd_per_day is not None and day.cost >= budget.usd_per_day:
            raise self._spent("usdPerDay", budget.usd_per_day, today.next_day, today.ends - wall)

    def _reached(self, delay: float, limit: str) -> ClientLimitReached:
        value = getattr(self._client.limits, limit)
        return ClientLimitReached(
            f"{_subject(self._client)} reached a limit that this proxy sets for it, not one of"
            f" Google's: {limit} {value} ({_MEANINGS[limit]}). Try again in"
            f" {max(1, math.ceil(delay))} s.",
            limit=limit,
            retry_after=delay,
        )

    def _spent(self, budget: str, amount: float, begins: date, delay: float) -> BudgetSpent:
        return BudgetSpent(
            f"{_subject(self._client)} spent the budget that this proxy sets for it: {budget}"
            f" {amount:g} ({_MEANINGS[budget]}, as estimated). It begins anew on"
            f" {begins.isoformat()}.",
            limit=budget,
            retry_after=delay,
            should_retry=False,
        )


def each_limit(client: Client, used: Used) -> tuple[tuple[str, float | None, float], ...]:
    """All limits and budgets by their names in the settings: what is allowed, and what is used."""
    limits, budget = client.limits, client.budget
    return (
        ("rpm", limits.rpm, used.requests_minute),
        ("tpm", limits.tpm, used.tokens_minute),
        ("rpd", limits.rpd, used.requests_day),
        ("tpd", limits.tpd, used.tokens_day),
        ("concurrent", limits.concurrent, used.concurrent),
        ("usdPerDay", budget.usd_per_day, used.usd_day),
        ("usdPerMonth", budget.usd_per_month, used.usd_month),
    )


def _ignore(_name: str) -> None:
    """The default of :attr:`ClientLimits.began`."""


def _counts_of(periods: dict[int, _Counts], start: int) -> _Counts:
    """The counts of the period that begins at ``start``, which is used now."""
    counts = periods.pop(start, None) or _Counts()
    while len(periods) >= _MOST_PERIODS:
        del periods[next(iter(periods))]
    periods[start] = counts
    return counts


def _state(limit: int, used: int, reset: float) -> WindowState:
    return WindowState(limit, max(0, limit - used), reset)


def _has_money(budget: Budget) -> bool:
    return budget.usd_per_day is not None or budget.usd_per_month is not None


def _subject(client: Client) -> str:
    if client.name is None:
        return "The requests without a token"
    return f"The client {client.name!r}"


def _number(day: date) -> int:
    return (day - _EPOCH).days


def _start(row: LimitCount) -> int:
    return row.start
