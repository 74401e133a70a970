"""Make a ``thinkingConfig`` of what a client asked for, in terms that fit the model.

A model with levels gets its nearest level, a model with budgets a budget within its range.
"""

from __future__ import annotations

from dataclasses import dataclass

from gemproxy.providers.gemini.capabilities import ModelFamily, ThinkingControl
from gemproxy.providers.gemini.wire.requests import ThinkingConfig

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
#: The model's own choice of a budget.
_DYNAMIC = -1


@dataclass(frozen=True, slots=True)
class ReasoningRequest:
    """What the client asked for. At most one of ``effort`` and ``budget`` is set."""

    effort: str | None = None
    budget: int | None = None
    include_thoughts: bool | None = None
    #: Given by Google's own parameter and not by a general one.
    explicit: bool = False


def thinking_config(wanted: ReasoningRequest | None, family: ModelFamily) -> ThinkingConfig | None:
    """The ``thinkingConfig`` for a model of ``family``; ``None`` for the model's default."""
    if wanted is None or family.thinking is ThinkingControl.NONE:
        return None
    if (family.image_output or family.speech_output) and not wanted.explicit:
        # Effort is a general hint, and these models do not reason.
        return None
    configure = _budget_config if family.thinking is ThinkingControl.BUDGET else _level_config
    config = configure(wanted, family)
    return None if config == ThinkingConfig() else config


def _budget_config(wanted: ReasoningRequest, family: ModelFamily) -> ThinkingConfig:
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


def _level_config(wanted: ReasoningRequest, family: ModelFamily) -> ThinkingConfig:
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
