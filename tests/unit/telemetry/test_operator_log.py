"""An operator's requests in the log."""

import pytest
from twisted.logger import LogLevel, capturedLogs

from gemproxy.core.context import RequestContext
from gemproxy.telemetry.admin_log import OperatorLog
from gemproxy.telemetry.request_log import RequestLog


@pytest.mark.parametrize(
    ("route", "status", "level"),
    [
        ("/admin/health", 200, LogLevel.debug),
        ("/admin/page/main.js", 304, LogLevel.debug),
        ("/admin/health", 401, LogLevel.info),
        ("/admin/config/reload", 422, LogLevel.info),
    ],
)
def test_looks_do_not_fill_the_log_and_what_fails_is_in_it(route, status, level):
    with capturedLogs() as events:
        OperatorLog(RequestLog()).request_ended(RequestContext("r", route, 0.0), status, 0.1)
    assert [event["log_level"] for event in events] == [level]
    assert events[0]["route"] == route
    assert events[0]["status"] == status
