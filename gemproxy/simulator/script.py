"""The steps on one connection as a list: send, wait, reset, stay silent.

Every answer and every fault is such a script. Scripts are plain values, made here from an answer or
a behaviour and performed by :mod:`.playing`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Any

import msgspec

from gemproxy.simulator.behaviours import Behaviour
from gemproxy.simulator.errors import ErrorReply, service_error

JSON_TYPE = "application/json; charset=UTF-8"
_HTML_TYPE = "text/html; charset=UTF-8"

#: A reset discards bytes that are not delivered yet, so wait this long before it.
_FLUSH_SECONDS = 0.05


NO_HEADERS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Head:
    """Status and headers; ``length`` in bytes, None for a chunked body."""

    status: int
    content_type: str
    length: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Send:
    """Bytes of the body."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Raw:
    """Bytes that are written to the socket without HTTP framing."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Wait:
    """A pause in seconds."""

    seconds: float


class End(Enum):
    """How a script ends."""

    FINISH = "the response is complete"
    CLOSE = "the connection closes as it stands"
    RESET = "the connection is reset"
    STALL = "nothing more, for ever"


Step = Head | Send | Raw | Wait | End


class Framing(Enum):
    """How the chunks of a stream are framed: ``alt=sse``, or one JSON array."""

    SSE = "text/event-stream"
    ARRAY = JSON_TYPE


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds before the first byte and between chunks.

    ``piece`` divides a stream into pieces of so many bytes (0: a chunk is a piece), ``piece_wait``
    seconds apart.
    """

    first: float = 0.0
    between: float = 0.0
    piece: int = 0
    piece_wait: float = 0.0


def json_reply(
    body: object,
    status: int = 200,
    pace: Pace | None = None,
    headers: Mapping[str, str] = NO_HEADERS,
) -> list[Step]:
    """A JSON document, indented as Google does."""
    data = pretty(body)
    waiting: list[Step] = [Wait(pace.first)] if pace is not None and pace.first else []
    return [*waiting, Head(status, JSON_TYPE, len(data), headers), Send(data), End.FINISH]


def error_reply(reply: ErrorReply, framing: Framing | None = None) -> list[Step]:
    """An error before the first byte; inside an array if the stream would have been one."""
    body = [reply.body] if framing is Framing.ARRAY else reply.body
    return json_reply(body, reply.status)


def streamed(
    chunks: list[dict[str, Any]],
    framing: Framing,
    pace: Pace,
    fault: Behaviour | None = None,
    headers: Mapping[str, str] = NO_HEADERS,
) -> Iterator[Step]:
    """A stream of ``chunks``; with ``fault``, broken off after the chunks that it allows."""
    if pace.first:
        yield Wait(pace.first)
    yield Head(200, framing.value, None, headers)
    allowed = len(chunks) if fault is None else min(int(fault["chunks"]), len(chunks) - 1)
    for number, chunk in enumerate(chunks[:allowed]):
        if number and pace.between:
            yield Wait(pace.between)
        yield from _sent(_event(chunk, framing, first=number == 0), pace)
    if fault is None:
        if framing is Framing.ARRAY:
            yield Send(b"\n]\n")
        yield End.FINISH
    else:
        yield from _broken_off(fault, chunks[allowed], framing, first=allowed == 0)


def broken_unary(body: object, fault: Behaviour) -> list[Step]:
    """A unary answer that stops in the middle, or an error instead of it."""
    if fault.name in {"error-mid-stream", "error-mid-stream-raw"}:
        return error_reply(service_error(fault["code"]))
    data = pretty(body)
    half = Send(data[: len(data) // 2])
    ends = {"reset-mid-stream": End.RESET, "stall": End.STALL}
    end = ends.get(fault.name, End.CLOSE)
    return [Head(200, JSON_TYPE, len(data)), half, Wait(_FLUSH_SECONDS), end]


def transport_fault(fault: Behaviour, framing: Framing | None = None) -> list[Step]:
    """The script of a TRANSPORT behaviour."""
    if fault.name == "bad-gateway":
        return _page(fault["status"], "Bad Gateway", "The server encountered a temporary error.")
    if fault.name == "html-200":
        return _page(200, "Welcome", "Please sign in to use this network.")
    if fault.name == "redirect":
        headers = {"Location": str(fault["location"])}
        return [Head(302, _HTML_TYPE, 0, headers), End.FINISH]
    if fault.name == "garbage-json":
        return list(_garbage(fault, framing))
    return list(_PLAIN_FAULTS[fault.name])


def not_found_page() -> list[Step]:
    """The front end's answer to an unknown path."""
    return _page(404, "Not Found", "The requested URL was not found on this server.")


def pretty(body: object) -> bytes:
    """JSON with two spaces of indentation and a newline at the end."""
    return msgspec.json.format(msgspec.json.encode(body), indent=2) + b"\n"


_PLAIN_FAULTS: Mapping[str, tuple[Step, ...]] = MappingProxyType(
    {
        "reset": (End.RESET,),
        "close": (End.CLOSE,),
        "hang": (End.STALL,),
        "garbage": (Raw(b"\x16\x03\x01 this is not HTTP \x00\xff\r\n\r\n" * 4), End.CLOSE),
        "empty": (Head(200, JSON_TYPE, 0), End.FINISH),
    }
)


def _garbage(fault: Behaviour, framing: Framing | None) -> Iterator[Step]:
    if framing is Framing.SSE:
        yield Head(200, framing.value)
        part = {"content": {"parts": [{"text": "Well, "}], "role": "model"}, "index": 0}
        for _ in range(fault["chunks"]):
            yield Send(_event({"candidates": [part]}, framing, first=False))
        yield Send(b'data: {"candidates": [{"content": {"par\r\n\r\n')
        yield End.FINISH
        return
    data = b'{"candidates": [{"content": {"parts": [{"text": "Well, '
    yield from (Head(200, JSON_TYPE, len(data)), Send(data), End.FINISH)


def _broken_off(
    fault: Behaviour, following: dict[str, Any], framing: Framing, *, first: bool
) -> Iterator[Step]:
    if fault.name in {"error-mid-stream", "error-mid-stream-raw"}:
        yield Send(_error_event(fault, framing, first=first))
        yield End.FINISH
    elif fault.name == "truncated":
        yield End.FINISH
    elif fault.name == "cut":
        event = _event(following, framing, first=first)
        yield from (Send(event[: len(event) // 2]), Wait(_FLUSH_SECONDS), End.CLOSE)
    elif fault.name == "reset-mid-stream":
        yield from (Wait(_FLUSH_SECONDS), End.RESET)
    else:
        yield End.STALL


def _error_event(fault: Behaviour, framing: Framing, *, first: bool) -> bytes:
    body = service_error(fault["code"]).body
    if fault.name == "error-mid-stream-raw":
        return json.dumps(body, indent=2).encode() + b"\n"
    return _event(dict(body), framing, first=first) + (b"]" if framing is Framing.ARRAY else b"")


def _event(chunk: dict[str, Any], framing: Framing, *, first: bool) -> bytes:
    data = msgspec.json.encode(chunk)
    if framing is Framing.SSE:
        return b"data: " + data + b"\r\n\r\n"
    return (b"[" if first else b"\n,\r\n") + data


def _sent(data: bytes, pace: Pace) -> Iterator[Step]:
    if not pace.piece:
        yield Send(data)
        return
    for start in range(0, len(data), pace.piece):
        yield Send(data[start : start + pace.piece])
        # At least one turn of the reactor between two pieces, so that they are sent separately.
        yield Wait(pace.piece_wait)


def _page(status: int, title: str, text: str) -> list[Step]:
    page = (
        f"<!DOCTYPE html>\n<html lang=en>\n<title>{status} ({title})</title>\n"
        f"<p><b>{status}.</b> {text}\n</html>\n"
    ).encode()
    return [Head(status, _HTML_TYPE, len(page)), Send(page), End.FINISH]
