"""Count the tokens of a prompt: estimated here, or with Gemini's ``countTokens``."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from gemproxy.api.anthropic.schema.requests import CountTokensRequest
from gemproxy.buffer_list import BufferList
from gemproxy.providers.gemini.wire.requests import Blob, FileData
from gemproxy.translate.anthropic_messages__gemini.request import Options, translate_prompt
from gemproxy.translate.shared.counting import counting_body
from gemproxy.translate.shared.prompt_size import files_in, media_in

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
    body = counting_body(native, options.model, options.aside)
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
