"""Count the usual requests once for everybody who counts.

Theory of operation. Four listeners count each request: usage by client and project, Prometheus
metrics, the rows of the dashboard, the outcomes of the last minutes. Nearly all requests are alike
but for their times and tokens: one attempt that succeeded, a whole answer, text only. Such a
request is added to one :class:`Tally`, which has the sums and histograms that any of the four
needs. They get the tallies of a batch at its end. A batch ends when somebody reads what one of them
has counted (each calls its ``settle`` first), and with the minute and the slot in which it began,
so that a tally belongs to one row. All other requests go to the four one by one.

A batch has at most :data:`MOST_TALLIES` tallies, so its end takes a few milliseconds at most. With
thousands of keys most requests go the long way: a tally of one request would cost more than that.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Final

from gemproxy.core.context import RequestContext
from gemproxy.core.events import RequestEvents, RequestListener
from gemproxy.pool.outcome import Verdict
from gemproxy.pricing.prices import PriceList, Tariff
from gemproxy.state.model import MINUTE
from gemproxy.translate.shared.usage import TokenUsage

#: Tallies of one batch.
MOST_TALLIES: Final = 64
#: Seconds of monotonic time in which the outcomes of the last minutes are counted together.
SLOT_SECONDS: Final = 10.0
#: Seconds; the upper ends of the buckets of requests' and attempts' durations, and of this
#: program's own work. A thinking model is silent for minutes, so durations need long ones too.
REQUEST_BOUNDS: Final = (
    0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 60.0, 120.0, 300.0, 600.0,
)  # fmt: skip
OWN_WORK_BOUNDS: Final = (
    0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip

#: Largest count of one request, whatever the upstream says, so that sums fit 64 bits. The listeners
#: bound larger ones.
MOST_TOKENS: Final = 10**12
#: The status of the requests in tallies, and their outcome.
OK: Final = 200
_SUCCESS: Final = Verdict.SUCCESS.value
_MOST_MODELS: Final = 1024
_NEVER: Final = float("-inf")


class Tally:
    """Requests that were alike, and the sums of what differs. Times are seconds.

    Slots, and no Struct: CPython adds to a slot with a tenth of the instructions.
    """

    __slots__ = (
        "cached",
        "client",
        "cost",
        "durations",
        "ended",
        "input",
        "input_text",
        "key_id",
        "key_name",
        "last",
        "model",
        "moment",
        "output",
        "overheads",
        "own_seconds",
        "reasoning",
        "requests",
        "route",
        "seconds",
        "sticky",
        "tariff",
        "upstream_durations",
        "upstream_seconds",
    )

    def __init__(
        self, context: RequestContext, tariff: Tariff | None, moment: float, ended: float
    ) -> None:
        attempt = context.attempts[0]
        self.route, self.client, self.model = context.route, context.client, context.model
        self.key_id, self.key_name, self.sticky = attempt.key_id, attempt.key_name, attempt.sticky
        #: How the model is priced; ``None`` if it has no price.
        self.tariff = tariff
        #: When the first request ended, in monotonic and epoch time, and when the last did.
        self.moment, self.ended, self.last = moment, ended, ended
        self.requests = 0
        self.input = self.cached = self.output = self.reasoning = self.input_text = 0
        self.cost = 0.0
        #: Sums of the durations: requests, attempts, requests without waiting for the upstream.
        self.seconds = self.upstream_seconds = self.own_seconds = 0.0
        self.durations = [0] * (len(REQUEST_BOUNDS) + 1)
        self.upstream_durations = [0] * (len(REQUEST_BOUNDS) + 1)
        self.overheads = [0] * (len(OWN_WORK_BOUNDS) + 1)


class TallyListener(RequestListener):
    """A listener that counts; it calls :attr:`settle` before it is read."""

    #: Hands over what was counted for it.
    settle: Callable[[], None] = staticmethod(lambda: None)

    def requests_ended(self, tally: Tally) -> None:
        """As ``request_ended`` for each request of ``tally``."""
        raise NotImplementedError


class Tallies(RequestListener):
    """See the module. ``prices`` returns the present prices; it sets each context's ``cost``.

    The first of the ``listeners`` prices the requests that go to them one by one. If one raises,
    ``failed`` is called as by :class:`RequestEvents`.
    """

    is_detailed = False

    def __init__(
        self,
        listeners: Sequence[TallyListener],
        prices: Callable[[], PriceList],
        failed: Callable[[object], None],
    ) -> None:
        self._listeners = tuple(listeners)
        self._one_by_one = RequestEvents(listeners, failed).request_ended
        self._prices = prices
        self._failed = failed
        self._tallies: dict[_Kind, Tally] = {}
        #: Models that have served.
        self._models: set[str | None] = set()
        # The batch is for requests that end between the two in epoch time, and before the third in
        # monotonic time.
        self._begin = self._end = self._slot_end = _NEVER
        for listener in listeners:
            listener.settle = self.flush

    def request_ended(self, context: RequestContext, status: int, seconds: float) -> None:
        """See :meth:`gemproxy.core.events.RequestListener.request_ended`."""
        moment = context.started + seconds
        ended = moment + context.epoch_offset
        # First of all: the listeners want to be told in the order of time.
        if moment >= self._slot_end or not self._begin <= ended < self._end:
            self._begin_batch(moment, ended)
        attempts, usage = context.attempts, context.usage
        if (
            status != OK
            or len(attempts) != 1
            or context.outcome != _SUCCESS
            or context.stream
            or usage is None
            or _is_unusual(usage)
        ):
            self._one_by_one(context, status, seconds)
            return
        attempt = attempts[0]
        kind = (
            context.route,
            context.client,
            context.model,
            attempt.key_id,
            attempt.key_name,
            attempt.sticky,
        )
        tally = self._tallies.get(kind)
        if tally is None:
            tally = self._begin_tally(kind, context, moment, ended)
            if tally is None:
                self._one_by_one(context, status, seconds)
                return
        tally.requests += 1
        tally.last = ended
        tally.seconds += seconds
        tally.durations[bisect_left(REQUEST_BOUNDS, seconds)] += 1
        waited = attempt.seconds
        tally.upstream_seconds += waited
        tally.upstream_durations[bisect_left(REQUEST_BOUNDS, waited)] += 1
        own_work = seconds - attempt.waited - context.queued
        if own_work > 0.0:
            tally.own_seconds += own_work
            tally.overheads[bisect_left(OWN_WORK_BOUNDS, own_work)] += 1
        else:
            tally.overheads[0] += 1
        tally.input += usage.input
        tally.output += usage.output
        tally.input_text += usage.input_text
        # Most answers have none of these.
        if usage.cached:
            tally.cached += usage.cached
        if usage.reasoning:
            tally.reasoning += usage.reasoning
        if tally.tariff is None:
            context.cost = None
        else:
            context.cost = cost = tally.tariff.cost_of(usage)
            tally.cost += cost or 0.0

    def flush(self) -> None:
        """End the batch."""
        tallies, self._tallies = self._tallies, {}
        for listener in self._listeners:
            for tally in tallies.values():
                try:
                    listener.requests_ended(tally)
                except Exception:  # noqa: BLE001 - as RequestEvents: the others count all the same
                    self._failed(listener.requests_ended)

    def _begin_tally(
        self, kind: _Kind, context: RequestContext, moment: float, ended: float
    ) -> Tally | None:
        """A new tally; ``None`` if the request has to be counted by itself."""
        model = context.model
        if model not in self._models:
            # A model has labels and rows of its own from its first success on, and not from the end
            # of the batch with it.
            if len(self._models) >= _MOST_MODELS:
                self._models.clear()
            self._models.add(model)
            return None
        if len(self._tallies) >= MOST_TALLIES:
            return None
        tariff = self._prices().tariff(model or "")
        tally = self._tallies[kind] = Tally(context, tariff, moment, ended)
        return tally

    def _begin_batch(self, moment: float, ended: float) -> None:
        self.flush()
        self._begin = ended // MINUTE.seconds * MINUTE.seconds
        self._end = self._begin + MINUTE.seconds
        self._slot_end = moment // SLOT_SECONDS * SLOT_SECONDS + SLOT_SECONDS


#: Route, client, model, the key's id and name, and whether it was chosen for the conversation.
_Kind = tuple[str, str | None, str | None, str, str, bool]


def _is_unusual(usage: TokenUsage) -> bool:
    """Whether there is more to count than text, or a number that is not plausible."""
    return bool(
        not usage.total
        or usage.total > MOST_TOKENS
        or usage.cached > MOST_TOKENS
        or usage.tier
        or usage.input_audio
        or usage.input_image
        or usage.input_video
        or usage.input_document
        or usage.output_audio
        or usage.output_image
        or usage.searches
        or usage.images
    )
