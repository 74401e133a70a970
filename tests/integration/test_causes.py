"""Why the upstream could not be reached, where operators look: the log and ``explain``."""

import os
import resource
import socket
import subprocess
import sys
import time
from base64 import b64encode
from contextlib import suppress
from pathlib import Path

import pytest
from fakes.clients import post, said
from fakes.running import ADMIN_TOKEN, PATIENCE
from fakes.threads import http_proxy
from fakes.wire import CHAT, Wire, request
from fakes.wire import said as said_raw

PASSWORD = "proxy-password-0123456789"
GEMPROXY = Path(sys.executable).parent / "gemproxy"


def explained(daemon, request_id):
    """What ``gemproxy explain`` prints."""
    done = subprocess.run(
        [
            GEMPROXY,
            "explain",
            request_id,
            "--config",
            daemon.folder / "proxy.yaml",
            "--url",
            daemon.url,
        ],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        env={**os.environ, "GEMPROXY_ADMIN_TOKEN": ADMIN_TOKEN},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def states(daemon):
    return {
        key["name"]: (key["status"], key["failure_count"])
        for key in daemon.admin("GET", "keys").json["keys"]
    }


def test_a_proxy_that_wants_a_password_is_named_where_the_operator_looks(start_daemon):
    refusal = b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n"
    with http_proxy(refusal) as proxy:
        upstream = {"httpProxy": f"http://127.0.0.1:{proxy.server_address[1]}"}
        daemon = start_daemon(base_url="https://gemini.example", upstream=upstream)
        answer = post(daemon, said("hi"))
        assert answer.status == 502
        assert answer.json["error"]["message"] == (
            "The upstream could not be used: connection refused (upstream.httpProxy)."
        )
        request_id = answer.headers["x-request-id"]
        cause = "proxy answered 407 Proxy Authentication Required"
        assert cause in str(daemon.request_line(request_id)["failures"])
        assert cause in explained(daemon, request_id)
        assert states(daemon) == {"alpha": ("active", 0), "beta": ("active", 0)}


def test_the_proxys_password_is_in_nothing_that_anybody_reads(start_daemon):
    token = b64encode(f"ann:{PASSWORD}".encode())
    echo = b"HTTP/1.1 407 No " + token + b" " + PASSWORD.encode() + b"\r\n\r\n"
    with http_proxy(echo) as proxy:
        upstream = {
            "httpProxy": f"http://127.0.0.1:{proxy.server_address[1]}",
            "httpProxyUser": "ann",
            "httpProxyPassword": PASSWORD,
        }
        daemon = start_daemon(
            base_url="https://gemini.example", upstream=upstream, logging={"level": "debug"}
        )
        answer = post(daemon, said("hi"))
        assert answer.status == 502
        request_id = answer.headers["x-request-id"]
        daemon.request_line(request_id)
        read = (
            daemon.output
            + explained(daemon, request_id)
            + answer.body.decode()
            + daemon.admin("GET", f"requests/{request_id}").body.decode()
            + daemon.admin("GET", "keys").body.decode()
        )
        assert "proxy answered 407 No" in read
        assert PASSWORD not in read
        assert token.decode() not in read


def test_a_daemon_without_descriptors_says_so_and_recovers(start_daemon, simulator):
    daemon = start_daemon()
    pid = daemon.popen.pid
    with Wire(daemon) as wire:
        assert wire.ask("GET", "/livez").status == 200
        limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        used = [int(each.name) for each in Path(f"/proc/{pid}/fd").iterdir()]
        free = min(set(range(max(used) + 2)) - set(used))
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (free, limits[1]))
        answers = [wire.ask("POST", CHAT, said_raw("hi")) for _ in range(5)]
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
        for answer in answers:
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
            assert answer.error["code"] == "upstream_error"
        line = daemon.request_line(answers[0].headers["x-request-id"])
        assert "out of file descriptors" in str(line["failures"])
        told = [each for each in daemon.events() if each["event"].startswith("this machine has no")]
        assert len(told) == 1
        assert wire.ask("POST", CHAT, said_raw("hi")).status == 200
    assert {count for _, count in states(daemon).values()} == {0}


def test_a_middlebox_that_forbids_everything_leaves_the_keys_alone(start_daemon):
    page = (
        b"HTTP/1.1 403 Forbidden\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n"
        b"<html><title>Blocked by ACME</title></html>"
    )
    with http_proxy(page) as box:
        # It answers a POST as it answers a CONNECT.
        url = f"http://127.0.0.1:{box.server_address[1]}"
        daemon = start_daemon(base_url=url, monitoring={"failureThreshold": 100})
        answers = [post(daemon, said(f"hi {number}")) for number in range(5)]
        assert {answer.status for answer in answers} == {502}
        request_id = answers[0].headers["x-request-id"]
        cause = "answered 403 not in Google's form: Blocked by ACME"
        assert cause in str(daemon.request_line(request_id)["failures"])
        assert cause in explained(daemon, request_id)
        assert states(daemon) == {"alpha": ("active", 0), "beta": ("active", 0)}


@pytest.fixture
def silent():
    """A place that takes connections and says nothing; gives it, and what waits for one."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(PATIENCE)
        yield server


@pytest.mark.parametrize("phase", ["the HTTP proxy", "the TLS handshake"])
def test_neither_a_client_that_leaves_nor_a_stop_waits_for_a_connection(
    start_daemon, silent, phase
):
    place = f"127.0.0.1:{silent.getsockname()[1]}"
    upstream = {"connectTimeoutSeconds": 300}
    if phase == "the HTTP proxy":
        upstream["httpProxy"] = f"http://{place}"
    daemon = start_daemon(base_url=f"https://{place}", upstream=upstream, proxy={"drainSeconds": 1})
    for leave in (True, False):
        with Wire(daemon) as wire:
            wire.send(request("POST", CHAT, said_raw("hi")))
            connection, _ = silent.accept()
            connection.settimeout(PATIENCE)
            with connection:
                assert connection.recv(65536)
                began = time.monotonic()
                if leave:
                    wire.socket.close()
                else:
                    daemon.popen.terminate()
                with suppress(ConnectionResetError):
                    assert connection.recv(65536) == b""
                assert time.monotonic() - began < 10
    assert daemon.wait() == 0
    assert time.monotonic() - began < 15
