"""Relay a stream from the upstream to the client.

The provider's decoder cuts the bytes into payloads, the endpoint's :class:`StreamedAnswer` converts
each to events of the client's dialect, and the writer sends these (:meth:`StreamRelay.receive`).
The events before the first one with content are held back, so that another key may still be tried.
With that event the relay commits.
"""

from __future__ import annotations

from collections.abc import Callable

from gemproxy.api.base import StreamedAnswer
from gemproxy.core.context import RequestContext
from gemproxy.core.errors import StreamIncomplete, UnusableAnswer
from gemproxy.core.interfaces import ReplyWriter
from gemproxy.core.retry import unusable
from gemproxy.providers.base import StreamDecoder
from gemproxy.secret import Secret

#: Hides nothing.
_NOTHING = Secret("")


class StreamRelay:
    """Upstream bytes in, client events out; the first event with content commits.

    ``new_decoder`` makes a decoder for each body. ``committed`` is called when the relay commits.
    ``seconds`` gives monotonic time.
    """

    def __init__(
        self,
        answer: StreamedAnswer,
        new_decoder: Callable[[], StreamDecoder],
        context: RequestContext,
        writer: ReplyWriter,
        seconds: Callable[[], float],
        committed: Callable[[RequestContext], None],
    ) -> None:
        self.answer = answer
        self._new_decoder = new_decoder
        self._decoder = new_decoder()
        self._context = context
        self._writer = writer
        self._seconds = seconds
        self._committed = committed
        self._held = b""
        self._resumed = False
        #: Whether the client has received events of this step.
        self.flowing = False
        self.hide(_NOTHING)

    def hide(self, secret: Secret) -> None:
        """Mask ``secret`` in what follows: the upstream may repeat what it was asked with."""
        self._rarest = secret.rarest
        self._masked_in = secret.masked_in

    def close_step(self) -> None:
        """End this step; another one follows."""
        self._resumed = False
        self.flowing = False

    def begin_step(self) -> None:
        """Expect the body of the next step, for the first time or after a failed attempt at it."""
        self.answer.resume(again=self._resumed)
        self._decoder = self._new_decoder()
        self._resumed = True
        self.flowing = False

    def receive(self, data: bytes) -> None:
        """Relay the bytes of one read of the upstream's socket."""
        payloads = self._decoder.receive(data)
        if self.flowing and len(payloads) == 1:
            # The usual case, without the work of the general one.
            events = self.answer.receive(payloads[0])
            if self._rarest in events:
                events = self._masked_in(events)
            self._writer.write(events)
        else:
            self._translate(payloads)

    def end_of_body(self) -> None:
        """Read an event that the body left without a blank line, and prepare for another body."""
        try:
            self._translate(self._decoder.close())
        except UnusableAnswer as rest:
            raise StreamIncomplete("The upstream stopped within an event.") from rest
        self._decoder = self._new_decoder()

    def finish(self) -> None:
        """Write the last events. Raises if the stream is incomplete or empty."""
        if self._resumed and not self.flowing and self.answer.malformed:
            raise UnusableAnswer("no content in a further hop")
        events = self.answer.finish()
        if self.answer.empty and not self._writer.started:
            self._refuse_empty()
        self._commit()
        self._writer.write(self._masked_in(events))
        self._writer.finish()

    def cut_off(self) -> None:
        """End a long answer here: the rest will not come."""
        self.answer.cut_off()
        self._resumed = False
        self.finish()

    def _refuse_empty(self) -> None:
        """Raise, unless an attempt before was empty as well: then the empty answer is final."""
        if not unusable(self._context.step_attempts):
            raise UnusableAnswer("empty answer")

    def _translate(self, payloads: list[bytes]) -> None:
        translated: list[bytes] = []
        try:
            translated.extend(map(self.answer.receive, payloads))
        finally:
            # The events before an error event of the same read are sent.
            self._write(b"".join(translated))

    def _write(self, events: bytes) -> None:
        events = self._masked_in(events)
        if self._writer.started or self.answer.started:
            self._commit()
            self._writer.write(events)
            self.flowing = self.flowing or bool(events)
        else:
            self._held += events

    def _commit(self) -> None:
        if not self._writer.started:
            self._context.first_byte = self._seconds()
            self._writer.begin_stream(self.answer.failed)
            self._committed(self._context)
            self._writer.write(self._held)
