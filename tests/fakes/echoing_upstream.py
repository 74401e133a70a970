"""An upstream that repeats everything it is asked with, the key of the request above all.

``mode`` says what kind of answer does that.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

#: Statuses of whole answers, and events of streams, that repeat the request.
MODES = (200, 302, 400, 403, 404, 429, 500, 503, "event", "not json")


class EchoingUpstream(ThreadingHTTPServer):
    """``seen`` collects the keys that came."""

    daemon_threads = True
    request_queue_size = 128
    mode: int | str = 200
    #: Whether it repeats the body only, as Google does with a wrong value.
    is_brief = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Echo)
        self.seen: set[str] = set()
        self.url = f"http://127.0.0.1:{self.server_port}"


class _Echo(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: EchoingUpstream

    def do_POST(self) -> None:
        asked = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
        self.server.seen.add(self.headers["x-goog-api-key"])
        echo = f"{self.path}\n{self.headers}\n{asked}"
        if self.server.is_brief:
            echo = f"Invalid value, {asked}"
        mode = self.server.mode
        if mode == "not json":
            self._reply(200, echo.encode())
        elif mode == "event" and "stream" in self.path:
            self._stream(_generated("Hello. "), _error(500, echo))
        elif mode in (200, "event"):
            self._succeed(echo)
        else:
            # An error repeats the keys of other requests as well.
            echo += " ".join(self.server.seen)
            self._reply(mode, json.dumps(_error(mode, echo)).encode())

    def do_GET(self) -> None:
        self.do_POST()

    def do_DELETE(self) -> None:
        self.do_POST()

    def _succeed(self, echo: str) -> None:
        if "streamGenerateContent" in self.path:
            events = [_generated(f"{echo} "), _generated(echo, finishReason="STOP")]
            if "alt=sse" in self.path:
                self._stream(*events)
            else:
                self._reply(200, json.dumps(events).encode())
            return
        body: dict[str, Any] = _generated(echo, finishReason="STOP")
        if ":countTokens" in self.path:
            body = {"totalTokens": 7, "note": echo}
        elif "mbedContent" in self.path:
            body = {"embeddings": [{"values": [0.5] * 8}], "embedding": {"values": [0.5]}}
            body["note"] = echo
        elif self.command == "GET":
            methods = ["generateContent"]
            body = {"models": [{"name": "models/gemini-2.5-flash", "description": echo}]}
            body["models"][0]["supportedGenerationMethods"] = methods
        self._reply(200, json.dumps(body).encode())

    def _reply(self, status: int, body: bytes) -> None:
        self._begin(status, "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, *events: dict[str, Any]) -> None:
        self._begin(200, "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        for each in events:
            self.wfile.write(f"data: {json.dumps(each)}\r\n\r\n".encode())
            self.wfile.flush()
        self.close_connection = True

    def _begin(self, status: int, content_type: str) -> None:
        self.send_response(status)
        self.send_header("content-type", content_type)
        for name, value in self.headers.items():
            if name.lower() not in {"content-length", "content-type", "connection", "host"}:
                self.send_header(name, value)
        key = self.headers["x-goog-api-key"]
        for name in (
            "set-cookie",
            "x-echo",
            "server-timing",
            "x-gemini-service-tier",
            "retry-info",
        ):
            self.send_header(name, f"key={key}")
        upload = f"{self.server.url}/upload/v1beta/files?upload_id={key}&key={key}"
        self.send_header("x-goog-upload-url", upload)
        if status == 302:
            self.send_header("location", f"{self.server.url}/download{self.path}&key={key}")

    def log_message(self, *_: object) -> None:
        """Nobody wants to read it."""


def _generated(text: str, **more: Any) -> dict[str, Any]:
    candidate = {"content": {"role": "model", "parts": [{"text": text}]}, "index": 0, **more}
    return {"candidates": [candidate], "usageMetadata": {"promptTokenCount": 1}}


def _error(code: int, echo: str) -> dict[str, Any]:
    info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "X", "metadata": {}}
    info["metadata"] = {"consumer": echo}
    return {"error": {"code": code, "message": echo, "status": "UNKNOWN", "details": [info]}}


@contextmanager
def echoing_upstream() -> Any:
    """A running one."""
    with EchoingUpstream() as upstream:
        thread = Thread(target=upstream.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield upstream
        upstream.shutdown()
        thread.join()
