"""A client that leaves: the upstream is told within a second, and nobody is to blame."""

import asyncio
import time

import openai
import pytest
from fakes.clients import async_sdk_of, said, sdk_of, send_only
from fakes.running import RunningDaemon, RunningSimulator, keys_of

MODEL = "gemini-2.5-flash-lite"
#: What is promised.
TELLING_SECONDS = 1.0
HANGING = "[simulate:hang]"
STREAMING = "[simulate:slow delay=0 chunkDelay=0.2] [simulate:chunks n=300]"


@pytest.fixture(scope="module")
def simulator(tmp_path_factory):
    running = RunningSimulator(tmp_path_factory.mktemp("simulator"), ("only",))
    yield running
    running.stop()


@pytest.fixture(scope="module")
def daemon(simulator, tmp_path_factory):
    """One key, of which the first failure would be one too many, and room for one request."""
    running = RunningDaemon(
        tmp_path_factory.mktemp("daemon"),
        simulator.url,
        keys_of("only"),
        proxy={"maxConcurrentRequests": 1},
        monitoring={"failureThreshold": 1},
    )
    yield running
    running.stop()


@pytest.fixture(autouse=True)
def fresh(simulator):
    simulator.reset()


def assert_told_at_once(simulator, left_at):
    """The simulator sees its client close, soon after ``left_at``."""
    request = simulator.wait_for_request(lambda request: request["finished"])
    assert time.monotonic() - left_at < TELLING_SECONDS
    assert request["closedEarly"]


def assert_nobody_was_charged(daemon, simulator):
    """The one key, the model, and the one place for a request are free at once."""
    with sdk_of(daemon) as client:
        for stream in (False, True):
            answer = client.chat.completions.create(**said("Hello", MODEL, stream=stream))
            assert list(answer)
    assert [request["closedEarly"] for request in simulator.requests()] == [True, False, False]


def wait_until_asked(simulator):
    simulator.wait_for_request(lambda request: request["call"] is not None)


@pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])
def test_client_that_leaves_while_the_upstream_is_silent(daemon, simulator, stream):
    request_id = f"left-a-silent-{stream}"
    client = send_only(daemon, said(HANGING, MODEL, stream=stream), request_id)
    wait_until_asked(simulator)
    left_at = time.monotonic()
    client.close()
    assert_told_at_once(simulator, left_at)
    line = daemon.request_line(request_id)
    assert (line["status"], line["outcome"]) == (499, "client_gone")
    assert (line["key"], line["model"], line["attempts"]) == ("only", MODEL, 1)
    assert line["ms"] < 60_000
    assert_nobody_was_charged(daemon, simulator)


def test_client_that_leaves_behind_more_requests_than_are_read(daemon, simulator):
    """Nothing is read from it by then, so the kernel is asked, once a second."""
    client = send_only(daemon, said(HANGING, MODEL), "left-a-pipeline")
    client.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n" * 3000)
    wait_until_asked(simulator)
    client.close()
    assert simulator.wait_for_request(lambda request: request["finished"])["closedEarly"]
    assert daemon.request_line("left-a-pipeline")["status"] == 499
    assert_nobody_was_charged(daemon, simulator)


def test_client_that_leaves_in_the_middle_of_a_unary_answer(daemon, simulator):
    client = send_only(daemon, said("[simulate:stall]", MODEL), "left-a-stalled-answer")
    simulator.wait_for_request(lambda request: request["status"] == 200)
    left_at = time.monotonic()
    client.close()
    assert_told_at_once(simulator, left_at)
    assert daemon.request_line("left-a-stalled-answer")["status"] == 499
    assert_nobody_was_charged(daemon, simulator)


def test_client_that_leaves_in_mid_stream(daemon, simulator):
    with sdk_of(daemon) as client:
        stream = client.chat.completions.create(**said(STREAMING, MODEL, stream=True))
        assert next(stream).choices
        request_id = stream.response.headers["x-request-id"]
        left_at = time.monotonic()
        stream.close()
        assert_told_at_once(simulator, left_at)
    line = daemon.request_line(request_id)
    assert (line["status"], line["outcome"], line["attempts"]) == (499, "client_gone", 1)
    assert_nobody_was_charged(daemon, simulator)


def test_client_that_leaves_a_stream_that_has_stalled(daemon, simulator):
    body = said("[simulate:stall chunks=1] [simulate:words n=40]", MODEL, stream=True)
    client = send_only(daemon, body, "left-a-stalled-stream")
    assert client.recv(65536)
    left_at = time.monotonic()
    client.close()
    assert_told_at_once(simulator, left_at)
    assert daemon.request_line("left-a-stalled-stream")["status"] == 499
    assert_nobody_was_charged(daemon, simulator)


def test_cancelled_task_of_the_async_client(daemon, simulator):
    async def leave():
        async with async_sdk_of(daemon) as client:
            asking = asyncio.create_task(client.chat.completions.create(**said(HANGING, MODEL)))
            await asyncio.to_thread(wait_until_asked, simulator)
            left_at = time.monotonic()
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            return left_at

    assert_told_at_once(simulator, asyncio.run(leave()))
    assert_nobody_was_charged(daemon, simulator)


def test_client_whose_own_patience_ends(daemon, simulator):
    with sdk_of(daemon, timeout=0.3) as client, pytest.raises(openai.APITimeoutError):
        client.chat.completions.create(**said(HANGING, MODEL))
    assert_told_at_once(simulator, time.monotonic())
    assert_nobody_was_charged(daemon, simulator)


def test_client_that_leaves_during_the_second_attempt_charges_no_key(daemon, simulator):
    leave_during_the_second_attempt(daemon, simulator, "gemini-2.5-flash")
    with sdk_of(daemon) as client:
        assert client.chat.completions.create(**said("Hello", MODEL)).choices


def test_client_that_leaves_during_the_second_attempt_charges_no_model(daemon, simulator):
    leave_during_the_second_attempt(daemon, simulator, "gemini-2.5-pro")
    with sdk_of(daemon) as client:
        assert client.chat.completions.create(**said("Hello", "gemini-2.5-pro")).choices


def leave_during_the_second_attempt(daemon, simulator, model):
    simulator.behave("only", "overloaded", times=1)
    request_id = f"left-a-retry-of-{model}"
    client = send_only(daemon, said("[simulate:slow delay=60]", model), request_id)
    simulator.wait_for_request(lambda request: request["behaviour"] == "ok")
    left_at = time.monotonic()
    client.close()
    simulator.wait_for_request(lambda request: request["closedEarly"])
    assert time.monotonic() - left_at < TELLING_SECONDS
    line = daemon.request_line(request_id)
    assert (line["status"], line["attempts"]) == (499, 2)
