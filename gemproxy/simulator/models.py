"""The models that the simulator serves, and the rules of their families.

Windows, thinking levels and abilities are those of Google's models in November 2026 (ai.google.dev
pages models, thinking, changelog). Descriptions are made up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Any

_WINDOW = 1_048_576
_OUTPUT = 65_536


class Medium(Enum):
    """The main kind of content that a model generates."""

    TEXT = "TEXT"
    IMAGE = "IMAGE"
    AUDIO = "AUDIO"
    VECTOR = "VECTOR"


@dataclass(frozen=True, slots=True)
class Model:
    """One model. ``generation`` is the number in its name; ``levels`` are upper case.

    ``budget`` is the least and greatest ``thinkingBudget``, None where budgets are refused;
    ``off`` says whether a budget of 0 switches thinking off.
    """

    name: str
    title: str
    generation: float
    medium: Medium = Medium.TEXT
    levels: tuple[str, ...] = ()
    default_level: str = "MEDIUM"
    budget: tuple[int, int] | None = None
    off: bool = False
    thinks: bool = True
    input_limit: int = _WINDOW
    output_limit: int = _OUTPUT

    @property
    def methods(self) -> tuple[str, ...]:
        if self.medium is Medium.VECTOR:
            return ("embedContent", "countTextTokens", "countTokens", "asyncBatchEmbedContent")
        return ("generateContent", "countTokens", "batchGenerateContent")

    @property
    def is_gemma(self) -> bool:
        return self.name.startswith("gemma")

    @property
    def signs_calls(self) -> bool:
        """Whether the first call of a step gets a thoughtSignature that must be sent back."""
        return self.generation >= 3 and not self.is_gemma

    @property
    def signs_images(self) -> bool:
        """Whether a generated image gets a thoughtSignature that must be sent back."""
        return self.medium is Medium.IMAGE and self.generation >= 3

    @property
    def takes_prefill(self) -> bool:
        """Whether ``contents`` may end with a turn of the model, which it then continues.

        Measured by LibreChat-AI/agents#323: 3.5-flash-lite, 3.6 and later, and 4 refuse.
        """
        if self.is_gemma or self.medium is Medium.AUDIO:
            return True
        return self.generation < 3.6 and self.name != "gemini-3.5-flash-lite"

    @property
    def gives_logprobs(self) -> bool:
        """Whether log probabilities may be asked for; in recordings newer models refuse."""
        return self.medium is Medium.TEXT and self.generation < 3 and not self.is_gemma

    @property
    def streams_logprobs(self) -> bool:
        """Whether log probabilities may be asked for in a stream, which most models refuse."""
        return self.gives_logprobs and self.name.endswith("-lite")

    @property
    def most_candidates(self) -> int:
        """The greatest ``candidateCount``."""
        several = self.generation < 3 and self.medium is Medium.TEXT and not self.is_gemma
        return 8 if several else 1

    @property
    def names_calls(self) -> bool:
        """Whether function calls have an ``id``: seen since 3.1 Pro and 3.5."""
        return self.signs_calls and (self.generation >= 3.5 or "3.1-pro" in self.name)

    @property
    def decodes_in_hops(self) -> bool:
        """Whether long answers end with CONTINUATION and a token to continue with."""
        return self.generation >= 4 and not self.is_gemma

    def entry(self) -> dict[str, Any]:
        """The model in ``models.list`` and ``models.get``."""
        entry: dict[str, Any] = {
            "name": f"models/{self.name}",
            "version": f"{self.generation:g}",
            "displayName": self.title,
            "description": f"{self.title}, simulated",
            "inputTokenLimit": self.input_limit,
            "outputTokenLimit": self.output_limit,
            "supportedGenerationMethods": list(self.methods),
        }
        if self.medium is not Medium.VECTOR:
            entry |= {"temperature": 1, "topP": 0.95, "topK": 64, "maxTemperature": 2}
            entry |= {"thinking": True} if self.thinks else {}
        return entry


_ALL = ("MINIMAL", "LOW", "MEDIUM", "HIGH")
_NO_MINIMAL = ("LOW", "MEDIUM", "HIGH")
_COMPATIBLE = (0, 32_768)  # 3.x accepts a budget for compatibility, 4.x does not.

_MODELS = (
    Model("gemini-4-argon", "Gemini 4 Argon", 4, levels=_NO_MINIMAL),
    Model("gemini-4-carbon", "Gemini 4 Carbon", 4, levels=_NO_MINIMAL),
    Model(
        "gemini-4-hydrogen",
        "Gemini 4 Hydrogen",
        4,
        levels=(*_NO_MINIMAL, "XHIGH"),
        default_level="HIGH",
    ),
    Model("gemini-3.8-flash", "Gemini 3.8 Flash", 3.8, levels=_NO_MINIMAL, budget=_COMPATIBLE),
    Model("gemini-3.7-flash", "Gemini 3.7 Flash", 3.7, levels=_NO_MINIMAL, budget=_COMPATIBLE),
    Model("gemini-3.6-flash", "Gemini 3.6 Flash", 3.6, levels=_ALL, budget=_COMPATIBLE),
    Model("gemini-3.5-flash", "Gemini 3.5 Flash", 3.5, levels=_ALL, budget=_COMPATIBLE, off=True),
    Model(
        "gemini-3.5-flash-lite",
        "Gemini 3.5 Flash-Lite",
        3.5,
        levels=_ALL,
        default_level="MINIMAL",
        budget=_COMPATIBLE,
    ),
    Model(
        "gemini-3.1-flash-lite",
        "Gemini 3.1 Flash-Lite",
        3.1,
        levels=_ALL,
        default_level="MINIMAL",
        budget=_COMPATIBLE,
    ),
    Model(
        "gemini-3.1-pro-preview",
        "Gemini 3.1 Pro Preview",
        3.1,
        levels=_NO_MINIMAL,
        default_level="HIGH",
        budget=_COMPATIBLE,
    ),
    Model("gemini-3-flash-preview", "Gemini 3 Flash Preview", 3, levels=_ALL, budget=_COMPATIBLE),
    Model("gemini-2.5-pro", "Gemini 2.5 Pro", 2.5, budget=(128, 32_768)),
    Model("gemini-2.5-flash", "Gemini 2.5 Flash", 2.5, budget=(0, 24_576), off=True),
    Model(
        "gemini-2.5-flash-lite",
        "Gemini 2.5 Flash-Lite",
        2.5,
        budget=(512, 24_576),
        off=True,
        default_level="NONE",
    ),
    Model(
        "gemini-3.1-flash-image",
        "Gemini 3.1 Flash Image",
        3.1,
        Medium.IMAGE,
        levels=("MINIMAL", "HIGH"),
        default_level="MINIMAL",
        input_limit=65_536,
    ),
    Model(
        "gemini-3-pro-image",
        "Gemini 3 Pro Image",
        3,
        Medium.IMAGE,
        levels=("LOW", "HIGH"),
        default_level="LOW",
        input_limit=65_536,
    ),
    Model(
        "gemini-2.5-flash-image",
        "Gemini 2.5 Flash Image",
        2.5,
        Medium.IMAGE,
        default_level="NONE",
        thinks=False,
        input_limit=32_768,
        output_limit=32_768,
    ),
    Model(
        "gemini-3.8-flash-tts",
        "Gemini 3.8 Flash TTS",
        3.8,
        Medium.AUDIO,
        default_level="NONE",
        thinks=False,
        input_limit=8_192,
        output_limit=16_384,
    ),
    Model(
        "gemini-embedding-001",
        "Gemini Embedding 001",
        1,
        Medium.VECTOR,
        thinks=False,
        input_limit=2_048,
        output_limit=1,
    ),
    Model(
        "gemini-embedding-2",
        "Gemini Embedding 2",
        2,
        Medium.VECTOR,
        thinks=False,
        input_limit=8_192,
        output_limit=1,
    ),
    Model(
        "gemma-4-31b-it",
        "Gemma 4 31B",
        4,
        levels=("MINIMAL", "HIGH"),
        default_level="NONE",
        input_limit=262_144,
        output_limit=32_768,
    ),
)

MODELS: Mapping[str, Model] = MappingProxyType({model.name: model for model in _MODELS})

#: Aliases that Google moves from model to model; ``modelVersion`` in the answer names the real
#: model.
ALIASES: Mapping[str, str] = MappingProxyType(
    {
        "gemini-flash-latest": "gemini-3.8-flash",
        "gemini-flash-lite-latest": "gemini-3.5-flash-lite",
        "gemini-pro-latest": "gemini-3.1-pro-preview",
        "gemini-3.1-pro-preview-customtools": "gemini-3.1-pro-preview",
    }
)

#: Models that were shut down, with the successor that Google's message names.
GONE: Mapping[str, str] = MappingProxyType(
    {
        "gemini-3-pro-preview": "gemini-3.1-pro-preview",
        "gemini-2.0-flash": "gemini-3.8-flash",
        "gemini-2.0-flash-lite": "gemini-3.5-flash-lite",
        "text-embedding-004": "gemini-embedding-001",
        "gemini-embedding-2-preview": "gemini-embedding-2",
    }
)


def find(name: str) -> Model | None:
    """The model with this name or alias, without ``models/``; None if there is none."""
    return MODELS.get(ALIASES.get(name, name))


def listing() -> list[dict[str, Any]]:
    """Every entry of ``models.list``, aliases included, in a fixed order."""
    entries = [model.entry() for model in _MODELS]
    for alias, name in ALIASES.items():
        entries.append({**MODELS[name].entry(), "name": f"models/{alias}", "displayName": alias})
    return entries
