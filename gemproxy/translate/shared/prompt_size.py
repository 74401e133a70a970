"""The size of a translated prompt, and the files that it names."""

from __future__ import annotations

from collections.abc import Sequence

from gemproxy.buffer_list import BufferList
from gemproxy.media_bypass import ExtractedMedia
from gemproxy.providers.gemini.wire.requests import Blob, Content, FileData
from gemproxy.translate.shared.media import resource_of

CHARACTERS_PER_TOKEN = 4
#: Tokens of an image for third-generation models; other media is not estimated.
_TOKENS_PER_MEDIUM = 1100


def media_in(contents: Sequence[Content]) -> list[Blob | FileData]:
    """All media of the turns, that of function results included."""
    found: list[Blob | FileData] = []
    for content in contents:
        for part in content.parts:
            if part.text is not None:
                continue
            if medium := part.inline_data or part.file_data:
                found.append(medium)
            elif part.function_response is not None and part.function_response.parts:
                found += [inner.inline_data for inner in part.function_response.parts]
    return found


def files_in(media: Sequence[Blob | FileData]) -> list[str]:
    """The names of those files that can be read only by keys of one project."""
    names = [resource_of(each.file_uri) for each in media if isinstance(each, FileData)]
    return [name for name in names if name is not None]


def estimated_tokens(
    body: bytes | BufferList, media: Sequence[Blob | FileData], aside: ExtractedMedia
) -> int:
    """A rough estimate of the prompt's tokens, for budgets. ``body`` is that of the request."""
    if not media:
        return len(body) // CHARACTERS_PER_TOKEN
    inline = sum(aside.size(medium.data) for medium in media if isinstance(medium, Blob))
    return (len(body) - inline) // CHARACTERS_PER_TOKEN + len(media) * _TOKENS_PER_MEDIUM
