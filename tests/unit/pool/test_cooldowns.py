"""Rests of projects, and when a day ends in Los Angeles."""

from datetime import UTC, datetime

import pytest

from gemproxy.pool.cooldowns import ALL_MODELS, Cooldown, Cooldowns, next_pacific_midnight


def utc(*parts):
    return datetime(*parts, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("now", "midnight"),
    [
        # An ordinary day in winter and one in summer.
        (utc(2026, 11, 22, 20), utc(2026, 11, 23, 8)),
        (utc(2026, 7, 1, 20), utc(2026, 7, 2, 7)),
        # The moment itself belongs to the new day, the one before to the old.
        (utc(2026, 11, 23, 8), utc(2026, 11, 24, 8)),
        (utc(2026, 11, 23, 7, 59, 59), utc(2026, 11, 23, 8)),
        # 2026: clocks go forward on 8 March and back on 1 November, at 2 in the morning.
        (utc(2026, 3, 8, 8), utc(2026, 3, 9, 7)),
        (utc(2026, 3, 8, 7, 59), utc(2026, 3, 8, 8)),
        (utc(2026, 11, 1, 7), utc(2026, 11, 2, 8)),
        (utc(2026, 11, 1, 9, 30), utc(2026, 11, 2, 8)),
        (utc(2026, 11, 1, 6, 59), utc(2026, 11, 1, 7)),
        # 2027: 14 March and 7 November.
        (utc(2027, 3, 14, 8), utc(2027, 3, 15, 7)),
        (utc(2027, 3, 14, 12), utc(2027, 3, 15, 7)),
        (utc(2027, 11, 7, 7), utc(2027, 11, 8, 8)),
        (utc(2027, 11, 7, 6, 59), utc(2027, 11, 7, 7)),
    ],
)
def test_next_pacific_midnight(now, midnight):
    assert next_pacific_midnight(now) == midnight


def cooldown(project, model, until, reason="quota_minute"):
    return Cooldown(project, model, until, reason)


def test_concerns_one_project_and_one_model_until_its_end():
    cooldowns = Cooldowns()
    cooldowns.add(cooldown("p", "m", 30.0), 0.0)
    assert cooldowns.find("p", "m", 29.9).until == 30.0
    assert cooldowns.find("p", "m", 30.0) is None
    assert cooldowns.find("p", "other", 0.0) is None
    assert cooldowns.find("other", "m", 0.0) is None


def test_longest_rest_wins():
    cooldowns = Cooldowns()
    cooldowns.add(cooldown("p", "m", 500.0, "quota_day"), 0.0)
    cooldowns.add(cooldown("p", "m", 30.0), 0.0)
    assert cooldowns.find("p", "m", 1.0).reason == "quota_day"
    cooldowns.add(cooldown("p", "m", 600.0), 0.0)
    assert cooldowns.find("p", "m", 1.0).until == 600.0
    assert cooldowns.size == 1


def test_all_models_of_a_project():
    cooldowns = Cooldowns()
    cooldowns.add(cooldown("p", ALL_MODELS, 600.0), 0.0)
    cooldowns.add(cooldown("p", "m", 30.0), 0.0)
    assert cooldowns.find("p", "m", 1.0).until == 600.0
    assert cooldowns.find("p", "other", 1.0).until == 600.0
    assert cooldowns.find("q", "m", 1.0) is None
    assert [found.model for found in cooldowns.of_project("p", 1.0)] == [ALL_MODELS, "m"]


def test_what_is_over_is_forgotten():
    cooldowns = Cooldowns()
    for n in range(100):
        cooldowns.add(cooldown("p", f"m{n}", 10.0 + n), 0.0)
    cooldowns.add(cooldown("p", "last", 300.0), 200.0)
    assert cooldowns.size == 1
    assert not cooldowns.concern("m5")
    cooldowns.add(cooldown("p", "past", 100.0), 200.0)
    assert not cooldowns.concern("past")


def test_capacity_drops_the_models_without_news():
    cooldowns = Cooldowns(capacity=4)
    for model in ("a", "b", "c"):
        for project in ("p", "q"):
            cooldowns.add(cooldown(project, model, 100.0), 0.0)
    assert cooldowns.size <= 4
    assert cooldowns.find("p", "a", 0.0) is None
    assert cooldowns.find("q", "c", 0.0) is not None


def test_project_is_forgotten_whole():
    cooldowns = Cooldowns()
    cooldowns.add(cooldown("p", "m", 30.0), 0.0)
    cooldowns.add(cooldown("p", ALL_MODELS, 30.0), 0.0)
    cooldowns.add(cooldown("q", "m", 30.0), 0.0)
    cooldowns.forget_project("p")
    assert cooldowns.find("p", "m", 0.0) is None
    assert list(cooldowns.all(0.0)) == [cooldown("q", "m", 30.0)]
