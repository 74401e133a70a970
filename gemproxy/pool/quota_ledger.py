"""What one project has used of one model, and the quotas that Google has named for it.

Google refuses a request with 429 and names the quota that was exceeded and its value
(:class:`ExceededQuota`). From then on the requests are counted here in the same windows, and one
that Google would refuse is not sent.

*The window of a minute.* A request is counted here when it is sent and by Google when it arrives.
So a use counts for :data:`GUARD` seconds longer here than there, and variations of the latency do
no harm. Uses are counted in slices of :data:`SLICE` seconds, so that a large quota costs no more
memory than a small one.

*Tokens* are those of the input, cached ones included, which is the cautious assumption. They are
known when the answer has come. Until then the estimate is counted, times the ratio that actual
tokens had to estimates so far. For what estimates may be wrong by, room is left: a multiple of the
standard deviation of that ratio, for the requests without an answer and the next one together.

*Use that is not known here*, of before the first 429 or by others who share the project, shows in
a 429 that comes before the quota is reached by this count. The difference is then counted as used,
spread over the last minute.

*Probes.* A value may be too low by now. So at times a request is sent that exceeds it, a *probe*.
Only if Google certainly counts more requests than the value says, and answers nevertheless, is the
value wrong and dropped; the next 429 names the new one. A refused probe confirms the value; the
next probe is sent twice as long after it, but not later than after :data:`BETWEEN_PROBES` requests.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import inf, sqrt

from gemproxy.pool.cooldowns import Calendar
from gemproxy.pool.limits import Shortage
from gemproxy.pool.pace import Pace

RPM, TPM, RPD, TPD = "rpm", "tpm", "rpd", "tpd"
DIMENSIONS = (RPM, TPM, RPD, TPD)
"""Requests and input tokens, a minute and a Pacific day."""

WINDOW = 60.0
#: Seconds; what the latency between this program and Google's counting may vary by.
GUARD = 1.0
SLICE = 0.25
#: Requests after which a probe is sent again, for each probe that may be under way at a time.
BETWEEN_PROBES = 300
#: Seconds after which a quota that was not seen is forgotten.
REMEMBERED_MINUTE = 24 * 3600.0
REMEMBERED_DAY = 3 * 24 * 3600.0
#: A larger value is a mistake.
LARGEST = 10**12

_DAILY = frozenset({RPD, TPD})
_OF_TOKENS = frozenset({TPM, TPD})
_DAY = 24 * 3600.0
#: Standard deviations of the estimates that are left as room.
_DEVIATIONS = 2.5
#: The assumed ratio of actual to estimated tokens, its variance, and how much evidence that is.
_MEAN, _VARIANCE, _EVIDENCE = 1.0, 0.1, 5
#: Answers that the ratio follows.
_REMEMBERED_ANSWERS = 50
#: Steps in which use of others is assumed to have come.
_STEPS = 60
#: Seconds that stored uses are summed over.
_STORED_SLICE = 5.0
_MOST_DOUBLINGS = 12


@dataclass(frozen=True, slots=True)
class ExceededQuota:
    """A quota that a 429 names; ``limit`` 0: the project has none for the model.

    ``model`` is the name by which the upstream counts, empty if it is the one that was asked for,
    and ``*`` for a quota of all models together.
    """

    dimension: str
    limit: int
    id: str = ""
    model: str = ""


@dataclass(frozen=True, slots=True)
class LearnedLimit:
    """A learned quota in the state. ``seen`` is when a 429 named it last."""

    dimension: str
    limit: int
    id: str
    seen: float
    #: Probes that were refused in succession, and requests since the last 429.
    confirmed: int = 0
    since: int = 0


@dataclass(frozen=True, slots=True)
class QuotaSnapshot:
    """A ledger in the state: the quotas, today's use, and the uses of a minute.

    ``names`` are the models that are counted in it, as requests name them. ``uses`` has time,
    requests and tokens.
    """

    project: str
    model: str
    names: tuple[str, ...]
    limits: tuple[LearnedLimit, ...]
    seen: float
    requests_today: int = 0
    tokens_today: int = 0
    served_today: int = 0
    day_ends: float = 0.0
    uses: tuple[tuple[float, int, int], ...] = ()


class _Slice:
    """The uses of a short time. ``in_flight`` is the sum of the squares of their estimates."""

    __slots__ = (
        "counts",
        "first",
        "in_flight",
        "latest",
        "requests",
        "served",
        "served_tokens",
        "tokens",
    )

    def __init__(self, time: float, requests: int = 0, tokens: int = 0) -> None:
        self.first = self.latest = time
        self.requests = requests
        self.tokens = tokens
        self.served = 0
        self.served_tokens = 0
        self.in_flight = 0
        #: Whether it is in the window.
        self.counts = True


class LearnedQuota:
    """One quota. ``outstanding`` are the probes without an answer.

    ``since_total`` is how many requests the ledger had counted when a 429 named the quota.
    """

    __slots__ = ("confirmed", "dimension", "id", "limit", "outstanding", "seen", "since_total")

    def __init__(self, dimension: str, limit: int, quota_id: str, seen: float) -> None:
        self.dimension = dimension
        self.limit = limit
        self.id = quota_id
        self.seen = seen
        self.confirmed = 0
        self.since_total = 0
        self.outstanding = 0

    @property
    def is_daily(self) -> bool:
        """Whether it is counted by day."""
        return self.dimension in _DAILY

    @property
    def forgotten_at(self) -> float:
        """When it is forgotten, unless a 429 names it before."""
        return self.seen + (REMEMBERED_DAY if self.is_daily else REMEMBERED_MINUTE)


class QuotaUse:
    """One request in a ledger, until its answer is complete."""

    __slots__ = ("accepted", "day_ends", "estimate", "ledger", "part", "probes", "sent", "tokens")

    def __init__(
        self,
        ledger: QuotaLedger,
        part: _Slice,
        sent: float,
        estimate: int,
        tokens: int,
        day_ends: float,
        probes: tuple[LearnedQuota, ...],
    ) -> None:
        self.ledger = ledger
        self.part = part
        self.sent = sent
        self.estimate = estimate
        #: What is counted: the corrected estimate.
        self.tokens = tokens
        self.day_ends = day_ends
        #: The quotas that the request exceeds.
        self.probes = probes
        self.accepted = False


class QuotaLedger:
    """See the module. Times are monotonic; ``calendar`` gives the end of a Pacific day."""

    __slots__ = (
        "_calendar",
        "_day_ends",
        "_forgets_at",
        "_in_flight",
        "_mean",
        "_requests",
        "_samples",
        "_served_today",
        "_slices",
        "_stored",
        "_today",
        "_tokens",
        "_tokens_today",
        "_total",
        "_upper",
        "_variance",
        "marked",
        "model",
        "names",
        "pace",
        "project",
        "quotas",
        "room",
        "room_tokens",
        "seen",
    )

    def __init__(self, project: str, model: str, calendar: Calendar, now: float) -> None:
        self.project = project
        #: The model as the upstream counts it; ``*``: all models together.
        self.model = model
        #: The models that are counted here, as requests name them; an ordered set.
        self.names: dict[str, None] = {}
        self.quotas: dict[str, LearnedQuota] = {}
        #: When a 429 named a quota last.
        self.seen = now
        self.pace = Pace(now)
        #: Whether keys were marked ineligible because of a quota; for the scheduler.
        self.marked = False
        self._calendar = calendar
        self._slices: deque[_Slice] = deque()
        self._requests = self._tokens = 0
        self._in_flight = 0
        self._today = self._tokens_today = self._served_today = 0
        self._day_ends = calendar.next_midnight(now)
        self._mean, self._variance, self._samples = _MEAN, _VARIANCE, _EVIDENCE
        #: All requests that were counted here.
        self._total = 0
        #: So many requests, and so many tokens at ``_upper`` for each estimated one, fit for sure
        #: and need no look at the quotas. Less than what is left, or nothing after a change.
        self.room = self.room_tokens = 0
        self._upper = 0.0
        #: When the next quota is forgotten.
        self._forgets_at = inf
        self._stored: tuple[float, QuotaSnapshot] | None = None

    # -- before a request ------------------------------------------------------------------------

    def shortage(self, now: float, tokens: int = 0) -> Shortage | None:
        """The quota for which a request of about ``tokens`` tokens must wait, if there is one."""
        if self.room > 0 and tokens * self._upper <= self.room_tokens:
            return None
        self._forget(now)
        until = momentary = now
        for_the_day = False
        for quota in self.quotas.values():
            ends = self._full_until(quota, now, 0)
            if ends > now:
                if not self._may_probe(quota, now) and ends > until:
                    until, for_the_day = ends, quota.is_daily
            elif tokens and quota.dimension in _OF_TOKENS:
                ends = self._full_until(quota, now, tokens)
                if ends > momentary and not self._may_probe(quota, now):
                    momentary = ends
        if until > now:
            return Shortage(until, for_the_day)
        if momentary > now:
            return Shortage(momentary, momentary=True)
        self._measure_room()
        return None

    def reserve(self, now: float, tokens: int) -> QuotaUse:
        """Count a request that is about to be sent."""
        part = self._part(now)
        self._stored = None
        self._total += 1
        probes: tuple[LearnedQuota, ...] = ()
        if self.room > 0 and tokens * self._upper <= self.room_tokens:
            self.room -= 1
            self.room_tokens -= int(tokens * self._upper)
        else:
            self.room = 0
            for quota in self.quotas.values():
                if self._full_until(quota, now, tokens) > now:
                    quota.outstanding += 1
                    probes += (quota,)
        reserved = round(tokens * self._mean)
        part.requests += 1
        part.tokens += reserved
        part.in_flight += tokens * tokens
        self._requests += 1
        self._tokens += reserved
        self._in_flight += tokens * tokens
        self._today += 1
        self._tokens_today += reserved
        self.pace.add(now, 1, reserved)
        return QuotaUse(self, part, now, tokens, reserved, self._day_ends, probes)

    # -- after it --------------------------------------------------------------------------------

    def accept(self, use: QuotaUse, now: float) -> None:
        """Google has begun to answer, so it has counted the request."""
        if use.accepted:
            return
        use.accepted = True
        self._forget(now)
        if use.part.counts:
            use.part.served += 1
        if use.day_ends == self._day_ends:
            self._served_today += 1
        self._end_probes(use, answered=True, of_tokens=False)

    def correct(self, use: QuotaUse, tokens: int, now: float) -> None:
        """The request had ``tokens`` input tokens."""
        self._forget(now)
        if use.estimate > 0 and tokens > 0:
            self._learn_ratio(tokens / use.estimate)
        difference = tokens - use.tokens
        self._add_tokens(use, difference)
        if difference > 0:
            self.room_tokens -= difference
        self.pace.add(now, 0, difference)
        use.tokens = tokens
        if use.part.counts:
            use.part.served_tokens += tokens
        self._end_probes(use, answered=True, of_tokens=True)

    def refuse(self, use: QuotaUse, now: float) -> None:
        """Google refused the request with 429, so it does not count."""
        self._forget(now)
        self._add_tokens(use, -use.tokens)
        if use.part.counts:
            use.part.requests -= 1
            self._requests -= 1
        if use.day_ends == self._day_ends:
            self._today -= 1
        self.pace.add(now, -1, -use.tokens)

    def end(self, use: QuotaUse, now: float) -> None:
        """Nothing more is learned from the request."""
        self._forget(now)
        self._stored = None
        if use.part.counts:
            squared = use.estimate * use.estimate
            use.part.in_flight -= squared
            self._in_flight -= squared
        self._end_probes(use, answered=False, of_tokens=True)
        self._end_probes(use, answered=False, of_tokens=False)

    def learn(
        self,
        exceeded: ExceededQuota,
        now: float,
        *,
        delay: float = 0.0,
        tokens: int = 0,
        use: QuotaUse | None = None,
    ) -> None:
        """Take over the value of a 429 for a request of about ``tokens`` tokens.

        ``delay`` is in how many seconds Google lets the next request pass. ``use`` is the refused
        one, which was taken back by :meth:`refuse`.
        """
        self._forget(now)
        self._stored = None
        self.seen = now
        known = self.quotas.get(exceeded.dimension)
        if known is None or known.limit != exceeded.limit:
            known = LearnedQuota(exceeded.dimension, exceeded.limit, exceeded.id, now)
            self.quotas[exceeded.dimension] = known
        elif use is not None and known in use.probes:
            known.confirmed = min(known.confirmed + 1, _MOST_DOUBLINGS)
        known.seen, known.since_total = now, self._total
        self._changed()
        self._assume(known, now, delay, tokens)

    # -- the clock, the state --------------------------------------------------------------------

    def rename(self, project: str) -> None:
        """The project has another name now."""
        self.project = project
        self._stored = None

    def wall_clock_set(self, now: float) -> None:
        """The wall clock was set: the day ends at another time, the counts stay."""
        self._forget(now)
        self._day_ends = self._calendar.next_midnight(now)
        self._stored = None

    def snapshot(self, now: float) -> QuotaSnapshot:
        """The ledger in epoch seconds; the same object until it changes."""
        offset = self._calendar.epoch_offset
        # Of what is forgotten since, restore() decides by the time.
        if self._stored is None or self._stored[0] != offset:
            self._forget(now)
            limits = tuple(
                LearnedLimit(
                    q.dimension, q.limit, q.id, q.seen + offset, q.confirmed, self._since(q)
                )
                for q in self.quotas.values()
            )
            row = QuotaSnapshot(
                self.project,
                self.model,
                tuple(self.names),
                limits,
                self.seen + offset,
                self._today,
                self._tokens_today,
                self._served_today,
                self._day_ends + offset,
                tuple((time + offset, n, tokens) for time, n, tokens in self._stored_uses()),
            )
            self._stored = (offset, row)
        return self._stored[1]

    def restore(self, kept: QuotaSnapshot, shift: float, now: float) -> None:
        """Restore a :meth:`snapshot`; ``shift`` added to its times gives the pool's.

        No time is later than ``now`` allows, whatever the clock said then.
        """
        self.names = dict.fromkeys(kept.names)
        self.seen = min(kept.seen + shift, now)
        for limit in kept.limits:
            if limit.dimension in DIMENSIONS and 0 <= limit.limit <= LARGEST:
                quota = LearnedQuota(
                    limit.dimension, limit.limit, limit.id, min(limit.seen + shift, now)
                )
                quota.confirmed = min(limit.confirmed, _MOST_DOUBLINGS)
                quota.since_total = -limit.since
                self.quotas[limit.dimension] = quota
        uses = sorted((min(time + shift, now), n, tokens) for time, n, tokens in kept.uses)
        self._slices = deque(_Slice(*use) for use in uses)
        self._requests = sum(part.requests for part in self._slices)
        self._tokens = sum(part.tokens for part in self._slices)
        self._today, self._tokens_today = kept.requests_today, kept.tokens_today
        self._served_today = kept.served_today
        self._day_ends = min(kept.day_ends + shift, self._calendar.next_midnight(now))
        self._changed()
        self._forget(now)

    # -- what is shown ---------------------------------------------------------------------------

    def present(self, now: float) -> list[LearnedQuota]:
        """The quotas that are not forgotten."""
        self._forget(now)
        return list(self.quotas.values())

    def used(self, quota: LearnedQuota, now: float) -> int:
        """How much of ``quota`` is used in the present window."""
        self._forget(now)
        if quota.is_daily:
            return self._tokens_today if quota.dimension in _OF_TOKENS else self._today
        return self._tokens if quota.dimension in _OF_TOKENS else self._requests

    def is_used_up_today(self, now: float) -> bool:
        """Whether a daily quota is used up."""
        if now >= self._day_ends:
            return False
        requests, tokens = self.quotas.get(RPD), self.quotas.get(TPD)
        return (requests is not None and 0 < requests.limit <= self._today) or (
            tokens is not None and 0 < tokens.limit <= self._tokens_today
        )

    def window_ends(self, quota: LearnedQuota) -> float | None:
        """When nothing of what is used now counts any more; ``None`` if nothing is used."""
        if quota.is_daily:
            return self._day_ends
        return self._slices[-1].latest + WINDOW if self._slices else None

    def is_forgotten(self, now: float) -> bool:
        """Whether nothing is known any more, and nothing is of use for what will be learned."""
        self._forget(now)
        return not self.quotas and now >= self.seen + REMEMBERED_MINUTE

    # -- small ones ------------------------------------------------------------------------------

    def _forget(self, now: float) -> None:
        slices = self._slices
        while slices and slices[0].latest <= now - (WINDOW + GUARD):
            part = slices.popleft()
            part.counts = False
            self._requests -= part.requests
            self._tokens -= part.tokens
            self._in_flight -= part.in_flight
        if now >= self._day_ends:
            self._today = self._tokens_today = self._served_today = 0
            self._day_ends = self._calendar.next_midnight(now)
            self._stored = None
        if now >= self._forgets_at:
            self.quotas = {d: q for d, q in self.quotas.items() if now < q.forgotten_at}
            self._stored = None
            self._changed()

    def _changed(self) -> None:
        """A quota was learned or forgotten."""
        self.room = 0
        self._forgets_at = min((q.forgotten_at for q in self.quotas.values()), default=inf)

    def _since(self, quota: LearnedQuota) -> int:
        """How many requests were counted since a 429 named the quota."""
        return self._total - quota.since_total

    def _measure_room(self) -> None:
        """Find out how much fits for sure: half of what is left, since estimates may be wrong."""
        requests = tokens = LARGEST
        for quota in self.quotas.values():
            if not quota.limit:
                continue
            if quota.dimension in _OF_TOKENS:
                used = self._tokens if quota.dimension == TPM else self._tokens_today
                tokens = min(tokens, (quota.limit - used - int(self._room_for(0))) // 2)
            else:
                used = self._requests if quota.dimension == RPM else self._today
                requests = min(requests, quota.limit - used)
        self._upper = self._mean + _DEVIATIONS * sqrt(self._variance)
        self.room, self.room_tokens = requests, tokens

    def _part(self, now: float) -> _Slice:
        """The slice to count in. Old ones are dropped when a new one begins."""
        slices = self._slices
        if not slices or now >= slices[-1].first + SLICE or now >= self._day_ends:
            self._forget(now)
            slices.append(_Slice(now))
        part = slices[-1]
        part.latest = max(part.latest, now)
        return part

    def _full_until(self, quota: LearnedQuota, now: float, tokens: int) -> float:
        """When a request of ``tokens`` tokens fits; ``now`` if it does already.

        A quota of zero is left to the cooldown, which Google's answer begins. A prompt larger than
        the whole quota may go when nothing else counts: the number is an estimate.
        """
        limit, dimension = quota.limit, quota.dimension
        if not limit:
            return now
        if dimension == RPM:
            excess: float = self._requests + 1 - limit
            return self._freed(excess, now, of_tokens=False) if excess > 0 else now
        if dimension == RPD:
            return now if self._today < limit else min(self._day_ends, quota.forgotten_at)
        used = self._tokens if dimension == TPM else self._tokens_today
        excess = used + min(self._room_for(tokens), limit) - limit
        if excess <= 0 or used <= 0:
            return now
        if dimension == TPD:
            return min(self._day_ends, quota.forgotten_at)
        return self._freed(excess, now, of_tokens=True)

    def _room_for(self, tokens: int) -> float:
        """Tokens that must be left for a request of about ``tokens`` and for those under way."""
        spread = sqrt(self._variance * (self._in_flight + tokens * tokens))
        return max(1.0, tokens * self._mean + _DEVIATIONS * spread)

    def _freed(self, excess: float, now: float, *, of_tokens: bool) -> float:
        """When so much of the minute does not count any more."""
        for part in self._slices:
            excess -= part.tokens if of_tokens else part.requests
            if excess <= 0:
                return max(now, part.latest + WINDOW + GUARD)
        return self._slices[-1].latest + WINDOW + GUARD if self._slices else now

    def _may_probe(self, quota: LearnedQuota, now: float) -> bool:
        most = 1 if quota.is_daily else 1 + self._requests // BETWEEN_PROBES
        if quota.outstanding >= most:
            return False
        if quota.is_daily:
            if self._day_ends - _DAY <= quota.seen:
                return False
            due = quota.seen + _DAY * (2**quota.confirmed - 1)
        else:
            due = quota.seen + WINDOW * 2**quota.confirmed
        return now >= due or self._since(quota) >= BETWEEN_PROBES * most

    def _end_probes(self, use: QuotaUse, *, answered: bool, of_tokens: bool) -> None:
        """End the probes of quotas of tokens, or of requests; drop a quota that was too low."""
        if not use.probes:
            return
        ended = [each for each in use.probes if (each.dimension in _OF_TOKENS) is of_tokens]
        use.probes = tuple(each for each in use.probes if each not in ended)
        for quota in ended:
            quota.outstanding -= 1
            present = self.quotas.get(quota.dimension) is quota
            if answered and present and self._surely_used(quota, use) > quota.limit:
                del self.quotas[quota.dimension]
                self._stored = None
                self._changed()

    def _surely_used(self, quota: LearnedQuota, use: QuotaUse) -> int:
        """What Google has certainly counted with ``use``, whatever the latencies were."""
        if quota.dimension == RPD:
            return self._served_today
        if quota.dimension == TPD:
            return self._tokens_today
        oldest, newest = use.sent + GUARD - WINDOW, use.sent - GUARD
        counted = [p for p in self._slices if p.first > oldest and p.latest <= newest]
        if quota.dimension == RPM:
            return sum(part.served for part in counted) + 1
        return sum(part.served_tokens for part in counted) + use.tokens

    def _add_tokens(self, use: QuotaUse, difference: int) -> None:
        if use.part.counts:
            use.part.tokens += difference
            self._tokens += difference
        if use.day_ends == self._day_ends:
            self._tokens_today += difference

    def _learn_ratio(self, ratio: float) -> None:
        ratio = min(max(ratio, 0.1), 10.0)
        self._samples = min(self._samples + 1, _REMEMBERED_ANSWERS)
        share, difference = 1 / self._samples, ratio - self._mean
        self._mean += share * difference
        self._variance = (1 - share) * (self._variance + share * difference * difference)

    def _assume(self, quota: LearnedQuota, now: float, delay: float, tokens: int) -> None:
        """Count what Google must have counted before it refused, and was not known here."""
        expected = max(0, quota.limit - round(tokens * self._mean))
        if quota.dimension == RPD:
            self._today = max(self._today, quota.limit)
        elif quota.dimension == TPD:
            self._tokens_today = max(self._tokens_today, expected)
        elif quota.dimension == RPM:
            self._assume_minute(quota.limit - self._requests, 0, now, delay)
        else:
            self._assume_minute(0, expected - self._tokens, now, delay)

    def _assume_minute(self, requests: int, tokens: int, now: float, delay: float) -> None:
        """Add uses that leave the window one after the other, the first in ``delay`` seconds."""
        missing = max(requests, tokens)
        if missing <= 0:
            return
        steps = min(missing, _STEPS)
        first = now - WINDOW - GUARD + min(max(delay, 0.0), WINDOW)
        width = (now - first) / steps
        added = [
            _Slice(
                min(first + place * width, now),
                _share(requests, place, steps),
                _share(tokens, place, steps),
            )
            for place in range(steps)
        ]
        self._slices = deque(sorted((*self._slices, *added), key=lambda part: part.latest))
        self._requests += max(0, requests)
        self._tokens += max(0, tokens)

    def _stored_uses(self) -> Iterator[tuple[float, int, int]]:
        """The uses of the minute in longer slices, each with its last time."""
        begun, time, requests, tokens = -inf, 0.0, 0, 0
        for part in self._slices:
            if part.first >= begun + _STORED_SLICE:
                if requests or tokens:
                    yield time, requests, max(0, tokens)
                begun, requests, tokens = part.first, 0, 0
            time = part.latest
            requests += part.requests
            tokens += part.tokens
        if requests or tokens:
            yield time, requests, max(0, tokens)


def _share(whole: int, place: int, steps: int) -> int:
    """The part of a whole number that falls to one of ``steps`` places."""
    return max(0, whole * (place + 1) // steps - whole * place // steps)


def is_of_tokens(dimension: str) -> bool:
    """Whether tokens are counted, and not requests."""
    return dimension in _OF_TOKENS


def tightest(exceeded: Iterable[ExceededQuota]) -> list[ExceededQuota]:
    """The lowest value for each dimension and model."""
    found: dict[tuple[str, str], ExceededQuota] = {}
    for each in exceeded:
        place = (each.dimension, each.model)
        if place not in found or each.limit < found[place].limit:
            found[place] = each
    return list(found.values())
