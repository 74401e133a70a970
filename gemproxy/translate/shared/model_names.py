"""Convert clients' model names to the upstream's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from msgspec import Struct

from gemproxy.core.errors import InvalidRequest, ModelNotFound
from gemproxy.providers.gemini.capabilities import Ability, ability_of

_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,127}")
#: The number is bounded: no real name has more than a few prefixes.
_PREFIXES = re.compile(r"(?:models/|google/|gemini/){0,8}")

_MAY_GENERATE = frozenset({Ability.GENERATE, None})
_MAY_EMBED = frozenset({Ability.EMBED, None})
_ELSEWHERE: Mapping[Ability | None, str] = {
    Ability.INTERACT: "is asked with Gemini's Interactions API only: POST /v1/interactions",
    Ability.LIVE: "is asked with Gemini's Live API only, which this proxy does not offer",
}

#: Bound of the cache, because clients may invent names.
_MOST_NAMES = 1000


class NamedModel(Struct, frozen=True):
    """A model by the upstream's name, and what it can do."""

    name: str
    generates: bool
    embeds: bool
    #: How it is asked if it does neither; as the end of a sentence.
    elsewhere: str = ""


@dataclass(frozen=True)
class ModelNames:
    """The operator's settings for models: aliases, and the models that are served (empty: all).

    An alias with ``*`` stands for all names that begin and end so: ``claude-haiku*``. One without
    wins over all of these, and of several patterns the one with the most other characters.
    """

    aliases: Mapping[str, str] = field(default_factory=dict)
    allow: tuple[str, ...] = ()
    _resolved: dict[str, NamedModel] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def resolve(self, name: str) -> NamedModel:
        """The model that the client calls ``name``.

        Raises :class:`ModelNotFound` if the operator does not allow it, and :class:`InvalidRequest`
        if it cannot be a model's name.
        """
        known = self._resolved.get(name)
        if known is None:
            if len(self._resolved) >= _MOST_NAMES:
                self._resolved.clear()
            model = self._upstream_name(name)
            ability = ability_of(model)
            known = self._resolved[name] = NamedModel(
                model,
                generates=ability in _MAY_GENERATE,
                embeds=ability in _MAY_EMBED,
                elsewhere=_ELSEWHERE.get(ability, ""),
            )
        return known

    def named_in_body(self, name: str, model: NamedModel, *, may_differ: bool = False) -> str:
        """The upstream's name of a model that the body of a call of ``model`` names.

        Raises as :meth:`resolve`, and :class:`InvalidRequest` for another model, unless it
        ``may_differ``: the limits and the prices of the call are those of ``model``.
        """
        named = self.resolve(name)
        if named.name != model.name and not may_differ:
            raise InvalidRequest(
                f"model: '{name[:80]}' is not the model of the path, '{model.name}'.",
                param="model",
            )
        return named.name

    def generating(self, name: str) -> str:
        """The upstream's name of the model that the client calls ``name``.

        Raises as :meth:`resolve`, and :class:`InvalidRequest` if it does not generate.
        """
        named = self.resolve(name)
        if not named.generates:
            use = named.elsewhere or "makes embeddings; use POST /v1/embeddings"
            raise InvalidRequest(f"model: '{name[:80]}' {use}.", param="model")
        return named.name

    def _upstream_name(self, name: str) -> str:
        bare = without_prefixes(name)
        aliases = self.aliases
        model = aliases.get(name) or aliases.get(bare) or self._by_pattern(name, bare)
        if model is None:
            model = normalize_model(name)
            model = aliases.get(model, model)
        if self.allow and name not in self.allow and model not in self.allow:
            raise ModelNotFound(f"The model '{name}' is not served here.", param="model")
        return model

    def _by_pattern(self, *names: str) -> str | None:
        patterns = [alias for alias in self.aliases if is_pattern(alias)]
        for pattern in sorted(patterns, key=_literal_length, reverse=True):
            matches = re.compile(".*".join(map(re.escape, pattern.split(ANY_TEXT))), re.DOTALL)
            if any(map(matches.fullmatch, names)):
                return self.aliases[pattern]
        return None


#: Stands for any text in an alias.
ANY_TEXT = "*"


def is_pattern(alias: str) -> bool:
    """Whether the alias stands for more than one name."""
    return ANY_TEXT in alias


def _literal_length(pattern: str) -> int:
    return len(pattern) - pattern.count(ANY_TEXT)


def without_prefixes(name: str) -> str:
    """``name`` without ``models/`` and the provider prefixes of other gateways."""
    return _PREFIXES.sub("", name, count=1)


def normalize_model(name: str) -> str:
    """The name of the model without prefixes, as in the upstream's path.

    Removes ``models/`` and the provider prefixes of other gateways. Raises :class:`ModelNotFound`
    for a name of another provider's or of a tuned model, and :class:`InvalidRequest` with ``param``
    ``model`` for text that cannot be a model's name.
    """
    bare = without_prefixes(name)
    if ":" in bare or "/" in bare:
        # Gemini has no models with such names: "openai/…", "tunedModels/…", "llama3:latest".
        raise ModelNotFound(f"The model '{name[:80]}' does not exist.", param="model")
    if _MODEL.fullmatch(bare) is None:
        raise InvalidRequest(f"model: '{name[:80]}' is not a model's name.", param="model")
    return bare
