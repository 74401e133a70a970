"""One run of a work for all who ask for it meanwhile."""

import pytest
from twisted.internet.defer import CancelledError, Deferred

from gemproxy.service.sharing import SharedWork


class Work:
    def __init__(self):
        self.runs, self.ended = [], []

    async def __call__(self):
        waiting = Deferred()
        self.runs.append(waiting)
        try:
            await waiting
        except CancelledError:
            self.ended.append("cancelled")
            raise
        self.ended.append("done")


@pytest.fixture
def work():
    return Work()


def outcome(waiter):
    seen = []
    waiter.addBoth(seen.append)
    return seen


def test_those_who_ask_meanwhile_join(work):
    shared = SharedWork()
    seen = [outcome(shared.join(work)) for _ in range(40)]
    assert len(work.runs) == 1
    assert seen == [[]] * 40
    work.runs[0].callback(None)
    assert seen == [[None]] * 40
    later = outcome(shared.join(work))
    assert len(work.runs) == 2
    assert later == []


def test_a_failure_is_shared(work):
    shared = SharedWork()
    seen = [outcome(shared.join(work)) for _ in range(3)]
    work.runs[0].errback(ZeroDivisionError())
    assert [each[0].type for each in seen] == [ZeroDivisionError] * 3


def test_who_leaves_leaves_alone(work):
    shared = SharedWork()
    first, second = shared.join(work), shared.join(work)
    left, stayed = outcome(first), outcome(second)
    first.cancel()
    assert left[0].type is CancelledError
    assert stayed == []
    work.runs[0].callback(None)
    assert stayed == [None]
    assert work.ended == ["done"]


def test_when_the_last_one_leaves_the_work_ends_and_may_begin_anew(work):
    shared = SharedWork()
    waiters = [shared.join(work) for _ in range(3)]
    seen = list(map(outcome, waiters))
    for waiter in waiters:
        waiter.cancel()
    assert work.ended == ["cancelled"]
    assert [each[0].type for each in seen] == [CancelledError] * 3
    again = outcome(shared.join(work))
    assert len(work.runs) == 2
    work.runs[1].callback(None)
    assert again == [None]


def test_work_that_ends_at_once_keeps_nobody_waiting():
    async def nothing():
        pass

    shared = SharedWork()
    assert outcome(shared.join(nothing)) == [None]
    assert outcome(shared.join(nothing)) == [None]
