"""The wall clock of the real daemon is set while it runs: nothing comes late, nothing is cut.

libfaketime shifts what the daemon takes for the wall clock, and leaves its monotonic clock alone.
"""

import signal
import socket
import time
from email.utils import parsedate_to_datetime
from pathlib import Path
from threading import Thread

import pytest
from fakes.clients import PATIENCE, post, said
from fakes.running import RunningDaemon, eventually, keys_of
from fakes.wire import Wire, chat

HOUR, DAY = 3600, 86_400
#: Real seconds within which the daemon has to do what it does every second or half.
SOON = 20.0
LIBRARY = next(iter(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")), None)
PLAIN = "gemini-2.5-flash-lite"  # does not think, so that every chunk has text

pytestmark = pytest.mark.skipif(LIBRARY is None, reason="libfaketime is not installed")


class WallClock:
    """What the daemon reads as its wall clock: the real one, and ``step`` seconds beside it."""

    def __init__(self, folder):
        self._file = folder / "faketime"
        self.step = 0
        self.set(0)
        self.environ = {
            "LD_PRELOAD": str(LIBRARY),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }

    def set(self, step):
        """Set it forward, or back where ``step`` is negative; always counted from the real one."""
        self.step = step
        fresh = self._file.with_suffix(".new")
        fresh.write_text(f"{step:+d}\n")
        fresh.replace(self._file)

    def now(self):
        return time.time() + self.step


class Manager:
    """systemd's end of the socket."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.settimeout(PATIENCE)

    def wait_for(self, wanted):
        while wanted not in self.socket.recv(4096).decode().split("\n"):
            pass

    def pings_within(self, seconds):
        """How many pings of the watchdog come in so many real seconds."""
        end, pings = time.monotonic() + seconds, 0
        while (left := end - time.monotonic()) > 0:
            self.socket.settimeout(left)
            try:
                pings += "WATCHDOG=1" in self.socket.recv(4096).decode().split("\n")
            except TimeoutError:
                break
        return pings


class Stage:
    def __init__(self, folder, upstream):
        self.folder, self.upstream = folder, upstream
        self.clock = WallClock(folder)
        self.manager = Manager(folder / "notify")
        self.start()

    def start(self):
        self.daemon = RunningDaemon(
            self.folder,
            self.upstream,
            keys_of("alpha"),
            environ={
                **self.clock.environ,
                "NOTIFY_SOCKET": str(self.folder / "notify"),
                "WATCHDOG_USEC": "1000000",
            },
            proxy={"host": "127.0.0.1", "port": 0},
            persistence={"checkpointSeconds": 0.5},
            upstream={"firstByteTimeoutSeconds": 3},
            retry={"maxAttempts": 1},
        )
        self.manager.wait_for("READY=1")
        assert abs(self.wall() - self.clock.now()) < 10

    def wall(self):
        """Epoch time as the daemon tells it."""
        with Wire(self.daemon) as wire:
            return parsedate_to_datetime(wire.ask("GET", "/livez").headers["date"]).timestamp()

    def set(self, step):
        """Set the wall clock, and wait until the daemon's answers tell the new time."""
        self.clock.set(step)
        in_time(lambda: abs(self.wall() - self.clock.now()) < 10)

    def stop(self):
        self.daemon.stop()
        self.manager.socket.close()


@pytest.fixture
def stage(tmp_path, simulator):
    simulator.reset()
    made = Stage(tmp_path, simulator.url)
    yield made
    made.stop()


def in_time(look, seconds=SOON):
    eventually(look, seconds)


def answer_in_background(*arguments):
    """The answer of a request that is sent now, and how many real seconds it took."""
    told = []

    def ask():
        began = time.monotonic()
        told.append((post(*arguments), time.monotonic() - began))

    thread = Thread(target=ask)
    thread.start()

    def wait():
        thread.join(PATIENCE)
        return told[0]

    return wait


@pytest.mark.parametrize("step", [-3 * DAY, 400 * DAY])
def test_what_is_done_every_second_is_done_every_second(stage, simulator, step):
    simulator.behave("alpha", "hang", times=1)
    waiting = answer_in_background(stage.daemon, said("one"))
    simulator.wait_for_request(lambda request: "generateContent" in request["path"])
    stage.set(step)
    assert stage.manager.pings_within(5.0) >= 5
    # Of 3 s, which were running when the clock was set.
    answer, seconds = waiting()
    assert answer.status == 504
    assert seconds < SOON
    saved = stage.daemon.health()["persistence"]["last_checkpoint"]
    in_time(lambda: stage.daemon.health()["persistence"]["last_checkpoint"] != saved)
    stage.daemon.configure(keys_of("alpha", "beta"))
    in_time(lambda: stage.daemon.health()["keys"]["total"] == 2)
    assert chat(stage.daemon).status == 200
    stage.daemon.popen.send_signal(signal.SIGTERM)
    assert stage.daemon.wait() == 0


@pytest.mark.parametrize("step", [3 * DAY, -HOUR])
def test_streams_and_attempts_that_are_under_way_go_on(stage, simulator, step):
    simulator.behave("alpha", "slow", parameters={"delay": 1.0, "chunkDelay": 0.5})
    stream = answer_in_background(stage.daemon, said("one two three", PLAIN, stream=True))
    whole = answer_in_background(stage.daemon, said("one two three", PLAIN))
    in_time(lambda: stage.daemon.health()["in_flight"] == 2)
    stage.set(step)
    assert stream()[0].events[-1] == "[DONE]"
    answer = whole()[0]
    assert answer.status == 200
    # When the request came, by the clock of that moment.
    assert abs(answer.json["created"] - time.time()) < PATIENCE
    assert answer.headers["x-gemproxy-attempts"] == "1"
    line = stage.daemon.request_line(answer.headers["x-request-id"])
    assert 0 < line["ms"] < 1000 * SOON
    assert line["time"][:13] == time.strftime("%Y-%m-%dT%H", time.gmtime(stage.clock.now()))
    assert abs(chat(stage.daemon).json["created"] - stage.clock.now()) < PATIENCE
    # What is remembered of it, too.
    assert stage.daemon.admin("GET", "requests").json["requests"][-1]["time"] < line["time"]
    assert stage.daemon.admin("GET", "metrics/series").status == 200


@pytest.mark.parametrize("step", [-3 * DAY, 3 * DAY])
def test_a_cooldown_ends_when_it_would_have_ended(stage, simulator, step):
    simulator.behave("alpha", "rate-limited-minute", parameters={"retryDelay": 60})
    began = time.monotonic()
    assert chat(stage.daemon).status == 429
    stage.set(step)
    refused = chat(stage.daemon)
    assert refused.status == 429
    left = 60 - (time.monotonic() - began)
    assert left - 5 < int(refused.headers["retry-after"]) <= 61
    until = stage.daemon.key("alpha")["cooldowns"][0]["until"]
    assert until[:4] == time.strftime("%Y", time.gmtime(stage.clock.now()))


@pytest.mark.parametrize(("running", "down"), [(0, -3 * DAY), (-3 * DAY, 3 * DAY)])
def test_a_cooldown_is_no_longer_after_a_restart(stage, simulator, running, down):
    simulator.behave("alpha", "rate-limited-minute", parameters={"retryDelay": 60})
    assert chat(stage.daemon).status == 429
    stage.set(running)
    saved = stage.daemon.health()["persistence"]["last_checkpoint"]
    in_time(lambda: stage.daemon.health()["persistence"]["last_checkpoint"] != saved)
    stage.daemon.kill()
    stage.clock.set(running + down)
    stage.start()
    refused = chat(stage.daemon)
    if down <= 0:
        assert refused.status == 429
    assert int(refused.headers.get("retry-after", 0)) <= 61
    health = stage.daemon.admin("GET", "health")
    assert health.status == 200
    assert stage.daemon.admin("GET", "keys").status == 200


def test_what_was_counted_is_still_there_when_the_clock_was_set_back(stage):
    for step in (0, 600, -HOUR, 0):
        stage.set(step)
        assert chat(stage.daemon).status == 200
    stage.daemon.stop()
    stage.start()
    series = stage.daemon.admin("GET", "metrics/series").json["minutes"]
    # All but those of the minute that is to come.
    assert sum(minute["requests"] for minute in series) >= 2
