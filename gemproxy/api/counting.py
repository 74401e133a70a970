"""A count of tokens by the provider, for any dialect."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gemproxy.api.base import StreamedAnswer, WholeAnswer
from gemproxy.buffer_list import BufferList
from gemproxy.core.retry import Revision
from gemproxy.pool.outcome import Outcome
from gemproxy.providers.base import Operation
from gemproxy.translate.shared.counting import WholeCount


class CountJob:
    """See :class:`gemproxy.api.base.Job`. ``encode`` makes the answer of the number of tokens."""

    operation = Operation.COUNT_TOKENS
    stream = False
    #: A count takes none of a key's tokens.
    tokens = 0
    conversation = None

    def __init__(
        self,
        model: str,
        body: bytes | BufferList,
        resources: Sequence[str],
        *,
        encode: Callable[[int], bytes],
        prompt_param: str,
        brief: bool,
    ) -> None:
        self.model = model
        self.body = body
        self.resources = resources
        self.prompt_param = prompt_param
        self.is_brief = brief
        self._encode = encode

    def revision(self, failed: Outcome) -> Revision | None:
        """``None``: there is no other form."""
        del failed
        return None

    def revise(self, revision: Revision) -> None:
        """Not used: there is no other form."""

    def served(self, now: float) -> None:
        """See :meth:`gemproxy.api.base.Job.served`."""

    def whole_answer(self, created: int) -> WholeAnswer:
        """See :meth:`gemproxy.api.base.Job.whole_answer`."""
        del created
        return WholeCount(self._encode)

    def streamed_answer(self, created: int) -> StreamedAnswer:
        """Not used: a count is never streamed."""
        raise NotImplementedError
