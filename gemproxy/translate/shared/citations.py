"""Collect grounding and citations: which places of an answer's text have which sources.

Gemini counts in UTF-8 bytes, and within a part; clients' dialects count in characters of the whole
content. In a stream the sources come late and may refer to earlier text, so everything is resolved
at the end.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

import msgspec

from gemproxy.core.errors import MalformedUpstreamResponse
from gemproxy.providers.gemini.wire.answers import (
    Candidate,
    GroundingSupport,
    RetrievedContext,
    Source,
)

#: Cited places and sources of one choice; a long report has some hundreds.
MAX_CITATIONS = 50_000


class CitedPage(msgspec.Struct, frozen=True, gc=False):
    """A page, a place or a document with an address, and the characters of the content it is for.

    The end is exclusive.
    """

    start: int
    end: int
    title: str
    url: str


class CitedFile(msgspec.Struct, frozen=True, gc=False):
    """A file of a File Search store, which mostly has a name only."""

    name: str


class TextOffsets:
    """Turns byte offsets of a growing text into character offsets.

    Runs of ASCII, where both are the same, are kept as a length only.
    """

    __slots__ = ("_byte_starts", "_character_starts", "_texts", "bytes", "characters")

    def __init__(self) -> None:
        self.bytes = 0
        self.characters = 0
        self._byte_starts: list[int] = []
        self._character_starts: list[int] = []
        self._texts: list[str | None] = []  # None: ASCII

    def append(self, text: str) -> None:
        """Append ``text``."""
        ascii_only = text.isascii()
        if not ascii_only or not self._texts or self._texts[-1] is not None:
            self._byte_starts.append(self.bytes)
            self._character_starts.append(self.characters)
            self._texts.append(None if ascii_only else text)
        self.bytes += len(text) if ascii_only else len(text.encode())
        self.characters += len(text)

    def characters_at(self, offsets: Iterable[int]) -> dict[int, int]:
        """The character offset for each byte offset; offsets outside are clamped.

        Takes thousands at once: the text is read only once.
        """
        found: dict[int, int] = {}
        current, within = -1, _TextRun("")
        for offset in sorted(set(offsets)):
            if offset <= 0 or offset >= self.bytes:
                found[offset] = 0 if offset <= 0 else self.characters
                continue
            run = bisect_right(self._byte_starts, offset) - 1
            text = self._texts[run]
            place = offset - self._byte_starts[run]
            if text is not None:
                if run != current:
                    current, within = run, _TextRun(text)
                place = within.character_at(place)
            found[offset] = self._character_starts[run] + place
        return found


class _TextRun:
    """A text with lookups at growing byte offsets."""

    __slots__ = ("_byte", "_character", "_encoded")

    def __init__(self, text: str) -> None:
        self._encoded = text.encode()
        self._byte = 0
        self._character = 0

    def character_at(self, offset: int) -> int:
        """The character that contains the byte at ``offset``."""
        while self._encoded[offset] & 0xC0 == 0x80:  # not the first of a character
            offset -= 1
        self._character += len(self._encoded[self._byte : offset].decode())
        self._byte = offset
        return self._character


class Citations:
    """Collects the sources of one choice while its text is read.

    Call :meth:`text` and :meth:`other_part` for the parts in their order, :meth:`read` for each
    candidate, :meth:`restart` before each further hop of a long answer (offsets and source numbers
    begin again there), and :meth:`resolve` at the end.
    """

    __slots__ = ("_hop_start", "_offsets", "_parts", "_ranges", "_sources", "_supports")

    def __init__(self) -> None:
        self._offsets = TextOffsets()
        self._hop_start = 0
        self._parts: list[int | None] = []  # where a part's text begins, in bytes; None: not text
        self._sources: list[Source | None] = []
        self._supports: list[GroundingSupport] = []
        self._ranges: list[tuple[int, int, Source]] = []  # bytes of the whole content

    def text(self, text: str, *, continues: bool = False) -> None:
        """A part of the answer's text; ``continues`` if it may continue the part before."""
        if not continues or not self._parts or self._parts[-1] is None:
            self._parts.append(self._offsets.bytes)
        if text:
            self._offsets.append(text)

    def other_part(self, content: str = "", *, continues: bool = False) -> None:
        """A part that is not text in Gemini's count, though it may appear in ``content``."""
        if not continues or not self._parts or self._parts[-1] is not None:
            self._parts.append(None)
        if content:
            self._offsets.append(content)

    def read(self, candidate: Candidate) -> None:
        """Note the sources of ``candidate``."""
        grounding = candidate.grounding_metadata
        if grounding is not None:
            for chunk in grounding.grounding_chunks or []:
                self._sources.append(chunk.web or chunk.maps or chunk.retrieved_context)
            self._supports.extend(grounding.grounding_supports or [])
            if max(len(self._sources), len(self._supports)) > MAX_CITATIONS:
                raise MalformedUpstreamResponse(f"more than {MAX_CITATIONS} citations")
        citation = candidate.citation_metadata
        if citation is not None:
            for cited in (citation.citation_sources or []) + (citation.citations or []):
                start = self._hop_start + (cited.start_index or 0)
                end = self._hop_start + (cited.end_index or 0)
                self._note((start, end, Source(cited.uri, cited.title)))

    def restart(self) -> None:
        """The next hop of a long answer begins."""
        self._resolve_supports()
        self._hop_start = self._offsets.bytes
        self._parts.clear()
        self._sources.clear()

    def resolve(self) -> list[CitedPage | CitedFile]:
        """The sources: each place and URL once, and each file without a URL once.

        Other sources without a URL are omitted.
        """
        self._resolve_supports()
        if not self._ranges:
            return []
        characters = self._offsets.characters_at(
            offset for start, end, _ in self._ranges for offset in (start, end)
        )
        found: dict[tuple[int, int, str], CitedPage | CitedFile] = {}
        for start_byte, end_byte, source in self._ranges:
            if not source.uri:
                if isinstance(source, RetrievedContext) and source.title:
                    found.setdefault((-1, -1, source.title), CitedFile(source.title))
                continue
            start = characters[start_byte]
            end = max(start, characters[end_byte])
            citation = CitedPage(start, end, source.title or source.uri, source.uri)
            found.setdefault((start, end, source.uri), citation)
        return list(found.values())

    def _resolve_supports(self) -> None:
        for support in self._supports:
            segment = support.segment
            if segment is None:
                continue
            base = self._part_start(segment.part_index or 0)
            start, end = base + (segment.start_index or 0), base + (segment.end_index or 0)
            for number in support.grounding_chunk_indices or []:
                source = self._sources[number] if 0 <= number < len(self._sources) else None
                if source is not None:
                    self._note((start, end, source))
        self._supports.clear()

    def _note(self, cited: tuple[int, int, Source]) -> None:
        if len(self._ranges) == MAX_CITATIONS:
            raise MalformedUpstreamResponse(f"more than {MAX_CITATIONS} citations")
        self._ranges.append(cited)

    def _part_start(self, index: int) -> int:
        # Some models omit partIndex although part 0 is a thought; their offsets start at the first
        # text part.
        start = self._parts[index] if 0 <= index < len(self._parts) else None
        return self._hop_start if start is None else start
