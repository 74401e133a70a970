"""A stream on its way from the upstream to the client."""

from __future__ import annotations

from collections.abc import Callable

from gemproxy.core.call import Call
from gemproxy.core.errors import StreamIncomplete, UnusableAnswer
from gemproxy.providers.gemini.wire.sse import EventStreamDecoder
from gemproxy.translate.openai_chat__gemini.stream import ChatStreamTranslator


class StreamRelay:
    """Upstream bytes in, client events out; the first event that says anything commits.

    ``mark_serving`` is called at that moment.
    """

    def __init__(
        self,
        translator: ChatStreamTranslator,
        call: Call,
        seconds: Callable[[], float],
        mark_serving: Callable[[], None],
    ) -> None:
        self.translator = translator
        self._decoder = EventStreamDecoder()
        self._call = call
        self._writer = call.writer
        self._seconds = seconds
        self._mark_serving = mark_serving
        self._held = b""
        self._resumed = False
        #: Whether something of this hop is out.
        self.flowing = False

    def close_hop(self) -> None:
        """This hop is complete, and another is to come."""
        self._resumed = False
        self.flowing = False

    def begin_hop(self) -> None:
        """The body of the next hop follows: for the first time, or after one that gave nothing."""
        self.translator.resume(again=self._resumed)
        self._decoder = EventStreamDecoder()
        self._resumed = True
        self.flowing = False

    def receive(self, data: bytes) -> None:
        """What one read of the upstream's socket brought."""
        payloads = self._decoder.receive(data)
        if self.flowing and len(payloads) == 1:
            # As most events of a stream come.
            self._writer.write(self.translator.receive(payloads[0]))
        else:
            self._translate(payloads)

    def end_of_body(self) -> None:
        """Read what a body without a last blank line left over, and be ready for another body."""
        try:
            self._translate(self._decoder.close())
        except UnusableAnswer as rest:
            raise StreamIncomplete("The upstream stopped within an event.") from rest
        self._decoder = EventStreamDecoder()

    def finish(self) -> None:
        """Write the last events. Raises what makes the end no good end."""
        if self._resumed and not self.flowing and self.translator.malformed:
            raise UnusableAnswer("no content in a further hop")
        events = self.translator.finish()
        if self.translator.empty and not self._call.unusable and not self._writer.started:
            raise UnusableAnswer("empty answer")
        self._commit()
        self._writer.write(events)
        self._writer.finish()

    def cut_off(self) -> None:
        """End a long answer with what there is of it: the rest will not come."""
        self.translator.cut_off()
        self._resumed = False
        self.finish()

    def _translate(self, payloads: list[bytes]) -> None:
        translated: list[bytes] = []
        try:
            translated.extend(map(self.translator.receive, payloads))
        finally:
            # An error event does not take back what came before it in the same read.
            self._write(b"".join(translated))

    def _write(self, events: bytes) -> None:
        if self._writer.started or self.translator.started:
            self._commit()
            self._writer.write(events)
            self.flowing = self.flowing or bool(events)
        else:
            self._held += events

    def _commit(self) -> None:
        if not self._writer.started:
            self._call.exchange.first_byte = self._seconds()
            self._writer.begin_stream()
            self._mark_serving()
            self._writer.write(self._held)
