"""Work in the reactor's threads."""

import gc
import threading
import weakref

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, gatherResults

from gemproxy.service.threads import Threads, in_thread


@pytest_twisted.ensureDeferred
async def test_what_work_gives_or_raises_comes_back():
    from twisted.internet import reactor

    assert await in_thread(reactor, lambda: 6 * 7) == 42
    with pytest.raises(ZeroDivisionError):
        await in_thread(reactor, lambda: 1 / 0)


@pytest_twisted.ensureDeferred
async def test_work_that_nobody_waits_for_is_neither_done_nor_held():
    from twisted.internet import reactor

    class Work:
        done = False

        def __call__(self):
            Work.done = True

    gate = threading.Event()
    busy = [in_thread(reactor, gate.wait) for _ in range(reactor.getThreadPool().max)]
    work = Work()
    held = weakref.ref(work)
    waiting = in_thread(reactor, work)
    del work
    waiting.cancel()
    with pytest.raises(CancelledError):
        await waiting
    gc.collect()
    assert held() is None
    gate.set()
    await gatherResults(busy)
    assert await in_thread(reactor, lambda: "free again") == "free again"
    assert not Work.done


@pytest_twisted.ensureDeferred
async def test_threads_of_their_own_are_few_and_leave_those_of_the_reactor_free():
    """However much waits for them; a client that leaves takes its work along."""
    from twisted.internet import reactor

    threads = Threads(reactor, 2, "test")
    threads.startService()
    gate, begun = threading.Event(), []

    def work():
        begun.append(threading.current_thread().name)
        gate.wait()

    waiting = [threads.do(work) for _ in range(20)]
    assert await in_thread(reactor, lambda: "free") == "free"
    while len(begun) < 2:
        await in_thread(reactor, lambda: None)
    for left in waiting[5:]:
        left.cancel()
        with pytest.raises(CancelledError):
            await left
    assert len(begun) == 2
    gate.set()
    await gatherResults(waiting[:5])
    assert len(begun) == 5
    assert len(set(begun)) <= 2
    threads.stopService()
