"""A request that is translated to Gemini's form, whatever the client's dialect."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Generic, TypeVar

import msgspec

from gemproxy.buffer_list import BufferList

#: Is in the text of each request with thought signatures or dummies.
SIGNATURE_FIELD: Final = b'"thoughtSignature"'

ContextT = TypeVar("ContextT")


class TranslatedRequest(msgspec.Struct, Generic[ContextT], frozen=True, gc=False):
    """The translated request, and what the translation of its answer needs."""

    #: Compact JSON of the ``GenerateContentRequest``.
    body: bytes | BufferList
    #: What the dialect's answers need of the request.
    context: ContextT
    #: A rough estimate of the prompt's tokens, for budgets.
    estimated_tokens: int
    #: The uploaded files and the cached content that it names; only keys of one project can read
    #: them.
    resources: Sequence[str]
    #: See :attr:`gemproxy.api.base.Job.conversation`.
    conversation: int | None
    #: Whether it contains thought signatures or dummies.
    signed: bool
    #: Whether the client gets a stream.
    stream: bool
