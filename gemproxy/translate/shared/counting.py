"""Count the tokens of a translated prompt with Gemini's ``countTokens``."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from gemproxy.buffer_list import BufferList
from gemproxy.core.errors import ErrorInAnswer
from gemproxy.media_bypass import ExtractedMedia
from gemproxy.providers.gemini.wire.answers import NO_ERROR, decode_count
from gemproxy.providers.gemini.wire.requests import (
    CountedRequest,
    CountTokensRequest,
    GenerateContentRequest,
    encode_count_tokens,
)


def counting_body(
    prompt: GenerateContentRequest, model: str, aside: ExtractedMedia
) -> bytes | BufferList:
    """The body of ``countTokens`` for the prompt of a request, without its options."""
    counted = CountedRequest(
        model=f"models/{model}",
        contents=prompt.contents,
        system_instruction=prompt.system_instruction,
        tools=prompt.tools,
        tool_config=prompt.tool_config,
    )
    return aside.restore(encode_count_tokens(CountTokensRequest(generate_content_request=counted)))


class EncodedCount(msgspec.Struct, frozen=True, gc=False):
    """See :class:`gemproxy.api.base.EncodedAnswer`."""

    body: bytes
    #: A count costs nothing.
    usage: None = None
    blocked: bool = False
    empty: bool = False


class WholeCount:
    """Reads Google's count; see :class:`gemproxy.api.base.WholeAnswer`.

    ``encode_count`` makes the body in the client's dialect.
    """

    is_large = False

    def __init__(self, encode_count: Callable[[int], bytes]) -> None:
        self._encode_count = encode_count
        self._tokens = 0

    def receive(self, body: bytes) -> bytes | None:
        """See :meth:`gemproxy.api.base.WholeAnswer.receive`."""
        counted = decode_count(body)
        if counted.error is not NO_ERROR:
            raise ErrorInAnswer(body)
        self._tokens = counted.total_tokens
        return None

    def encode(self) -> EncodedCount:
        """See :meth:`gemproxy.api.base.WholeAnswer.encode`."""
        return EncodedCount(self._encode_count(self._tokens))
