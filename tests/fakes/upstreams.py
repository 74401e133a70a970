"""A Gemini API in memory: the core's ``Upstream`` by a script, and a client's side to write to."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from gemproxy.api.openai.errors import encode_error_event
from gemproxy.buffer_list import BufferList
from gemproxy.core.errors import FailureKind, ProxyError, UpstreamFailed
from gemproxy.core.interfaces import UpstreamRequest, WholeResponse


@dataclass
class Reply:
    """One scripted answer: a status with a body, or pieces of a stream that may break."""

    status: int = 200
    body: bytes = b"{}"
    pieces: list[bytes] | None = None
    breaks: FailureKind | None = None
    headers: dict[str, str] = field(default_factory=dict)
    #: The body is not here with the headers.
    comes_later: bool = False

    def header(self, name: str) -> str | None:
        return self.headers.get(name)

    def take(self, limit: int) -> bytes:
        if self.comes_later or self.breaks is not None:
            return b""
        assert len(self.body) <= limit
        return self.body

    async def read(self, limit: int) -> bytes:
        if self.breaks is not None:
            raise UpstreamFailed(self.breaks)
        assert len(self.body) <= limit
        return self.body

    async def stream(self, receive: Callable[[bytes], None]) -> None:
        for piece in self.pieces or [self.body]:
            receive(piece)
        if self.breaks is not None:
            raise UpstreamFailed(self.breaks)

    def pause(self) -> None:
        pass

    def resume(self) -> None:
        pass


class FakeGemini:
    """Answers for each key by its script; the last answer of a script is repeated."""

    def __init__(self, **scripts: Iterable[Reply | FailureKind]) -> None:
        self.scripts = {name: list(script) for name, script in scripts.items()}
        self.requests: list[tuple[str, UpstreamRequest]] = []

    async def send(self, request: UpstreamRequest) -> Reply:
        name = request.key.reveal().removeprefix("secret-of-")
        self.requests.append((name, request))
        script = self.scripts[name]
        reply = script.pop(0) if len(script) > 1 else script[0]
        if isinstance(reply, FailureKind):
            raise UpstreamFailed(reply)
        if isinstance(reply, UpstreamFailed):
            raise reply
        return reply

    async def fetch(self, request: UpstreamRequest, limit: int) -> WholeResponse:
        reply = await self.send(request)
        return WholeResponse(reply.status, reply.headers, await reply.read(limit))

    @property
    def keys_used(self) -> list[str]:
        return [name for name, _ in self.requests]

    def body(self, index: int) -> dict:
        return json.loads(bytes(self.requests[index][1].body))


def answer(text: str = "Hello.", finish: str | None = "STOP", **extra) -> dict:
    """A GenerateContentResponse with one candidate."""
    candidate = {"content": {"role": "model", "parts": [{"text": text}]}, "index": 0, **extra}
    if finish:
        candidate["finishReason"] = finish
    return {
        "candidates": [candidate],
        "usageMetadata": {
            "promptTokenCount": 7,
            "candidatesTokenCount": 3,
            "totalTokenCount": 10,
        },
        "modelVersion": "gemini-test",
        "responseId": "r1",
    }


def whole(text: str = "Hello.", finish: str | None = "STOP", **extra) -> Reply:
    """A unary answer."""
    return Reply(body=json.dumps(answer(text, finish, **extra)).encode())


def event(payload: dict) -> bytes:
    return b"data: " + json.dumps(payload).encode() + b"\r\n\r\n"


def streamed(*texts: str, finish: str | None = "STOP", breaks: FailureKind | None = None) -> Reply:
    """A stream of one event for each text; the finish reason comes with the last."""
    pieces = [event(answer(text, None)) for text in texts[:-1]]
    pieces += [event(answer(text, finish)) for text in texts[-1:]]
    return Reply(pieces=pieces, breaks=breaks)


def error(status: int, message: str = "no", canonical: str = "UNKNOWN", details=()) -> Reply:
    """An error as Google sends it."""
    body = {"error": {"code": status, "message": message, "status": canonical}}
    if details:
        body["error"]["details"] = list(details)
    return Reply(status=status, body=json.dumps(body).encode())


def error_info(reason: str) -> dict:
    return {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": reason,
        "domain": "googleapis.com",
    }


def quota(quota_id: str, retry: str | None = None, value: str = "20") -> Reply:
    """A 429 with one violation of the quota that ``quota_id`` names."""
    details = [
        {
            "@type": "type.googleapis.com/google.rpc.QuotaFailure",
            "violations": [{"quotaMetric": "m", "quotaId": quota_id, "quotaValue": value}],
        }
    ]
    if retry:
        details.append({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": retry})
    return error(429, "You exceeded your current quota.", "RESOURCE_EXHAUSTED", details)


PER_MINUTE = "GenerateRequestsPerMinutePerProjectPerModel-FreeTier"
PER_DAY = "GenerateRequestsPerDayPerProjectPerModel-FreeTier"


class RecordingWriter:
    """The client's side of an exchange, in memory."""

    def __init__(self) -> None:
        self.upstream_headers = b""
        self.started = False
        self.finished = False
        self.streamed = False
        self.sent = b""
        self.flows: list[object] = []
        self.stream_awaited = False

    def answer(self, body: bytes | BufferList) -> None:
        self.started = self.finished = True
        self.sent = bytes(body)

    def begin_body(self, headers: bytes, length: int | None) -> None:
        assert not self.started
        self.started = self.streamed = True

    def await_stream(self) -> None:
        assert not self.started
        self.stream_awaited = True

    def begin_stream(self, failed=None) -> None:
        assert not self.started
        self.started = self.streamed = True

    def write(self, events: bytes) -> None:
        assert self.streamed
        assert not self.finished
        self.sent += events

    def write_error(self, error: ProxyError) -> None:
        self.write(encode_error_event(error))

    def attach(self, flow: object) -> None:
        self.flows.append(flow)

    def finish(self) -> None:
        assert self.streamed
        self.finished = True

    @property
    def json(self) -> dict:
        return json.loads(self.sent)

    @property
    def events(self) -> list:
        """The payloads of the stream; ``[DONE]`` as it is."""
        payloads = [block[6:] for block in self.sent.decode().split("\n\n") if block]
        return [p if p == "[DONE]" else json.loads(p) for p in payloads]

    @property
    def text(self) -> str:
        return "".join(
            choice["delta"].get("content") or ""
            for payload in self.events
            if payload != "[DONE]"
            for choice in payload.get("choices", ())
        )
