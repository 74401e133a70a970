"""``generationConfig``: sampling, limits, thinking, and JSON."""

from __future__ import annotations

from typing import Final

from gemproxy.api.anthropic.schema.requests import MessagesRequest, Prompt
from gemproxy.core.errors import InvalidRequest
from gemproxy.providers.gemini.capabilities import ModelFamily
from gemproxy.providers.gemini.wire.requests import GenerationConfig
from gemproxy.translate.shared.schema_budget import SchemaBudget
from gemproxy.translate.shared.structured import JSONOutput, set_json_mode
from gemproxy.translate.shared.thinking import ReasoningRequest, thinking_config

#: Google answers 400 above that.
_MOST_STOP_SEQUENCES: Final = 5


def generation_config(
    request: MessagesRequest,
    family: ModelFamily,
    budget: SchemaBudget,
    *,
    has_tools: bool,
    output_limit: int,
) -> GenerationConfig:
    """The ``generationConfig``. ``budget`` bounds the work on the answer's schema.

    ``max_tokens`` is cut to ``output_limit``, above which Google answers 400: Claude Code sends
    128,000 for models that it knows. Raises :class:`InvalidRequest` for too many stop sequences,
    and for JSON if the model has none.
    """
    samples = not family.ignores_sampling
    config = GenerationConfig(
        temperature=request.temperature if samples else None,
        top_p=request.top_p if samples else None,
        top_k=request.top_k or None if samples else None,
        max_output_tokens=min(request.max_tokens, output_limit),
    )
    if request.stop_sequences:
        config.stop_sequences = _stop_sequences(request.stop_sequences)
    if request.thinking is not None or request.output_config is not None:
        config.thinking_config = thinking_config(_reasoning(request), family)
    wanted = json_output(request)
    if wanted is not None:
        set_json_mode(config, wanted, family, budget, has_tools=has_tools)
    return config


def _stop_sequences(sequences: list[str]) -> list[str] | None:
    wanted = [each for each in sequences if each]
    if len(wanted) > _MOST_STOP_SEQUENCES:
        raise InvalidRequest(
            f"stop_sequences: Gemini takes {_MOST_STOP_SEQUENCES} of them, got {len(wanted)}.",
            param="stop_sequences",
        )
    return wanted or None


def json_output(request: Prompt) -> JSONOutput | None:
    """The JSON that the answer has to be, if it has to be any."""
    config = request.output_config
    if config is not None and config.format is not None:
        path = "output_config.format"
        return JSONOutput(path, f"{path}.schema", config.format.schema)
    if request.output_format is not None:
        return JSONOutput("output_format", "output_format.schema", request.output_format.schema)
    return None


def thinks(request: Prompt) -> bool:
    """Whether the client takes thinking blocks."""
    return request.thinking is not None and request.thinking.type != "disabled"


def _reasoning(request: Prompt) -> ReasoningRequest | None:
    """What the client asked for; a budget wins over an effort."""
    thinking, config = request.thinking, request.output_config
    effort = config.effort if config is not None else None
    if thinking is None:
        return None if effort is None else ReasoningRequest(effort=effort)
    if thinking.type == "disabled":
        return ReasoningRequest(effort="none")
    shown = None if thinking.display == "omitted" else True
    if thinking.type == "enabled" and thinking.budget_tokens is not None:
        return ReasoningRequest(budget=thinking.budget_tokens, include_thoughts=shown)
    return ReasoningRequest(effort=effort, include_thoughts=shown)
