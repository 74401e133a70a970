"""The listening socket belongs to systemd: a restart of the daemon refuses nobody."""

import asyncio
import json
import re
import shutil
import signal
import socket
import sys
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
from fakes.running import PATIENCE, TWISTD, Process, keys_of, write_configuration
from fakes.wire import CHAT, Wire, chat, request, said

ENDPOINT = {"endpoint": "systemd:domain=INET:name=gemproxy", "allowAnonymous": True}
SUPERVISOR = Path(__file__).resolve().parents[1] / "fakes" / "supervisor.py"
RATE = 200


def command(folder, simulator, **proxy):
    config, keys = write_configuration(
        folder, simulator.url, keys_of("alpha", "beta"), proxy={**ENDPOINT, **proxy}
    )
    return [*TWISTD, "gemproxy", "--config", config, "--keys", keys]


@pytest.fixture
def supervised(tmp_path, simulator):
    simulator.reset()
    process = Process(
        sys.executable, SUPERVISOR, "gemproxy", *command(tmp_path, simulator), cwd=tmp_path
    )
    process.address = process.wait_for_line("address").split()[1]
    process.host, port = process.address.split(":")
    process.port = int(port)
    process.wait_for_line("listening on")
    yield process
    process.stop()


def test_a_socket_that_was_handed_over_is_found_by_its_name(supervised):
    assert f"listening on {supervised.address}" in supervised.output
    assert chat(supervised).status == 200
    assert supervised.stop() == 0
    assert "ended with status 0" in supervised.output


async def one_request(host, port):
    """The status of one completion on a connection of its own, or the name of what went wrong."""
    try:
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(request("POST", CHAT, said("hi"), connection="close"))
        answer = await asyncio.wait_for(reader.read(), PATIENCE)
        writer.close()
    except OSError as error:
        return type(error).__name__
    head, _, body = answer.partition(b"\r\n\r\n")
    status = int(head.split(b" ")[1]) if head else "no answer"
    return status if status != 503 else json.loads(body)["error"]["code"]


async def load_over(process, act):
    """``RATE`` requests a second, before, during and after ``act``; how often each result came."""
    loop = asyncio.get_running_loop()
    acting = loop.run_in_executor(None, act)
    # Where the machine is too slow for the rate, rather than come upon the bound of requests.
    places = asyncio.Semaphore(RATE)

    async def one_of_many():
        async with places:
            return await one_request(process.host, process.port)

    requests = []
    begin = loop.time()
    left = RATE
    while left:
        requests.append(asyncio.create_task(one_of_many()))
        await asyncio.sleep(max(0.0, begin + len(requests) / RATE - loop.time()))
        # A second more, once it is over.
        left -= acting.done()
    await acting
    return Counter(await asyncio.gather(*requests))


def test_a_restart_under_load_refuses_no_connection(supervised):
    def restart():
        supervised.wait_for_line("request finished")
        start = len(supervised.lines)
        supervised.popen.send_signal(signal.SIGUSR1)
        supervised.wait_for_line("listening on", start)

    results = asyncio.run(load_over(supervised, restart))
    # Who had connected to the old process and not asked yet is sent to the new one.
    turned_away = results.pop("draining", 0)
    served = results.pop(200)
    assert results == {}
    assert served > RATE
    assert turned_away <= RATE // 20
    assert len(re.findall("listening on", supervised.output)) == 2
    assert "ended with status 0" in supervised.output
    assert "Traceback" not in supervised.output


def test_a_probe_learns_of_the_stop_although_the_socket_stays_open(tmp_path, simulator):
    """Later connections wait in the socket's queue, for the next process."""
    simulator.reset()
    process = Process(
        sys.executable,
        SUPERVISOR,
        "gemproxy",
        *command(tmp_path, simulator, lameDuckSeconds=2),
        cwd=tmp_path,
    )
    process.address = process.wait_for_line("address").split()[1]
    process.host, port = process.address.split(":")
    process.port = int(port)
    try:
        process.wait_for_line("listening on")
        with Wire(process) as kept:
            assert kept.ask("GET", "/readyz").status == 200
            start = len(process.lines)
            process.popen.send_signal(signal.SIGUSR1)
            process.wait_for_line("serving on for 2")
            with Wire(process) as fresh:
                assert fresh.ask("GET", "/readyz").status == 503
            assert kept.ask("GET", "/readyz").status == 503
        process.wait_for_line("listening on", start)
        assert chat(process).status == 200
    finally:
        assert process.stop() == 0


def test_systemds_own_program_starts_the_daemon_with_the_first_connection(tmp_path, simulator):
    program = shutil.which("systemd-socket-activate")
    if program is None:
        pytest.skip("systemd-socket-activate is not installed (package systemd)")
    simulator.reset()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    activation = ["--listen", f"127.0.0.1:{port}", "--fdname", "gemproxy", "-E", "PYTHONPATH"]
    process = Process(program, *activation, *command(tmp_path, simulator), cwd=tmp_path)
    daemon = SimpleNamespace(host="127.0.0.1", port=port)
    try:
        wait_until_it_listens(process)
        assert process.lines == []
        assert chat(daemon).status == 200
        assert f"listening on 127.0.0.1:{port}" in process.output
    finally:
        assert process.stop() == 0


def wait_until_it_listens(process):
    """Its own words about it go to standard error."""
    while not any("Listening on" in line for line in list(process.errors)):
        assert process.popen.poll() is None, process.output
        time.sleep(0.01)
