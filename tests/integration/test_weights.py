"""Traffic is spread by the keys' weights, exactly."""

import asyncio

import pytest
from fakes.clients import async_sdk_of, said, sdk_of
from fakes.running import keys_of

PLAIN = "gemini-2.5-flash-lite"
WEIGHTED = [*keys_of("alpha", weight=2), *keys_of("beta", weight=1)]


def served(simulator):
    """How many requests came with each key."""
    return {key["name"]: key["applied"] for key in simulator.control("GET", "keys")["keys"]}


@pytest.fixture
def daemon(start_daemon):
    return start_daemon(WEIGHTED)


def test_300_requests_over_weights_2_and_1_are_200_and_100(daemon, simulator):
    with sdk_of(daemon) as client:
        for number in range(300):
            client.chat.completions.create(**said(f"Number {number}", PLAIN))
    assert served(simulator) == {"alpha": 200, "beta": 100, "gamma": 0, "delta": 0}
    lines = [line["key"] for line in daemon.events() if line["event"] == "request finished"]
    for start in range(0, 300, 3):
        assert sorted(lines[start : start + 3]) == ["alpha", "alpha", "beta"]


def test_weights_hold_for_requests_that_come_all_at_once(daemon, simulator):
    async def ask():
        async with async_sdk_of(daemon) as client:

            async def one(number):
                stream = bool(number % 2)
                answer = await client.chat.completions.create(
                    **said(f"Number {number}", PLAIN, stream=stream)
                )
                if stream:
                    assert [chunk async for chunk in answer]

            for start in range(0, 300, 50):
                await asyncio.gather(*map(one, range(start, start + 50)))

    asyncio.run(ask())
    assert served(simulator) == {"alpha": 200, "beta": 100, "gamma": 0, "delta": 0}
