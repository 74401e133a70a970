"""The benchmark measures what it says: nothing is left out of a count, and a page gets the figures.

Skipped where nginx, a C compiler or make is missing; the benchmark itself says so too.
"""

import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
BENCHMARKS = REPOSITORY / "benchmarks"
MISSING = [name for name in ("nginx", "cc", "make") if shutil.which(name) is None]
CHAT = "/v1beta/openai/chat/completions"
PAGE = "# Title\n\n<!-- figures: begin -->\nold figures\n<!-- figures: end -->\n\nThe end.\n"

pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    """The two C programs; a warning of the compiler is a mistake."""
    folder = tmp_path_factory.mktemp("build")
    settings = ["CFLAGS=-O2 -Wall -Wextra -Werror", f"BUILD={folder}"]
    subprocess.run(["make", "-s", "-C", BENCHMARKS, *settings], check=True, timeout=60)
    return folder


@pytest.fixture(scope="module")
def upstream(build):
    """The address of a made-up upstream."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    running = subprocess.Popen([build / "upstream", str(port)])
    wait_until_taken(port)
    yield f"127.0.0.1:{port}"
    running.terminate()
    running.wait(10)


def wait_until_taken(port):
    deadline = time.monotonic() + 10
    while True:
        with socket.socket() as client:
            if not client.connect_ex(("127.0.0.1", port)):
                return
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def load(build, upstream, tmp_path):
    """Runs the load generator: its options in, what it counted out."""
    body = tmp_path / "body.json"
    body.write_text("{}")

    def run(path, **options):
        given = {"address": upstream, "path": path, "body": body, **options}
        command = [str(part) for name, value in given.items() for part in (f"--{name}", value)]
        done = subprocess.run(
            [build / "load", *command], capture_output=True, check=True, timeout=30
        )
        return json.loads(done.stdout)

    return run


def behave(upstream, **settings):
    query = "&".join(f"{name}={value}" for name, value in settings.items())
    urllib.request.urlopen(f"http://{upstream}/_control?{query}", timeout=10).close()


def test_every_answer_is_counted(load):
    counted = load(CHAT, clients=4, requests=500)
    assert counted["status"] == {"200": 500}
    assert counted["latency_us"]["count"] == counted["completed"] == 500
    assert (counted["errors"], counted["connects"], counted["still_open"]) == (0, 4, 4)


def test_a_status_other_than_200_is_told_with_what_it_said(load):
    counted = load("/nowhere", requests=3)
    assert counted["status"] == {"404": 3}
    assert "no such path" in counted["first_bad_answer"]


@pytest.mark.parametrize("pace_us", [0, 1000], ids=["burst", "paced"])
def test_a_stream_that_lacks_a_chunk_is_lost(load, upstream, pace_us):
    behave(upstream, chunks=7, pace_us=pace_us)
    whole = load(f"{CHAT}?stream", requests=10, marks=7)
    assert (whole["lost_streams"], whole["mark_delay_us"]["count"]) == (0, 70)
    assert load(f"{CHAT}?stream", requests=10, marks=8)["lost_streams"] == 10


def test_a_stream_without_its_end_is_lost(load, upstream):
    """Gemini's streams have no [DONE]; a gateway that hands them on would be found out."""
    behave(upstream, chunks=7, pace_us=0)
    native = "/v1beta/models/m:streamGenerateContent?alt=sse"
    assert load(native, requests=10, marks=7)["lost_streams"] == 10


def test_an_open_loop_lets_a_slow_gateway_pay_for_every_request_that_waited(load, upstream):
    """A stream takes 40 ms and 50 a second are due: one connection falls behind more and more."""
    behave(upstream, chunks=5, pace_us=10_000)
    counted = load(f"{CHAT}?stream", clients=1, rate=50, seconds=0.6, marks=5)
    assert counted["completed"] == 30
    assert counted["latency_us"]["p50"] > 200_000
    assert counted["latency_us"]["max"] > 500_000


def test_connections_are_held_while_a_part_of_them_is_used(load):
    counted = load(CHAT, clients=300, rate=50, seconds=0.4, opening=50)
    assert counted["status"] == {"200": 20}
    assert (counted["opened"], counted["still_open"], counted["connects"]) == (300, 300, 300)


def test_requests_that_nobody_takes_are_errors(build, tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
        body = tmp_path / "body.json"
        body.write_text("{}")
        options = ["--address", address, "--body", body, "--requests", "5"]
        done = subprocess.run(
            [build / "load", *options], capture_output=True, check=True, timeout=30
        )
    counted = json.loads(done.stdout)
    assert (counted["completed"], counted["errors"]) == (0, 5)
    assert "refused" in counted["first_error"]


def test_a_run_gives_rows_and_puts_them_into_a_page(tmp_path):
    page, raw = tmp_path / "page.md", tmp_path / "runs.json"
    page.write_text(PAGE)
    options = ["--only", "st_burst", "--rounds", "1", "--seconds", "0.3", "--no-growth"]
    done = subprocess.run(
        [sys.executable, BENCHMARKS / "bench.py", *options, "--write", page, "--json", raw],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={"PATH": f"{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin"}
        | {"PYTHONPATH": str(REPOSITORY)},
    )
    assert done.returncode == 0, done.stderr
    text = page.read_text()
    assert text.startswith("# Title\n")
    assert text.endswith("The end.\n")
    assert "old figures" not in text
    [row] = [line for line in text.splitlines() if "`st_burst`" in line]
    assert row in done.stdout
    assert row.count(" us") == 3
    assert "| every answer 200 and no stream lost | all | all of " in text
    [run] = json.loads(raw.read_text())["results"]["gemproxy"]["st_burst"]
    assert run["cpu"] > 0
    assert run["counted"]["mark_delay_us"]["count"] == 100 * run["counted"]["completed"]
