"""Translate ``reasoning_effort`` and similar parameters into a ``thinkingConfig``.

Clients of other gateways use several parameters; the first one given counts, in this order:
Google's own ``thinking_config``, OpenAI's ``reasoning_effort``, ``thinking`` (Anthropic, litellm),
``reasoning`` (OpenRouter). A model with levels gets its nearest level, a model with budgets a
budget within its range. Asking for effort also asks for the thoughts, so that answers have
``reasoning_content``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from gemproxy.api.openai.schema.requests import ChatCompletionRequest, GoogleThinkingConfig
from gemproxy.core.errors import InvalidRequest
from gemproxy.providers.gemini.capabilities import ModelFamily, ThinkingControl
from gemproxy.providers.gemini.wire.requests import ThinkingConfig
from gemproxy.translate.openai_chat__gemini.google_options import Options, either

#: Levels and efforts in order; ``max`` is the strongest of a model.
_STRENGTH = {
    "none": 0,
    "minimal": 1,
    "low": 2,
    "medium": 3,
    "high": 4,
    "xhigh": 5,
    "max": 5,
}
#: Efforts as budgets, for models of the 2.5 generation; cut to the model's own range.
_BUDGETS = {
    "none": 0,
    "low": 1024,
    "medium": 8192,
    "high": 24_576,
    "xhigh": 32_768,
    "max": 32_768,
}
#: (limit, effort): a budget up to the limit becomes this effort, for models without budgets.
_EFFORTS = ((0, "none"), (512, "minimal"), (1024, "low"), (8192, "medium"), (2**31, "high"))
_LEVELS = ("minimal", "low", "medium", "high", "xhigh")
_DYNAMIC = -1


@dataclass(frozen=True, slots=True)
class _ReasoningRequest:
    """What the client asked for. At most one of ``effort`` and ``budget`` is set."""

    effort: str | None = None
    budget: int | None = None
    include_thoughts: bool | None = None
    #: Given by Google's own parameter and not by a general one.
    explicit: bool = False


def thinking_config(
    request: ChatCompletionRequest, google: Options, family: ModelFamily
) -> ThinkingConfig | None:
    """The ``thinkingConfig`` for the request; ``None`` for the model's default.

    Raises :class:`InvalidRequest` for contradictory parameters.
    """
    wanted = _requested(request, google)
    if wanted is None or family.thinking is ThinkingControl.NONE:
        return None
    if (family.image_output or family.speech_output) and not wanted.explicit:
        # Effort is a general hint, and these models do not reason.
        return None
    configure = _budget_config if family.thinking is ThinkingControl.BUDGET else _level_config
    config = configure(wanted, family)
    return None if config == ThinkingConfig() else config


def _requested(request: ChatCompletionRequest, google: Options) -> _ReasoningRequest | None:
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
) -> _ReasoningRequest:
    level = either(config, path, "thinking_level").value
    budget = either(config, path, "thinking_budget").value
    shown = either(config, path, "include_thoughts").value
    if level is None and budget is None:
        if request.reasoning_effort is None:
            return _ReasoningRequest(include_thoughts=shown, explicit=True)
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
    return _ReasoningRequest(word, budget, shown, explicit=True)


def _known_level(level: str, path: str) -> str:
    word = level.lower()
    if word not in _LEVELS:
        raise InvalidRequest(
            f"{path}: invalid value '{level[:60]}', expected one of {', '.join(_LEVELS)}.",
            param=path,
        )
    return word


def _of_effort(effort: str) -> _ReasoningRequest:
    return _ReasoningRequest(effort=effort, include_thoughts=None if effort == "none" else True)


def _of_thinking(request: ChatCompletionRequest) -> _ReasoningRequest | None:
    thinking = request.thinking
    if thinking is None or thinking.type == "adaptive":
        return None
    if thinking.type == "disabled":
        return _of_effort("none")
    budget = thinking.budget_tokens
    return _ReasoningRequest(budget=budget, include_thoughts=None if budget == 0 else True)


def _of_reasoning(request: ChatCompletionRequest) -> _ReasoningRequest | None:
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
        return _ReasoningRequest(effort=reasoning.effort, include_thoughts=shown)
    return _ReasoningRequest(budget=reasoning.max_tokens, include_thoughts=shown)


def _budget_config(wanted: _ReasoningRequest, family: ModelFamily) -> ThinkingConfig:
    budget = wanted.budget
    if wanted.effort is not None:
        budget = _BUDGETS.get(wanted.effort, family.minimal_budget)
    if budget is not None:
        budget = _within(budget, family)
    return ThinkingConfig(include_thoughts=wanted.include_thoughts, thinking_budget=budget)


def _within(budget: int, family: ModelFamily) -> int:
    if budget == _DYNAMIC or (budget == 0 and family.thinking_can_stop):
        return budget
    smallest, largest = family.budget_range
    return min(max(budget, smallest), largest)


def _level_config(wanted: _ReasoningRequest, family: ModelFamily) -> ThinkingConfig:
    effort, budget = wanted.effort, wanted.budget
    if budget == _DYNAMIC:
        # The default of these models.
        budget = None
    if family.thinking_can_stop and (budget == 0 or effort == "none"):
        return ThinkingConfig(include_thoughts=wanted.include_thoughts, thinking_budget=0)
    if budget is not None and (budget == 0 or not family.accepts_budget):
        # Thinking cannot be switched off for these models, so 0 means the lowest level.
        effort = next(word for limit, word in _EFFORTS if budget <= limit)
        budget = None
    return ThinkingConfig(
        include_thoughts=wanted.include_thoughts,
        thinking_budget=budget,
        thinking_level=None if effort is None else _nearest_level(effort, family.levels),
    )


def _nearest_level(effort: str, levels: tuple[str, ...]) -> str:
    """The weakest level that is at least as strong as ``effort``, else the strongest one."""
    wanted = _STRENGTH[effort]
    return next((level for level in levels if _STRENGTH[level] >= wanted), levels[-1])
