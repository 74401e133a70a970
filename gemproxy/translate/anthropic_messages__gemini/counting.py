"""Count the tokens of a prompt: estimated here, or with Gemini's ``countTokens``."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from gemproxy.api.anthropic.schema.answers import TokenCount, encode_count
from gemproxy.api.anthropic.schema.requests import CountTokensRequest
from gemproxy.buffer_list import BufferList
from gemproxy.core.errors import ErrorInAnswer
from gemproxy.providers.gemini.wire.answers import NO_ERROR, decode_count
from gemproxy.providers.gemini.wire.requests import (
    Blob,
    CountedRequest,
    FileData,
    encode_count_tokens,
)
from gemproxy.providers.gemini.wire.requests import CountTokensRequest as GeminiCount
from gemproxy.translate.anthropic_messages__gemini.request import Options, translate_prompt
from gemproxy.translate.shared.prompt_size import files_in, media_in
from gemproxy.translate.shared.usage import TokenUsage

#: Bytes of JSON for two tokens. English has some four characters a token and code fewer. A count
#: that is too low makes Claude Code send more than the model takes, one that is too high only makes
#: it summarise early.
_BYTES_PER_TWO_TOKENS = 7
#: Tokens of an image for third-generation models, and of a page of a document.
_TOKENS_PER_IMAGE = 1120
_TOKENS_PER_PAGE = 560
#: Bytes of base64 that a page of a PDF takes at least, on average.
_BASE64_PER_PAGE = 40_000


class CountedPrompt(msgspec.Struct, frozen=True, gc=False):
    """A translated prompt: what Google needs to count it, and an estimate."""

    body: bytes | BufferList
    #: The uploaded files that it names.
    resources: Sequence[str]
    estimate: int


def count(request: CountTokensRequest, options: Options) -> CountedPrompt:
    """Translate the prompt.

    Raises :class:`~gemproxy.core.errors.InvalidRequest` for what Gemini or this model cannot do.
    """
    native, _ = translate_prompt(request, options)
    counted = CountedRequest(
        model=f"models/{options.model}",
        contents=native.contents,
        system_instruction=native.system_instruction,
        tools=native.tools,
        tool_config=native.tool_config,
    )
    text = encode_count_tokens(GeminiCount(generate_content_request=counted))
    body = options.aside.restore(text)
    media = media_in(native.contents)
    inline = 0
    tokens = 0
    for each in media:
        if isinstance(each, FileData) or each.mime_type.startswith("image/"):
            tokens += _TOKENS_PER_IMAGE
        if isinstance(each, Blob):
            size = options.aside.size(each.data)
            inline += size
            if not each.mime_type.startswith("image/"):
                tokens += _TOKENS_PER_PAGE * (1 + size // _BASE64_PER_PAGE)
    tokens += (len(body) - inline) * 2 // _BYTES_PER_TWO_TOKENS
    return CountedPrompt(body, files_in(media) if media else (), tokens)


class EncodedCount(msgspec.Struct, frozen=True, gc=False):
    """See :class:`gemproxy.api.base.EncodedAnswer`."""

    body: bytes
    usage: TokenUsage
    blocked: bool = False
    empty: bool = False


class WholeCount:
    """Reads Google's count; see :class:`gemproxy.api.base.WholeAnswer`."""

    is_large = False

    def __init__(self) -> None:
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
        return EncodedCount(encode_count(TokenCount(self._tokens)), TokenUsage())
