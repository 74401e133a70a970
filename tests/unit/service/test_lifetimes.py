"""Small services, and the order in which services stop."""

import gc
import signal
import weakref

import pytest
from twisted.application.service import MultiService, Service
from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactor

from gemproxy.service.lifetimes import GcTuning, GracefulExit, Lifetime, ServiceSequence


class Part(Service):
    """Writes down when it starts and stops; ``stopping`` is what its stop waits for."""

    def __init__(self, name, story, stopping=None):
        self.setName(name)
        self.story = story
        self.stopping = stopping

    def startService(self):
        super().startService()
        self.story.append(f"{self.name} starts")

    def stopService(self):
        super().stopService()
        self.story.append(f"{self.name} stops")
        return self.stopping


def test_services_start_in_order_and_stop_one_after_another_in_reverse():
    story, drained = [], Deferred()
    sequence = ServiceSequence()
    for part in (Part("a", story), Part("b", story, drained), Part("c", story)):
        part.setServiceParent(sequence)
    sequence.startService()
    stopped = sequence.stopService()
    assert story == ["a starts", "b starts", "c starts", "c stops", "b stops"]
    assert not stopped.called
    drained.callback(None)
    assert story[-1] == "a stops"
    assert stopped.called
    assert not sequence.running


def test_twisteds_own_would_not_wait():
    """The reason for having one of our own."""
    story = []
    services = MultiService()
    for part in (Part("a", story), Part("b", story, Deferred())):
        part.setServiceParent(services)
    services.startService()
    services.stopService()
    assert story[-1] == "a stops"


def test_a_subject_is_open_as_long_as_its_service_runs():
    story = []

    class Subject:
        def start(self):
            story.append("start")

        def stop(self):
            story.append("stop")

    service = Lifetime(Subject())
    service.startService()
    assert story == ["start"]
    service.stopService()
    assert story == ["start", "stop"]


def test_what_start_up_made_is_frozen_and_the_collector_comes_seldom():
    before, thresholds = gc.get_freeze_count(), gc.get_threshold()
    try:
        GcTuning().startService()
        assert gc.get_freeze_count() > before
        assert gc.get_threshold()[0] > thresholds[0]
    finally:
        gc.unfreeze()
        gc.set_threshold(*thresholds)


def test_what_a_reload_brought_is_frozen_as_well():
    brought = [[] for _ in range(1000)]
    before = gc.get_freeze_count()
    try:
        GcTuning().freeze_again()
        assert gc.get_freeze_count() >= before + len(brought)
    finally:
        gc.unfreeze()


def test_what_a_reload_left_as_garbage_is_not_kept_for_good():
    class Node:
        pass

    node = Node()
    node.itself = node
    gone = weakref.ref(node)
    gc.collect()  # Into the oldest generation, where a look at the young ones misses it.
    del node
    try:
        GcTuning().freeze_again()
        assert gone() is None
    finally:
        gc.unfreeze()


@pytest.fixture
def signals():
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, previous in kept.items():
        signal.signal(number, previous)


class Reactor(MemoryReactor):
    """Remembers what is to happen at which event."""

    _exitSignal = signal.SIGTERM  # noqa: N815 - Twisted's name

    def __init__(self):
        super().__init__()
        self.triggers = {}

    def addSystemEventTrigger(self, phase, event, call, *args, **named):
        self.triggers.setdefault((phase, event), []).append(call)


def test_a_stop_by_signal_is_a_good_end_and_takes_no_second_signal(signals):
    reactor = Reactor()
    GracefulExit(reactor).startService()
    for call in reactor.triggers["before", "shutdown"]:
        call()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    for call in reactor.triggers["after", "shutdown"]:
        call()
    assert reactor._exitSignal is None
