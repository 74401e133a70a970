"""What Google refuses in ``generationConfig``: sampling, JSON mode, thinking, modalities.

Part of :mod:`.rules`, which explains the form of a rule.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from gemproxy.simulator import schemas
from gemproxy.simulator.models import Medium, Model
from gemproxy.simulator.requests import built_in_tools, declarations

Request = dict[str, Any]

_RANGES = (
    ("temperature", 0.0, 2.0),
    ("topP", 0.0, 1.0),
)


def _sampling(request: Request, model: Model) -> Iterator[str]:
    config = request.get("generationConfig", {})
    for name, low, high in _RANGES:
        if not low <= config.get(name, low) <= high:
            where = "GenerateContentRequest.generation_config"
            field = {"topP": "top_p"}.get(name, name)
            yield f"* {where}.{field}: {field} must be in the range [{low}, {high}].\n"
    if config.get("maxOutputTokens", 0) < 0:
        yield "* GenerateContentRequest.generation_config.max_output_tokens: must be positive.\n"
    if config.get("presencePenalty") or config.get("frequencyPenalty"):
        yield "Penalty is not enabled for this model"
    if not 0 <= config.get("candidateCount", 1) <= 8:
        yield "* GenerateContentRequest.generation_config.candidate_count: must be in [1, 8].\n"
    if config.get("candidateCount", 1) > model.most_candidates:
        yield "Multiple candidates is not enabled for this model"
    stops = config.get("stopSequences", [])
    if len(stops) > 5 or "" in stops:
        yield (
            "* GenerateContentRequest.generation_config.stop_sequences: at most 5 stop sequences "
            "are supported, none of them empty.\n"
        )


def stream_objection(request: Request, model: Model) -> str | None:
    """What the streaming method refuses and the unary method does not."""
    config = request.get("generationConfig", {})
    if config.get("responseLogprobs") and not model.streams_logprobs:
        return "LogProbs is not supported in streaming mode"
    return None


def _logprobs(request: Request, model: Model) -> Iterator[str]:
    config = request.get("generationConfig", {})
    if config.get("responseLogprobs") and not model.gives_logprobs:
        yield f"Logprobs is not enabled for models/{model.name}"
    if "logprobs" in config and not config.get("responseLogprobs"):
        yield "logprobs can only be set when response_logprobs is true."
    if not 0 <= config.get("logprobs", 0) <= 20:
        yield "logprobs must be in the range [0, 20]."


def _structured_output(request: Request, model: Model) -> Iterator[str]:
    config = request.get("generationConfig", {})
    mime = config.get("responseMimeType", "text/plain")
    has_schema = "responseSchema" in config or "responseJsonSchema" in config
    where = "GenerateContentRequest.generation_config"
    if mime not in {"text/plain", "application/json", "text/x.enum"}:
        allowed = "`text/plain`, `application/json` and `text/x.enum`"
        yield f"* {where}.response_mime_type: allowed mimetypes are {allowed}.\n"
    if has_schema and mime not in {"application/json", "text/x.enum"}:
        needed = "response_mime_type `application/json`"
        yield f"* {where}.response_schema: only allowed with {needed}.\n"
    if "responseSchema" in config and "responseJsonSchema" in config:
        yield f"* {where}: only one of response_schema and response_json_schema can be set.\n"
    if mime != "text/plain" and (model.is_gemma or model.medium is not Medium.TEXT):
        yield f"JSON mode is not enabled for models/{model.name}"
    if mime == "application/json" and model.generation < 3:
        if declarations(request):
            yield "Function calling with a response mime type: 'application/json' is unsupported"
        if built_in_tools(request):
            yield "Tool use with a response mime type: 'application/json' is unsupported"
    if "responseSchema" in config:
        yield from schemas.openapi_faults(config["responseSchema"], f"{where}.response_schema")
    if "responseJsonSchema" in config:
        yield from schemas.json_schema_faults(
            config["responseJsonSchema"], f"{where}.response_json_schema"
        )


def _thinking(request: Request, model: Model) -> Iterator[str]:
    config = request.get("generationConfig", {}).get("thinkingConfig")
    if config is None:
        return
    if not model.thinks:
        yield f"Thinking is not enabled for models/{model.name}"
    if "thinkingBudget" in config and "thinkingLevel" in config:
        yield "You can only set only one of thinking budget and thinking level."
    if "thinkingLevel" in config and not model.levels:
        yield "Thinking level is not supported for this model."
    level = config.get("thinkingLevel")
    if level is not None and level not in model.levels:
        yield (
            f"Thinking level {level} is not supported for this model. Please retry with other "
            "thinking level."
        )
    if "thinkingBudget" in config:
        yield from _budget(config["thinkingBudget"], model)


def _budget(budget: int, model: Model) -> Iterator[str]:
    if model.budget is None:
        yield "Thinking budget is not supported for this model."
        return
    low, high = model.budget
    if budget == -1 or (budget == 0 and model.off) or low <= budget <= high:
        return
    if budget == 0:
        yield "Budget 0 is invalid. This model only works in thinking mode."
    yield (
        f"The thinking budget {budget} is invalid. Please choose a value between {low} and {high}."
    )


def _modalities(request: Request, model: Model) -> Iterator[str]:
    config = request.get("generationConfig", {})
    wanted = set(config.get("responseModalities", ()))
    if wanted - {"TEXT"} and model.medium is Medium.TEXT:
        other = min(wanted - {"TEXT"}).lower()
        yield f"Model does not support the requested response modalities: {other}"
    if model.medium is Medium.AUDIO and wanted != {"AUDIO"}:
        yield (
            "The requested combination of response modalities is not supported by the model. "
            f"models/{model.name} accepts the following combination of response modalities:\n"
            "* AUDIO\n"
        )
    if "imageSize" in config.get("imageConfig", {}) and model.name == "gemini-2.5-flash-image":
        yield "Image size is not supported for this model."


RULES: tuple[Callable[[Request, Model], Iterator[str]], ...] = (
    _sampling,
    _logprobs,
    _structured_output,
    _thinking,
    _modalities,
)
