"""Requests that wait for a key, and when they are offered one.

Theory of operation. The pool knows the moment at which a key is free again
(:attr:`~gemproxy.core.errors.Unavailable.free_at`). A request that gets no key enters the queue if
that moment is near enough; else it is refused at once. The queue sets one timer, for the first of
all such moments and of all deadlines. It is set to the present when the pool reports that a key may
be eligible earlier: a reload, a reset, a trial that has ended. When the timer fires, the requests
of the models concerned are offered keys in the fair order (:mod:`gemproxy.core.queue`), until the
pool has none left. Only those that got one are woken.

A key of which no limit is known admits any number of requests once its cooldown is over, and the
provider would refuse most of them. So the first few are sent, and twice as many after each
:data:`STEP` seconds, until none waits or the provider refuses again.

While requests wait for a model, new ones wait behind them. An offer that fails is remembered for
all requests that need the same keys, so a pass asks the pool once for each different need.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from copy import copy
from math import inf
from typing import Protocol

from msgspec import Struct

from gemproxy.api.base import Job
from gemproxy.core.clients import Priority
from gemproxy.core.context import RequestContext
from gemproxy.core.errors import ProxyError, QuotaExhausted, Unavailable
from gemproxy.core.queue import HIGH, LOW, NORMAL, FairQueue, Waiting
from gemproxy.core.shares import FairShares
from gemproxy.pool.key import Affinity
from gemproxy.pool.pool import KeyPool, Lease

#: The part of a key's limits of a minute that requests of low priority leave to others.
LOW_RESERVE = 0.2
#: Requests that are sent at first with keys whose limits are not known, and the seconds after which
#: twice as many are.
FIRST, STEP = 4, 0.25

_RANKS = {Priority.HIGH: HIGH, Priority.NORMAL: NORMAL, Priority.LOW: LOW}
_LOW = Priority.LOW
#: Seconds between two offers without an event. A moment that has passed would be tried in a loop.
_SHORTEST = 0.01


class QueueSettings(Struct, frozen=True):
    """``max_wait`` in seconds (0: no request waits), and how many requests may wait."""

    max_wait: float = 2.0
    max_queued: int = 200


class KeyRequest(Waiting, eq=False, kw_only=True):
    """A request with what the pool has to know of it; see :meth:`KeyPool.acquire`."""

    priority: Priority
    tokens: int
    tried: tuple[str, ...]
    affinity: Affinity | None
    conversation: int | None
    #: When it entered the queue.
    since: float = 0.0
    signal: Signal | None = None
    #: How the wait has ended.
    lease: Lease | None = None
    refusal: ProxyError | None = None


class Signal(Awaitable[object], Protocol):
    """Something to await that can be cancelled, such as a ``Deferred``."""

    def callback(self, result: object) -> None:
        """Resume whoever awaits it."""


class Timer(Protocol):
    """Calls ``expire`` of what it watches; see :class:`gemproxy.deadlines.Deadlines`."""

    def watch(self, timed: RequestQueue) -> None:
        """Watch ``timed``, or note that it is due earlier."""

    def release(self, timed: RequestQueue) -> None:
        """Stop watching it."""

    def stop(self) -> None:
        """Cancel the timer if nothing is watched."""


class QueueListener:
    """Receives what happens to requests in the queue."""

    def waited(self, priority: Priority, seconds: float) -> None:
        """A request has left the queue, in whatever way."""

    def queue_refused(self, reason: str) -> None:
        """A request was refused: ``full``, ``evicted``, ``timeout`` or ``no_key_in_time``."""


_Failed = dict[object, tuple[int, ProxyError]]
"""Needs for which no key is free: the size of the request in tokens, and the pool's error."""


class _Shortage(Struct):
    """What is known of a model for which requests wait."""

    #: When the next offer is made.
    look_at: float = inf
    #: How many requests the next offer may send with keys without limits, and from when.
    allowance: int = FIRST
    paused_until: float = -inf


class RequestQueue:
    """See the module. ``seconds`` gives monotonic time, ``new_signal`` something to await."""

    def __init__(
        self,
        pool: KeyPool,
        settings: QueueSettings,
        *,
        seconds: Callable[[], float],
        new_signal: Callable[[], Signal],
        timer: Timer,
        listener: QueueListener | None = None,
    ) -> None:
        self.shares = FairShares()
        self._pool = pool
        self._seconds = seconds
        self._new_signal = new_signal
        self._timer = timer
        self._listener = listener or QueueListener()
        self._fair: FairQueue[KeyRequest] = FairQueue()
        #: The models for which requests wait.
        self.short: dict[str, _Shortage] = {}
        #: The requests that have a key or an error, and are to be woken.
        self._ended: list[KeyRequest] = []
        self.settings = settings
        pool.more_eligible = self.look

    def __len__(self) -> int:
        return len(self._fair)

    @property
    def settings(self) -> QueueSettings:
        """May be replaced at any time; those that wait keep their deadlines."""
        return self._settings

    @settings.setter
    def settings(self, settings: QueueSettings) -> None:
        self._settings = settings
        self._fair.capacity = settings.max_queued

    def reserve(self, client: str | None, priority: Priority, now: float) -> float:
        """The part of a key's limits of a minute that the client's requests leave to others."""
        reserve = self.shares.reserve(client, now, self._pool.requests_per_minute)
        return max(reserve, LOW_RESERVE) if priority is _LOW else reserve

    def count(self, client: str | None, now: float) -> None:
        """Count a request of ``client`` that a key with limits of its own serves."""
        self.shares.count(client, now)

    @staticmethod
    def request(
        job: Job, context: RequestContext, tried: tuple[str, ...], deadline: float
    ) -> KeyRequest:
        """A request to :meth:`enter`. ``tried`` are keys that may not serve it."""
        affinity = context.affinity
        return KeyRequest(
            job.model,
            context.client,
            _RANKS[context.caller.priority],
            (affinity and affinity.project, tried),
            deadline,
            priority=context.caller.priority,
            tokens=job.tokens,
            tried=tried,
            affinity=affinity,
            conversation=job.conversation,
        )

    def enter(self, request: KeyRequest, now: float, refusal: ProxyError | None) -> Lease | None:
        """Let ``request`` wait; a lease if it gets one without that.

        ``refusal`` is what the pool has just answered; ``None``: it was not asked, because others
        wait. Raises the pool's error if no key will be free in time, and :class:`QuotaExhausted` if
        too many requests wait.
        """
        free_at = inf if refusal is None else self._free_at(request, refusal, now)
        if refusal is not None and free_at > request.deadline:
            if self.settings.max_wait > 0.0:
                self._listener.queue_refused("no_key_in_time")
            raise refusal
        request.since = now
        is_first = self._fair.add(request)
        shortage = self.short.get(request.model)
        if shortage is None:
            shortage = self.short[request.model] = _Shortage()
        if refusal is not None:
            shortage.look_at = min(shortage.look_at, max(free_at, now + _SHORTEST))
        elif is_first:
            self._offer(request.model, now, newcomer=request)
        if request.is_queued and (loser := self._fair.surplus(request)) is not None:
            error = _too_many(request.model, shortage.look_at - now)
            self._refuse(loser, error, "full" if loser is request else "evicted", now)
        self._watch()
        self._wake()
        if request.refusal is not None:
            raise request.refusal
        return request.lease

    async def wait(self, request: KeyRequest) -> Lease:
        """Wait after :meth:`enter`. Raises as :meth:`enter`."""
        # It may have ended while others were woken.
        if request.is_queued:
            signal = request.signal = self._new_signal()
            try:
                await signal
            except BaseException:
                self._leave(request)
                raise
        if request.refusal is not None:
            raise request.refusal
        if request.lease is None:  # pragma: no cover - it is woken with one of the two
            raise AssertionError("a request was woken without a key")
        return request.lease

    def look(self) -> None:
        """Offer keys soon: one may be eligible earlier than was known."""
        if self.short:
            now = self._seconds()
            for shortage in self.short.values():
                shortage.look_at = now
            self._timer.watch(self)

    # -- the timer -------------------------------------------------------------------------------

    @property
    def due(self) -> float:
        """See :class:`gemproxy.deadlines.Timed`."""
        look_at = min((shortage.look_at for shortage in self.short.values()), default=inf)
        return min(look_at, self._fair.next_deadline)

    def expire(self, now: float) -> None:
        """Offer keys for the models whose time has come, and refuse those that waited too long."""
        # By model, so that many requests whose time is over at once need few offers.
        failed: dict[str, _Failed] = {}
        for model, shortage in list(self.short.items()):
            if shortage.look_at <= now:
                self._offer(model, now, failed=failed.setdefault(model, {}))
        for request in self._fair.expired(now):
            if request.is_queued:
                self._last_offer(request, now, failed.setdefault(request.model, {}))
        self._watch()
        self._wake()

    def _last_offer(self, request: KeyRequest, now: float, failed: _Failed) -> None:
        """Refuse ``request``, whose time is over, unless it gets a key now."""
        error = _known(failed, self._need(request, now), request)
        if error is None and self._fair.is_offered(request):
            self._offer(request.model, now, failed=failed)
            error = _known(failed, self._need(request, now), request)
        if request.is_queued:
            refusal = _too_many(request.model, 0.0) if error is None else copy(error)
            self._refuse(request, refusal, "timeout", now)
            # Those of low priority may have waited for it.
            self.look()

    def _watch(self) -> None:
        if self.short:
            self._timer.watch(self)
        else:
            self._timer.release(self)
            self._timer.stop()

    # -- offers ----------------------------------------------------------------------------------

    def _offer(
        self,
        model: str,
        now: float,
        *,
        newcomer: KeyRequest | None = None,
        failed: _Failed | None = None,
    ) -> None:
        """Give keys to the requests for ``model``, in turn.

        ``failed`` is what is known to fail at this time; the errors of this offer are added to it.
        A ``newcomer`` is refused if it is not known when a key is free for it; the others go on
        waiting then, since another request may be on trial with the key.
        """
        failed = {} if failed is None else failed
        shortage = self.short.get(model)
        if shortage is None:
            return
        if now < shortage.paused_until:
            shortage.look_at = shortage.paused_until
            return
        soonest, left = inf, shortage.allowance
        for request in self._fair.in_turn(model):
            need = self._need(request, now)
            error = _known(failed, need, request)
            if error is None:
                try:
                    lease = self._acquire(request, need[1], now)
                except ProxyError as refusal:
                    error = refusal
                    failed[need] = request.tokens, error
                else:
                    self._served(request, lease, now)
                    left -= lease.use is None and not lease.quota_uses
                    if not left:
                        break
                    continue
            free_at = self._free_at(request, error, now)
            is_lost = not isinstance(error, Unavailable) or request is newcomer
            if free_at > request.deadline and (is_lost or free_at < inf):
                self._refuse(request, copy(error), "no_key_in_time", now)
            else:
                soonest = min(soonest, free_at)
        if left:
            shortage.allowance = FIRST
            shortage.look_at = max(soonest, now + _SHORTEST)
        else:
            shortage.allowance *= 2
            shortage.look_at = shortage.paused_until = now + STEP

    def _need(self, request: KeyRequest, now: float) -> tuple[object, float]:
        """What has to be the same for two requests, beside their size, to get the same answer."""
        return request.need, self.reserve(request.client, request.priority, now)

    def _acquire(self, request: KeyRequest, reserve: float, now: float) -> Lease:
        return self._pool.acquire(
            request.model,
            now,
            tried=request.tried,
            tokens=request.tokens,
            affinity=request.affinity,
            conversation=request.conversation,
            reserve=reserve,
        )

    def _free_at(self, request: KeyRequest, error: ProxyError, now: float) -> float:
        """When a key may be free for ``request``; infinity if that is not known."""
        if not isinstance(error, Unavailable):
            return inf
        free_at = inf if error.free_at is None else error.free_at
        return min(free_at, self.shares.next_change(request.client, now))

    # -- the end of a wait -----------------------------------------------------------------------

    def _served(self, request: KeyRequest, lease: Lease, now: float) -> None:
        self._fair.served(request)
        request.lease = lease
        self._end(request, now)

    def _refuse(self, request: KeyRequest, error: ProxyError, reason: str, now: float) -> None:
        self._fair.remove(request)
        request.refusal = error
        self._listener.queue_refused(reason)
        self._end(request, now)

    def _leave(self, request: KeyRequest) -> None:
        """The client of ``request`` has left; a key that it was just given goes back."""
        now = self._seconds()
        request.signal = None
        if request.lease is not None:
            self._pool.release(request.lease, now)
        elif self._fair.remove(request):
            self._end(request, now)
            # Requests of low priority may have waited for this one.
            self.look()
            self._watch()

    def _end(self, request: KeyRequest, now: float) -> None:
        if request.model not in self._fair.models:
            self.short.pop(request.model, None)
        self._ended.append(request)
        self._listener.waited(request.priority, now - request.since)

    def _wake(self) -> None:
        ended, self._ended = self._ended, []
        for request in ended:
            signal, request.signal = request.signal, None
            if signal is not None:
                signal.callback(None)


def _known(failed: _Failed, need: object, request: KeyRequest) -> ProxyError | None:
    """The error for ``request``, if one that is not larger has failed."""
    tokens, error = failed.get(need, (0, None))
    return error if request.tokens >= tokens else None


def _too_many(model: str, delay: float) -> QuotaExhausted:
    return QuotaExhausted(
        f"More requests wait for the model '{model}' than its keys can serve.",
        retry_after=max(1.0, delay) if delay < inf else 1.0,
    )
