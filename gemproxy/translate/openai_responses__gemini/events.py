"""The events of a streamed response: numbered, each with its type twice, as OpenAI sends them."""

from __future__ import annotations

from typing import Any

import msgspec

from gemproxy.api.openai.schema.answers import TokenLogprob


class EventWriter:
    """Encodes events; :meth:`take` returns those since the last call."""

    __slots__ = ("_number", "_out", "_text_middle")

    def __init__(self) -> None:
        self._out: list[bytes] = []
        self._number = 0
        self._text_middle = b""

    def write(self, kind: bytes, fields: dict[str, Any]) -> None:
        """Write an event of the type ``kind``."""
        self.write_encoded(kind, _encode(fields)[1:-1])

    def write_encoded(self, kind: bytes, fields: bytes) -> None:
        """Write an event with the text of its fields, without braces."""
        number, self._number = self._number, self._number + 1
        self._out.append(
            b'event: %b\ndata: {"type":"%b","sequence_number":%d,%b}\n\n'
            % (kind, kind, number, fields)
        )

    def begin_text(self, item_id: str, output_index: int) -> None:
        """Prepare for the deltas of a message's text."""
        self._text_middle = b',"item_id":%b,"output_index":%d,"content_index":0,"delta":' % (
            _encode(item_id),
            output_index,
        )

    def text(self, text: str, logprobs: list[TokenLogprob] | None = None) -> None:
        """Write a delta of the text."""
        self._out.append(self.text_event(text, b"[]" if not logprobs else _encode(logprobs)))

    def text_event(self, text: str, logprobs: bytes = b"[]") -> bytes:
        """A delta of the text. Called for nearly every event, so it has to be fast."""
        number = self._number
        self._number = number + 1
        return (
            b"event: response.output_text.delta\ndata: "
            b'{"type":"response.output_text.delta","sequence_number":%d%b%b,"logprobs":%b}\n\n'
            % (number, self._text_middle, _encode(text), logprobs)
        )

    def take(self) -> bytes:
        """Return what was written since the last call."""
        out = b"".join(self._out)
        self._out.clear()
        return out


_encode = msgspec.json.Encoder().encode
