"""Read one choice candidate by candidate, for unary answers and streams."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter

import msgspec
from msgspec import UNSET

from gemproxy.api.openai.schema.answers import (
    ExtraContent,
    FileCitation,
    FunctionText,
    GoogleExtra,
    Image,
    TokenLogprob,
    ToolCall,
    URLCitation,
)
from gemproxy.media_bypass import NOTHING, ExtractedMedia
from gemproxy.providers.gemini.wire.answers import Blob, Candidate, Part
from gemproxy.translate.openai_chat__gemini import rendering
from gemproxy.translate.openai_chat__gemini.context import AnswerContext
from gemproxy.translate.shared.calls import AnsweredCall, CallReader
from gemproxy.translate.shared.candidate import CandidateState, no_content
from gemproxy.translate.shared.citations import Citations, CitedFile
from gemproxy.translate.shared.code_blocks import executable_code, execution_result
from gemproxy.translate.shared.finish import FinishState
from gemproxy.translate.shared.logprobs import token_logprobs
from gemproxy.translate.shared.model_images import remember_image
from gemproxy.translate.shared.signatures import SignatureStore


class ChoiceDelta(msgspec.Struct):
    """What one or more candidates add to their choice."""

    thoughts: str = ""
    text: str = ""
    calls: list[ToolCall] = []
    images: list[Image] = []
    audio: list[Blob] = []
    logprobs: list[TokenLogprob] = []

    def add(self, later: ChoiceDelta) -> None:
        """Append a later delta."""
        self.thoughts += later.thoughts
        self.text += later.text
        self.calls += later.calls
        self.images += later.images
        self.audio += later.audio
        self.logprobs += later.logprobs

    def __bool__(self) -> bool:
        return bool(
            self.text or self.thoughts or self.calls or self.images or self.audio or self.logprobs
        )


_IS_ANSWER = attrgetter("is_answer")


class ChoiceReader(CandidateState):
    """The state of one choice. ``new_id`` gives new ids for calls."""

    __slots__ = (
        "_aside",
        "_calls",
        "_citations",
        "_context",
        "_images",
        "_signatures",
    )

    def __init__(
        self,
        context: AnswerContext,
        new_id: Callable[[], str],
        signatures: SignatureStore,
        aside: ExtractedMedia = NOTHING,
    ) -> None:
        super().__init__()
        self._context = context
        single = context.legacy_functions or not context.parallel_tool_calls
        self._calls = CallReader(
            context.tool_names, context.scrub, new_id, signatures, single=single
        )
        self._signatures = signatures
        self._aside = aside
        self._citations = Citations()
        self._images = 0

    def read(self, candidate: Candidate) -> ChoiceDelta:
        """Read one candidate: a whole one, or one of a chunk."""
        increment = ChoiceDelta()
        for place, part in enumerate(candidate.parts):
            self._read_part(part, increment, continues=place == 0)
        if self._context.logprobs:
            increment.logprobs = token_logprobs(candidate.logprobs_result)
        self._citations.read(candidate)
        self.note_finish(candidate)
        self._note_content(increment)
        return increment

    def read_text(self, text: str) -> None:
        """Read candidates that are a single text part, as most chunks are.

        ``text`` is their joined text.
        """
        self._citations.text(text, continues=True)
        self.has_content = True

    def restart(self) -> None:
        """The next hop of a long answer begins: reset finish reason and offsets."""
        super().restart()
        self._calls.drop_incomplete()
        self._citations.restart()

    def cut_off(self) -> None:
        """The rest of a long answer will not come."""
        super().cut_off()
        self._calls.drop_incomplete()

    def close(self) -> list[ToolCall]:
        """The calls that were held back. Nothing is read after this."""
        calls = self._calls.close()
        if calls:
            self.has_content = True
        return list(map(_tool_call, calls))

    @property
    def finish_reason(self) -> str:
        """OpenAI's finish reason."""
        reason = (self.ending or FinishState()).finish_reason(calls=self._calls.count > 0)
        legacy = self._context.legacy_functions and reason == "tool_calls"
        return "function_call" if legacy else reason

    @property
    def refusal(self) -> str | None:
        """The text of ``refusal``, for a block."""
        refusal = self.ending.refusal() if self.ending else None
        return self._context.scrub(refusal) if refusal else refusal

    def citations(self) -> list[URLCitation | FileCitation]:
        """The sources of the content, at the end."""
        return [
            FileCitation(filename=cited.name)
            if isinstance(cited, CitedFile)
            else URLCitation(cited.start, cited.end, cited.title, cited.url)
            for cited in self._citations.resolve()
        ]

    def _read_part(self, part: Part, increment: ChoiceDelta, *, continues: bool) -> None:
        if part.function_call is not None:
            calls = self._calls.read(part.function_call, part.thought_signature)
            increment.calls += map(_tool_call, calls)
            self._citations.other_part()
        elif part.thought:
            # Image drafts come as thoughts too; a client can use only their text.
            increment.thoughts += part.text or ""
            self._citations.other_part(continues=continues)
        elif part.text is not None:
            increment.text += part.text
            self._citations.text(part.text, continues=continues)
        else:
            increment.text += (shown := self._read_rare_part(part, increment))
            self._citations.other_part(shown)

    def _read_rare_part(self, part: Part, increment: ChoiceDelta) -> str:
        """Read media, or code, which becomes text."""
        if part.executable_code is not None:
            return executable_code(part.executable_code)
        if part.code_execution_result is not None:
            return execution_result(part.code_execution_result)
        if part.audio_transcription is not None:
            return part.audio_transcription.text or ""
        blob = part.inline_data
        if blob is not None and rendering.is_image(blob):
            increment.images.append(rendering.image(blob, self._images))
            self._images += 1
            self._remember(blob, part.thought_signature)
        elif blob is not None and rendering.is_audio(blob):
            increment.audio.append(blob)
        elif part.unknown_kind or (blob is not None and blob.data):
            # Nothing for the client, but the model has answered.
            self.has_content = True
        return ""

    def _remember(self, image: Blob, signature: str | None) -> None:
        if signature and image.data and self._context.scrub(signature) == signature:
            remember_image(image.data, signature, self._signatures, self._aside)

    def _note_content(self, increment: ChoiceDelta) -> None:
        if increment.text or increment.calls or increment.images or increment.audio:
            self.has_content = True


def _tool_call(call: AnsweredCall) -> ToolCall:
    function = FunctionText(call.name, call.arguments)
    extra = ExtraContent(GoogleExtra(call.signature)) if call.signature else UNSET
    return ToolCall(index=call.index, id=call.id, function=function, extra_content=extra)


def completion_id(response_id: str | None, new_id: Callable[[], str]) -> str:
    """The id of a completion: Gemini's ``responseId`` with OpenAI's prefix, or a fresh one."""
    return f"chatcmpl-{response_id or new_id().removeprefix('call_')}"


def audio_id(completion: str) -> str:
    """The id of the sound in a completion."""
    return completion.replace("chatcmpl-", "audio_", 1)


def require_answer(readers: list[ChoiceReader]) -> str | None:
    """Why no choice can be returned as an answer; ``None`` if one can.

    Raises :exc:`UpstreamRejected` if Gemini reports that the messages are at fault.
    """
    for reader in readers:
        reader.reject()
    if any(map(_IS_ANSWER, readers)):
        return None
    return no_content(*readers) if readers else "no candidates"
