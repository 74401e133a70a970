"""One event, one line: scrubbed, escaped, and never an exception."""

from __future__ import annotations

import ast
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import ILogObserver, Logger, LogLevel, LogPublisher
from twisted.python import log as legacy_log
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from gemproxy.config.settings import LoggingSettings
from gemproxy.secret import Secret
from gemproxy.telemetry.log_rate_limit import RepeatLimiter, Suppressed
from gemproxy.telemetry.logs import LogSink
from gemproxy.telemetry.scrubbing import Scrubber

SECRET = Secret("test-key-one-0123456789abcdef")
NOON = 1_700_000_000.25


class Sheet:
    """A sink over a string, with a logger in front of it."""

    def __init__(self, **settings):
        self.stream = io.StringIO()
        self.sink = LogSink(LoggingSettings(**settings), Scrubber([SECRET]), self.stream)
        self.log = Logger("test.room", observer=LogPublisher(self.sink))

    @property
    def lines(self):
        text = self.stream.getvalue()
        assert not text or text.endswith("\n")
        return text.split("\n")[:-1]

    @property
    def records(self):
        return [json.loads(line) for line in self.lines]

    def event(self, words="something", level=LogLevel.info, **fields):
        self.sink(
            {
                "log_time": NOON,
                "log_level": level,
                "log_namespace": "test.room",
                "log_format": words,
                **fields,
            }
        )


@pytest.fixture
def sheet():
    return Sheet()


def test_a_sink_is_an_observer(sheet):
    verifyObject(ILogObserver, sheet.sink)


def test_a_json_line_has_time_level_logger_event_and_fields(sheet):
    sheet.event("attempt finished", key="one", seconds=0.5, retry=False, tokens={"in": 1}, x=None)
    assert sheet.lines == [
        (
            '{"time":"2023-11-14T22:13:20.250Z","level":"info","logger":"test.room",'
            '"event":"attempt finished","key":"one","seconds":0.5,"retry":false,"tokens":{"in":1},'
            '"x":null}'
        )
    ]


def test_a_text_line_is_for_people():
    sheet = Sheet(format="text")
    sheet.event("attempt finished", key="one", note="two words", seconds=0.5)
    assert sheet.lines == [
        (
            "2023-11-14T22:13:20.250Z info     [test.room] attempt finished key=one "
            'note="two words" seconds=0.5'
        )
    ]


def test_fields_fill_the_words(sheet):
    sheet.log.info("{number} keys from {place}", number=3, place="here")
    assert sheet.records[0]["event"] == "3 keys from here"
    assert sheet.records[0]["number"] == 3


def test_a_field_cannot_take_the_place_of_the_lines_own(sheet):
    sheet.log.info("x", traceback="mine", time=5, event="e")
    record = sheet.records[0]
    assert record["event"] == "x"
    assert (record["traceback_"], record["time_"], record["event_"]) == ("mine", 5, "e")


def test_a_failure_becomes_a_field_with_its_traceback(sheet):
    def tick():
        raise ValueError(f"bad {SECRET.reveal()}")

    try:
        tick()
    except ValueError:
        sheet.log.failure("tick failed")
    (record,) = sheet.records
    assert record["level"] == "critical"
    assert record["error"] == "ValueError: bad test…cdef"
    assert "test_logs.py" in record["traceback"]


@pytest.mark.parametrize("form", ["json", "text"])
def test_no_secret_passes_in_words_fields_names_or_tracebacks(form):
    value = SECRET.reveal()
    sheet = Sheet(format=form)
    sheet.event(f"got {value}")
    sheet.event("{x}", x=f"https://host/?key={value}")
    sheet.event("x", x={"deep": [value, {value: value.encode()}]}, **{value: 1})
    sheet.event("x", x=KeyError(value), y=SECRET)
    sheet.event("x", log_failure=Failure(RuntimeError(value)), log_system=value)
    assert value not in sheet.stream.getvalue()
    assert value[:12] not in sheet.stream.getvalue()
    assert len(sheet.lines) == 5
    if form == "json":
        assert all(sheet.records)


@pytest.mark.parametrize("form", ["json", "text"])
def test_no_value_can_begin_a_line_of_its_own(form):
    sheet = Sheet(format=form)
    sheet.event("x\ny\r\x1b[2J", name="a\nb\u2028c\x00", **{"na\nme": 1})
    assert len(sheet.stream.getvalue().splitlines()) == 1 or form == "json"
    assert len(sheet.lines) == 1
    assert "\x1b" not in sheet.lines[0]


class Unspeakable:
    def __repr__(self):
        raise RuntimeError("no words")

    __str__ = __repr__


class Odd(dict):
    def items(self):
        raise RuntimeError("no items")


@pytest.mark.parametrize("form", ["json", "text"])
@pytest.mark.parametrize(
    "fields",
    [
        {"x": Unspeakable()},
        {"x": Odd()},
        {"x": {Unspeakable(): 1}},
        {"x": [Unspeakable()]},
        {"log_system": Unspeakable()},
        {"log_failure": Unspeakable()},
        {"log_format": "{missing.attribute}"},
        {"log_format": "{unclosed"},
        {"log_format": b"\xff"},
        {"log_format": 5},
        {"log_format": None},
        {"log_level": None},
        {"log_time": None},
        {"log_time": 1e300},
        {"log_namespace": Unspeakable()},
        {"x": float("nan"), "y": float("-inf"), "z": 10**5000},
        {"x": "\ud800"},
        {"x": b"\xff\x00"},
        {"x": {1, 2}, "y": (1,), "z": LogLevel.warn},
    ],
)
def test_an_event_that_cannot_be_rendered_still_gives_a_line(form, fields):
    sheet = Sheet(format=form)
    for level in (LogLevel.info, LogLevel.error):
        sheet.event(**{"level": level, **fields}) if "log_level" not in fields else sheet.event(
            **fields
        )
    assert len(sheet.lines) == 2
    if form == "json":
        assert all("event" in record for record in sheet.records)


@given(
    st.dictionaries(
        st.text(max_size=9),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
            lambda inner: (
                st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
            ),
            max_leaves=8,
        ),
        max_size=5,
    )
)
def test_any_event_gives_one_line_in_both_formats(fields):
    for sheet in (Sheet(), Sheet(format="text")):
        sheet.sink({**fields, "log_level": LogLevel.info})
        assert len(sheet.lines) == 1
    assert sheet.stream.getvalue().isascii() or sheet.lines[0].isprintable()


def test_long_text_is_scrubbed_first_and_then_cut(sheet):
    sheet.event("x", body="y" * 1990 + SECRET.reveal() + "z" * 50_000)
    (record,) = sheet.records
    assert len(sheet.lines[0]) < 10_000
    assert SECRET.reveal()[:12] not in record["body"]
    assert "characters" in record["body"]


def test_the_level_decides_and_can_be_changed_while_running(sheet):
    sheet.event("one", LogLevel.debug)
    sheet.sink.apply(LoggingSettings(level="debug"))
    sheet.event("two", LogLevel.debug)
    sheet.sink.apply(LoggingSettings(level="error", format="text"))
    sheet.event("three", LogLevel.warn)
    sheet.event("four", LogLevel.critical)
    assert json.loads(sheet.lines[0])["event"] == "two"
    assert len(sheet.lines) == 2
    assert sheet.lines[1].endswith("critical [test.room] four")


def test_events_of_the_old_kind_pass_through_the_same_sink(sheet):
    old = legacy_log.LogPublisher(publishPublisher=LogPublisher(sheet.sink))
    old.msg("old", "words", system="web")
    (record,) = sheet.records
    assert (record["logger"], record["event"]) == ("web", "old words")
    assert set(record) == {"time", "level", "logger", "event"}


def test_a_repeated_warning_is_held_back_and_counted(sheet):
    for _ in range(50):
        sheet.event("disk full", LogLevel.warn)
    sheet.event("other", LogLevel.error)
    assert [record["event"] for record in sheet.records] == ["disk full"] * 20 + ["other"]
    sheet.event("later", LogLevel.info, log_time=NOON + 61)
    note, later = sheet.records[21:]
    assert (note["event"], note["repeated"], note["count"]) == (
        "repeated events suppressed",
        "disk full",
        30,
    )
    assert later["event"] == "later"


def test_lines_of_requests_are_never_held_back(sheet):
    for _ in range(100):
        sheet.event("request finished", LogLevel.info, log_namespace="gemproxy.requests")
    assert len(sheet.lines) == 100


def test_different_words_from_one_source_are_no_repetition(sheet):
    for i in range(50):
        sheet.event("{log_io}", LogLevel.error, log_io=f"line {i}")
    assert len(sheet.lines) == 50


@pytest.mark.parametrize(
    "event",
    [
        # Of ours those that anybody can cause.
        {"log_namespace": "gemproxy.http.connection", "log_limited": True},
        # Of a library's all: nobody knows when they come.
        {"log_namespace": "twisted.internet.tcp"},
        {"log_namespace": "log_legacy", "log_format": "{log_text}", "log_text": "a peer did it"},
    ],
)
def test_what_anybody_can_cause_is_held_back_at_info_too(sheet, event):
    for _ in range(100):
        sheet.event("a peer did it", LogLevel.info, **event)
    assert len(sheet.lines) == 20
    assert "log_limited" not in sheet.lines[0]
    sheet.sink.tell_suppressed(NOON + 61)
    assert (sheet.records[-1]["repeated"], sheet.records[-1]["count"]) == ("a peer did it", 80)


def test_after_the_interval_a_repeated_event_is_written_again():
    limiter = RepeatLimiter(burst=2, interval=10.0)
    assert [limiter.admit("a", "b", 0.0) for _ in range(3)] == [True, True, False]
    assert limiter.ended(9.9) == []
    assert limiter.ended(10.0) == [Suppressed("a", "b", 1)]
    assert limiter.admit("a", "b", 10.0)


def test_a_clock_that_was_set_back_suppresses_nothing_for_long():
    limiter = RepeatLimiter(burst=1, interval=10.0)
    assert limiter.admit("a", "b", 1000.0)
    assert limiter.ended(5.0) == []
    assert limiter.admit("a", "b", 5.0)


def test_the_limiter_is_bounded():
    limiter = RepeatLimiter(burst=1, interval=10.0)
    admitted = sum(limiter.admit("a", str(i), 0.0) for i in range(5000))
    assert admitted == limiter.MOST + 1
    assert limiter.ended(10.0) == [Suppressed("", "other events", 5000 - limiter.MOST - 1)]


def test_a_stream_that_is_closed_or_full_costs_lines_and_nothing_else(sheet):
    sheet.stream.close()
    sheet.event("x")
    assert sheet.sink.lost == 1


TWISTD = "from twisted.scripts.twistd import run; run()"
PLUGIN = """
from twisted.application.service import ServiceMaker
rehearsal = ServiceMaker("rehearsal", "rehearsal_tap", "a rehearsal", "rehearsal")
"""
TAP = """
import sys, warnings
from twisted.application.service import Service
from twisted.logger import Logger
from twisted.python import log as old, usage
from gemproxy.config.settings import LoggingSettings
from gemproxy.telemetry.logs import LoggedServices, install
from gemproxy.telemetry.scrubbing import Scrubber
from gemproxy.secret import Secret

class Options(usage.Options):
    pass

class Talk(Service):
    def startService(self):
        Logger("room").info("new {key}", key="canary-0123456789-canary")
        old.msg("old canary-0123456789-canary")
        print("printed canary-0123456789-canary")
        print("to stderr canary-0123456789-canary", file=sys.stderr)
        warnings.warn("warned canary-0123456789-canary")
        old.err(RuntimeError("raised canary-0123456789-canary"), "why")
        from twisted.internet import reactor
        reactor.callLater(0, reactor.stop)

def makeService(options):
    Logger("room").info("early canary-0123456789-canary")
    sink = install(LoggingSettings(), Scrubber([Secret("canary-0123456789-canary")]), sys.stdout)
    services = LoggedServices(sink)
    Talk().setServiceParent(services)
    return services
"""


def test_under_twistd_standard_output_has_json_lines_and_nothing_else(tmp_path):
    (tmp_path / "twisted/plugins").mkdir(parents=True)
    (tmp_path / "twisted/plugins/rehearsal_plugin.py").write_text(PLUGIN)
    (tmp_path / "rehearsal_tap.py").write_text(TAP)
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", TWISTD, "-n", "--pidfile=", "rehearsal"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{root}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "canary-0123" not in done.stdout
    events = [json.loads(line)["event"] for line in done.stdout.splitlines()]
    for words in ("early", "new", "old", "printed", "to stderr"):
        assert f"{words} cana…nary" in events
    assert any("warned cana…nary" in event for event in events)
    assert any("starting up" in event for event in events)
    assert any("Server Shut Down" in event for event in events)


def test_whatever_a_client_causes_at_info_is_limited():
    """The rooms that clients talk to; above info everything is limited."""
    package = Path(__file__).parents[3] / "gemproxy"
    unlimited = []
    paths = [path for room in ("http", "api", "admin") for path in package.glob(f"{room}/**/*.py")]
    for path in paths:
        for call in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(call, ast.Call) and ast.unparse(call.func) == "self._log.info":
                names = {keyword.arg for keyword in call.keywords}
                if "log_limited" not in names:
                    unlimited.append(f"{path.name}:{call.lineno}")
    assert unlimited == []
