"""A coroutine that is run to its end, as Twisted would run it."""

import contextlib
import gc
import weakref

import pytest
from twisted.internet.defer import AlreadyCalledError, CancelledError, Deferred, fail, succeed

from gemproxy.awaited import Awaited
from gemproxy.http.coroutine_runner import CoroutineRunner


@pytest.fixture(params=[Deferred, Awaited], ids=["deferred", "awaited"])
def deferred(request):
    """Makes what a coroutine waits for."""
    return lambda canceller=lambda _: None: request.param(canceller)


class Diary:
    """A coroutine, and what it has met."""

    def __init__(self, *awaited):
        self.met = []
        self._awaited = awaited

    async def __call__(self):
        for each in self._awaited:
            await self._meet(each)
        self.met.append("end")

    async def _meet(self, awaited):
        try:
            self.met.append(await awaited)
        except (CancelledError, ValueError) as error:
            self.met.append(type(error))


def test_it_begins_at_once_and_waits_where_it_must(deferred):
    first, second = deferred(), deferred()
    diary = Diary(succeed(1), first, fail(ValueError()), second)
    runner = CoroutineRunner(diary())
    assert (diary.met, runner.over) == ([1], False)
    first.callback(2)
    assert (diary.met, runner.over) == ([1, 2, ValueError], False)
    second.errback(ValueError())
    assert (diary.met, runner.over) == ([1, 2, ValueError, ValueError, "end"], True)


def test_what_waits_for_another_deferred_is_waited_for():
    outer, inner = Deferred(), Deferred()
    outer.addCallback(lambda _: inner)
    outer.callback(None)
    diary = Diary(outer)
    CoroutineRunner(diary())
    assert diary.met == []
    inner.callback("inner")
    assert diary.met == ["inner", "end"]


def test_cancelling_reaches_what_is_waited_for_and_nothing_else(deferred):
    told = []
    first, second, third = succeed(1), deferred(told.append), deferred()
    diary = Diary(first, second, third)
    runner = CoroutineRunner(diary())
    runner.cancel()
    assert told == [second]
    assert (diary.met, runner.over) == ([1, CancelledError], False)
    third.callback(3)
    runner.cancel()
    assert (diary.met, runner.over) == ([1, CancelledError, 3, "end"], True)


def test_cancelled_while_it_is_at_work_it_goes_on():
    first, second = Deferred(), Deferred()
    diary = Diary(second)

    async def cancel_and_go_on():
        await first
        runner.cancel()
        await diary()

    runner = CoroutineRunner(cancel_and_go_on())
    first.callback(None)
    second.callback(2)
    assert (diary.met, runner.over) == ([2, "end"], True)


@pytest.mark.parametrize("awaited", [[], [Deferred()]])
def test_its_end_is_told_to_who_asks(awaited):
    runner = CoroutineRunner(Diary(*awaited)())
    told = []
    runner.ended().addCallback(told.append)
    for each in awaited:
        assert told == []
        each.callback(None)
    assert told == [None]


def test_who_no_longer_waits_for_the_end_hinders_nothing():
    waiting = Deferred()
    diary = Diary(waiting)
    runner = CoroutineRunner(diary())
    runner.ended().addErrback(lambda _: None).cancel()
    waiting.callback(1)
    assert diary.met == [1, "end"]


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_of_it_waits_for_the_garbage_collector(fails, deferred):
    class Held:
        pass

    async def hold(held, waiting):
        with contextlib.suppress(ValueError):
            await waiting
        assert held

    gc.disable()
    try:
        held, waiting = Held(), deferred()
        gone = weakref.ref(held)
        runner = CoroutineRunner(hold(held, waiting))
        del held
        assert gone() is not None
        if fails:
            waiting.errback(ValueError())
        else:
            waiting.callback(None)
        assert runner.over
        assert gone() is None
    finally:
        gc.enable()


def test_an_awaited_is_a_deferred_as_any_other_to_whoever_adds_callbacks():
    heard, awaited = [], Awaited(lambda _: None)
    awaited.addCallback(lambda result: result + 1).addCallback(heard.append)
    awaited.callback(1)
    assert heard == [2]
    with pytest.raises(AlreadyCalledError):
        awaited.callback(1)


@pytest.mark.parametrize("second", ["callback", "errback"])
def test_an_awaited_fires_once(second):
    awaited = Awaited(lambda _: None)
    diary = Diary(awaited)
    runner = CoroutineRunner(diary())
    awaited.callback(1)
    with pytest.raises(AlreadyCalledError):
        getattr(awaited, second)(ValueError())
    assert (diary.met, runner.over) == ([1, "end"], True)
