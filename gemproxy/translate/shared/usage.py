"""Token counts: ``usageMetadata`` becomes OpenAI's ``usage``.

Gemini counts thoughts separately from the visible output, and the results of server-side tools
separately from the prompt; OpenAI's two sums include them.
"""

from __future__ import annotations

from typing import Self

import msgspec

from gemproxy.api.openai.schema.answers import CompletionTokensDetails, PromptTokensDetails, Usage
from gemproxy.providers.gemini.wire.answers import ModalityTokenCount, UsageMetadata


class TokenUsage(msgspec.Struct, frozen=True, gc=False):
    """Tokens of one answer, or of several: they add up with ``+``."""

    #: The prompt, cached tokens and results of server-side tools included.
    input: int = 0
    #: The part of ``input`` that came from a cache.
    cached: int = 0
    #: Everything that was generated, thoughts included.
    output: int = 0
    #: The part of ``output`` that was thinking.
    reasoning: int = 0
    #: ``input`` and ``output``.
    total: int = 0
    input_text: int = 0
    input_audio: int = 0
    input_image: int = 0
    output_audio: int = 0
    output_image: int = 0
    input_video: int = 0
    input_document: int = 0
    #: Searches that Google made for the answer.
    searches: int = 0
    #: Images in the answer.
    images: int = 0
    #: Google's word for the service tier that served the request, in lower case; empty: standard.
    tier: str = ""

    @classmethod
    def from_gemini(cls, usage: UsageMetadata | None) -> Self:
        """Read Gemini's counts; a missing count is 0."""
        if usage is None:
            return cls()
        count = usage.prompt_token_count
        if count is None:
            count = usage.raw_prompt_token_count
        prompt = _tokens(count)
        visible = _tokens(usage.candidates_token_count)
        # Most answers lack most of these, and a check is cheaper than a call.
        tool_use, thoughts = usage.tool_use_prompt_token_count, usage.thoughts_token_count
        cached = usage.cached_content_token_count
        if tool_use:
            prompt += _tokens(tool_use)
        reasoning = _tokens(thoughts) if thoughts else 0
        # For some models the candidates' count includes the thoughts; the total shows this.
        inclusive = reasoning <= visible and prompt + visible == usage.total_token_count
        output = visible if inclusive else visible + reasoning
        input_text, input_audio, input_image, input_video, input_document = _by_modality(
            usage.prompt_tokens_details or usage.prompt_token_details
        )
        details = usage.candidates_tokens_details
        _, output_audio, output_image, _, _ = _by_modality(details) if details else _NO_TOKENS
        tier = usage.service_tier
        return cls(
            input=prompt,
            cached=_tokens(cached) if cached else 0,
            output=output,
            reasoning=reasoning,
            total=prompt + output,
            input_text=input_text,
            input_audio=input_audio,
            input_image=input_image,
            output_audio=output_audio,
            output_image=output_image,
            input_video=input_video,
            input_document=input_document,
            tier="" if tier is None else tier_word(tier),
        )

    def __add__(self, other: TokenUsage) -> TokenUsage:
        sums = {name: getattr(self, name) + getattr(other, name) for name in _COUNTS}
        return TokenUsage(**sums, tier=other.tier or self.tier)

    def continued_by(self, hop: TokenUsage) -> TokenUsage:
        """The tokens of an answer in hops, when ``hop`` is the next one.

        The prompt of each hop includes the output of the hops before it; the client's prompt is
        that of the first hop.
        """
        return msgspec.structs.replace(
            self,
            output=self.output + hop.output,
            reasoning=self.reasoning + hop.reasoning,
            total=self.input + self.output + hop.output,
            output_audio=self.output_audio + hop.output_audio,
            output_image=self.output_image + hop.output_image,
            tier=hop.tier or self.tier,
        )

    def with_content(self, searches: int, images: int) -> TokenUsage:
        """The same tokens, with what the content of the answer shows."""
        if not searches and not images:
            return self
        return msgspec.structs.replace(self, searches=searches, images=images)

    def to_openai(self) -> Usage:
        """The ``usage`` object of a completion."""
        return Usage(
            prompt_tokens=self.input,
            completion_tokens=self.output,
            total_tokens=self.total,
            prompt_tokens_details=PromptTokensDetails(
                cached_tokens=self.cached,
                audio_tokens=self.input_audio,
                image_tokens=self.input_image,
                text_tokens=self.input_text,
            ),
            completion_tokens_details=CompletionTokensDetails(
                reasoning_tokens=self.reasoning,
                audio_tokens=self.output_audio,
                image_tokens=self.output_image,
            )
            if self.reasoning or self.output_audio or self.output_image
            else _ONLY_TEXT,
        )


_COUNTS = tuple(name for name in TokenUsage.__struct_fields__ if name != "tier")


def service_tier(usage: UsageMetadata | None) -> str | None:
    """OpenAI's name of the tier that served the request; ``None`` if it is unknown."""
    if usage is None or usage.service_tier is None:
        return None
    return _SERVICE_TIERS.get(usage.service_tier.lower())


def upstream_tier(tier: str | None) -> str | None:
    """Gemini's name of one of OpenAI's service tiers; ``None`` leaves the choice to Google."""
    return _UPSTREAM_TIERS.get(tier or "")


def tier_word(tier: str) -> str:
    """Google's word for a service tier as :attr:`TokenUsage.tier` has it."""
    word = tier.lower()
    return "" if word == "standard" else word[:_LONGEST_TIER]


def _by_modality(details: list[ModalityTokenCount] | None) -> tuple[int, int, int, int, int]:
    """The tokens of text, audio, images, video and documents."""
    if not details:
        return _NO_TOKENS
    text = audio = image = video = document = 0
    for detail in details:
        tokens = _tokens(detail.token_count)
        if detail.modality in _TEXT:
            text += tokens
        elif detail.modality in _AUDIO:
            audio += tokens
        elif detail.modality in _IMAGE:
            image += tokens
        elif detail.modality in _VIDEO:
            video += tokens
        elif detail.modality in _DOCUMENT:
            document += tokens
    return text, audio, image, video, document


def _tokens(count: int | None) -> int:
    """``count`` as a plausible number: not negative, and bounded."""
    if not count or count < 0:
        return 0
    return count if count < _MOST_TOKENS else _MOST_TOKENS  # noqa: FURB136 - min() costs more


_MOST_TOKENS = 10**12
_SERVICE_TIERS = {"standard": "default", "flex": "flex", "priority": "priority"}

_UPSTREAM_TIERS = {
    "default": "standard",
    "standard": "standard",
    "flex": "flex",
    "priority": "priority",
}

#: Characters; the known words are shorter.
_LONGEST_TIER = 20
_NO_TOKENS = (0, 0, 0, 0, 0)
_ONLY_TEXT = CompletionTokensDetails(0, 0, 0)

# Names and numbers of google.ai.generativelanguage.v1beta.Modality.
_TEXT = ("TEXT", 1)
_IMAGE = ("IMAGE", 2)
_VIDEO = ("VIDEO", 3)
_AUDIO = ("AUDIO", 4)
_DOCUMENT = ("DOCUMENT", 5)
