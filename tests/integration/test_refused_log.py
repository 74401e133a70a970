"""Who has no token cannot fill the log: a few lines a minute for each reason, and whole counts."""

from itertools import count

import pytest
from fakes.running import ADMIN_TOKEN, RunningDaemon, eventually, keys_of
from fakes.wire import CHAT, Wire, request, said

TOKEN = "a-client-token-of-the-tests"
MANY = 200
SOURCES = count(2)
LONG_ID = "r" * 128
LONG_PATH = "/v1/" + "p" * 8000


@pytest.fixture(scope="module")
def daemon(simulator, tmp_path_factory):
    running = RunningDaemon(
        tmp_path_factory.mktemp("daemon"),
        simulator.url,
        keys_of("alpha"),
        proxy={"accessTokens": [TOKEN]},
    )
    yield running
    running.stop()


def ask_again_and_again(daemon, head, status, source):
    """Send one request many times; gives what that brought to the log."""
    before = len(daemon.lines)
    with Wire(daemon, source=source) as wire:
        for _ in range(MANY):
            wire.send(head)
            # An address that brings wrong tokens again and again is told so.
            assert wire.receive().status in {status, 429}
    with Wire(daemon) as wire:
        wire.ask("POST", CHAT, said("x"), authorization=f"Bearer {TOKEN}", **{"x-request-id": "z"})
    eventually(lambda: any('"z"' in line for line in daemon.lines[before:]))
    return [line for line in daemon.lines[before:] if '"z"' not in line]


def one_each(daemon, head, status):
    """As above, where each request takes its connection with it."""
    before = len(daemon.lines)
    for _ in range(MANY):
        with Wire(daemon) as wire:
            wire.send(head)
            assert wire.receive().status == status
    with Wire(daemon) as wire:
        wire.ask("POST", CHAT, said("x"), authorization=f"Bearer {TOKEN}", **{"x-request-id": "z"})
    eventually(lambda: any('"z"' in line for line in daemon.lines[before:]))
    return [line for line in daemon.lines[before:] if '"z"' not in line]


AUTHORIZED = {"authorization": f"Bearer {TOKEN}"}


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (request("GET", LONG_PATH, None, **{"x-request-id": LONG_ID}), 401),
        (request("POST", CHAT, said("x"), authorization="Bearer " + "w" * 5000), 401),
        (request("GET", LONG_PATH, None, **AUTHORIZED), 404),
        (request("DELETE", CHAT, None, **AUTHORIZED), 405),
        (request("GET", "/admin/keys", None, **{"x-request-id": LONG_ID}), 401),
        (request("GET", "/admin/" + "p" * 8000, None), 401),
    ],
)
def test_refused_requests_are_a_few_lines(daemon, head, status):
    counted = daemon.metrics()
    # Wrong tokens lock an address out of the admin API, which is another test's matter.
    lines = ask_again_and_again(daemon, head, status, f"127.0.0.{next(SOURCES)}")
    # And a few that warn of a wrong token.
    assert len(lines) <= 40, lines[-3:]
    assert sum(map(len, lines)) < 64 * 1024
    after = daemon.metrics()
    grown = sum(
        value - counted.get(series, 0)
        for series, value in after.items()
        if series[0] == "gemproxy_requests_total"
        and {("status", str(status)), ("status", "429")} & series[1]
    )
    is_admin = b"/admin" in head
    assert is_admin or grown == MANY
    failures = (
        "gemproxy_auth_failures_total",
        frozenset({("api", "admin" if is_admin else "public")}),
    )
    assert after[failures] - counted[failures] == (MANY if status == 401 else 0)


@pytest.mark.parametrize(
    "head",
    [
        b"NOT HTTP AT ALL " + b"x" * 5000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n folded: " + b"x" * 5000 + b"\r\n\r\n",
    ],
)
def test_what_is_no_http_is_a_few_lines(daemon, head):
    counted = daemon.metric(
        "gemproxy_requests_total", route="malformed", model="other", status="400"
    )
    lines = one_each(daemon, head, 400)
    assert len(lines) <= 20
    assert sum(map(len, lines)) < 64 * 1024
    after = daemon.metric("gemproxy_requests_total", route="malformed", model="other", status="400")
    assert after - (counted or 0) == MANY


def test_wrong_admin_tokens_are_a_few_lines(daemon):
    head = request("GET", "/admin/keys", None, authorization=f"Bearer {ADMIN_TOKEN}x")
    before = len(daemon.lines)
    with Wire(daemon) as wire:
        for _ in range(MANY):
            wire.send(head)
            assert wire.receive().status in {401, 429}
    assert len(daemon.lines) - before <= 60
