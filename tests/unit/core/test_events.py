"""Several listeners of what happens to a request."""

from gemproxy.core.context import RequestContext
from gemproxy.core.events import RequestEvents, RequestListener


class Everything(RequestListener):
    def __init__(self):
        self.heard = []

    def request_started(self, context):
        self.heard.append("started")

    def attempt_started(self, context):
        self.heard.append(f"try {context.key_name}")

    def attempt_ended(self, context):
        self.heard.append(context.attempts[-1].outcome.verdict.value)

    def first_byte(self, context):
        self.heard.append("first byte")

    def request_ended(self, context, status, seconds):
        self.heard.append(status)


class TheEnd(RequestListener):
    def request_ended(self, context, status, seconds):
        pass


class Broken(RequestListener):
    def request_started(self, context):
        raise ZeroDivisionError

    def request_ended(self, context, status, seconds):
        raise ZeroDivisionError


def test_details_are_reported_only_where_somebody_wants_them():
    assert not RequestEvents([TheEnd()], print).is_detailed
    assert RequestEvents([TheEnd(), Everything()], print).is_detailed


def test_a_listener_that_fails_is_told_and_keeps_the_others_from_nothing():
    first, last, failed = Everything(), Everything(), []
    events = RequestEvents([first, Broken(), TheEnd(), last], failed.append)
    context = RequestContext("r", "/", 0.0)
    events.request_started(context)
    events.first_byte(context)
    events.request_ended(context, 200, 1.0)
    assert first.heard == last.heard == ["started", "first byte", 200]
    assert len(failed) == 2
