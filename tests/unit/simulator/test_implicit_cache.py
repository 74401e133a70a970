"""A prefix of a prompt that a project has sent before is cached."""

from gemproxy.simulator.implicit_cache import ImplicitCache

LONG = "word " * 300


def turn(text, role="user"):
    return {"role": role, "parts": [{"text": text}]}


def test_a_repeated_prefix_is_cached_for_its_project_and_model():
    cache = ImplicitCache(100)
    first = {"contents": [turn(LONG)]}
    grown = {"contents": [turn(LONG), turn("Aha.", "model"), turn("More")]}
    assert cache.cached_tokens("a", "m", first) == 0
    assert cache.cached_tokens("a", "m", grown) in (300, 301)
    assert cache.cached_tokens("a", "m", grown) > 301
    assert cache.cached_tokens("b", "m", grown) == 0
    assert cache.cached_tokens("a", "n", grown) == 0
    cache.clear()
    assert cache.cached_tokens("a", "m", grown) == 0


def test_instructions_come_first_and_short_prompts_are_not_cached():
    cache = ImplicitCache(100)
    other = {"systemInstruction": turn("Other."), "contents": [turn(LONG)]}
    for request, cached in (
        ({"contents": [turn(LONG)]}, 0),
        (other, 0),
        (other, 302),
        ({"contents": [turn("Hi")]}, 0),
        ({"contents": [turn("Hi")]}, 0),
    ):
        assert abs(cache.cached_tokens("a", "m", request) - cached) <= 2


def test_without_a_length_nothing_is_cached():
    cache = ImplicitCache(0)
    for _ in range(2):
        assert cache.cached_tokens("a", "m", {"contents": [turn(LONG)]}) == 0
