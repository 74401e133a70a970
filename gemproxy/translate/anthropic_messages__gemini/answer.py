"""Translate a whole answer of Gemini's into a message."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
from msgspec import UNSET

from gemproxy.api.anthropic.schema import answers as schema
from gemproxy.core.errors import MalformedUpstreamResponse, UnusableAnswer
from gemproxy.providers.gemini.wire.answers import GenerateContentResponse, with_media
from gemproxy.translate.anthropic_messages__gemini.context import AnswerContext
from gemproxy.translate.anthropic_messages__gemini.reading import (
    MessageReader,
    Piece,
    Said,
    Thought,
    WebSearch,
)
from gemproxy.translate.shared.candidate import no_content
from gemproxy.translate.shared.citations import CitedPage
from gemproxy.translate.shared.continuation import HopReader, usage_of, with_content
from gemproxy.translate.shared.plain_answers import plain_answer
from gemproxy.translate.shared.signature_carrier import carry
from gemproxy.translate.shared.signatures import SignatureStore
from gemproxy.translate.shared.translated import TranslatedRequest
from gemproxy.translate.shared.usage import TokenUsage

_STOP_REASONS = {"stop": "end_turn", "length": "max_tokens"}


class CompletedMessage(msgspec.Struct, frozen=True, gc=False):
    """An encoded message, with what the rest of the program needs to know of it."""

    body: bytes
    usage: TokenUsage
    #: The prompt or the answer was blocked.
    blocked: bool
    #: There is no content although the model stopped normally: worth a retry.
    empty: bool


class WholeMessage(HopReader):
    """Reads the hops of one answer and makes a message from them.

    See :class:`gemproxy.api.base.WholeAnswer`. ``new_id`` gives 24 hexadecimal digits.
    """

    def __init__(
        self,
        translated: TranslatedRequest[AnswerContext],
        new_id: Callable[[], str],
        signatures: SignatureStore,
    ) -> None:
        # By name: super() costs as much as two further calls.
        HopReader.__init__(self, translated.body)
        self._context = translated.context
        self._new_id = new_id
        self._signatures = signatures

    def encode(self) -> CompletedMessage:
        """Encode the message and drop the hops. Thread-safe."""
        hops = self.hops
        plain = None
        if len(hops) == 1:
            plain = plain_answer(hops[0])
        if plain is not None:
            completed = self._completed_text(*plain)
        else:
            completed = self._completed(list(map(with_media, hops)))
        hops.clear()
        return completed

    def _completed_text(self, text: str, finish_reason: str) -> CompletedMessage:
        """The result of :meth:`_completed` for an answer that is text, made in one step."""
        usage = usage_of(self.hops)
        message = schema.Message(
            id=f"msg_{self._new_id()}",
            model=self._context.model,
            content=[schema.Text(text)],
            stop_reason=_STOP_REASONS[finish_reason],
            usage=usage_block(usage),
        )
        return CompletedMessage(schema.encode_message(message), usage, blocked=False, empty=False)

    def _completed(self, hops: Sequence[GenerateContentResponse]) -> CompletedMessage:
        reader = MessageReader(self._context, self._new_id, self._signatures)
        content = _Content(self._context)
        candidates = 0
        for hop in hops:
            reader.restart()
            for candidate in hop.candidates or ():
                # A message has one candidate; the program asks for no more.
                if not candidate.index:
                    candidates += 1
                    content.add(reader.read(candidate))
            if not hop.candidates and hop.block and hop.prompt_feedback:
                reader.block(hop.block, hop.prompt_feedback.block_reason_message)
        content.add(reader.close())
        reader.reject()
        if not reader.is_answer:
            if not candidates:
                raise MalformedUpstreamResponse("no candidates", usage_of(hops))
            raise UnusableAnswer(no_content(reader), usage_of(hops))
        search = reader.search
        blocks = content.blocks
        if search is not None:
            cite(blocks, reader.cited_pages())
            blocks[content.first_text : content.first_text] = search_blocks(search, self._new_id)
        usage = with_content(usage_of(hops), (reader,))
        message = schema.Message(
            id=f"msg_{self._new_id()}",
            model=self._context.model,
            content=blocks,
            stop_reason=reader.stop_reason,
            stop_details=refusal(reader),
            usage=usage_block(usage, search),
        )
        return CompletedMessage(
            schema.encode_message(message), usage, reader.is_blocked, reader.is_empty
        )


class _Content:
    """The blocks of a message, from the pieces of its answer.

    A thought signature belongs to what follows the thoughts. It goes into the thinking block
    directly before that; if there is none, an empty one is made for a call.
    """

    def __init__(self, context: AnswerContext) -> None:
        self._context = context
        self.blocks: list[schema.Block] = []
        #: Where the first text is, or will be.
        self.first_text = 0
        self._has_text = False

    def add(self, pieces: Sequence[Piece]) -> None:
        blocks = self.blocks
        for piece in pieces:
            last = blocks[-1] if blocks else None
            if isinstance(piece, Said):
                if isinstance(last, schema.Text):
                    last.text += piece.text
                else:
                    self._sign(piece.signature)
                    blocks.append(schema.Text(piece.text))
                    if not self._has_text:
                        self.first_text, self._has_text = len(blocks) - 1, True
            elif isinstance(piece, Thought):
                if isinstance(last, schema.Thinking) and not last.signature:
                    last.thinking += piece.text
                else:
                    blocks.append(schema.Thinking(piece.text, ""))
            else:
                if piece.signature and self._context.thinks:
                    if not isinstance(last, schema.Thinking):
                        blocks.append(schema.Thinking("", ""))
                    self._sign(piece.signature)
                arguments = msgspec.Raw(piece.arguments.encode())
                blocks.append(schema.ToolUse(piece.id, piece.name, arguments))
        if not self._has_text:
            self.first_text = len(blocks)

    def _sign(self, signature: str | None) -> None:
        last = self.blocks[-1] if self.blocks else None
        if signature and isinstance(last, schema.Thinking):
            last.signature = carry(signature, self._context.upstream_model)


def refusal(reader: MessageReader) -> schema.RefusalDetails | None:
    """Why the answer was withheld, if it was."""
    explanation = reader.explanation
    return None if explanation is None else schema.RefusalDetails(explanation)


def usage_block(usage: TokenUsage, search: WebSearch | None = None) -> schema.Usage:
    """The ``usage`` of a message: cached tokens are not part of the input there."""
    return schema.Usage(
        input_tokens=usage.input - usage.cached,
        cache_read_input_tokens=usage.cached,
        output_tokens=usage.output,
        output_tokens_details=schema.OutputTokensDetails(usage.reasoning),
        server_tool_use=None if search is None else schema.ServerToolUsage(search.count),
    )


def search_blocks(search: WebSearch, new_id: Callable[[], str]) -> list[schema.Block]:
    """The call and the result of a web search."""
    call_id = f"srvtoolu_{new_id()}"
    found = [schema.WebSearchResult(url, title) for url, title in search.pages]
    return [
        schema.ServerToolUse(call_id, "web_search", {"query": search.query}),
        schema.WebSearchToolResult(call_id, found),
    ]


def citation(cited: CitedPage, text: str, start: int) -> schema.WebSearchCitation | None:
    """The citation of a page by a text that begins at character ``start`` of the answer.

    ``None`` if the place is not within the text.
    """
    if not start <= cited.start < start + len(text):
        return None
    return schema.WebSearchCitation(
        cited.url, cited.title, text[cited.start - start : cited.end - start]
    )


def cite(blocks: Sequence[schema.Block], pages: Sequence[CitedPage]) -> None:
    """Set the citations of the texts among ``blocks``."""
    start = 0
    for block in blocks:
        if isinstance(block, schema.Text):
            found = [citation(each, block.text, start) for each in pages]
            block.citations = [each for each in found if each is not None] or UNSET
            start += len(block.text)
