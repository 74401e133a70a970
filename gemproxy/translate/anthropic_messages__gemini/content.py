"""Translate content blocks of users and of tool results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from gemproxy.api.anthropic.schema import blocks
from gemproxy.core.errors import InvalidRequest
from gemproxy.providers.gemini.wire.requests import Blob, Part
from gemproxy.translate.shared import media
from gemproxy.translate.shared.media_parts import media_part

_DEFAULT_IMAGE: Final = "image/jpeg"
_PDF: Final = "application/pdf"
_MOST_RESULTS = 100
_DASH: Final = " \u2013 "

_Found = list[Part]


def text_parts(content: str | Sequence[blocks.TextBlock]) -> _Found:
    """The texts; those that are empty or only white space are left out."""
    if isinstance(content, str):
        return [Part(text=content)] if content.strip() else []
    return [Part(text=block.text) for block in content if block.text.strip()]


def block_parts(content: str | Sequence[Any] | None, path: str) -> _Found:
    """The parts of blocks, except those of tools; ``path`` is that of the content.

    Raises :class:`InvalidRequest` with the path of a block that cannot be translated.
    """
    if content is None:
        return []
    if isinstance(content, str):
        return [Part(text=content)] if content.strip() else []
    parts: _Found = []
    for index, block in enumerate(content):
        parts += translated_block(block, f"{path}[{index}]")
    return parts


def translated_block(block: object, path: str) -> _Found:
    """The parts of one block at ``path``; none of what Gemini has no use for."""
    translate = _TRANSLATIONS.get(type(block))
    return [] if translate is None else translate(block, path)


def _text(block: blocks.TextBlock, _path: str) -> _Found:
    return [Part(text=block.text)] if block.text.strip() else []


def _image(block: blocks.ImageBlock, path: str) -> _Found:
    source, place = block.source, f"{path}.source"
    if isinstance(source, blocks.Base64Source):
        part = _inline(source, place)
        if part.inline_data is not None and not part.inline_data.mime_type.startswith("image/"):
            raise InvalidRequest(
                f"{place}.media_type: expected an image, got {part.inline_data.mime_type}.",
                param=f"{place}.media_type",
            )
        return [part]
    if isinstance(source, blocks.URLSource):
        return [media_part(source.url.strip(), f"{place}.url", fallback=_DEFAULT_IMAGE)]
    return [_uploaded(source, place)]


def _document(block: blocks.DocumentBlock, path: str) -> _Found:
    source, place = block.source, f"{path}.source"
    if isinstance(source, blocks.TextSource):
        return text_parts(source.data)
    if isinstance(source, blocks.BlocksSource):
        return block_parts(source.content, f"{place}.content")
    if isinstance(source, blocks.Base64Source):
        return [_inline(source, place)]
    if isinstance(source, blocks.URLSource):
        return [media_part(source.url.strip(), f"{place}.url", fallback=_PDF)]
    return [_uploaded(source, place)]


def _inline(source: blocks.Base64Source, path: str) -> Part:
    mime_type = media.known_type(source.media_type, f"{path}.media_type")
    media.checked_image(mime_type, f"{path}.media_type")
    data = media.checked_base64(source.data.strip(), f"{path}.data")
    return Part(inline_data=Blob(mime_type=mime_type, data=data))


def _uploaded(source: blocks.FileSource, path: str) -> Part:
    return Part(file_data=media.uploaded_file(source.file_id.strip(), f"{path}.file_id"))


def _search_result(block: blocks.SearchResultBlock, _path: str) -> _Found:
    texts = [each.text for each in block.content if each.text.strip()]
    head = _DASH.join(filter(None, (block.title, block.source)))
    return text_parts("\n".join(filter(None, (head, *texts))))


def _tool_reference(block: blocks.ToolReferenceBlock, _path: str) -> _Found:
    return [Part(text=f"Tool {block.tool_name} is now available.")]


def _compaction(block: blocks.CompactionBlock, _path: str) -> _Found:
    return text_parts(block.content or "")


def _web_search(block: blocks.WebSearchResultBlock, _path: str) -> _Found:
    """The pages that an earlier search found, as a list of titles and addresses."""
    found = block.content if isinstance(block.content, list) else []
    pages = [each for each in found[:_MOST_RESULTS] if isinstance(each, dict) and each.get("url")]
    lines = [f"- {each.get('title') or each['url']}{_DASH}{each['url']}" for each in pages]
    return [Part(text="\n".join(("Found on the web:", *lines)))] if lines else []


def _container_upload(_block: blocks.ContainerUploadBlock, path: str) -> _Found:
    raise InvalidRequest(
        f"{path}: container_upload is not supported; send the file as a document or an image.",
        param=path,
    )


_TRANSLATIONS: dict[type, Callable[[Any, str], _Found]] = {
    blocks.TextBlock: _text,
    blocks.ImageBlock: _image,
    blocks.DocumentBlock: _document,
    blocks.SearchResultBlock: _search_result,
    blocks.ToolReferenceBlock: _tool_reference,
    blocks.CompactionBlock: _compaction,
    blocks.WebSearchResultBlock: _web_search,
    blocks.ContainerUploadBlock: _container_upload,
}
