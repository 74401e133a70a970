"""Uploads through the daemon: resumable, in one request, and what goes wrong on the way."""

import hashlib
import json
import os
import socket
import time
from pathlib import Path

import pytest
from fakes.running import RunningDaemon, eventually, keys_of
from fakes.wire import MODEL, Wire, ask, request

TOKEN = "a-token-of-the-clients"
PROJECTS = ("alpha", "beta", "gamma")
START = {
    "x_goog_upload_protocol": "resumable",
    "x_goog_upload_command": "start",
    "x_goog_upload_header_content_type": "text/plain",
}
MEGABYTE = 1024 * 1024


@pytest.fixture(scope="module")
def shared(simulator, tmp_path_factory):
    folder = tmp_path_factory.mktemp("daemon")
    proxy = {"accessTokens": [TOKEN], "maxPayloadSize": 65536, "maxUploadSize": 64 * MEGABYTE}
    running = RunningDaemon(folder, simulator.url, keys_of(*PROJECTS), proxy=proxy)
    yield running
    running.stop()


@pytest.fixture
def daemon(shared, simulator):
    simulator.reset()
    return shared


def begun(daemon, **more):
    """The path of a resumable upload that was begun."""
    body = json.dumps({"file": {"displayName": "notes"}}).encode()
    given = {**START, "x_goog_api_key": TOKEN, **more}
    got = ask(daemon, "POST", "/upload/v1beta/files", body, **given)
    assert got.status == 200, got.body
    for name in ("x-goog-upload-url", "x-goog-upload-control-url"):
        assert got.headers[name].startswith("http://localhost/upload/v1beta/files?upload_id=")
    assert got.headers["x-goog-upload-chunk-granularity"] == "262144"
    return got.headers["x-goog-upload-url"].removeprefix("http://localhost")


def part(daemon, path, body, command="upload, finalize", offset=0, **more):
    given = {"x_goog_upload_command": command, "x_goog_upload_offset": str(offset), **more}
    return ask(daemon, "POST", path, body, **given)


def test_a_resumable_upload_needs_its_token_once(daemon, simulator):
    path = begun(daemon)
    key = simulator.requests()[-1]["key"]
    text = os.urandom(MEGABYTE)
    first = part(daemon, path, text[:600_000], "upload")
    assert (first.status, first.headers["x-goog-upload-status"]) == (200, "active")
    asked = part(daemon, path, b"", "query")
    assert asked.headers["x-goog-upload-size-received"] == "600000"
    last = part(daemon, path, text[600_000:], offset=600_000)
    assert last.headers["x-goog-upload-status"] == "final"
    file = last.json["file"]
    assert file["sizeBytes"] == str(MEGABYTE)
    assert file["uri"].startswith("https://generativelanguage.googleapis.com/")
    # Its project is known from now on.
    seen = len(simulator.requests())
    contents = [{"parts": [{"text": "What is it?"}, {"fileData": {"fileUri": file["uri"]}}]}]
    generate = f"/v1beta/models/{MODEL}:generateContent"
    got = ask(daemon, "POST", generate, {"contents": contents}, x_goog_api_key=TOKEN)
    assert got.status == 200
    assert [each["key"] for each in simulator.requests()[seen:]] == [key]
    down = ask(daemon, "GET", f"/v1beta/{file['name']}:download", x_goog_api_key=TOKEN)
    assert hashlib.sha256(down.body).digest() == hashlib.sha256(text).digest()


def test_an_upload_in_one_request(daemon):
    boundary = "a-boundary"
    body = (
        f"--{boundary}\r\nContent-Type: application/json\r\n\r\n"
        f'{{"file": {{"displayName": "one"}}}}\r\n--{boundary}\r\nContent-Type: text/csv\r\n\r\n'
        f"{'a,b;' * 50_000}\r\n--{boundary}--\r\n"
    ).encode()
    got = ask(
        daemon,
        "POST",
        "/upload/v1/files",
        body,
        x_goog_upload_protocol="multipart",
        content_type=f"multipart/related; boundary={boundary}",
        x_goog_api_key=TOKEN,
    )
    file = got.json["file"]
    assert (file["displayName"], file["mimeType"], file["sizeBytes"]) == (
        "one",
        "text/csv",
        "200000",
    )


def test_a_body_in_chunks(daemon):
    path = begun(daemon)
    with Wire(daemon) as wire:
        wire.send(
            request(
                "POST",
                path,
                transfer_encoding="chunked",
                x_goog_upload_command="upload, finalize",
                x_goog_upload_offset="0",
            )
        )
        for _ in range(30):
            wire.send(b"10000\r\n" + b"x" * 65536 + b"\r\n")
        wire.send(b"0\r\n\r\n")
        assert wire.receive().json["file"]["sizeBytes"] == str(30 * 65536)
        assert wire.ask("GET", "/readyz").status == 200


class TestRefused:
    @pytest.mark.parametrize(
        ("path", "headers", "status"),
        [
            ("/upload/v1beta/files", START, 401),
            ("/upload/v1beta/files", {**START, "x_goog_api_key": "wrong"}, 401),
            ("/upload/v1beta/files?upload_id=unknown", {"x_goog_api_key": TOKEN}, 403),
            ("/upload/v1beta/files?upload_id=unknown", {}, 403),
            ("/upload/v1beta/files", {"x_goog_api_key": TOKEN}, 400),
            ("/upload/v1beta/tunedModels", {"x_goog_api_key": TOKEN}, 404),
            (
                "/upload/v1beta/files",
                {
                    **START,
                    "x_goog_api_key": TOKEN,
                    "x_goog_upload_header_content_length": str(65 * MEGABYTE),
                },
                413,
            ),
        ],
    )
    def test_by_the_head(self, daemon, simulator, path, headers, status):
        got = ask(daemon, "POST", path, b"{}", **headers)
        assert (got.status, got.json["error"]["code"]) == (status, status)
        assert simulator.requests() == []

    def test_a_file_over_the_limit(self, daemon):
        path = begun(daemon)
        with Wire(daemon) as wire:
            wire.send(request("POST", path, content_length=str(65 * MEGABYTE)))
            assert wire.receive().status == 413
        with Wire(daemon) as wire:
            wire.send(request("POST", path, transfer_encoding="chunked"))
            piece = b"100000\r\n" + b"x" * MEGABYTE + b"\r\n"
            try:
                for _ in range(66):
                    wire.send(piece)
            except (BrokenPipeError, ConnectionResetError):
                pass
            assert wire.receive().status == 413

    def test_a_key_that_is_rejected_in_the_middle(self, daemon, simulator):
        path = begun(daemon)
        simulator.behave_all("invalid")
        got = part(daemon, path, b"x" * 400_000)
        assert got.json["error"]["code"] == got.status
        assert got.status in (429, 503)


def resident(daemon):
    status = Path(f"/proc/{daemon.popen.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def test_a_large_file_is_not_held_in_memory(daemon):
    path = begun(daemon)
    before = resident(daemon)
    size = 18 * MEGABYTE
    with Wire(daemon) as wire:
        wire.send(
            request(
                "POST",
                path,
                content_length=str(size),
                x_goog_upload_command="upload, finalize",
                x_goog_upload_offset="0",
            )
        )
        piece = os.urandom(MEGABYTE)
        for _ in range(size // MEGABYTE):
            wire.send(piece)
        assert wire.receive().json["file"]["sizeBytes"] == str(size)
    assert resident(daemon) - before < size // 4


def test_a_client_that_leaves_ends_the_upload(daemon, simulator):
    path = begun(daemon)
    with Wire(daemon) as wire:
        wire.send(request("POST", path, content_length="100000") + b"x" * 50_000)
        time.sleep(0)
        wire.socket.shutdown(socket.SHUT_RDWR)
    health = eventually(lambda: daemon.metric("gemproxy_requests_in_flight") == 0)
    assert health
