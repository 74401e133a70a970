"""What a request costs, and the files of prices."""

# ruff: noqa: E501 - one mistake is one line
from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemproxy.config.loading import load
from gemproxy.config.price_file import SHIPPED, shipped_prices
from gemproxy.core.errors import ConfigError
from gemproxy.pricing.prices import LongContext, Price, PriceList
from gemproxy.translate.shared.usage import TokenUsage

FLASH = Price(("flash",), 1.0, 10.0)
_counts = st.integers(0, 10**9)


def cost(price=FLASH, model="flash", **usage):
    return PriceList([price]).cost(model, TokenUsage(**usage))


class TestCost:
    def test_input_and_output_are_for_a_million_tokens(self):
        assert cost(input=2_000_000, output=500_000) == pytest.approx(7.0)

    def test_an_unknown_model_has_no_cost_instead_of_none_at_all(self):
        assert cost(model="other", input=1) is None
        assert cost(input=0) == 0.0

    def test_thoughts_are_part_of_the_output(self):
        assert cost(output=1_000_000, reasoning=900_000) == pytest.approx(10.0)

    def test_cached_tokens_are_part_of_the_input(self):
        price = Price(("*",), 1.0, 10.0, cached_input=0.1)
        assert cost(price, input=2_000_000, cached=1_000_000) == pytest.approx(1.1)

    def test_sound_and_images_have_prices_of_their_own(self):
        price = Price(("*",), 1.0, 10.0, audio_input=3.0, image_output=30.0)
        heard = cost(price, input=2_000_000, input_audio=1_000_000)
        painted = cost(price, output=2_000_000, output_image=1_000_000)
        assert (heard, painted) == (pytest.approx(4.0), pytest.approx(40.0))

    def test_a_long_prompt_is_priced_whole_at_the_upper_step(self):
        price = Price(("*",), 1.0, 10.0, long_context=LongContext(1000, 2.0, 15.0))
        assert cost(price, input=1000, output=1000) == pytest.approx(0.011)
        assert cost(price, input=1001, output=1000) == pytest.approx(0.001001 * 2 + 0.015)

    def test_searches_are_charged_each_or_once(self):
        by_search = Price(("*",), 1.0, 10.0, grounding=0.014)
        by_request = Price(("*",), 1.0, 10.0, grounding=0.035, grounding_unit="request")
        assert cost(by_search, searches=3) == pytest.approx(0.042)
        assert cost(by_request, searches=3) == pytest.approx(0.035)
        assert cost(searches=1) is None

    def test_the_first_entry_of_the_model_and_the_tier_counts(self):
        prices = PriceList(
            [
                Price(("gemini-9-*",), 4.0, 1.0, tier="priority"),
                Price(("gemini-9-flash",), 3.0, 1.0),
                Price(("gemini-*",), 2.0, 1.0),
            ]
        )
        asked = [("gemini-9-flash", ""), ("gemini-9-flash", "priority"), ("gemini-9-pro", "flex")]
        found = [
            prices.cost(model, TokenUsage(input=1_000_000, tier=tier)) for model, tier in asked
        ]
        assert found == [3.0, 4.0, 2.0]

    def test_a_batch_costs_less(self):
        prices = PriceList([Price(("*",), 1.0, 10.0, batch_discount=0.5)])
        assert prices.cost("m", TokenUsage(input=1_000_000), batch=True) == 0.5

    @given(_counts, _counts, _counts, _counts, _counts)
    def test_no_count_of_an_upstream_makes_a_cost_negative(self, total, cached, audio, out, image):
        price = Price(("*",), 1.0, 10.0, None, 0.1, 3.0, 0.5)
        usage = {"input": total, "cached": min(cached, total), "input_audio": audio}
        assert (cost(price, output=out, output_image=image, **usage) or 0.0) >= 0.0


class TestShippedPrices:
    def test_they_say_when_and_from_where(self):
        text = SHIPPED.read_text("utf-8")
        assert "\ndate: 2026-" in text
        assert "ai.google.dev/gemini-api/docs/pricing" in text

    def test_usual_models_have_one(self):
        prices = PriceList(shipped_prices())
        million = TokenUsage(input=100_000, output=100_000)
        assert prices.cost("gemini-2.5-flash", million) == pytest.approx(0.28)
        assert prices.cost("gemini-3.8-flash", million) == pytest.approx(0.45)
        assert prices.cost("gemini-9-unheard-of", million) is None


class TestPriceFile:
    @pytest.fixture(autouse=True)
    def folder(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        Path("keys.yaml").write_text("keys: [{name: a, key: test-key-of-a-0123456789}]\n")
        Path("proxy.yaml").write_text(
            "proxy: {adminToken: an-admin-token-for-the-tests}\npricing: {file: mine.yaml}\n"
        )

    def read(self, text):
        Path("mine.yaml").write_text(text)
        return load(Path("proxy.yaml"), Path("keys.yaml"), {}).prices

    def test_own_entries_come_first(self):
        prices = self.read(
            "prices:\n- {models: [gemini-2.5-flash], input: 7, output: 8, tier: STANDARD,"
            " longContext: {above: 5, input: 9, output: 9}}\n"
        )
        assert prices[0] == Price(
            ("gemini-2.5-flash",), 7.0, 8.0, "standard", long_context=LongContext(5, 9.0, 9.0)
        )
        assert prices[1:] == shipped_prices()

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("prices:\n- {models: [m], input: 1}", "mine.yaml:2: prices[0].output: is missing"),
            (
                "prices:\n- {models: [m], input: -1, output: 1}",
                "mine.yaml:2: prices[0].input: expected a number of US dollars of at least 0, got -1",
            ),
            (
                "prices:\n- {models: [], input: 1, output: 1}",
                "mine.yaml:2: prices[0].models: expected at least one pattern, got none",
            ),
            ("prices: 5", "mine.yaml:1: prices: expected a list of prices, got 5"),
            (
                "prices:\n- {models: [m], input: 1, outputs: 1, output: 1}",
                "mine.yaml:2: prices[0].outputs: unknown setting; did you mean 'output'?",
            ),
        ],
    )
    def test_a_mistake_has_its_place(self, text, message):
        with pytest.raises(ConfigError) as caught:
            self.read(text)
        assert [str(fault) for fault in caught.value.faults] == [message]
