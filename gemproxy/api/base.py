"""What the core needs from an endpoint: a job for a request, and the conversion of its answer.

An endpoint decodes and translates the body of a client's request into a :class:`Job`, which can be
sent to a provider with any key. The job also converts the provider's answer to the client's
dialect, through a :class:`WholeAnswer` or a :class:`StreamedAnswer`. The core and ``http`` know
nothing else about a client's dialect, except how its errors are encoded
(:class:`~gemproxy.api.dialects.Dialect`).

An answer may take several calls of the provider, called steps, such as the hops of a long answer. A
failed step is repeated without the steps before it. A request may also be divided into several jobs
(:class:`Batches`), for a list of inputs that is sent in batches.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from gemproxy.api.dialects import Dialect
from gemproxy.buffer_list import BufferList
from gemproxy.core.context import RequestContext
from gemproxy.core.errors import ProxyError
from gemproxy.core.retry import Revision
from gemproxy.pool.outcome import Outcome
from gemproxy.providers.base import NativeCall, Operation
from gemproxy.translate.shared.usage import TokenUsage


@dataclass(frozen=True)
class Route:
    """A route of the public API: its path template as in log and metrics, and its methods.

    A parameter is written ``{name}`` and fills a segment, or the part of the last segment before a
    colon: ``/{version}/models/{model}:{verb}``. ``values`` names the only values that a parameter
    may have; ``{version}`` is one of Gemini's versions anyway. ``whole`` tells that the path is
    decoded before it is matched, so that a parameter may hold slashes as the names of models do.
    ``is_limited`` tells whether a request counts against the client's own limits. ``checks_type``
    tells that each body and each POST has to be declared as JSON; else the endpoint checks that.
    Several routes may have the same path in different dialects.
    """

    template: str
    methods: tuple[bytes, ...]
    dialect: Dialect
    values: Mapping[str, frozenset[str]] = field(default_factory=dict)
    whole: bool = True
    is_limited: bool = True
    checks_type: bool = True

    @property
    def allow(self) -> tuple[str, ...]:
        """The value of the header ``Allow``. HEAD is implied by GET and left out."""
        return tuple(each.decode("ascii") for each in self.methods if each != b"HEAD")


class Head(Protocol):
    """What an endpoint may read of a request beside its body. The credentials are taken out.

    It lives as long as the request: a job may keep it. Thread-safe.
    """

    @property
    def method(self) -> bytes:
        """The method, in upper case."""

    @property
    def parameters(self) -> Mapping[str, str]:
        """The parameters of the path by name, decoded."""

    @property
    def origin(self) -> str:
        """Scheme and host that the client has used, as ``https://example.com``."""

    @property
    def query(self) -> bytes:
        """The query without credentials, as the client has encoded it, without the ``?``."""

    @property
    def header(self) -> Callable[[bytes], bytes | None]:
        """Returns the last value of a header by its name in lower case."""


class ConvertedAnswer(Protocol):
    """What the core needs to know of an answer in the client's dialect."""

    @property
    def usage(self) -> TokenUsage | None:
        """The tokens of the answer, as far as it has come; ``None`` if it costs nothing.

        An answer that takes tokens and does not say how many has zeros: its cost is not known.
        """

    @property
    def blocked(self) -> bool:
        """Whether the provider withheld the answer or a part of it by its safety rules."""

    @property
    def empty(self) -> bool:
        """Whether the complete answer has no content. Then the core tries once more."""


class EncodedAnswer(ConvertedAnswer, Protocol):
    """A whole answer in the client's dialect."""

    @property
    def body(self) -> bytes:
        """The bytes for the client."""


class WholeAnswer(Protocol):
    """Converts the provider's whole answer to the client's dialect, step by step."""

    @property
    def is_large(self) -> bool:
        """Whether :meth:`encode` is so slow that it has to run in a thread."""

    def receive(self, body: bytes) -> bytes | None:
        """Read the body of one step. Return the body of the next step's request, if there is one.

        Raises :class:`~gemproxy.core.errors.UnusableAnswer` and
        :class:`~gemproxy.core.errors.ErrorInAnswer`; the step may then be repeated.
        """

    def encode(self) -> EncodedAnswer:
        """Encode the answer of all steps so far and drop them. Thread-safe.

        Raises :class:`~gemproxy.core.errors.UnusableAnswer` and
        :class:`~gemproxy.core.errors.UpstreamRejected`.
        """


class StreamedAnswer(ConvertedAnswer, Protocol):
    """Converts the payloads of a provider's stream to events of the client's dialect."""

    def receive(self, payload: bytes) -> bytes:
        """The client's events for one payload; may be empty.

        Raises :class:`~gemproxy.core.errors.UnusableAnswer` and
        :class:`~gemproxy.core.errors.ErrorInAnswer`.
        """

    def finish(self) -> bytes:
        """The last events, after the body of the last step.

        Raises :class:`~gemproxy.core.errors.StreamIncomplete`,
        :class:`~gemproxy.core.errors.UnusableAnswer` and
        :class:`~gemproxy.core.errors.UpstreamRejected`.
        """

    def next_step(self) -> bytes | None:
        """The body of the next step's request, after a body has ended; ``None`` at the end."""

    def resume(self, *, again: bool = False) -> None:
        """Expect the next step; ``again`` if an earlier attempt at it failed."""

    def cut_off(self) -> None:
        """End the answer here: the next step failed finally, before or after its first event."""

    def failed(self, error: ProxyError) -> bytes | None:
        """The last events of a stream that fails with ``error`` after it has begun.

        ``None`` for the error event of the dialect.
        """

    @property
    def started(self) -> bool:
        """Whether an event with content was returned."""

    @property
    def malformed(self) -> bool:
        """Whether the provider reported an error in the content of this step."""


class Job(Protocol):
    """A translated request that can be sent to a provider with any key."""

    @property
    def operation(self) -> Operation | NativeCall:
        """The operation of the provider."""

    @property
    def model(self) -> str:
        """The provider's name of the model."""

    @property
    def body(self) -> bytes | BufferList:
        """The body of the first step's request to the provider."""

    @property
    def stream(self) -> bool:
        """Whether the client gets a stream."""

    @property
    def tokens(self) -> int:
        """The estimated number of tokens of the request."""

    @property
    def resources(self) -> Sequence[str]:
        """The files, caches and other resources that it names, such as ``files/x``.

        Only keys of the project that they belong to can read them.
        """

    @property
    def conversation(self) -> int | None:
        """A number that the requests of one conversation share; ``None`` if any key is as good."""

    @property
    def prompt_param(self) -> str:
        """The name of the client's field with the prompt, for errors about it."""

    @property
    def is_brief(self) -> bool:
        """Whether it was translated so fast that a second translation may run in the reactor."""

    def revision(self, failed: Outcome) -> Revision | None:
        """Another form of the request that may succeed after ``failed``; else ``None``."""

    def revise(self, revision: Revision) -> None:
        """Translate the request again in the form of ``revision``. Thread-safe."""

    def served(self, now: float) -> None:
        """Note that the upstream accepted the revised request. ``now`` is monotonic."""

    def whole_answer(self, created: int) -> WholeAnswer:
        """The converter for a whole answer. ``created`` is in epoch seconds."""

    def streamed_answer(self, created: int) -> StreamedAnswer:
        """The converter for a stream. ``created`` is in epoch seconds."""


class BatchJob(Job, Protocol):
    """One of several jobs that a request takes."""

    def split(self) -> Sequence[BatchJob]:
        """The jobs to send instead if its prompt is too large; none if it cannot be divided."""


# No Struct: ``isinstance`` is slow with a class that has a metaclass, and each request needs it.
@dataclass(frozen=True, slots=True)
class Batches:
    """The jobs of one request, in the order of their dispatch. They are not streams.

    ``join`` makes one client's answer from the answers to the jobs and the sum of their tokens. It
    does not copy the answers.
    """

    jobs: Sequence[BatchJob]
    join: Callable[[Sequence[bytes], TokenUsage], BufferList]


class Endpoint(Protocol):
    """One route of a dialect, whose requests are served by a provider."""

    @property
    def route(self) -> Route:
        """Path, methods, and how errors are encoded."""

    def decode(
        self, body: bytes, head: Head, context: RequestContext, *, brief: bool
    ) -> Job | Batches:
        """Decode and translate a request. Thread-safe.

        Sets ``model`` and ``stream`` of ``context``. Raises
        :class:`~gemproxy.core.errors.ProxyError` for a request that cannot be served. With
        ``brief``, raises :class:`~gemproxy.translate.shared.schema_budget.OutOfSteps` if the
        translation takes too long for the reactor.
        """


class LocalEndpoint(Protocol):
    """One route of a dialect that is answered without a job: lists, and what is stored here."""

    @property
    def route(self) -> Route:
        """Path, methods, and how errors are encoded."""

    def answer(self, head: Head, context: RequestContext) -> Awaitable[bytes | BufferList]:
        """Return the JSON of the answer. Raises :class:`~gemproxy.core.errors.ProxyError`."""
