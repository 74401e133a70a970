"""Render the registry as text, in pieces that take a few milliseconds each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from gemproxy.telemetry.metric_families import PART

Encode = Callable[[Collector], bytes]

_END = b"# EOF\n"


def negotiate(accept: str) -> tuple[str, Encode]:
    """Content type and encoder for an ``Accept`` header: OpenMetrics if the client asks for it."""
    try:
        encode, content_type = choose_encoder(accept)
    except TypeError:
        # The library raises this for an invalid version.
        encode, content_type = choose_encoder("")
    return content_type, encode


def pages(registry: CollectorRegistry, encode: Encode) -> Iterator[bytes]:
    """The whole text; each page is rendered when it is requested."""
    page: list[bytes] = []
    room = PART
    for part, is_first in _parts(registry):
        text = encode(_Collected(part)).removesuffix(_END)
        page.append(text if is_first else _without_head(text))
        room -= len(part.samples)
        if room <= 0:
            yield b"".join(page)
            page, room = [], PART
    yield b"".join([*page, _end(encode)])


class _Collected(Collector):
    """A part of a metric with the interface of a registry."""

    def __init__(self, *parts: Metric) -> None:
        self._parts = parts

    def collect(self) -> Iterable[Metric]:
        return self._parts


def _parts(registry: CollectorRegistry) -> Iterator[tuple[Metric, bool]]:
    """Every metric, large ones in several parts, and whether a part is the first of its metric."""
    name = ""
    for part in registry.collect():
        yield part, part.name != name
        name = part.name


def _without_head(text: bytes) -> bytes:
    """Only the samples, without HELP and TYPE."""
    while text.startswith(b"#"):
        text = text.partition(b"\n")[2]
    return text


def _end(encode: Encode) -> bytes:
    """The end marker of this format."""
    return encode(_Collected())
