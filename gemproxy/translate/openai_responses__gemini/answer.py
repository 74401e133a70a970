"""Translate a unary Gemini answer into a response object."""

from __future__ import annotations

import msgspec

from gemproxy.api.openai.schema.response_objects import encode_plain_message
from gemproxy.core.errors import MalformedUpstreamResponse, UnusableAnswer
from gemproxy.providers.gemini.wire.answers import GenerateContentResponse, with_media
from gemproxy.translate.openai_responses__gemini.output import OutputReader
from gemproxy.translate.openai_responses__gemini.response import ResponseParts, require_answer
from gemproxy.translate.shared.continuation import HopReader, usage_of, with_content
from gemproxy.translate.shared.plain_answers import PlainAnswer, plain_answer
from gemproxy.translate.shared.usage import TokenUsage, service_tier


class CompletedAnswer(msgspec.Struct, frozen=True, gc=False):
    """An encoded response; see :class:`gemproxy.api.base.EncodedAnswer`."""

    body: bytes
    usage: TokenUsage
    blocked: bool
    empty: bool


class WholeResponse(HopReader):
    """Reads the hops of one answer and makes a response of them.

    See :class:`gemproxy.api.base.WholeAnswer`.
    """

    def __init__(self, parts: ResponseParts) -> None:
        # By name: super() costs as much as two further calls.
        HopReader.__init__(self, parts.translated.body)
        self._parts = parts

    def encode(self) -> CompletedAnswer:
        """Encode the response and drop the hops. Thread-safe."""
        parts = self._parts
        if len(self.hops) == 1 and not parts.translated.context.logprobs:
            answer = self.hops[0]
            if (plain := plain_answer(answer)) is not None:
                self.hops.clear()
                return _completed_text(parts, answer, plain)
        hops = [with_media(hop) for hop in self.hops]
        self.hops.clear()
        reader = None
        for hop in hops:
            if hop.is_error:
                raise UnusableAnswer("an error object in place of an answer")
            if reader is None and (hop.candidates or hop.block):
                reader = OutputReader(
                    parts.translated.context, parts.base, parts.new_id, parts.signatures
                )
            elif reader is not None:
                reader.restart()
            if reader is None:
                continue
            if hop.candidates:
                reader.read(hop.candidates[0])
            elif hop.block and hop.prompt_feedback:
                reader.block(hop.block, hop.prompt_feedback.block_reason_message)
        if reader is not None:
            reader.close_calls()
        if reader is None:
            raise MalformedUpstreamResponse("no candidates", usage_of(hops))
        if (fault := require_answer(reader)) is not None:
            raise UnusableAnswer(fault, usage_of(hops))
        reader.finish()
        usage = with_content(usage_of(hops), (reader,))
        body = parts.complete(
            reader.encode(),
            reader.incomplete_reason,
            usage,
            service_tier(hops[-1].usage_metadata),
        )
        return CompletedAnswer(body, usage, blocked=reader.is_blocked, empty=reader.is_empty)


def _completed_text(
    parts: ResponseParts, answer: GenerateContentResponse, plain: PlainAnswer
) -> CompletedAnswer:
    """The result of :meth:`WholeResponse.encode` for a plain answer, made in one step."""
    text, finish_reason = plain
    reason = "max_output_tokens" if finish_reason == "length" else None
    status = "completed" if reason is None else "incomplete"
    usage = TokenUsage.from_gemini(answer.usage_metadata)
    output = encode_plain_message(f"msg_{parts.base}0000", text, status)
    body = parts.complete(output, reason, usage, service_tier(answer.usage_metadata))
    return CompletedAnswer(body, usage, blocked=False, empty=False)
