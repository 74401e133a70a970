"""Name look-ups: in threads of their own, once for all who ask, kept for a while, bounded."""

import errno
import socket
import threading
import time
from contextlib import suppress

import pytest
import pytest_twisted
from fakes.upstream_stage import Told
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.task import Clock, deferLater
from twisted.logger import globalLogPublisher

from gemproxy.upstream.exhaustion import Exhausted
from gemproxy.upstream.resolver import (
    HUNG_SECONDS,
    MAX_ADDRESSES,
    MAX_THREADS,
    MAX_THREADS_PER_NAME,
    STALE_AT_ONCE_SECONDS,
    STALE_SECONDS,
    NameLookupFailed,
    Resolver,
)

V4, V6 = socket.AF_INET, socket.AF_INET6
GONE = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
AGAIN = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")


def found(*addresses):
    return [(V6 if ":" in each else V4, socket.SOCK_STREAM, 6, "", (each, 0)) for each in addresses]


class Machine(Clock):
    """The reactor's clock, and its way back from threads, which the test walks itself."""

    def __init__(self):
        super().__init__()
        self.told = []
        self.came = threading.Condition()

    def callFromThread(self, *call):
        with self.came:
            self.told.append(call)
            self.came.notify_all()

    def run(self, count=1):
        """Wait for so many threads, and hear what they say."""
        with self.came:
            assert self.came.wait_for(lambda: len(self.told) >= count, timeout=30)
            told, self.told = self.told[:count], self.told[count:]
        for work, *arguments in told:
            work(*arguments)


class System:
    """``getaddrinfo`` by a script: what it gives, raises, or waits for."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []
        self.hang = None

    def __call__(self, host, port, family, kind):
        assert (port, family, kind) == (None, 0, socket.SOCK_STREAM)
        self.asked.append(host)
        assert threading.current_thread() is not threading.main_thread()
        if self.hang is not None:
            self.hang.wait(60)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def machine():
    return Machine()


def names(machine, *answers, max_age=60.0):
    system = System(*answers)
    made = Resolver(machine, max_age, system)
    return made, system


def ask(made, host="h", patience=5.0):
    return Told(made.addresses(host, patience))


# -- one look-up for all, kept for a while -------------------------------------------------------


def test_all_who_ask_at_the_same_time_wait_for_one_look_up(machine):
    made, system = names(machine, found("192.0.2.1"))
    told = [ask(made) for _ in range(50)]
    machine.run()
    assert [each.result for each in told] == [[(V4, "192.0.2.1")]] * 50
    assert system.asked == ["h"]


@pytest.mark.parametrize(("max_age", "kept"), [(5.0, 5.0), (60.0, 60.0), (300.0, 60.0)])
def test_an_answer_is_kept_as_long_as_connections_live_and_never_over_a_minute(
    machine, max_age, kept
):
    made, system = names(machine, found("192.0.2.1"), found("192.0.2.2"), max_age=max_age)
    ask(made)
    machine.run()
    machine.advance(kept - 0.5)
    assert ask(made).result == [(V4, "192.0.2.1")]
    machine.advance(0.5)
    later = ask(made)
    machine.run()
    assert later.result == [(V4, "192.0.2.2")]
    assert len(system.asked) == 2


def test_names_are_apart(machine):
    made, system = names(machine, found("192.0.2.1"))
    told = [ask(made, "a"), ask(made, "b")]
    machine.run(2)
    assert all(each.results for each in told)
    assert sorted(system.asked) == ["a", "b"]


def test_what_is_forgotten_is_looked_up_anew(machine):
    made, _ = names(machine, found("192.0.2.1"), found("192.0.2.2"))
    ask(made)
    machine.run()
    made.forget()
    later = ask(made)
    assert later.results == []
    machine.run()
    assert later.result == [(V4, "192.0.2.2")]


def test_addresses_of_both_families_take_turns_and_are_bounded(machine):
    many = [f"2001:db8::{each:x}" for each in range(1, 40)]
    made, _ = names(machine, found(*many, "192.0.2.1", "192.0.2.1", "192.0.2.2"))
    told = ask(made)
    machine.run()
    addresses = [address for _, address in told.result]
    assert addresses[:5] == ["2001:db8::1", "192.0.2.1", "2001:db8::2", "192.0.2.2", "2001:db8::3"]
    assert len(addresses) == MAX_ADDRESSES


# -- failures ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (GONE, "name look-up of h failed: Name or service not known"),
        (AGAIN, "name look-up of h failed: Temporary failure in name resolution"),
        (UnicodeError("label too long"), "name look-up of h failed: label too long"),
    ],
)
def test_a_name_that_is_not_found_says_why_and_is_asked_for_again(machine, error, text):
    made, _ = names(machine, error, found("192.0.2.1"))
    told = [ask(made), ask(made)]
    machine.run()
    for each in told:
        assert isinstance(each.error, NameLookupFailed)
        assert str(each.error) == text
    later = ask(made)
    machine.run()
    assert later.result == [(V4, "192.0.2.1")]


def test_an_empty_answer_is_no_address(machine):
    made, _ = names(machine, [])
    told = ask(made)
    machine.run()
    assert isinstance(told.error, NameLookupFailed)


def test_an_old_answer_serves_while_the_name_servers_do_not(machine):
    made, system = names(machine, found("192.0.2.1"), AGAIN)
    ask(made)
    machine.run()
    machine.advance(61)
    told = ask(made)
    machine.run()
    assert told.result == [(V4, "192.0.2.1")]
    # Nobody waits for the next one for some seconds, though it is asked for.
    assert ask(made).result == [(V4, "192.0.2.1")]
    machine.run()
    assert len(system.asked) == 3
    machine.advance(STALE_AT_ONCE_SECONDS)
    later = ask(made)
    assert later.results == []
    machine.run()
    assert later.result == [(V4, "192.0.2.1")]
    machine.advance(STALE_SECONDS)
    too_late = ask(made)
    machine.run()
    assert isinstance(too_late.error, NameLookupFailed)


def test_the_log_tells_once_a_minute_that_an_old_answer_serves(machine):
    events = []
    made, _ = names(machine, found("192.0.2.1"), AGAIN)
    ask(made)
    machine.run()
    globalLogPublisher.addObserver(events.append)
    try:
        for _ in range(12):
            machine.advance(61 if not events else STALE_AT_ONCE_SECONDS + 1)
            ask(made)
            machine.run()
    finally:
        globalLogPublisher.removeObserver(events.append)
    told = [each for each in events if "old addresses serve on" in (each["log_format"] or "")]
    assert len(told) == 2
    assert told[0]["host"] == "h"
    assert "Temporary failure" in told[0]["reason"]


def test_a_name_that_does_not_exist_any_more_has_no_old_answer(machine):
    made, _ = names(machine, found("192.0.2.1"), GONE)
    ask(made)
    machine.run()
    machine.advance(61)
    told = ask(made)
    machine.run()
    assert isinstance(told.error, NameLookupFailed)


def test_an_old_answer_also_serves_where_a_forgotten_name_is_not_found_for_now(machine):
    made, _ = names(machine, found("192.0.2.1"), AGAIN)
    ask(made)
    machine.run()
    made.forget()
    told = ask(made)
    machine.run()
    assert told.result == [(V4, "192.0.2.1")]


def test_a_machine_without_descriptors_is_no_name_servers_failure(machine, monkeypatch):
    """The C library says EAI_AGAIN when it cannot open a socket."""

    def full(*_):
        raise OSError(errno.EMFILE, "Too many open files")

    made, _ = names(machine, AGAIN)
    monkeypatch.setattr("os.open", full)
    told = ask(made)
    machine.run()
    monkeypatch.undo()
    assert isinstance(told.error, Exhausted)
    assert told.error.args == ("out of file descriptors",)


def test_a_machine_without_threads_is_told_as_such(machine, monkeypatch):
    def full(_):
        raise RuntimeError("can't start new thread")

    made, _ = names(machine, found("192.0.2.1"))
    monkeypatch.setattr(threading.Thread, "start", full)
    told = ask(made)
    machine.advance(0)
    monkeypatch.undo()
    assert isinstance(told.error, Exhausted)
    later = ask(made)
    machine.run()
    assert later.result == [(V4, "192.0.2.1")]


# -- name servers that do not answer -------------------------------------------------------------


@pytest.fixture
def hanging():
    event = threading.Event()
    yield event
    event.set()


def test_an_old_answer_is_given_where_a_new_one_is_long_in_coming(machine, hanging):
    made, system = names(machine, found("192.0.2.1"), found("192.0.2.2"))
    ask(made)
    machine.run()
    machine.advance(61)
    system.hang = hanging
    told = ask(made, patience=2.0)
    machine.advance(1.9)
    assert told.results == []
    machine.advance(0.2)
    assert told.result == [(V4, "192.0.2.1")]
    assert ask(made).result == [(V4, "192.0.2.1")]
    hanging.set()
    machine.run()
    assert ask(made).result == [(V4, "192.0.2.2")]


def test_look_ups_that_hang_do_not_become_more_and_more(machine, hanging):
    made, system = names(machine, found("192.0.2.1"))
    system.hang = hanging
    before = threading.active_count()
    told = []
    for _ in range(300):
        told.append(ask(made))
        machine.advance(1)
    assert threading.active_count() - before == MAX_THREADS_PER_NAME
    told += [ask(made, f"name-{number}") for number in range(50)]
    for _ in range(20):
        made.forget()
    assert threading.active_count() - before <= MAX_THREADS
    for each in told:
        each.deferred.cancel()
    hanging.set()
    with suppress(AssertionError):
        machine.run(MAX_THREADS)
    assert all(each.result.check(CancelledError) for each in told)


def test_a_name_server_that_works_again_is_found_though_a_look_up_still_hangs(machine, hanging):
    made, system = names(machine, found("192.0.2.1"))
    system.hang = hanging
    first = ask(made)
    machine.advance(HUNG_SECONDS)
    system.hang = None
    second = ask(made)
    machine.run()
    assert first.result == second.result == [(V4, "192.0.2.1")]


def test_whoever_waits_at_a_dead_name_server_gets_the_answer_of_the_new_one(machine, hanging):
    """A reload after ``resolv.conf`` was mended."""
    made, system = names(machine, found("192.0.2.1"))
    system.hang = hanging
    told = ask(made)
    system.hang = None
    made.forget()
    machine.run()
    assert told.result == [(V4, "192.0.2.1")]


def test_what_waits_for_a_thread_gets_one(machine, hanging):
    made, system = names(machine, found("192.0.2.1"))
    system.hang = hanging
    told = [ask(made, f"name-{number}") for number in range(MAX_THREADS + 3)]
    hanging.set()
    machine.run(MAX_THREADS)
    machine.run(3)
    assert [each.result for each in told] == [[(V4, "192.0.2.1")]] * len(told)


def test_whoever_leaves_is_told_nothing(machine):
    made, _ = names(machine, found("192.0.2.1"))
    leaving, staying = ask(made), ask(made)
    leaving.deferred.cancel()
    machine.run()
    assert leaving.result.check(CancelledError)
    assert staying.result == [(V4, "192.0.2.1")]


def test_one_who_is_told_may_make_another_leave(machine):
    made, _ = names(machine, found("192.0.2.1"))
    first, second, third = (made.addresses("h", 5.0) for _ in range(3))
    first.addCallback(lambda _: second.cancel())
    told = [Told(second), Told(third)]
    machine.run()
    assert told[0].result.check(CancelledError)
    assert told[1].result == [(V4, "192.0.2.1")]


@pytest_twisted.ensureDeferred
async def test_on_the_real_reactor_its_own_threads_are_left_alone():
    from twisted.internet import reactor

    release = threading.Event()

    def slow(*_):
        release.wait(60)
        return found("192.0.2.1")

    made = Resolver(reactor, 60.0, slow)
    told = [made.addresses("h", 5.0) for _ in range(20)]
    pool = reactor.getThreadPool()
    assert pool.working == []
    began = time.monotonic()
    await deferLater(reactor, 0)
    assert time.monotonic() - began < 5
    release.set()
    assert await gatherResults(told) == [[(V4, "192.0.2.1")]] * 20
    assert isinstance(told[0], Deferred)
