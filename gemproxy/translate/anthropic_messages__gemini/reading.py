"""Read the candidate of an answer part by part, in the order in which clients get the blocks."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from gemproxy.providers.gemini.wire.answers import Candidate, GroundingMetadata, Part
from gemproxy.translate.anthropic_messages__gemini.context import AnswerContext
from gemproxy.translate.anthropic_messages__gemini.identity import MessageCallReader
from gemproxy.translate.shared.calls import AnsweredCall
from gemproxy.translate.shared.candidate import CandidateState
from gemproxy.translate.shared.citations import Citations, CitedPage
from gemproxy.translate.shared.code_blocks import executable_code, execution_result
from gemproxy.translate.shared.finish import FinishState
from gemproxy.translate.shared.signatures import SignatureStore

#: Pages that a search found; Google gives some dozens.
_MOST_PAGES = 1000

_STOP_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}


class Thought(msgspec.Struct, frozen=True, gc=False):
    """Text of the model's thinking."""

    text: str


class Said(msgspec.Struct, frozen=True, gc=False):
    """Text of the answer. ``signature`` is that of the part, if it has one."""

    text: str
    signature: str | None = None


Piece = Thought | Said | AnsweredCall


class WebSearch(msgspec.Struct, frozen=True, gc=False):
    """What Google searched for, and the addresses and titles of the pages that it found."""

    query: str
    pages: tuple[tuple[str, str], ...]
    #: The number of searches.
    count: int


class MessageReader(CandidateState):
    """The state of an answer. ``new_id`` gives 24 hexadecimal digits."""

    __slots__ = ("_calls", "_citations", "_context", "_pages", "_queries")

    def __init__(
        self, context: AnswerContext, new_id: Callable[[], str], signatures: SignatureStore
    ) -> None:
        super().__init__()
        self._context = context
        self._calls = MessageCallReader(
            context.tool_names, context.scrub, new_id, signatures, single=context.single_call
        )
        self._citations = Citations() if context.searches else None
        self._queries: list[str] = []
        self._pages: dict[str, str] = {}

    def read(self, candidate: Candidate) -> list[Piece]:
        """Read the candidate: a whole one, or one of a chunk."""
        pieces: list[Piece] = []
        for place, part in enumerate(candidate.parts):
            self._read_part(part, pieces, continues=place == 0)
        if self._citations is not None:
            self._citations.read(candidate)
        if candidate.grounding_metadata is not None:
            self._read_grounding(candidate.grounding_metadata)
        self.note_finish(candidate)
        return pieces

    def read_text(self, text: str) -> None:
        """Read a candidate that is a single text part, as most chunks are."""
        self.has_content = True
        if self._citations is not None:
            self._citations.text(text, continues=True)

    def restart(self) -> None:
        """The next hop of a long answer begins."""
        super().restart()
        self._calls.drop_incomplete()
        if self._citations is not None:
            self._citations.restart()

    def cut_off(self) -> None:
        """The rest of a long answer will not come."""
        super().cut_off()
        self._calls.drop_incomplete()

    def close(self) -> list[Piece]:
        """The calls that were held back. Nothing is read after this."""
        calls = self._calls.close()
        self.has_content = self.has_content or bool(calls)
        return list(calls)

    @property
    def stop_reason(self) -> str:
        """Anthropic's stop reason."""
        ending = self.ending or FinishState()
        return _STOP_REASONS[ending.finish_reason(calls=self._calls.count > 0)]

    @property
    def explanation(self) -> str | None:
        """Why the answer was withheld, if it was."""
        ending = self.ending
        if ending is None or not ending.is_block:
            return None
        why = f"Gemini: {ending.reason}"
        return self._context.scrub(f"{why} ({ending.message})" if ending.message else why)

    @property
    def search(self) -> WebSearch | None:
        """The web search, at the end, if there was any."""
        if not self._context.searches or not (self._queries or self._pages):
            return None
        return WebSearch(
            "; ".join(self._queries), tuple(self._pages.items()), max(1, len(self._queries))
        )

    def cited_pages(self) -> list[CitedPage]:
        """The places of the text that rely on a page, at the end."""
        found = self._citations.resolve() if self._citations is not None else []
        return [each for each in found if isinstance(each, CitedPage)]

    def _read_part(self, part: Part, pieces: list[Piece], *, continues: bool) -> None:
        citations = self._citations
        if part.function_call is not None:
            calls = self._calls.read(part.function_call, part.thought_signature)
            self.has_content = self.has_content or bool(calls)
            pieces += calls
            if citations is not None:
                citations.other_part()
        elif part.thought:
            if part.text and self._context.thinks:
                pieces.append(Thought(part.text))
            if citations is not None:
                citations.other_part(continues=continues)
        elif part.text is not None:
            if part.text:
                self.has_content = True
                pieces.append(Said(part.text, self._usable(part.thought_signature)))
            if citations is not None:
                citations.text(part.text, continues=continues)
        else:
            shown = self._read_rare_part(part)
            if shown:
                self.has_content = True
                pieces.append(Said(shown))
            if citations is not None:
                citations.other_part(shown)

    def _read_rare_part(self, part: Part) -> str:
        """Read code, which becomes text, and media, for which a message has no place."""
        if part.executable_code is not None:
            return executable_code(part.executable_code)
        if part.code_execution_result is not None:
            return execution_result(part.code_execution_result)
        if part.audio_transcription is not None:
            return part.audio_transcription.text or ""
        if part.unknown_kind or (part.inline_data is not None and part.inline_data.data):
            # Nothing for the client, but the model has answered.
            self.has_content = True
        return ""

    def _usable(self, signature: str | None) -> str | None:
        if signature is None or self._context.scrub(signature) != signature:
            return None
        return signature

    def _read_grounding(self, grounding: GroundingMetadata) -> None:
        for query in grounding.web_search_queries or ():
            if query not in self._queries and len(self._queries) < _MOST_PAGES:
                self._queries.append(query)
        for chunk in grounding.grounding_chunks or ():
            page = chunk.web
            if page is not None and page.uri and len(self._pages) < _MOST_PAGES:
                self._pages.setdefault(page.uri, page.title or page.uri)
