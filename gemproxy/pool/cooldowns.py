"""Which project may not use which model, until when and why; and the pool's calendar.

Google counts quota per project and model, so a cooldown is of a project and a model: it concerns
all keys of the project, and no other model. Denials (Google does not let a project, or one key, use
a model) have the same form.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from gemproxy.core.local_days import begin_of_day, local_date

ALL_MODELS = "*"
"""In place of a model's name: every model of the project."""
FORBIDDEN = "forbidden"
"""Reason of a :class:`Cooldown` of one key alone, whose ``project`` is then the key's id."""

#: The longest cooldowns, in seconds: of a quota per minute, and of a quota per day or a denial.
#: Neither the upstream, a clock nor a stored state can make one longer. A day on which daylight
#: saving ends has 25 hours.
LONGEST_MINUTE = 600.0
LONGEST_DAY = 25 * 3600.0

_PACIFIC = ZoneInfo("America/Los_Angeles")


def next_pacific_midnight(now: float) -> float:
    """The next 00:00 in Los Angeles after ``now``, both in epoch seconds.

    Then Google's daily quotas begin again (ai.google.dev, "Rate limits"). Days on which daylight
    saving begins or ends have 23 or 25 hours.
    """
    return begin_of_day(local_date(now, _PACIFIC) + timedelta(days=1), _PACIFIC)


@dataclass(frozen=True, slots=True)
class Cooldown:
    """A time in which a project may not use a model.

    ``reason``: ``quota_minute``, ``quota_day``, ``denied``, or :data:`FORBIDDEN`. ``until`` is
    monotonic within the pool, and in epoch seconds outside it.
    """

    project: str
    model: str
    until: float
    reason: str

    @property
    def longest(self) -> float:
        """How long a cooldown for this reason may last, in seconds."""
        return LONGEST_MINUTE if self.reason == "quota_minute" else LONGEST_DAY


class _Entry:
    """A cooldown, its begin (``None``: in an earlier process), and its copy for the store."""

    __slots__ = ("begun", "cooldown", "epoch_offset", "stored")

    def __init__(self, cooldown: Cooldown, begun: float | None) -> None:
        self.cooldown = cooldown
        self.begun = begun
        self.stored: Cooldown | None = None
        self.epoch_offset = 0.0

    def stored_with(self, epoch_offset: float) -> Cooldown:
        """The cooldown in epoch seconds; the same object until it changes, so it is stored once."""
        if self.stored is None or self.epoch_offset != epoch_offset:
            kept = self.cooldown
            self.stored = replace(kept, until=kept.until + epoch_offset) if epoch_offset else kept
            self.epoch_offset = epoch_offset
        return self.stored


class Cooldowns:
    """One table of cooldowns. Times are monotonic.

    At most ``capacity`` are kept, since clients may invent model names: then all cooldowns of one
    model are dropped, of the one that has had no new cooldown for the longest time.
    """

    def __init__(self, capacity: int = 200_000) -> None:
        self._capacity = capacity
        self._by_model: OrderedDict[str, dict[str, _Entry]] = OrderedDict()
        self._ends: list[tuple[float, str, str]] = []  # heap; some may have been replaced since
        #: How many there are; some may have ended.
        self.size = 0

    def add(self, cooldown: Cooldown, now: float, *, restored: bool = False) -> Cooldown | None:
        """Begin a cooldown, unless the present one lasts as long. Returns it if it has begun.

        It lasts no longer than its reason allows. ``restored``: it began in an earlier run.
        """
        self._forget_past(now)
        if not cooldown.until <= now + cooldown.longest:
            cooldown = replace(cooldown, until=now + cooldown.longest)
        projects = self._by_model.setdefault(cooldown.model, {})
        entry = projects.get(cooldown.project)
        present = entry.cooldown if entry is not None else None
        if cooldown.until <= now or (present and present.until >= cooldown.until):
            if not projects:
                del self._by_model[cooldown.model]
            return None
        projects[cooldown.project] = _Entry(cooldown, None if restored else now)
        self._by_model.move_to_end(cooldown.model)
        heapq.heappush(self._ends, (cooldown.until, cooldown.model, cooldown.project))
        self.size += present is None
        self._make_room()
        return cooldown

    def may_find(self, project: str, model: str) -> bool:
        """Whether there is a cooldown for :meth:`find`, which may have ended."""
        models = self._by_model
        return (model in models and project in models[model]) or (
            ALL_MODELS in models and project in models[ALL_MODELS]
        )

    def find(self, project: str, model: str, now: float) -> Cooldown | None:
        """The cooldown of ``project`` for ``model``; of two the one that ends later."""
        own = self._present(project, model, now)
        if ALL_MODELS not in self._by_model:
            return own
        shared = self._present(project, ALL_MODELS, now)
        if own is None or shared is None:
            return own or shared
        return own if own.until >= shared.until else shared

    def concern(self, model: str) -> bool:
        """Whether a cooldown of any project may be for ``model``."""
        return model in self._by_model

    def of_project(self, project: str, now: float) -> list[Cooldown]:
        """The cooldowns of one project, by model."""
        found = (self._present(project, model, now) for model in sorted(self._by_model))
        return [cooldown for cooldown in found if cooldown is not None]

    def forget_project(self, project: str) -> None:
        """End every cooldown of one project."""
        for model in list(self._by_model):
            self._remove(model, project)

    def all(self, now: float) -> Iterator[Cooldown]:
        """Every cooldown that has not ended."""
        for projects in self._by_model.values():
            yield from (entry.cooldown for entry in projects.values() if entry.cooldown.until > now)

    def stored(self, now: float, epoch_offset: float) -> Iterator[Cooldown]:
        """As :meth:`all`, in epoch seconds; the same objects as before where nothing changed."""
        for projects in self._by_model.values():
            for entry in projects.values():
                if entry.cooldown.until > now:
                    yield entry.stored_with(epoch_offset)

    def end_days(self, now: float, next_midnight: Callable[[float], float]) -> None:
        """The wall clock was set: end the cooldowns of daily quotas at the right midnight.

        ``next_midnight`` gives the first one after a moment. When a cooldown of an earlier run
        began is not known, so it is never made longer.
        """
        entries = [entry for projects in self._by_model.values() for entry in projects.values()]
        for entry in entries:
            kept = entry.cooldown
            if kept.reason != "quota_day":
                continue
            if entry.begun is None:
                until = min(kept.until, next_midnight(now))
            else:
                until = next_midnight(entry.begun)
            if until <= now:
                self._remove(kept.model, kept.project)
            elif until != kept.until:
                entry.cooldown, entry.stored = replace(kept, until=until), None
                heapq.heappush(self._ends, (until, kept.model, kept.project))

    def _present(self, project: str, model: str, now: float) -> Cooldown | None:
        projects = self._by_model.get(model)
        if projects is None:
            return None
        entry = projects.get(project)
        return entry.cooldown if entry is not None and entry.cooldown.until > now else None

    def _forget_past(self, now: float) -> None:
        while self._ends and self._ends[0][0] <= now:
            until, model, project = heapq.heappop(self._ends)
            present = self._by_model.get(model, {}).get(project)
            if present is not None and present.cooldown.until <= until:
                self._remove(model, project)

    def _remove(self, model: str, project: str) -> None:
        projects = self._by_model.get(model, {})
        if projects.pop(project, None) is not None:
            self.size -= 1
            if not projects:
                del self._by_model[model]

    def _make_room(self) -> None:
        while self.size > self._capacity and len(self._by_model) > 1:
            _, dropped = self._by_model.popitem(last=False)
            self.size -= len(dropped)


class Calendar:
    """Relates the pool's monotonic time to the calendar.

    The pool reads no clock. ``KeyPool.set_wall_clock`` gives it the time of the wall clock, at the
    start and whenever that clock was set; everything else is measured in monotonic seconds.
    ``epoch_offset`` added to a monotonic time gives epoch seconds.
    """

    __slots__ = ("epoch_offset",)

    def __init__(self) -> None:
        self.epoch_offset = 0.0

    def epoch(self, moment: float) -> float:
        """A monotonic time in epoch seconds."""
        return moment + self.epoch_offset

    def date(self, moment: float) -> datetime:
        """A monotonic time in UTC; where a clock is set too far off, the last that there is."""
        try:
            return datetime.fromtimestamp(self.epoch(moment), UTC)
        except (ValueError, OverflowError, OSError):
            return datetime.max.replace(tzinfo=UTC)

    def optional_date(self, moment: float | None) -> datetime | None:
        """As :meth:`date`; ``None`` stays."""
        return None if moment is None else self.date(moment)

    def monotonic(self, epoch: float) -> float:
        """An epoch time as monotonic time."""
        return epoch - self.epoch_offset

    def next_midnight(self, now: float) -> float:
        """When the next day begins in Los Angeles; at most 25 hours after ``now``."""
        try:
            midnight = self.monotonic(next_pacific_midnight(self.epoch(now)))
        except (ValueError, OverflowError, OSError):
            # The clock is set to a year that datetime cannot represent.
            return now + LONGEST_DAY
        return min(midnight, now + LONGEST_DAY)
