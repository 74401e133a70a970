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
UPLOAD = {"x_goog_upload_command": "upload, finalize"}
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


@pytest.mark.parametrize("command", ["upload, finalize", "cancel"])
def test_an_upload_that_is_over_is_unknown(daemon, command):
    path = begun(daemon)
    assert part(daemon, path, b"" if command == "cancel" else b"x", command).status == 200
    for token in ({}, {"x_goog_api_key": TOKEN}):
        got = part(daemon, path, b"", "query", **token)
        assert (got.status, got.json["error"]["status"]) == (403, "PERMISSION_DENIED")


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("{0}", {"x_goog_upload_command": "start"}, 400),
        ("{0}", {"x_goog_upload_command": "upload, start"}, 400),
        ("{0}", {"x_goog_upload_command": ""}, 400),
        ("{0}", {"x_goog_upload_protocol": "raw"}, 400),
        ("{0}", {"x_goog_upload_protocol": "multipart"}, 400),
        ("{0}", {"x_goog_upload_offset": "-1"}, 400),
        ("{0}&uploadType=multipart", {}, 400),
        ("{0}&upload%5Fprotocol=raw", {}, 400),
        ("{0}&upload_id=another", {}, 400),
        ("{0}&upload%5Fid=another", {}, 400),
        ("/upload/v1/files?{1}", {}, 403),
        ("/upload/v1beta/fileSearchStores/a:uploadToFileSearchStore?{1}", {}, 403),
    ],
)
def test_an_upload_id_admits_only_its_own_upload(daemon, simulator, path, headers, status):
    own = begun(daemon)
    seen = len(simulator.requests())
    target = path.format(own, own.partition("?")[2])
    given = {"x_goog_upload_command": "upload", "x_goog_upload_offset": "0", **headers}
    got = ask(daemon, "POST", target, b"x", **given)
    assert (got.status, got.json["error"]["code"]) == (status, status)
    assert len(simulator.requests()) == seen
    assert part(daemon, own, b"x").status == 200


@pytest.mark.parametrize(
    ("token", "status"), [("another-token", 403), ("wrong", 401), (TOKEN, 200)]
)
def test_a_token_that_comes_with_an_upload_has_to_be_its_clients(start_daemon, token, status):
    daemon = start_daemon(proxy={"accessTokens": [TOKEN, "another-token"]})
    path = begun(daemon)
    assert part(daemon, path, b"x", "upload", x_goog_api_key=token).status == status
    assert part(daemon, path, b"x", "query").status == 200


def test_the_size_of_a_file_is_limited_over_all_requests(start_daemon, simulator):
    daemon = start_daemon(proxy={"accessTokens": [TOKEN], "maxUploadSize": MEGABYTE})
    path = begun(daemon)
    assert part(daemon, path, b"x" * 600_000, "upload").status == 200
    seen = len(simulator.requests())
    for offset in (0, 600_000, MEGABYTE):
        assert part(daemon, path, b"x" * 500_000, "upload", offset).status == 413
    assert len(simulator.requests()) == seen
    with Wire(daemon) as wire:
        head = request(
            "POST", path, transfer_encoding="chunked", x_goog_upload_offset="600000", **UPLOAD
        )
        wire.send(head + b"7a120\r\n" + b"x" * 500_000 + b"\r\n0\r\n\r\n")
        assert wire.receive().status == 413
    assert part(daemon, path, b"x" * 400_000, offset=600_000).status == 200


def test_an_upload_is_one_request_of_its_clients_limits(start_daemon):
    daemon = start_daemon()
    limits = {"rpm": 1, "rpd": 1, "concurrent": 1}
    made = daemon.admin("POST", "clients", {"name": "uploader", "limits": limits})
    token = {"x_goog_api_key": made.json["token"]}
    path = begun(daemon, **token)
    for offset in range(3):
        got = part(daemon, path, b"x", "upload", offset)
        assert (got.status, got.headers["x-goog-upload-status"]) == (200, "active")
    with Wire(daemon) as wire:
        wire.send(
            request("POST", path, b"x", content_length="2", x_goog_upload_offset="3", **UPLOAD)
        )
        eventually(lambda: used_by(daemon, "uploader")["concurrent"] == 1)
        assert part(daemon, path, b"", "query").status == 429
        wire.send(b"x")
        assert wire.receive().headers["x-goog-upload-status"] == "final"
    eventually(lambda: used_by(daemon, "uploader")["concurrent"] == 0)
    used = used_by(daemon, "uploader")
    assert (used["requests_minute"], used["requests_day"]) == (1, 1)
    again = ask(daemon, "POST", "/upload/v1beta/files", b"{}", **START, **token)
    assert again.status == 429


def used_by(daemon, name):
    return daemon.admin("GET", f"clients/{name}").json["used"]


def test_a_token_that_is_revoked_loses_its_uploads(start_daemon):
    daemon = start_daemon(keys_of(*PROJECTS), proxy={"accessTokens": [TOKEN, "another-token"]})
    path = begun(daemon)
    daemon.configure(keys_of(*PROJECTS), proxy={"accessTokens": ["another-token", TOKEN]})
    assert daemon.reload().status == 200
    assert part(daemon, path, b"x", "upload").status == 200
    daemon.configure(keys_of(*PROJECTS), proxy={"accessTokens": ["another-token"]})
    assert daemon.reload().status == 200
    assert part(daemon, path, b"x", offset=1).status == 403


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
            wire.send(request("POST", path, content_length=str(65 * MEGABYTE), **UPLOAD))
            assert wire.receive().status == 413
        with Wire(daemon) as wire:
            wire.send(request("POST", path, transfer_encoding="chunked", **UPLOAD))
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
        wire.send(request("POST", path, content_length="100000", **UPLOAD) + b"x" * 50_000)
        time.sleep(0)
        wire.socket.shutdown(socket.SHUT_RDWR)
    health = eventually(lambda: daemon.metric("gemproxy_requests_in_flight") == 0)
    assert health
