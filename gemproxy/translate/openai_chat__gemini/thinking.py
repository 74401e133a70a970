"""Translate ``reasoning_effort`` and similar parameters into a ``thinkingConfig``.

Clients of other gateways use several parameters; the first one given counts, in this order:
Google's own ``thinking_config``, OpenAI's ``reasoning_effort``, ``thinking`` (Anthropic, litellm),
``reasoning`` (OpenRouter). Asking for effort also asks for the thoughts, so that answers have
``reasoning_content``.
"""

from __future__ import annotations

from dataclasses import replace

from gemproxy.api.openai.schema.requests import ChatCompletionRequest, GoogleThinkingConfig
from gemproxy.core.errors import InvalidRequest
from gemproxy.providers.gemini.capabilities import ModelFamily
from gemproxy.providers.gemini.wire.requests import ThinkingConfig
from gemproxy.translate.openai_chat__gemini.google_options import Options, either
from gemproxy.translate.shared import thinking as shared
from gemproxy.translate.shared.thinking import ReasoningRequest

_LEVELS = ("minimal", "low", "medium", "high", "xhigh")


def thinking_config(
    request: ChatCompletionRequest, google: Options, family: ModelFamily
) -> ThinkingConfig | None:
    """The ``thinkingConfig`` for the request; ``None`` for the model's default.

    Raises :class:`InvalidRequest` for contradictory parameters.
    """
    return shared.thinking_config(_requested(request, google), family)


def _requested(request: ChatCompletionRequest, google: Options) -> ReasoningRequest | None:
    if google.thinking_config is not None:
        return _of_google(request, google.thinking_config.value, google.thinking_config.path)
    if request.reasoning_effort is not None:
        return _of_effort(request.reasoning_effort)
    if request.thinking is not None:
        return _of_thinking(request)
    if request.reasoning is not None:
        return _of_reasoning(request)
    return None


def _of_google(
    request: ChatCompletionRequest, config: GoogleThinkingConfig, path: str
) -> ReasoningRequest:
    level = either(config, path, "thinking_level").value
    budget = either(config, path, "thinking_budget").value
    shown = either(config, path, "include_thoughts").value
    if level is None and budget is None:
        if request.reasoning_effort is None:
            return ReasoningRequest(include_thoughts=shown, explicit=True)
        wanted = _of_effort(request.reasoning_effort)
        return wanted if shown is None else replace(wanted, include_thoughts=shown)
    if request.reasoning_effort is not None:
        raise InvalidRequest(
            f"reasoning_effort: cannot be combined with {path}, which says the same in other"
            " words; send one of them.",
            param="reasoning_effort",
        )
    if level is not None and budget is not None:
        raise InvalidRequest(
            f"{path}: thinking_budget and thinking_level exclude each other.", param=path
        )
    word = None
    if level is not None:
        word = _known_level(level, either(config, path, "thinking_level").path)
    return ReasoningRequest(word, budget, shown, explicit=True)


def _known_level(level: str, path: str) -> str:
    word = level.lower()
    if word not in _LEVELS:
        raise InvalidRequest(
            f"{path}: invalid value '{level[:60]}', expected one of {', '.join(_LEVELS)}.",
            param=path,
        )
    return word


def _of_effort(effort: str) -> ReasoningRequest:
    return ReasoningRequest(effort=effort, include_thoughts=None if effort == "none" else True)


def _of_thinking(request: ChatCompletionRequest) -> ReasoningRequest | None:
    thinking = request.thinking
    if thinking is None or thinking.type == "adaptive":
        return None
    if thinking.type == "disabled":
        return _of_effort("none")
    budget = thinking.budget_tokens
    return ReasoningRequest(budget=budget, include_thoughts=None if budget == 0 else True)


def _of_reasoning(request: ChatCompletionRequest) -> ReasoningRequest | None:
    reasoning = request.reasoning
    if reasoning is None:
        return None
    if reasoning.enabled is False:
        return _of_effort("none")
    if reasoning.effort is None and reasoning.max_tokens is None and not reasoning.enabled:
        return None
    stops = reasoning.effort == "none" or reasoning.max_tokens == 0
    shown = None if stops or reasoning.exclude else True
    if reasoning.effort is not None:
        return ReasoningRequest(effort=reasoning.effort, include_thoughts=shown)
    return ReasoningRequest(budget=reasoning.max_tokens, include_thoughts=shown)
