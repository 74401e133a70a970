"""What clients have used of their limits, and when another request fits."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import astuple

from gemproxy.core.clients import Budget, Client, Limits
from gemproxy.core.errors import BudgetSpent, ClientLimitReached, Forbidden
from gemproxy.core.limits import (
    ClientLimits,
    LimitCount,
    Standing,
    Used,
    WindowState,
)
from gemproxy.core.local_days import LocalDays
from gemproxy.core.sliding_window import SLOT_SECONDS, SlidingWindow

#: 2026-11-30, a Monday.
NOON = datetime(2026, 11, 30, 12, tzinfo=UTC).timestamp()
#: Fractions that floats add up exactly.
GRID = 1 / 1024
BERLIN = ZoneInfo("Europe/Berlin")


class Desk:
    """A client that asks, on two clocks."""

    def __init__(self, *, limits=None, budget=None, name="ci", start=NOON, **options):
        self.client = Client(name, limits=limits or Limits(), budget=budget or Budget())
        self.ledger = ClientLimits(**options)
        self.now, self.wall = 1000.0, start

    def pass_time(self, seconds):
        self.now += seconds
        self.wall += seconds

    def begin(self, tokens=0, model="m"):
        """A request that has been admitted and decoded."""
        asked = self.ledger.reservation(self.client, self.now, self.wall)
        asked.admit(self.now, self.wall)
        asked.reserve(model, tokens, self.now, self.wall)
        return asked

    def end(self, asked, input_tokens=0, output_tokens=0, cost=0.0):
        asked.settle(input_tokens, output_tokens, cost, self.now, self.wall)

    def ask(self, tokens=0, output=0, cost=0.0):
        """A request that is served at once, and takes what was estimated."""
        self.end(self.begin(tokens), tokens, output, cost)

    def refused(self, tokens=0, model="m"):
        """The error of a request that does not fit."""
        with pytest.raises(ClientLimitReached) as caught:
            self.begin(tokens, model)
        return caught.value

    def used(self):
        return self.ledger.used(self.client, self.now, self.wall)

    def counts(self):
        """Requests and tokens of the minute, and of the day."""
        return astuple(self.used())[:4]

    def shares(self):
        return {
            share.limit: share.used
            for share in self.ledger.shares(self.now, self.wall)
            if share.client == "ci"
        }

    def standing(self):
        asked = self.ledger.reservation(self.client, self.now, self.wall)
        return asked.standing(self.now, self.wall)

    def restart(self):
        """As after a crash: another process has the rows, and another monotonic clock."""
        rows = self.ledger.rows()
        self.ledger = ClientLimits(self.ledger.days.zone)
        self.ledger.restore(rows)
        self.now = 5.0
        return rows


class TestRequestsAMinute:
    def test_as_many_pass_and_the_next_one_at_the_stated_moment(self):
        desk = Desk(limits=Limits(rpm=3))
        for _ in range(3):
            desk.ask()
            desk.pass_time(10)
        error = desk.refused()
        assert (error.word, error.limit, error.retry_after) == ("rate_limit_exceeded", "rpm", 30)
        assert "'ci'" in error.message
        assert "rpm 3" in error.message
        desk.pass_time(30 - GRID)
        assert desk.refused().retry_after == GRID
        desk.pass_time(GRID)
        desk.ask()
        assert desk.refused().retry_after == 10

    def test_what_is_refused_counts_against_nothing(self):
        desk = Desk(limits=Limits(rpm=1, rpd=2, concurrent=1))
        desk.ask()
        for _ in range(5):
            assert desk.refused().limit == "rpm"
        desk.pass_time(60)
        desk.ask()
        desk.pass_time(60)
        assert desk.refused().limit == "rpd"
        assert desk.counts()[:2] == (0, 0)
        assert desk.used().requests_day == 2
        assert desk.used().concurrent == 0

    def test_a_request_that_is_not_served_counts_against_nothing(self):
        desk = Desk(limits=Limits(rpm=1, tpm=10))
        desk.begin(7).cancel()
        assert desk.used() == Used()
        desk.begin(10)

    def test_the_wall_clock_does_not_matter(self):
        desk = Desk(limits=Limits(rpm=1))
        desk.ask()
        for step in (-86400.0, 30 * 86400.0):
            desk.wall += step
            assert desk.refused().retry_after == 60

    def test_a_monotonic_clock_that_is_set_back_locks_nobody_out(self):
        desk = Desk(limits=Limits(rpm=1))
        desk.ask()
        desk.now -= 900
        assert desk.refused().retry_after == 60
        desk.now += 60
        desk.ask()
        desk.now += 10_000
        desk.ask()

    def test_a_limit_that_is_lowered_holds_for_what_was_used_before(self):
        desk = Desk(limits=Limits(rpm=5))
        for _ in range(5):
            desk.ask()
            desk.pass_time(5)
        desk.client = Client("ci", limits=Limits(rpm=2))
        assert desk.refused().retry_after == 50
        desk.pass_time(50)
        desk.ask()

    def test_a_limit_of_zero_admits_nothing(self):
        assert Desk(limits=Limits(rpm=0)).refused().retry_after == 60
        assert Desk(limits=Limits(tpm=0)).refused(1).retry_after == 60


class TestTokens:
    def test_the_estimate_is_reserved_and_corrected(self):
        desk = Desk(limits=Limits(tpm=100))
        first = desk.begin(80)
        assert desk.refused(30).limit == "tpm"
        desk.end(first, 20, 10)
        assert desk.used().tokens_minute == 30
        desk.ask(70)
        assert desk.refused(1).retry_after == 60

    def test_a_prompt_counts_from_its_admission_and_an_answer_from_its_end(self):
        desk = Desk(limits=Limits(tpm=100))
        stream = desk.begin(40)
        desk.pass_time(50)
        desk.end(stream, 40, 60)
        assert desk.refused(40).retry_after == 10
        desk.pass_time(10)
        assert desk.used().tokens_minute == 60
        desk.ask(40)
        assert desk.refused(1).retry_after == 50

    def test_a_stream_longer_than_the_window_counts_its_answer(self):
        desk = Desk(limits=Limits(tpm=100, tpd=1000))
        stream = desk.begin(40)
        desk.pass_time(600)
        assert desk.counts()[1:] == (0, 1, 40)
        desk.end(stream, 50, 100)
        assert desk.counts()[1:] == (100, 1, 150)

    def test_a_broken_request_counts_what_was_reported(self):
        desk = Desk(limits=Limits(tpm=100, tpd=100))
        desk.end(desk.begin(90))
        assert desk.counts()[1:] == (0, 1, 0)

    def test_a_report_may_come_before_the_end_and_grow(self):
        desk = Desk(limits=Limits(tpm=100))
        asked = desk.begin(50)
        asked.correct(10, 5, desk.now, desk.wall)
        assert desk.standing().tokens == WindowState(100, 85, 60)
        asked.correct(10, 5, desk.now, desk.wall)
        desk.end(asked, 12, 8)
        desk.end(asked, 12, 8)
        asked.cancel()
        assert desk.counts() == (1, 20, 1, 20)

    def test_an_estimate_above_the_limit_needs_an_empty_window(self):
        desk = Desk(limits=Limits(tpm=100))
        desk.ask(5)
        assert desk.refused(500).retry_after == 60
        desk.pass_time(60)
        desk.ask(500)

    def test_requests_for_tokens_that_are_used_up_count_against_no_limit(self):
        desk = Desk(limits=Limits(tpm=10, rpm=2))
        desk.ask(10)
        for _ in range(5):
            assert desk.refused(1).limit == "tpm"
        assert desk.used().requests_minute == 1

    def test_a_call_about_no_model_needs_no_tokens(self):
        desk = Desk(limits=Limits(tpm=10, tpd=10))
        desk.ask(10)
        desk.end(desk.begin(0, model=""))
        desk.refused(0)

    def test_the_stated_moment_is_that_of_the_last_limit(self):
        desk = Desk(limits=Limits(tpm=10, rpm=1))
        asked = desk.begin(1)
        desk.pass_time(20)
        desk.end(asked, 0, 10)
        error = desk.refused()
        assert (error.limit, error.retry_after) == ("tpm", 60)
        desk.pass_time(60)
        desk.ask(1)


class TestDays:
    @pytest.mark.parametrize(
        ("zone", "day", "hour", "until"),
        [
            (ZoneInfo("UTC"), (2026, 11, 30), 12, 12 * 3600),
            (BERLIN, (2026, 3, 29), 0, 23 * 3600),
            (BERLIN, (2026, 10, 25), 0, 25 * 3600),
            # Days that begin at 1 o'clock, and end twice.
            (ZoneInfo("Asia/Beirut"), (2026, 3, 28), 12, 12 * 3600),
            (ZoneInfo("America/Havana"), (2026, 10, 31), 12, 12 * 3600),
        ],
    )
    def test_a_day_is_the_calendars(self, zone, day, hour, until):
        start = datetime(*day, hour, tzinfo=zone).timestamp()
        desk = Desk(limits=Limits(rpd=1), start=start, zone=zone)
        desk.ask()
        error = desk.refused()
        assert (error.limit, error.retry_after, error.word) == ("rpd", until, "rate_limit_exceeded")
        desk.pass_time(until - 1)
        desk.refused()
        desk.pass_time(1)
        desk.ask()
        desk.refused()

    def test_a_day_begins_once(self):
        """At 0:01 the clock was set back to 23:01."""
        days = LocalDays(ZoneInfo("America/Goose_Bay"))
        before = days.at(datetime(2010, 11, 7, 2, 59, tzinfo=UTC).timestamp())
        first = days.at(datetime(2010, 11, 7, 3, 0, tzinfo=UTC).timestamp())
        assert (before.day.day, first.day.day) == (6, 7)
        assert days.at(datetime(2010, 11, 7, 3, 30, tzinfo=UTC).timestamp()) is first
        assert LocalDays(days.zone).at(first.begins + 1800) == first
        assert first.next_month.isoformat() == "2010-12-01"

    def test_tokens_of_a_day(self):
        desk = Desk(limits=Limits(tpd=100))
        stream = desk.begin(60)
        assert desk.refused(60).retry_after == 12 * 3600
        desk.pass_time(13 * 3600)
        # They count on the day on which they are reported.
        desk.end(stream, 60, 30)
        assert desk.refused(20).retry_after == 23 * 3600
        assert desk.used().requests_day == 0

    def test_it_survives_a_crash_and_the_minute_does_not(self):
        desk = Desk(limits=Limits(rpm=3, rpd=3, tpd=100), budget=Budget(1.0, 2.0))
        desk.ask(5, cost=0.5)
        desk.ask(5)
        desk.begin(50)
        rows = desk.restart()
        assert {(row.period, row.requests, row.tokens, row.cost) for row in rows} == {
            ("day", 3, 10, 0.5),
            ("month", 0, 0, 0.5),
        }
        assert desk.used() == Used(0, 0, 3, 10, 0.5, 0.5, 0)
        assert desk.refused().limit == "rpd"

    def test_rows_that_did_not_change_are_the_same(self):
        desk = Desk(limits=Limits(rpd=9))
        desk.ask()
        before = desk.ledger.rows()
        assert all(a is b for a, b in zip(before, desk.ledger.rows(), strict=True))
        desk.ask()
        assert before[0] is not desk.ledger.rows()[0]

    def test_late_rows_are_added_and_old_days_forgotten(self):
        desk = Desk(limits=Limits(rpd=9))
        for _ in range(5):
            desk.ask()
            desk.pass_time(86400)
        days = [row.start for row in desk.ledger.rows() if row.period == "day"]
        today = int(desk.wall // 86400)
        assert days == [today - 3, today - 2, today - 1]
        desk.ask()
        desk.ledger.restore([LimitCount("ci", "day", today, requests=4), LimitCount("x", "day", 9)])
        desk.ledger.restore([LimitCount("ci", "day", today - 9, requests=4)])
        assert desk.used().requests_day == 5

    def test_a_clock_that_is_set_and_set_back_resets_nothing(self):
        desk = Desk(limits=Limits(rpd=2, rpm=9), budget=Budget(usd_per_month=1))
        desk.ask(cost=0.4)
        desk.ask()
        for step in (86400.0, -2 * 86400.0, 400 * 86400.0):
            desk.wall += step
            desk.ask()
            desk.wall -= step
            assert desk.refused().limit == "rpd"
        assert desk.used().usd_month == 0.4

    def test_a_change_of_the_zone_keeps_the_date(self):
        desk = Desk(limits=Limits(rpd=1))
        desk.ask()
        desk.ledger.days.zone = BERLIN
        assert desk.refused().retry_after == 11 * 3600

    def test_everybody_without_a_token_is_one_client(self):
        desk = Desk(limits=Limits(rpd=1), name=None)
        desk.ask()
        assert "without a token" in desk.refused().message
        assert desk.ledger.rows()[0].client == "anonymous"


class TestBudgets:
    def test_a_request_is_admitted_while_less_is_spent(self):
        desk = Desk(budget=Budget(usd_per_day=1.0))
        desk.ask(cost=0.99)
        open_ones = [desk.begin() for _ in range(3)]
        for asked in open_ones:
            desk.end(asked, cost=0.5)
        error = desk.refused()
        assert isinstance(error, BudgetSpent)
        assert (error.word, error.limit, error.retry_after, error.should_retry) == (
            "insufficient_quota", "usdPerDay", 12 * 3600, False,
        )  # fmt: skip
        assert "2026-12-01" in error.message
        desk.pass_time(12 * 3600)
        desk.ask()

    def test_a_month_is_the_calendars(self):
        start = datetime(2026, 12, 30, 12, tzinfo=BERLIN).timestamp()
        desk = Desk(budget=Budget(0.5, 1.0), start=start, zone=BERLIN)
        desk.ask(cost=0.6)
        assert "2026-12-31" in desk.refused().message
        desk.pass_time(86400)
        desk.ask(cost=0.6)
        error = desk.refused()
        assert (error.limit, error.retry_after) == ("usdPerMonth", 12 * 3600)
        assert "2027-01-01" in error.message
        desk.pass_time(12 * 3600)
        desk.ask()

    def test_what_has_no_price_is_not_counted(self):
        desk = Desk(budget=Budget(usd_per_day=0.1))
        desk.ask(cost=None)
        assert desk.used().usd_day == 0

    def test_models_without_a_price_may_be_refused(self):
        desk = Desk(budget=Budget(usd_per_day=1), is_unpriced=lambda model: model == "new")
        asked = desk.ledger.reservation(desk.client, desk.now, desk.wall)
        asked.admit(desk.now, desk.wall)
        with pytest.raises(Forbidden) as caught:
            asked.reserve("new", 5, desk.now, desk.wall)
        assert caught.value.word == "model_not_allowed"
        desk.begin(model="old")
        Desk(limits=Limits(rpm=1), is_unpriced=lambda _: True).begin(model="new")


class TestConcurrent:
    def test_a_place_is_free_when_the_answer_is_complete(self):
        desk = Desk(limits=Limits(concurrent=2))
        first, _ = desk.begin(), desk.begin()
        error = desk.refused()
        assert (error.limit, error.retry_after) == ("concurrent", 1)
        first.leave()
        desk.begin()
        desk.end(first)
        assert desk.used().concurrent == 2
        desk.refused()


class TestHeaders:
    def test_the_minutes_else_the_days(self):
        desk = Desk(limits=Limits(rpm=10, rpd=100, tpd=1000))
        desk.ask(30)
        desk.pass_time(20)
        minute, day = WindowState(10, 9, 40), WindowState(1000, 970, 12 * 3600 - 20)
        assert desk.standing() == Standing(minute, day)

    def test_absent_without_a_limit(self):
        assert Desk(limits=Limits(concurrent=1)).standing() == Standing()
        assert Desk(limits=Limits(rpd=4, tpm=7)).standing() == Standing(
            WindowState(4, 4, 12 * 3600),
            WindowState(7, 7, 0),
        )

    def test_the_estimate_counts_and_nothing_is_below_zero(self):
        desk = Desk(limits=Limits(tpm=10))
        asked = desk.begin(8)
        assert desk.standing().tokens.remaining == 2
        desk.end(asked, 8, 100)
        assert desk.standing().tokens.remaining == 0


class TestShares:
    def test_the_used_parts_of_what_is_limited(self):
        desk = Desk(limits=Limits(rpm=4, tpd=10, rpd=0), budget=Budget(2.0, 0.0))
        asked = desk.ledger.reservation(desk.client, desk.now, desk.wall)
        assert desk.shares() == {"rpm": 0, "tpd": 0, "rpd": 1, "usdPerDay": 0, "usdPerMonth": 1}
        desk.client = Client("ci", limits=Limits(rpm=4, tpd=10, concurrent=2), budget=Budget(2.0))
        asked = desk.begin()
        desk.ask(5, 10, cost=0.5)
        assert desk.shares() == {"rpm": 0.5, "tpd": 1.5, "concurrent": 0.5, "usdPerDay": 0.25}
        desk.end(asked)
        desk.restart()
        assert desk.shares() == {}


# -- against a list of all events ----------------------------------------------------------------

STEPS = st.lists(
    st.tuples(st.integers(0, 40 * 1024), st.integers(0, 30), st.integers(0, 20)), max_size=60
)


@settings(max_examples=150, deadline=None)
@given(STEPS, st.integers(1, 8), st.integers(1, 60))
def test_never_more_in_any_minute_and_the_stated_moment_is_true(steps, rpm, tpm):
    desk = Desk(limits=Limits(rpm=rpm, tpm=tpm))
    admitted = []
    for pause, tokens, _ in steps:
        desk.pass_time(pause * GRID)
        before = [event for event in admitted if event[0] > desk.now - 60]
        counted = min(tokens, tpm)
        fits = len(before) < rpm and sum(t for _, t in before) + max(1, counted) <= tpm
        refusal, had_room = None, desk.used().requests_minute < rpm
        try:
            desk.end(desk.begin(tokens), counted)
        except ClientLimitReached as error:
            refusal = error
        if refusal is not None:
            # The events of a slot may count a little longer.
            late = [event for event in admitted if event[0] > desk.now - 60 - SLOT_SECONDS]
            assert len(late) >= rpm or sum(t for _, t in late) + max(1, counted) > tpm
            assert 0 < refusal.retry_after <= 60 + SLOT_SECONDS
            desk.pass_time(math.ceil(refusal.retry_after))
            asked = desk.ledger.reservation(desk.client, desk.now, desk.wall)
            asked.admit(desk.now, desk.wall)
            # Before the body is read nobody knows how many tokens it needs.
            if had_room:
                asked.reserve("m", tokens, desk.now, desk.wall)
            asked.cancel()
        else:
            assert fits
            admitted.append((desk.now, counted))


@settings(max_examples=100, deadline=None)
@given(STEPS)
def test_nothing_is_counted_twice_or_lost(steps):
    """Requests overlap, and end in any order, or are cancelled; at last all is settled."""
    desk = Desk(limits=Limits(tpd=10**9, tpm=10**9))
    flying, requests, tokens = [], 0, 0
    for pause, estimate, reported in steps:
        desk.pass_time(pause * GRID)
        asked = desk.begin(estimate)
        requests += 1
        flying.append((asked, reported))
        if pause % 3 == 0:
            asked, ended = flying.pop(pause % len(flying))
            if pause % 2:
                asked.cancel()
                requests -= 1
            else:
                asked.correct(ended // 2, 0, desk.now, desk.wall)
                desk.end(asked, ended, ended)
                tokens += 2 * ended
    for asked, reported in flying:
        desk.end(asked, reported, 0)
        tokens += reported
    days = [row for row in desk.ledger.rows() if row.period == "day"]
    assert sum(row.requests for row in days) == requests
    assert sum(row.tokens for row in days) == tokens
    assert desk.used().concurrent == 0
    desk.pass_time(60 + SLOT_SECONDS)
    assert desk.counts()[:2] == (0, 0)


@settings(max_examples=100, deadline=None)
@given(
    st.floats(0, 2.2e9),
    st.sampled_from(["Europe/Berlin", "Pacific/Apia", "America/Goose_Bay", "Asia/Beirut"]),
)
def test_days_and_months_follow_each_other(now, name):
    zone = ZoneInfo(name)
    today = LocalDays(zone).at(now)
    assert today.begins <= now < today.ends <= today.month_ends
    assert LocalDays(zone).at(today.ends).begins == today.ends
    assert LocalDays(zone).at(today.month_ends).begins == today.month_ends


def test_a_windows_memory_is_bounded_at_any_rate():
    window = SlidingWindow()
    for number in range(70 * 2048):
        window.forget(number / 2048)
        window.add(number / 2048, 1, 1)
    assert len(window._slots) <= 60 / SLOT_SECONDS + 2
    assert 60 * 2048 <= window.requests <= (60 + SLOT_SECONDS) * 2048


def test_accounts_are_bounded(monkeypatch):
    monkeypatch.setattr("gemproxy.core.limits.MOST_ACCOUNTS", 3)
    desk = Desk(limits=Limits(rpd=9))
    for number in range(3):
        desk.client = Client(f"c{number}", limits=Limits(rpd=9))
        desk.ask()
    desk.pass_time(40 * 86400)
    desk.client = Client("c3", limits=Limits(rpd=9))
    desk.ask()
    assert {row.client for row in desk.ledger.rows()} == {"c3"}
    for number in range(9):
        desk.client = Client(f"c{number}", limits=Limits(rpd=9))
        desk.ask()
    assert {row.client for row in desk.ledger.rows()} == {f"c{number}" for number in range(9)}
