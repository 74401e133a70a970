"""Audit events on their way out."""

import io
import json

import pytest
from twisted.logger import capturedLogs, globalLogPublisher

from gemproxy.config.settings import LoggingSettings
from gemproxy.core.audit import Actor, AuditEvent
from gemproxy.telemetry.admin_log import AuditLog
from gemproxy.telemetry.logs import LogSink
from gemproxy.telemetry.scrubbing import Scrubber

EVENT = AuditEvent(
    at=1_795_377_600.0,
    actor=Actor("192.0.2.1", "admin"),
    action="key.weight",
    target="alpha",
    target_id="0123456789ab",
    before={"weight": 2},
    after={"weight": 5},
)


@pytest.fixture
def lines():
    """The daemon's log, line by line."""
    stream = io.StringIO()
    sink = LogSink(LoggingSettings(level="info"), Scrubber(), stream)
    globalLogPublisher.addObserver(sink)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    globalLogPublisher.removeObserver(sink)


def test_a_change_is_one_line_of_the_log(lines):
    AuditLog().changed(EVENT)
    (line,) = lines()
    line.pop("time")
    assert line == {
        "level": "info",
        "logger": "gemproxy.audit",
        "event": "changed by an operator",
        "action": "key.weight",
        "target": "alpha",
        "target_id": "0123456789ab",
        "address": "192.0.2.1",
        "token": "admin",
        "before": {"weight": 2},
        "after": {"weight": 5},
    }


def test_no_line_is_missing_however_many_there_are(lines):
    log = AuditLog()
    for _ in range(200):
        log.changed(EVENT)
    assert len(lines()) == 200


def test_a_change_is_kept_as_well():
    kept = []
    with capturedLogs():
        AuditLog(kept.append).changed(EVENT)
    assert kept == [EVENT]
