"""What the core asks of an endpoint: a job made of a request, and the way back to its client.

An endpoint decodes the body of a client's request into a :class:`Job`: what to ask a provider for,
translated and ready to be sent with any key. The job also gives the two ways back, a
:class:`WholeAnswer` or a :class:`StreamedAnswer`, which make the provider's answer into the
client's. Neither the core nor ``http`` knows more of a client's dialect, except how its errors are
encoded (:class:`~gemproxy.core.interfaces.ErrorEncoder`).

An answer may take several exchanges with the provider, called steps: a long answer comes in hops. A
step that failed is asked for again by itself. A request may also take several jobs
(:class:`Batches`): a list of inputs that is sent in batches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from msgspec import Struct

from gemproxy.buffer_list import BufferList
from gemproxy.core.context import RequestContext
from gemproxy.core.interfaces import ErrorEncoder
from gemproxy.core.retry import Revision
from gemproxy.pool.outcome import Outcome
from gemproxy.providers.base import Operation
from gemproxy.translate.shared.usage import TokenUsage


@dataclass(frozen=True)
class Route:
    """A route of the public API: its template as log and metrics have it, and its methods.

    ``errors`` encodes the errors of whoever asks there.
    """

    template: str
    methods: tuple[bytes, ...]
    errors: ErrorEncoder

    @property
    def allow(self) -> tuple[str, ...]:
        """For the header ``Allow``; that GET implies HEAD is not told there."""
        return tuple(each.decode("ascii") for each in self.methods if each != b"HEAD")


class EncodedAnswer(Protocol):
    """A whole answer in the client's dialect, and what the core wants to know of it."""

    @property
    def body(self) -> bytes:
        """As it goes to the client."""

    @property
    def usage(self) -> TokenUsage:
        """Its tokens."""

    @property
    def blocked(self) -> bool:
        """Whether the provider withheld the answer, or a part of it, by its own rules."""

    @property
    def empty(self) -> bool:
        """Whether there is nothing in it: worth one more try."""


class WholeAnswer(Protocol):
    """Makes the provider's answer into a whole answer for the client, step by step."""

    @property
    def is_large(self) -> bool:
        """Whether the encoding would hold up other requests."""

    def receive(self, body: bytes) -> bytes | None:
        """Read the body of one step. The body of the next step's request, if there is another.

        Raises :class:`~gemproxy.core.errors.UnusableAnswer` and
        :class:`~gemproxy.core.errors.ErrorInAnswer`; the step may then be asked for again.
        """

    def encode(self) -> EncodedAnswer:
        """The answer, of all steps so far. Lets go of them. Any thread may.

        Raises :class:`~gemproxy.core.errors.UnusableAnswer` and
        :class:`~gemproxy.core.errors.UpstreamRejected`.
        """


class StreamedAnswer(Protocol):
    """Makes the payloads of a provider's stream into events for the client."""

    def receive(self, payload: bytes) -> bytes:
        """The client's events for one payload; empty while there is nothing to say.

        Raises :class:`~gemproxy.core.errors.UnusableAnswer` and
        :class:`~gemproxy.core.errors.ErrorInAnswer`.
        """

    def finish(self) -> bytes:
        """The last events, when the body of the last step has ended.

        Raises :class:`~gemproxy.core.errors.StreamIncomplete`,
        :class:`~gemproxy.core.errors.UnusableAnswer` and
        :class:`~gemproxy.core.errors.UpstreamRejected`.
        """

    def next_step(self) -> bytes | None:
        """The body of the next step's request, when a body has ended; ``None`` at the end."""

    def resume(self, *, again: bool = False) -> None:
        """The next step begins; ``again`` if it began before and gave nothing."""

    def cut_off(self) -> None:
        """The next step failed for good, perhaps within: this is all that there is."""

    @property
    def started(self) -> bool:
        """Whether any event was given out."""

    @property
    def usage(self) -> TokenUsage:
        """The tokens so far."""

    @property
    def blocked(self) -> bool:
        """Whether the provider withheld the answer, or a part of it, by its own rules."""

    @property
    def empty(self) -> bool:
        """Whether the stream ended in order with nothing in it."""

    @property
    def malformed(self) -> bool:
        """Whether the provider says of this step that something went wrong."""


class Job(Protocol):
    """What a client asked for, ready to be sent to a provider with any key."""

    @property
    def operation(self) -> Operation:
        """What the model is asked for."""

    @property
    def model(self) -> str:
        """The provider's name of the model."""

    @property
    def body(self) -> bytes | BufferList:
        """The body of the provider's request, of the first step."""

    @property
    def stream(self) -> bool:
        """Whether the client gets a stream."""

    @property
    def tokens(self) -> int:
        """About how many tokens the request has."""

    @property
    def names_resources(self) -> bool:
        """Whether it names files or caches, which only keys of one project can read."""

    @property
    def prompt_param(self) -> str:
        """The field of the client's request that has the prompt, for errors about it."""

    @property
    def is_brief(self) -> bool:
        """Whether making it took so little time that the reactor may do it again."""

    def revision(self, failed: Outcome) -> Revision | None:
        """Another form of the request, which may be served where this one was refused."""

    def revise(self, revision: Revision) -> None:
        """Take that form. Any thread may."""

    def served(self, now: float) -> None:
        """The request was served in the form that it has. ``now`` is monotonic."""

    def whole_answer(self, created: int) -> WholeAnswer:
        """The way back for a whole answer. ``created`` is in epoch seconds."""

    def streamed_answer(self, created: int) -> StreamedAnswer:
        """The way back for a stream."""


class BatchJob(Job, Protocol):
    """One of several jobs that a request takes."""

    def split(self) -> Sequence[BatchJob]:
        """Smaller jobs in its place, if its prompt is too large; none if it cannot be smaller."""


class Batches(Struct, frozen=True):
    """The jobs of one request, none of which is a stream, in the order of their dispatch.

    ``join`` makes the client's answer of the answers to them and the tokens of all. It copies
    nothing that is large.
    """

    jobs: Sequence[BatchJob]
    join: Callable[[Sequence[bytes], TokenUsage], BufferList]


class Endpoint(Protocol):
    """One route of a dialect, whose requests are served by a provider."""

    @property
    def route(self) -> Route:
        """Path, methods, and how errors are encoded."""

    def decode(self, body: bytes, context: RequestContext, *, brief: bool) -> Job | Batches:
        """Read a request's body and translate it. Any thread may.

        Notes model and kind in ``context``. Raises :class:`~gemproxy.core.errors.ProxyError` for a
        request that cannot be served as it is; where it is to be ``brief``,
        :class:`~gemproxy.translate.shared.schema_budget.OutOfSteps` for one that takes long.
        """
