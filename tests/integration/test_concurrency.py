"""Many clients at once, and a bound on them."""

import asyncio
import http.client
import time

import openai
import pytest
from fakes.clients import async_sdk_of, said, sdk_of, send_only
from fakes.running import RunningDaemon, keys_of

MODEL = "gemini-2.5-flash-lite"
CLIENTS = 256
LIMIT = 4


@pytest.fixture(scope="module")
def narrow(simulator, tmp_path_factory):
    running = RunningDaemon(
        tmp_path_factory.mktemp("narrow"),
        simulator.url,
        keys_of("alpha"),
        proxy={"maxConcurrentRequests": LIMIT},
    )
    yield running
    running.stop()


@pytest.fixture
def full(narrow, simulator):
    """As many requests in flight as are allowed; each one's socket."""
    simulator.reset()
    body = said("[simulate:hang]", MODEL)
    sockets = [send_only(narrow, body, f"in-flight-{number}") for number in range(LIMIT)]
    deadline = time.monotonic() + 20
    while len(simulator.requests()) < LIMIT:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    yield sockets
    for each in sockets:
        each.close()
    simulator.wait_for_request(lambda request: not waiting(simulator))


def waiting(simulator):
    return [request for request in simulator.requests() if not request["finished"]]


@pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])
def test_one_request_too_many_is_told_to_come_back(narrow, simulator, full, stream):
    with sdk_of(narrow) as client:
        with pytest.raises(openai.RateLimitError) as caught:
            client.chat.completions.create(**said("Hello", MODEL, stream=stream))
        error = caught.value
        assert (error.type, error.code) == ("rate_limit_error", "rate_limit_exceeded")
        assert error.response.headers["retry-after"] == "1"
        line = narrow.request_line(error.request_id)
        assert (line["status"], line["outcome"]) == (429, "rate_limit_exceeded")
        assert (line["key"], line["attempts"]) == (None, 0)
        assert len(simulator.requests()) == LIMIT

        full.pop().close()
        narrow.request_line(f"in-flight-{LIMIT - 1}")
        answer = client.chat.completions.create(**said("Hello", MODEL, stream=stream))
        assert list(answer)


def test_the_sdks_own_retry_finds_the_place_that_became_free(narrow, full):
    async def ask():
        async with async_sdk_of(narrow, max_retries=2) as client:
            asking = asyncio.create_task(client.chat.completions.create(**said("Hello", MODEL)))
            await asyncio.sleep(0.3)
            assert not asking.done()
            full.pop().close()
            return await asking

    assert asyncio.run(ask()).choices


def test_probes_are_answered_however_full_it_is(narrow, full):
    for path in ("/livez", "/healthz", "/readyz"):
        connection = http.client.HTTPConnection(narrow.host, narrow.port, timeout=10)
        connection.request("GET", path)
        assert connection.getresponse().status == 200
        connection.close()


def test_256_clients_at_once_each_get_their_own_answer(shared_daemon, simulator):
    """All are in flight together, since the upstream takes its time for each of them."""
    simulator.reset()

    async def one(client, number):
        prompt = f"[simulate:echo] [simulate:slow delay=2 chunkDelay=0] I am number {number}."
        stream = bool(number % 2)
        answer = await client.chat.completions.create(**said(prompt, MODEL, stream=stream))
        if not stream:
            return answer.choices[0].message.content
        chunks = [chunk async for chunk in answer]
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)

    async def everybody():
        async with async_sdk_of(shared_daemon) as client:
            return await asyncio.gather(*(one(client, number) for number in range(CLIENTS)))

    started = time.monotonic()
    texts = asyncio.run(everybody())
    assert time.monotonic() - started < 20
    assert texts == [f"I am number {number}." for number in range(CLIENTS)]
