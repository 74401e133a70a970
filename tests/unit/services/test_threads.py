"""Work in the reactor's threads."""

import gc
import threading
import weakref

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, gatherResults

from gemproxy.services.threads import in_thread


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
