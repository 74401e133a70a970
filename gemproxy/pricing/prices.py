"""Estimate what a request costs, from the tokens that Gemini reports and a list of prices.

The first entry whose pattern matches the model and whose tier is the request's gives the price. A
model without an entry has no known cost: ``None``, never 0. A request with more prompt tokens than
``LongContext.above`` is priced at the upper step as a whole. Thoughts are output. Amounts are US
dollars; Google's bill decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final, Literal

from msgspec import Struct

from gemproxy.translate.shared.usage import TokenUsage

#: Tokens that a price is for.
MILLION = 1_000_000
#: The tier of a request for which Google names none.
STANDARD = "standard"
_ONE_TOKEN: Final = TokenUsage(input=1)
#: Models and tiers whose price is remembered.
_MOST_KNOWN = 1024


@dataclass(frozen=True)
class LongContext:
    """The prices of a request whose prompt has more than ``above`` tokens."""

    above: int
    input: float
    output: float
    cached_input: float | None = None


@dataclass(frozen=True)
class Price:
    """The prices of some models: US dollars for 1,000,000 tokens, and for a search.

    A price that is ``None`` is that of other tokens in the same direction. ``tier`` is a word of
    Google's (``standard``, ``flex``, ``priority``); ``None``: every tier. Google charges some
    models once for a grounded request (``grounding_unit``), however many searches it makes.
    ``batch_discount`` is the part that a batch saves, from 0 to 1.
    """

    models: tuple[str, ...]
    input: float
    output: float
    tier: str | None = None
    cached_input: float | None = None
    audio_input: float | None = None
    image_output: float | None = None
    grounding: float | None = None
    grounding_unit: Literal["search", "request"] = "search"
    long_context: LongContext | None = None
    batch_discount: float = 0.0

    def matches(self, model: str, tier: str) -> bool:
        """Whether the entry is for ``model`` in ``tier``."""
        if self.tier is not None and self.tier != tier:
            return False
        return any(fnmatchcase(model, pattern) for pattern in self.models)


class _Rates(Struct, frozen=True, gc=False):
    """The prices for single tokens."""

    input: float
    cached: float
    audio: float
    output: float
    image: float


class Tariff(Struct, frozen=True, gc=False):
    """How a model is priced."""

    usual: _Rates
    long: _Rates
    #: Prompts of more tokens use ``long``.
    above: int
    grounding: float | None
    grounding_per_request: bool
    batch_factor: float

    def cost_of(self, usage: TokenUsage) -> float | None:
        """US dollars; ``None`` if the price of a search is missing."""
        prompt, cached = usage.input, usage.cached
        rates = self.usual if prompt <= self.above else self.long
        cost = (prompt - cached) * rates.input + cached * rates.cached + usage.output * rates.output
        if usage.input_audio:
            # Gemini does not say which of the cached tokens are audio: text is cached first.
            audio = min(usage.input_audio, prompt - cached)
            cost += audio * (rates.audio - rates.input)
        if usage.output_image:
            cost += min(usage.output_image, usage.output) * (rates.image - rates.output)
        if usage.searches:
            if self.grounding is None:
                return None
            cost += self.grounding * (1 if self.grounding_per_request else usage.searches)
        return cost


class PriceList:
    """Prices in the order of their precedence."""

    def __init__(self, prices: Iterable[Price] = ()) -> None:
        self.prices: Sequence[Price] = tuple(prices)
        self._known: dict[tuple[str, str], Tariff | None] = {}

    def cost(self, model: str, usage: TokenUsage, *, batch: bool = False) -> float | None:
        """US dollars; ``None`` if a price is missing."""
        tariff = self.tariff(model, usage.tier)
        cost = None if tariff is None else tariff.cost_of(usage)
        if tariff is None or cost is None:
            return None
        return cost * tariff.batch_factor if batch else cost

    def tariff(self, model: str, tier: str = "") -> Tariff | None:
        """How ``model`` is priced in ``tier``, "" for the standard one; ``None`` if it is not."""
        key = (model, tier)
        try:
            return self._known[key]
        except KeyError:
            return self._remember(key)

    def knows(self, model: str) -> bool:
        """Whether the usual requests for ``model`` have a price."""
        return self.cost(model, _ONE_TOKEN) is not None

    def _remember(self, key: tuple[str, str]) -> Tariff | None:
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        tariff = self._known[key] = self._find(*key)
        return tariff

    def _find(self, model: str, tier: str) -> Tariff | None:
        for price in self.prices:
            if price.matches(model, tier or STANDARD):
                return _tariff(price)
        return None


def _tariff(price: Price) -> Tariff:
    usual, long = _rates(price), price.long_context
    return Tariff(
        usual,
        usual if long is None else _long_rates(price, long),
        2**63 if long is None else long.above,
        price.grounding,
        price.grounding_unit == "request",
        1.0 - price.batch_discount,
    )


def _rates(price: Price) -> _Rates:
    return _Rates(
        price.input / MILLION,
        _or(price.cached_input, price.input) / MILLION,
        _or(price.audio_input, price.input) / MILLION,
        price.output / MILLION,
        _or(price.image_output, price.output) / MILLION,
    )


def _long_rates(price: Price, long: LongContext) -> _Rates:
    """The upper step has no prices of its own for audio and images; they stay what they are."""
    return _Rates(
        long.input / MILLION,
        _or(long.cached_input, long.input) / MILLION,
        max(_or(price.audio_input, long.input), long.input) / MILLION,
        long.output / MILLION,
        max(_or(price.image_output, long.output), long.output) / MILLION,
    )


def _or(price: float | None, other: float) -> float:
    return other if price is None else price
