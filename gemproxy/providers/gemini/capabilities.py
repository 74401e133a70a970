"""Find the rules for a model's requests from its name.

Google's models differ in what they accept: a thinking budget or a level, sampling parameters or
none, system instructions or none. New models appear weekly, so the table has families and no single
models. An unknown name gets the strictest rules of the newest generation.
Sources: ai.google.dev guides on thinking, thought signatures and the 3.6 and 4 generations.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import Enum
from functools import lru_cache


class ThinkingControl(Enum):
    """How the thinking effort of a model is set."""

    NONE = "none"
    BUDGET = "budget"
    LEVEL = "level"


_LOW_HIGH = ("low", "high")
_LOW_TO_HIGH = ("low", "medium", "high")
_MINIMAL_TO_HIGH = ("minimal", "low", "medium", "high")
_LOW_TO_XHIGH = ("low", "medium", "high", "xhigh")
_MINIMAL_HIGH = ("minimal", "high")


@dataclass(frozen=True, slots=True)
class ModelFamily:
    """The rules of one family. The defaults are those of the newest generation."""

    thinking: ThinkingControl = ThinkingControl.LEVEL
    #: The thinking levels of the model, lowest first.
    levels: tuple[str, ...] = _LOW_TO_HIGH
    #: Smallest and largest thinking budget in tokens, besides 0 and -1.
    budget_range: tuple[int, int] = (1, 32_768)
    #: The budget in tokens for the least effort above none.
    minimal_budget: int = 512
    #: Budget 0 switches thinking off; otherwise it is an error.
    thinking_can_stop: bool = False
    #: A model with levels that accepts a budget too.
    accepts_budget: bool = False
    #: The model ignores ``temperature``, ``topP`` and ``topK``, and will refuse them later.
    ignores_sampling: bool = True
    system_instruction: bool = True
    #: The model refuses a replayed function call without its thought signature.
    requires_signatures: bool = True
    json_mode: bool = True
    #: Structured output is allowed together with functions or a search.
    json_mode_with_tools: bool = True
    #: The built-in search is allowed together with functions.
    search_with_functions: bool = True
    #: ``mediaResolution`` of a single part, and media inside a function's result.
    rich_parts: bool = True
    #: The largest ``candidateCount``.
    candidates: int = 1
    #: The model refuses ``contents`` that end with a model turn; otherwise it continues that turn.
    ends_on_user: bool = True
    #: The model refuses an image in a model turn without its thought signature.
    signs_images: bool = False
    image_output: bool = False
    speech_output: bool = False
    #: The most tokens of an answer, thoughts included; Google answers 400 if more are asked for.
    output_limit: int = 65_536


_NEWEST = ModelFamily()
_GEMINI_4 = replace(_NEWEST, output_limit=1_048_576)
_GEMINI_3_LATE = replace(_NEWEST, accepts_budget=True)
_GEMINI_3 = replace(
    _GEMINI_3_LATE, ignores_sampling=False, levels=_MINIMAL_TO_HIGH, ends_on_user=False
)
_BEFORE_3 = ModelFamily(
    thinking=ThinkingControl.NONE,
    levels=(),
    ignores_sampling=False,
    requires_signatures=False,
    json_mode_with_tools=False,
    search_with_functions=False,
    rich_parts=False,
    candidates=8,
    ends_on_user=False,
    output_limit=8192,
)
_GEMINI_2_5 = replace(
    _BEFORE_3,
    thinking=ThinkingControl.BUDGET,
    budget_range=(1, 24_576),
    thinking_can_stop=True,
    output_limit=65_536,
)
_GEMMA = replace(_BEFORE_3, system_instruction=False, json_mode=False, candidates=1)
_GEMMA_4 = replace(
    _GEMMA,
    system_instruction=True,
    thinking=ThinkingControl.LEVEL,
    levels=_MINIMAL_HIGH,
    output_limit=32_768,
)

#: The first match wins. The variant is the part after the version: ``flash-lite-preview-06-17``.
_FAMILIES: tuple[tuple[str, str, ModelFamily], ...] = (
    # version, variant, rules
    (r"[01]\.\d+|2\.0|[01]", r".*", _BEFORE_3),
    (
        r"2\.5",
        r"pro.*",
        replace(
            _GEMINI_2_5, budget_range=(128, 32_768), minimal_budget=128, thinking_can_stop=False
        ),
    ),
    (r"2\.5", r"flash-lite.*", replace(_GEMINI_2_5, budget_range=(512, 24_576))),
    (r"2\.\d+|2", r".*", _GEMINI_2_5),
    (r"3|3\.0", r"pro.*", replace(_GEMINI_3, levels=_LOW_HIGH)),
    (r"3\.[1-4]", r"pro.*", replace(_GEMINI_3, levels=_LOW_TO_HIGH)),
    (r"3\.\d+", r"pro.*", replace(_GEMINI_3, levels=_LOW_TO_HIGH, ends_on_user=True)),
    (
        r"3\.5",
        r"flash-lite.*",
        replace(_GEMINI_3, ignores_sampling=True, ends_on_user=True, thinking_can_stop=True),
    ),
    (r"3\.5", r"flash.*", replace(_GEMINI_3, thinking_can_stop=True)),
    (r"3\.6", r".*", replace(_GEMINI_3, ignores_sampling=True, ends_on_user=True)),
    (r"3|3\.[0-4]", r".*", _GEMINI_3),
    (r"3\.5", r".*", replace(_GEMINI_3, ends_on_user=True)),
    (r"3\.\d+", r".*", _GEMINI_3_LATE),
    (r"4|4\.\d+", r"hydrogen.*", replace(_GEMINI_4, levels=_LOW_TO_XHIGH)),
    (r"4|4\.\d+", r".*", _GEMINI_4),
)

#: Google moves these aliases; the rules hold for their present and later targets.
_ALIASES: tuple[tuple[str, ModelFamily], ...] = (
    (
        r"gemini-flash-lite-latest",
        replace(_GEMINI_3, ignores_sampling=True, accepts_budget=False, ends_on_user=True),
    ),
    (r"gemini-flash-latest", _GEMINI_3_LATE),
    (r"gemini-pro-latest", replace(_GEMINI_3, levels=_LOW_TO_HIGH, ends_on_user=True)),
)

_GEMINI = re.compile(r"gemini-(?P<version>\d+(?:\.\d+)?)(?:-(?P<variant>.*))?", re.DOTALL)
_IMAGE = re.compile(r"(?:^|-)image(?:-|$)|nano-banana")
_SPEECH = re.compile(r"(?:^|-)tts(?:-|$)")
_GEMMA_NAME = re.compile(r"gemma-(?P<generation>\d+)")
_SMALL_IMAGE = re.compile(r"gemini-3\.1-flash(?:-lite)?-image")


@lru_cache(maxsize=1024)
def family_of(model: str) -> ModelFamily:
    """The rules for ``model``, with or without the prefix ``models/``."""
    name = model.removeprefix("models/").lower()
    family = _by_version(name)
    if _IMAGE.search(name):
        return _image_model(name, family)
    if _SPEECH.search(name):
        return _speech_model(family)
    return family


def _by_version(name: str) -> ModelFamily:
    if name.startswith("gemma"):
        match = _GEMMA_NAME.match(name)
        return _GEMMA_4 if match and int(match["generation"][:3]) >= 4 else _GEMMA
    for pattern, family in _ALIASES:
        if re.fullmatch(pattern, name):
            return family
    if match := _GEMINI.match(name):
        version, variant = match["version"], match["variant"] or ""
        for versions, variants, family in _FAMILIES:
            if re.fullmatch(versions, version) and re.fullmatch(variants, variant, re.DOTALL):
                return family
    return _NEWEST


def _image_model(name: str, family: ModelFamily) -> ModelFamily:
    # gemini-2.5-flash-image answers any thinkingConfig with an error; the small 3.1 image models
    # take two levels.
    small = _SMALL_IMAGE.match(name) is not None
    return replace(
        family,
        thinking=ThinkingControl.LEVEL if small else ThinkingControl.NONE,
        levels=_MINIMAL_HIGH if small else (),
        accepts_budget=False,
        json_mode=False,
        candidates=1,
        # gemini-3-pro-image and later ones.
        signs_images=family.requires_signatures,
        image_output=True,
    )


def _speech_model(family: ModelFamily) -> ModelFamily:
    return replace(
        family,
        thinking=ThinkingControl.NONE,
        levels=(),
        accepts_budget=False,
        # Google says "Developer instruction is not enabled" for its speech models.
        system_instruction=False,
        json_mode=False,
        candidates=1,
        ends_on_user=False,
        speech_output=True,
    )


class Ability(Enum):
    """The purpose of a model."""

    GENERATE = "generate"
    EMBED = "embed"
    #: It is asked with interactions only (ai.google.dev, Interactions API).
    INTERACT = "interact"
    #: It is asked over a WebSocket only.
    LIVE = "live"


def ability_of(model: str) -> Ability | None:
    """The purpose that the name of ``model``, without ``models/``, tells; else ``None``."""
    name = model.lower()
    if _EMBEDS.search(name):
        return Ability.EMBED
    if _LIVE.match(name):
        return Ability.LIVE
    if _INTERACTS.match(name):
        return Ability.INTERACT
    return Ability.GENERATE if _GENERATES.match(name) else None


def takes_task_as_text(model: str) -> bool:
    """Whether an embedding model expects its task in the text and ignores ``taskType``.

    ``gemini-embedding-2`` does; earlier ones, such as ``gemini-embedding-001``, use the field.
    ``model`` may have the prefix ``models/``.
    """
    return _EMBEDS_WITHOUT_TASK_TYPE.match(model.removeprefix("models/").lower()) is not None


_EMBEDS = re.compile(r"(?:^|-)embedding(?:-|$)")
_GENERATES = re.compile(r"(?:gemini|gemma)-\d")
_INTERACTS = re.compile(r"gemini-omni-|gemini-[\d.]+-transcribe(?:$|-)|deep-research-|antigravity-")
_LIVE = re.compile(r"gemini-[\d.]+-(?:transcribe-)?live(?:$|-)")
_EMBEDS_WITHOUT_TASK_TYPE = re.compile(r"gemini-embedding-(?!0)(?:[2-9]|\d{2})")
