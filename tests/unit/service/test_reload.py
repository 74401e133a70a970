"""Reloading: what asks for it, what it applies, and what a mistake leaves alone."""

import os
import signal
import threading

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread
from twisted.logger import LogLevel, capturedLogs

from gemproxy.config.changes import KeyUpdate
from gemproxy.core.errors import ConfigError, Fault
from gemproxy.service.config_files import ConfigFiles
from gemproxy.service.reload import LOOK_SECONDS, ConfigReload

TOKEN = "an-admin-token-for-the-tests"
NOON = 1_790_000_000.0


class ReactorClock(Clock):
    """A clock with the one more thing that a signal needs."""

    def callFromThread(self, act, *args):
        self.callLater(0, act, *args)


class Threads:
    """Runs everything at once, or in steps: with ``wait`` each piece of work is held back."""

    def __init__(self):
        self.wait = False
        self.held = []

    def __call__(self, work):
        if not self.wait:
            return succeed(None).addCallback(lambda _: work())
        done = Deferred()
        self.held.append(lambda: done.callback(None))
        return done.addCallback(lambda _: work())

    def step(self):
        self.held.pop(0)()


class Stage:
    """Two files, a clock and what was applied."""

    def __init__(self, folder):
        self.folder = folder
        self.write(keys="a")
        self.files = ConfigFiles(folder / "proxy.yaml", folder / "keys.yaml", {})
        self.clock = ReactorClock()
        self.clock.advance(NOON)
        self.threads = Threads()
        self.applied = []
        self.story = []
        self.refuse = None
        seen = self.files.fingerprint()
        self.service = ConfigReload(
            self.clock,
            self.files,
            self.files.read(),
            seen,
            self.apply,
            in_thread=self.threads,
            prepare=lambda _: self.story.append("prepared"),
            begun=lambda: self.story.append("begun"),
            ended=lambda status: self.story.append(("ended", status.failures)),
        )

    def apply(self, settings, change):
        self.story.append("applied")
        if self.refuse is not None:
            raise self.refuse
        self.applied.append((settings, change))

    def write(self, keys=None, proxy=""):
        (self.folder / "proxy.yaml").write_text(f"proxy: {{adminToken: {TOKEN}}}\n{proxy}")
        if keys is not None:
            entries = [f"- {{name: {name}, key: test-key-of-{name}-0123456789}}" for name in keys]
            (self.folder / "keys.yaml").write_text("keys:\n" + "\n".join(entries) + "\n")

    def looks(self, number):
        """Let the file watch look so many times."""
        for _ in range(number):
            self.clock.advance(LOOK_SECONDS)

    def names(self):
        return [[key.name for key in settings.keys] for settings, _ in self.applied]


@pytest.fixture
def stage(tmp_path):
    before = signal.getsignal(signal.SIGHUP)
    made = Stage(tmp_path)
    made.service.startService()
    yield made
    made.service.stopService()
    signal.signal(signal.SIGHUP, before)


def result_of(deferred):
    """What a Deferred that has fired gave or failed with."""
    results = []
    deferred.addBoth(results.append)
    assert results, "still waiting"
    return results[0]


def failure_of(deferred):
    return result_of(deferred).value


# -- a reload that was asked for -------------------------------------------------------------------


def test_what_changed_is_applied_and_told(stage):
    stage.write(keys="ab", proxy="retry: {maxAttempts: 7}\n")
    reloaded = result_of(stage.service.reload())
    assert (reloaded.generation, reloaded.at) == (2, NOON)
    assert reloaded.changes.keys_added == ("b",)
    assert reloaded.changes.settings == ("retry.maxAttempts",)
    ((settings, change),) = stage.applied
    assert (change, settings.retry.max_attempts) == (reloaded.changes, 7)
    assert stage.service.settings is settings
    assert stage.story == ["begun", "prepared", "applied", ("ended", 0)]


def test_a_renamed_key_is_an_update(stage):
    (stage.folder / "keys.yaml").write_text(
        "keys: [{name: z, key: test-key-of-a-0123456789, weight: 3}]\n"
    )
    changes = result_of(stage.service.reload()).changes
    assert changes.keys_updated == (KeyUpdate("z", ("name", "project", "weight")),)


def test_files_that_say_the_same_leave_the_generation_as_it_is(stage):
    stage.clock.advance(0.1)
    reloaded = result_of(stage.service.reload())
    assert reloaded.changes.is_empty
    assert (reloaded.generation, stage.applied) == (1, [])
    status = stage.service.status
    assert (status.successes, status.failures) == (1, 0)
    assert (status.loaded_at, status.last_reload_at) == (NOON, NOON + 0.1)


def test_what_needs_a_restart_is_told_and_the_rest_applied(stage):
    stage.write(proxy="retry: {maxAttempts: 7}\npersistence: {path: other.db}\n")
    reloaded = result_of(stage.service.reload())
    assert reloaded.changes.restart_required == ("persistence.path",)
    assert stage.service.status.restart_required == ("persistence.path",)
    ((settings, _),) = stage.applied
    assert settings.retry.max_attempts == 7
    assert str(settings.persistence.path) == "state/gemproxy.db"

    again = result_of(stage.service.reload())
    assert again.changes.restart_required == ("persistence.path",)
    assert again.generation == 2


def test_a_mistake_changes_nothing_and_is_told_to_the_caller_the_log_and_the_status(stage):
    stage.write(keys="b", proxy="retry: {maxAttempts: none, backofSeconds: 1}\n")
    before = stage.service.settings
    with capturedLogs() as events:
        error = failure_of(stage.service.reload())
    assert isinstance(error, ConfigError)
    assert [(fault.line, fault.path) for fault in error.faults] == [
        (2, "retry.backofSeconds"),
        (2, "retry.maxAttempts"),
    ]
    assert stage.service.settings is before
    assert stage.applied == []
    assert stage.story == ["begun", ("ended", 1)]
    status = stage.service.status
    assert (status.generation, status.failures, status.last_reload_at) == (1, 1, NOON)
    assert status.last_error == "\n".join(map(str, error.faults))
    (event,) = [e for e in events if e["log_level"] is LogLevel.error]
    assert event["faults"] == [str(fault) for fault in error.faults]


def test_a_good_file_clears_the_last_error(stage):
    stage.write(proxy="retry: 3\n")
    failure_of(stage.service.reload())
    stage.write()
    result_of(stage.service.reload())
    assert stage.service.status.last_error is None


def test_thousands_of_mistakes_are_all_logged_and_few_are_kept(stage):
    lines = "\n".join(f"- {{name: k{i}, key: k{i}x, weight: two}}" for i in range(45))
    (stage.folder / "keys.yaml").write_text(f"keys:\n{lines}\n")
    with capturedLogs() as events:
        failure_of(stage.service.reload())
    assert sum(len(e["faults"]) for e in events if "faults" in e) == 45
    assert stage.service.status.last_error.endswith("\nand 25 more")
    assert stage.service.status.last_error.count("\n") == 20


def test_a_mistake_that_only_applying_finds_counts_as_one(stage):
    stage.write(keys="ab")
    stage.refuse = ConfigError((Fault("ca.pem", 0, "upstream.caFile", "no certificates"),))
    assert failure_of(stage.service.reload()) is stage.refuse
    status = stage.service.status
    assert (status.generation, status.last_error) == (1, str(stage.refuse))

    stage.refuse = None
    assert result_of(stage.service.reload()).generation == 2


def test_a_defect_is_logged_with_its_traceback_and_counted(stage):
    stage.write(keys="ab")
    stage.refuse = RuntimeError("a defect")
    with capturedLogs() as events:
        assert failure_of(stage.service.reload()) is stage.refuse
    assert [e["log_failure"].value for e in events if "log_failure" in e] == [stage.refuse]
    assert stage.service.status.failures == 1
    assert "internal error" in stage.service.status.last_error
    assert stage.story[-1] == ("ended", 1)


def test_one_reload_follows_the_other(stage):
    stage.threads.wait = True
    stage.write(keys="ab")
    first = stage.service.reload()
    stage.threads.step()
    second = stage.service.reload()
    assert stage.story == ["begun"]
    stage.threads.step()
    assert result_of(first).generation == 2
    assert stage.story == ["begun", "prepared", "applied", ("ended", 0), "begun"]
    stage.threads.step()
    stage.threads.step()
    assert result_of(second).changes.is_empty


def test_a_caller_who_leaves_does_not_stop_the_reload(stage):
    stage.threads.wait = True
    stage.write(keys="ab")
    asked = stage.service.reload()
    asked.addErrback(lambda _: None)
    asked.cancel()
    stage.threads.step()
    stage.threads.step()
    assert stage.names() == [["a", "b"]]
    assert stage.service.status.failures == 0


@pytest_twisted.ensureDeferred
async def test_files_are_read_in_a_thread_and_applied_in_the_reactors(tmp_path):
    stage = Stage(tmp_path)
    threads = {}

    def read(running):
        threads["read"] = threading.current_thread()
        return ConfigFiles.read_over(stage.files, running)

    def apply(*_):
        threads["applied"] = threading.current_thread()

    stage.files.read_over = read
    service = ConfigReload(
        stage.clock, stage.files, stage.files.read(), b"", apply, in_thread=deferToThread
    )
    stage.write(keys="ab")
    assert (await service.reload()).generation == 2
    assert threads["applied"] is threading.current_thread() is not threads["read"]


# -- the file watch --------------------------------------------------------------------------------


def test_a_changed_file_is_applied_within_two_seconds(stage):
    stage.looks(10)
    assert stage.story == []
    stage.clock.advance(LOOK_SECONDS * 0.01)
    stage.write(keys="ab")
    stage.looks(3)
    assert stage.names() == [["a", "b"]]
    assert stage.clock.seconds() - NOON - 10 * LOOK_SECONDS < 2.0


def test_a_file_that_is_still_being_written_is_not_tried(stage):
    """Its first half is a valid file as well: one with fewer keys."""
    whole = "keys:\n" + "".join(
        f"- {{name: {name}, key: test-key-of-{name}-0123456789}}\n" for name in "bcdef"
    )
    pieces = whole.splitlines(keepends=True)
    for end in range(1, len(pieces) + 1):
        (stage.folder / "keys.yaml").write_text("".join(pieces[:end]))
        stage.looks(2)
    assert stage.story == []
    stage.looks(1)
    assert stage.names() == [["b", "c", "d", "e", "f"]]


def test_a_file_that_is_begun_anew_after_a_reload_by_hand_has_to_prove_steady_too(stage):
    """Also where it begins as the file was that the watch had seen for long."""
    stage.write(keys="b")
    stage.looks(3)
    stage.write(keys="ac")
    result_of(stage.service.reload())
    stage.write(keys="b")
    stage.looks(2)
    assert stage.names() == [["b"], ["a", "c"]]
    stage.write(keys="bd")
    stage.looks(3)
    assert stage.names() == [["b"], ["a", "c"], ["b", "d"]]


def test_a_file_with_a_mistake_is_tried_once_until_it_changes(stage):
    (stage.folder / "keys.yaml").write_text("keys: [\n")
    stage.looks(20)
    assert stage.service.status.failures == 1
    (stage.folder / "keys.yaml").write_text("keys: [[\n")
    stage.looks(20)
    assert stage.service.status.failures == 2
    stage.write(keys="a")
    stage.looks(20)
    status = stage.service.status
    assert (status.failures, status.successes, status.generation) == (2, 1, 1)
    assert status.last_error is None


def test_what_was_reloaded_by_hand_is_not_reloaded_once_more(stage):
    stage.write(keys="ab")
    stage.looks(1)
    result_of(stage.service.reload())
    stage.looks(20)
    assert stage.service.status.successes == 1


def test_a_look_that_is_due_while_a_reload_runs_does_not_ask_for_another(stage):
    stage.write(keys="ab")
    stage.looks(2)
    stage.threads.wait = True
    asked = stage.service.reload()
    stage.looks(1)
    stage.threads.held.pop()()  # the look's fingerprint, with the reload's still to come
    stage.threads.wait = False
    stage.threads.step()
    assert result_of(asked).generation == 2
    stage.looks(10)
    assert stage.service.status.successes == 1


def test_what_changed_between_reading_at_the_start_and_the_first_look_is_noticed(tmp_path):
    stage = Stage(tmp_path)
    stage.write(keys="ab")
    stage.service.startService()
    stage.looks(3)
    assert stage.names() == [["a", "b"]]
    stage.service.stopService()


def test_what_changes_while_a_reload_reads_is_found_by_the_next_look(stage):
    stage.write(keys="ab")
    stage.threads.wait = True
    asked = stage.service.reload()
    stage.threads.step()
    stage.write(keys="abc")
    stage.threads.wait = False
    stage.threads.step()
    assert result_of(asked).generation == 2
    stage.looks(4)
    assert stage.service.status.successes == 2


def test_a_look_that_fails_does_not_end_the_watch(stage):
    real = stage.files.fingerprint

    def fail():
        stage.files.fingerprint = real
        raise RuntimeError("a defect")

    stage.files.fingerprint = fail
    with capturedLogs() as events:
        stage.looks(1)
    assert [e["log_level"] for e in events] == [LogLevel.critical]
    stage.write(keys="ab")
    stage.looks(3)
    assert stage.names() == [["a", "b"]]


def test_nothing_is_looked_at_after_the_stop(stage):
    stage.service.stopService()
    stage.write(keys="ab")
    stage.looks(10)
    assert stage.story == []
    assert stage.clock.getDelayedCalls() == []


# -- SIGHUP ----------------------------------------------------------------------------------------


def hang_up(stage):
    os.kill(os.getpid(), signal.SIGHUP)


def test_sighup_reloads(stage):
    stage.write(keys="ab")
    hang_up(stage)
    assert stage.story == []  # nothing is done within the signal handler
    stage.clock.advance(0)
    assert stage.names() == [["a", "b"]]


def test_a_mistake_found_after_sighup_is_only_logged(stage):
    (stage.folder / "keys.yaml").write_text("keys: [\n")
    hang_up(stage)
    stage.clock.advance(0)
    assert stage.service.status.failures == 1


def test_many_signals_are_at_most_two_reloads(stage):
    stage.threads.wait = True
    for _ in range(20):
        hang_up(stage)
        stage.clock.advance(0)
    while stage.threads.held:
        stage.threads.step()
    assert stage.service.status.successes == 2


def test_sighup_while_the_process_stops_does_nothing(stage):
    stage.service.stopService()
    stage.write(keys="ab")
    hang_up(stage)
    stage.clock.advance(0)
    assert stage.story == []
