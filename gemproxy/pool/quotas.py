"""The quotas of all projects that are known: learned from 429s, and the configured limits of keys.

:class:`LearnedQuotas` has a :class:`~gemproxy.pool.quota_ledger.QuotaLedger` for each project and
model for which Google has named a quota. Nearly always there is none, or none for the project and
model of a request: that costs one test or two look-ups. A model may be counted under another name
than the one that requests have (an alias of Google's), and some quotas are for all models of a
project; so a request may be counted in two ledgers.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator
from datetime import datetime
from itertools import islice
from operator import itemgetter

from msgspec import Struct

from gemproxy.pool.cooldowns import ALL_MODELS, Calendar
from gemproxy.pool.key import NO_MODEL
from gemproxy.pool.limits import Shortage
from gemproxy.pool.pace import exhausted_at
from gemproxy.pool.quota_ledger import (
    WINDOW,
    ExceededQuota,
    LearnedQuota,
    QuotaLedger,
    QuotaSnapshot,
    QuotaUse,
    is_of_tokens,
    tightest,
)
from gemproxy.pool.state import KeyState

#: Names of requests for one model of Google's; there are two or three.
_MOST_NAMES = 16
#: More than any prompt has, even if estimates are far too low.
_MANY_TOKENS = 20_000_000
#: Ledgers that one call looks at.
_MOST_CHECKED = 500

_Ledgers = tuple[QuotaLedger, ...]


class QuotaStatus(Struct, frozen=True):
    """A known quota (schema ``Quota`` of the admin API).

    ``model`` is ``*`` if it is for all models together. ``ends`` is when the present use does not
    count any more: the end of the Pacific day, or 60 seconds after the latest request, ``null`` if
    nothing is used. ``exhausted_at`` is when it is used up at the pace of the last hour, ``null``
    if that is not before the window ends. ``key`` is the key that a configured limit is for.
    """

    project: str
    model: str
    dimension: str
    limit: int
    source: str
    used: int
    remaining: int
    ends: datetime | None
    exhausted_at: datetime | None
    key: str | None = None
    quota_id: str | None = None


class LearnedQuotas:
    """The learned quotas, at most ``capacity`` ledgers; see the module. Times are monotonic."""

    def __init__(self, calendar: Calendar, capacity: int = 10_000) -> None:
        self._calendar = calendar
        self._capacity = capacity
        #: By project and Google's name of the model; the one that was seen last is the last.
        self._ledgers: OrderedDict[tuple[str, str], QuotaLedger] = OrderedDict()
        #: By project.
        self._by_project: dict[str, list[QuotaLedger]] = {}
        #: By the model that is asked for, and the project.
        self._by_model: dict[str, dict[str, _Ledgers]] = {}
        #: How many ledgers there are.
        self.size = 0

    def find(self, project: str, model: str) -> _Ledgers:
        """The ledgers in which a request is counted; most have none."""
        by_model = self._by_model
        own = by_model[model].get(project, ()) if model in by_model else ()
        if ALL_MODELS not in by_model or model == NO_MODEL:
            return own
        return own + by_model[ALL_MODELS].get(project, ())

    def may_limit(self, project: str, model: str) -> bool:
        """Whether a request, however long its prompt, may have to wait for a quota."""
        for ledger in self.find(project, model):
            if ledger.room <= 0 or ledger.room_tokens < _MANY_TOKENS:
                return True
        return False

    def concern(self, model: str) -> bool:
        """Whether a quota of any project may be for ``model``."""
        return model in self._by_model or ALL_MODELS in self._by_model

    def shortage(self, project: str, model: str, now: float, tokens: int = 0) -> Shortage | None:
        """The quota for which a request must wait longest, if there is one."""
        found: Shortage | None = None
        for ledger in self.find(project, model):
            short = ledger.shortage(now, tokens)
            if short is not None and (found is None or _rank(short) > _rank(found)):
                found = short
        return found

    def reserve(self, project: str, model: str, now: float, tokens: int) -> tuple[QuotaUse, ...]:
        """Count a request that is about to be sent."""
        return tuple(ledger.reserve(now, tokens) for ledger in self.find(project, model))

    def learn(
        self,
        project: str,
        model: str,
        exceeded: Iterable[ExceededQuota],
        now: float,
        *,
        delay: float = 0.0,
        uses: Iterable[QuotaUse] = (),
    ) -> None:
        """Learn from a 429 for ``model``; ``uses`` are those of the refused request."""
        by_ledger = {use.ledger: use for use in uses}
        for each in tightest(exceeded):
            ledger = self._ledger(project, each.model or model, now)
            if ledger.model != ALL_MODELS and len(ledger.names) < _MOST_NAMES:
                self._index(ledger, model)
            use = by_ledger.get(ledger)
            tokens = use.estimate if use is not None else 0
            ledger.learn(each, now, delay=delay, tokens=tokens, use=use)

    def forget_project(self, project: str) -> None:
        """Forget what is known of one project."""
        for ledger in tuple(self._by_project.get(project, ())):
            self._remove(ledger)

    def move(self, renamed: Iterable[tuple[str, str]], left: Collection[str]) -> None:
        """Projects have other names now, ``renamed`` from old to new; those ``left`` are gone."""
        names = dict(renamed)
        moved = [ledger for name in names for ledger in self._by_project.get(name, ())]
        for ledger in moved:
            self._remove(ledger)
        for project in left:
            self.forget_project(project)
        for ledger in moved:
            ledger.rename(names[ledger.project])
            self._add(ledger)

    def wall_clock_set(self, now: float) -> None:
        """The wall clock was set: days end at another time."""
        for ledger in self._ledgers.values():
            ledger.wall_clock_set(now)

    def used_up_today(self, now: float) -> set[str]:
        """The projects that have a daily quota that is used up."""
        return {each.project for each in self._ledgers.values() if each.is_used_up_today(now)}

    def each(self, now: float) -> Iterator[QuotaStatus]:
        """Every learned quota. Others may be learned and forgotten in between."""
        for ledger in list(self._ledgers.values()):
            for quota in ledger.present(now):
                yield self._status(ledger, quota, now)

    def ending_today(self, now: float) -> list[QuotaStatus]:
        """Daily quotas that will be used up before the day ends, the first one first.

        Of many ledgers only those are looked at that were seen last.
        """
        ending: list[tuple[datetime, QuotaStatus]] = []
        for ledger in islice(reversed(self._ledgers.values()), _MOST_CHECKED):
            for quota in [each for each in ledger.present(now) if each.is_daily]:
                status = self._status(ledger, quota, now)
                if status.exhausted_at is not None and status.remaining > 0:
                    ending.append((status.exhausted_at, status))
        return [status for _, status in sorted(ending, key=itemgetter(0))]

    # -- the state -------------------------------------------------------------------------------

    def prepare(self, now: float) -> Iterator[None]:
        """Do the work of :meth:`stored` in advance, one ledger at a time."""
        for ledger in list(self._ledgers.values()):
            if ledger.is_forgotten(now):
                self._remove(ledger)
            else:
                ledger.snapshot(now)
            yield

    def stored(self, now: float) -> tuple[QuotaSnapshot, ...]:
        """The ledgers in epoch seconds; the same objects as before where nothing changed."""
        return tuple(ledger.snapshot(now) for ledger in self._ledgers.values())

    def restore(self, kept: Iterable[QuotaSnapshot], shift: float, now: float) -> None:
        """Restore :meth:`stored`; ``shift`` added to its times gives the pool's."""
        for row in kept:
            ledger = QuotaLedger(row.project, row.model, self._calendar, now)
            ledger.restore(row, shift, now)
            if not ledger.is_forgotten(now) and (row.project, row.model) not in self._ledgers:
                self._add(ledger)

    # -- small ones ------------------------------------------------------------------------------

    def _ledger(self, project: str, model: str, now: float) -> QuotaLedger:
        ledger = self._ledgers.get((project, model))
        if ledger is None:
            ledger = QuotaLedger(project, model, self._calendar, now)
            self._add(ledger)
        else:
            self._ledgers.move_to_end((project, model))
        return ledger

    def _add(self, ledger: QuotaLedger) -> None:
        if (replaced := self._ledgers.get((ledger.project, ledger.model))) is not None:
            self._remove(replaced)
        self._ledgers[ledger.project, ledger.model] = ledger
        self._by_project.setdefault(ledger.project, []).append(ledger)
        for name in (ledger.model, *ledger.names):
            self._index(ledger, name)
        while len(self._ledgers) > self._capacity:
            self._remove(next(iter(self._ledgers.values())))
        self.size = len(self._ledgers)

    def _index(self, ledger: QuotaLedger, name: str) -> None:
        ledger.names[name] = None
        projects = self._by_model.setdefault(name, {})
        present = projects.get(ledger.project, ())
        if ledger not in present:
            projects[ledger.project] = (*present, ledger)

    def _remove(self, ledger: QuotaLedger) -> None:
        if self._ledgers.get((ledger.project, ledger.model)) is not ledger:
            return
        del self._ledgers[ledger.project, ledger.model]
        siblings = self._by_project[ledger.project]
        siblings.remove(ledger)
        if not siblings:
            del self._by_project[ledger.project]
        for name in ledger.names:
            projects = self._by_model.get(name, {})
            left = tuple(each for each in projects.get(ledger.project, ()) if each is not ledger)
            if left:
                projects[ledger.project] = left
            else:
                projects.pop(ledger.project, None)
                if not projects:
                    self._by_model.pop(name, None)
        self.size = len(self._ledgers)

    def _status(self, ledger: QuotaLedger, quota: LearnedQuota, now: float) -> QuotaStatus:
        used = ledger.used(quota, now)
        ends = ledger.window_ends(quota)
        rate = ledger.pace.rate(now, tokens=is_of_tokens(quota.dimension))
        horizon = ends if quota.is_daily and ends is not None else now + WINDOW
        exhausted = exhausted_at(quota.limit, used, rate, now, horizon) if quota.limit else None
        return QuotaStatus(
            ledger.project,
            ledger.model,
            quota.dimension,
            quota.limit,
            "learned",
            used,
            max(0, quota.limit - used),
            self._calendar.optional_date(ends),
            self._calendar.optional_date(exhausted),
            quota_id=quota.id or None,
        )


def configured_quotas(key: KeyState, calendar: Calendar, now: float) -> Iterator[QuotaStatus]:
    """The configured limits of a key. They are for all of its models together."""
    ledger = key.ledger
    if ledger is None:
        return
    for use in ledger.status(now):
        exhausted = exhausted_at(use.limit, use.used, use.rate, now, use.horizon)
        yield QuotaStatus(
            key.key.project,
            ALL_MODELS,
            use.dimension,
            use.limit,
            "configured",
            use.used,
            max(0, use.limit - use.used),
            calendar.optional_date(use.ends),
            calendar.optional_date(exhausted),
            key=key.key.name,
        )


def _rank(shortage: Shortage) -> tuple[bool, float]:
    """A sort key: what concerns all requests goes before what concerns one."""
    return not shortage.momentary, shortage.until
