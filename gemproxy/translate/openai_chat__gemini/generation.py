"""``generationConfig``: sampling, limits, structured output, modalities and voices."""

from __future__ import annotations

from collections.abc import Sequence

from gemproxy.api.openai.schema.requests import (
    ChatCompletionRequest,
    JSONSchemaFormat,
    TextFormat,
    VoiceID,
)
from gemproxy.core.errors import InvalidRequest
from gemproxy.providers.gemini.capabilities import ModelFamily
from gemproxy.providers.gemini.wire.requests import (
    GenerationConfig,
    ImageConfig,
    PrebuiltVoiceConfig,
    SpeechConfig,
    ThinkingConfig,
    VoiceConfig,
)
from gemproxy.translate.shared.schema_budget import SchemaBudget
from gemproxy.translate.shared.structured import JSONOutput, set_json_mode

_LARGEST_SEED = 2**31 - 1
_SMALLEST_SEED = -(2**31)

#: OpenAI's voices and the most similar ones of Google; other names are passed to Google.
_VOICES = {
    "alloy": "Kore",
    "ash": "Iapetus",
    "ballad": "Algieba",
    "cedar": "Achird",
    "coral": "Sulafat",
    "echo": "Charon",
    "fable": "Umbriel",
    "marin": "Despina",
    "nova": "Kore",
    "onyx": "Orus",
    "sage": "Vindemiatrix",
    "shimmer": "Achernar",
    "verse": "Puck",
}

#: Formats of Gemini's audio; the model decides, and the answer names it.
_AUDIO_FORMATS = (None, "wav", "pcm16")

_NOTHING = GenerationConfig()


def generation_config(
    request: ChatCompletionRequest,
    family: ModelFamily,
    thinking: ThinkingConfig | None,
    budget: SchemaBudget,
    *,
    has_tools: bool,
    image: ImageConfig | None = None,
) -> GenerationConfig | None:
    """The ``generationConfig``; ``None`` if everything is left to the model.

    ``budget`` bounds the work on the answer's schema.

    Raises :class:`InvalidRequest` for what the model cannot do: several choices, JSON, audio.
    """
    samples = not family.ignores_sampling
    config = GenerationConfig(
        temperature=request.temperature if samples else None,
        top_p=request.top_p if samples else None,
        top_k=request.top_k if samples else None,
        max_output_tokens=request.max_completion_tokens or request.max_tokens,
        stop_sequences=_stop_sequences(request.stop) if request.stop else None,
        thinking_config=thinking,
        image_config=image,
    )
    if request.seed is not None:
        config.seed = min(max(request.seed, _SMALLEST_SEED), _LARGEST_SEED)
    if request.n is not None and request.n > 1:
        config.candidate_count = _candidate_count(request.n, family)
    if request.logprobs or request.top_logprobs:
        _set_logprobs(config, request)
    if (wanted := json_output(request)) is not None:
        set_json_mode(config, wanted, family, budget, has_tools=has_tools)
    if request.modalities or family.image_output or family.speech_output:
        _set_modalities(config, request, family)
    return None if config == _NOTHING else config


def _stop_sequences(stop: str | list[str]) -> list[str] | None:
    sequences = [stop] if isinstance(stop, str) else [each for each in stop if each]
    return sequences or None


def _candidate_count(n: int, family: ModelFamily) -> int:
    if n > family.candidates:
        raise InvalidRequest(
            f"n: this model gives {family.candidates} choice a request, got {n}.",
            param="n",
            reason="unsupported_value",
        )
    return n


def _set_logprobs(config: GenerationConfig, request: ChatCompletionRequest) -> None:
    if not request.logprobs:
        raise InvalidRequest(
            "top_logprobs: logprobs must be true when top_logprobs is given.", param="top_logprobs"
        )
    config.response_logprobs = True
    config.logprobs = request.top_logprobs or None


def json_output(request: ChatCompletionRequest) -> JSONOutput | None:
    """The JSON that the client wants; ``None`` for text."""
    wanted = request.response_format
    if wanted is None or isinstance(wanted, TextFormat):
        return None
    schema = wanted.json_schema.schema if isinstance(wanted, JSONSchemaFormat) else None
    return JSONOutput("response_format", "response_format.json_schema.schema", schema)


def _set_modalities(
    config: GenerationConfig, request: ChatCompletionRequest, family: ModelFamily
) -> None:
    wanted = request.modalities or ()
    if family.speech_output:
        config.response_modalities = ["AUDIO"]
        config.speech_config = _speech_config(request)
        return
    _refuse_modality("audio", wanted, supported=False)
    _refuse_modality("image", wanted, supported=family.image_output)
    if family.image_output:
        config.response_modalities = [each.upper() for each in dict.fromkeys(wanted)] or [
            "TEXT",
            "IMAGE",
        ]


def _refuse_modality(modality: str, wanted: Sequence[str], *, supported: bool) -> None:
    if modality in wanted and not supported:
        raise InvalidRequest(
            f"modalities: this model does not answer with {modality}.",
            param="modalities",
            reason="unsupported_value",
        )


def _speech_config(request: ChatCompletionRequest) -> SpeechConfig | None:
    if request.audio is None:
        return None
    if request.audio.format not in _AUDIO_FORMATS:
        raise InvalidRequest(
            "audio.format: this model speaks wav or pcm16 only; nothing is converted.",
            param="audio.format",
            reason="unsupported_value",
        )
    voice = request.audio.voice
    name = voice.id if isinstance(voice, VoiceID) else voice
    chosen = PrebuiltVoiceConfig(voice_name=_VOICES.get(name.lower(), name))
    return SpeechConfig(voice_config=VoiceConfig(prebuilt_voice_config=chosen))
