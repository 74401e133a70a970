"""One event, several listeners."""

from twisted.logger import globalLogPublisher

from gemproxy.core.context import RequestContext
from gemproxy.core.events import RequestEvents, RequestListener
from gemproxy.pool.snapshot import Override
from gemproxy.pool.status import PoolListener
from gemproxy.telemetry.history import RequestHistory
from gemproxy.telemetry.telemetry import PoolListeners, log_failure


def test_every_part_hears_of_a_request():
    first, second = RequestHistory(), RequestHistory()
    RequestEvents([first, second], log_failure).request_ended(
        RequestContext("r", "/", 0.0), 200, 1.0
    )
    assert first.find("r") == second.find("r")
    assert first.find("r") is not None


class Broken(RequestListener):
    def request_ended(self, context, status, seconds):
        raise ZeroDivisionError


def test_a_part_that_fails_is_logged_and_keeps_the_others_from_nothing():
    first, second, logged = RequestHistory(), RequestHistory(), []
    globalLogPublisher.addObserver(logged.append)
    try:
        events = RequestEvents([first, Broken(), second], log_failure)
        events.request_ended(RequestContext("r", "/", 0.0), 200, 1.0)
    finally:
        globalLogPublisher.removeObserver(logged.append)
    assert first.find("r") == second.find("r") is not None
    (event,) = [event for event in logged if "log_failure" in event]
    assert event["log_failure"].check(ZeroDivisionError)


def test_what_one_listener_raises_is_logged_and_keeps_the_others_from_nothing():
    heard, logged = [], []

    class Listener(PoolListener):
        def override_changed(self, key, override):
            heard.append((key, override))

    class BrokenListener(PoolListener):
        def override_changed(self, key, override):
            raise ZeroDivisionError

    listeners = PoolListeners(Listener(), BrokenListener(), Listener())
    globalLogPublisher.addObserver(logged.append)
    try:
        listeners.override_changed("alpha", Override(weight=2))
    finally:
        globalLogPublisher.removeObserver(logged.append)
    assert heard == [("alpha", Override(weight=2))] * 2
    (event,) = [event for event in logged if "log_failure" in event]
    assert event["log_failure"].check(ZeroDivisionError)
