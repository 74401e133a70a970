"""The operator's program against the real daemon."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import yaml
from fakes.running import ADMIN_TOKEN, REPOSITORY, keys_of, secret_of
from fakes.wire import CHAT, ask, said


def run(daemon, *argv, url=True):
    """``gemproxy`` in the daemon's folder, as an operator in another shell runs it."""
    where = ("--url", daemon.url) if url else ()
    command, *rest = argv
    program = "import sys; from gemproxy.cli import main; sys.exit(main())"
    files = ["--config", daemon.folder / "proxy.yaml"]
    if command == "plan":
        files += ["--keys", daemon.folder / "keys.yaml"]
    done = subprocess.run(
        [sys.executable, "-c", program, *files, command, *where, *rest],
        cwd=daemon.folder,
        env={"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        timeout=60,
    )
    for secret in (ADMIN_TOKEN, secret_of("alpha"), secret_of("beta")):
        assert secret not in done.stdout + done.stderr
    return done


@pytest.fixture
def daemon(start_daemon):
    return start_daemon(keys_of("alpha", "beta"))


def test_a_request_that_failed_over_is_explained(daemon, simulator):
    simulator.behave("alpha", "rate-limited-minute")
    answers = [ask(daemon, "POST", CHAT, said("hi")) for _ in range(2)]
    assert [answer.status for answer in answers] == [200, 200]
    twice = next(a for a in answers if a.headers["x-gemproxy-attempts"] == "2")
    done = run(daemon, "explain", twice.headers["x-request-id"])
    assert (done.returncode, done.stderr) == (0, "")
    assert (
        "The key alpha had used up its quota per minute (quota_minute, status 429"
        " RESOURCE_EXHAUSTED, quota Generate" in done.stdout
    )
    assert "charged to the key alpha." in done.stdout
    assert "The key beta served the request (success, status 200)" in done.stdout
    assert "charged to the key beta." in done.stdout
    assert "The client got status 200 (success) after 2 attempts" in done.stdout


def test_a_reload_takes_over_what_was_planned(daemon):
    elsewhere = daemon.folder / "next.yaml"
    elsewhere.write_text(yaml.safe_dump({"keys": keys_of("alpha", "gamma", weight=3)}))
    elsewhere.replace(daemon.folder / "keys.yaml")
    planned = run(daemon, "plan")
    assert planned.returncode == 0
    # The daemon looks at its files as well, so either of the two may have come first.
    assert "are good." in planned.stdout
    reloaded = run(daemon, "reload")
    assert reloaded.returncode == 0, reloaded.stderr
    assert reloaded.stdout.endswith("the daemon runs generation 2\n")
    rows = json.loads(run(daemon, "keys", "--json").stdout)["keys"]
    assert [(row["name"], row["weight"]) for row in rows] == [("alpha", 3), ("gamma", 3)]
    assert "Its keys are those of the file." in run(daemon, "plan").stdout


def test_over_a_unix_socket_the_files_alone_lead_to_the_daemon(start_daemon, tmp_path):
    daemon = start_daemon(proxy={"endpoint": f"unix:{tmp_path / 'gemproxy.sock'}"})
    done = run(daemon, "keys", url=False)
    assert done.returncode == 0, done.stderr
    assert "2 keys: 2 active" in done.stdout
