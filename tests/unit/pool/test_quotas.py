"""Quotas that 429s have named: counted in Google's windows, and kept from being exceeded."""

from dataclasses import replace
from datetime import UTC, datetime
from itertools import takewhile

import pytest
from fakes.clocks import DAY, HOUR, TwoClocks
from fakes.pools import date, ineligible_keys
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace as replaced

from gemproxy.core.errors import DailyQuotaExhausted, QuotaExhausted
from gemproxy.pool.eligibility import Reason
from gemproxy.pool.key import Key, Limits
from gemproxy.pool.outcome import Outcome, Verdict
from gemproxy.pool.pool import KeyPool, PoolSettings
from gemproxy.pool.quota_ledger import BETWEEN_PROBES, ExceededQuota
from gemproxy.pool.quotas import LearnedQuotas
from gemproxy.secret import Secret

# 2026-11-22 12:00 in Los Angeles.
NOON = datetime(2026, 11, 22, 20, tzinfo=UTC).timestamp()
MIDNIGHT = NOON + 12 * HOUR
MODEL = "gemini-3.8-flash"
SERVED = Outcome(Verdict.SUCCESS, 200)


def key(name, project=None, **fields):
    return Key(name, Secret(f"secret-of-{name}"), project=project or name, **fields)


def refusal(*quotas, until=None):
    verdict = Verdict.QUOTA_MINUTE if until is None else Verdict.QUOTA_DAY
    return Outcome(verdict, 429, retry_after=1.0, until=until, quotas=quotas)


class Running:
    """A pool and its clocks."""

    def __init__(self, *keys, snapshot=None, wall=NOON):
        self.clock = TwoClocks(wall)
        self.pool = KeyPool(keys or [key("a")], PoolSettings())
        self.tell()
        if snapshot is not None:
            self.pool.restore(snapshot, self.now)

    @property
    def now(self):
        return self.clock.seconds()

    def tell(self):
        self.pool.set_wall_clock(self.now, self.clock.wall())

    def pass_time(self, seconds):
        self.clock.advance(seconds)

    def serve(self, number=1, *, model=MODEL, tokens=0, prompt=0):
        for _ in range(number):
            lease = self.pool.acquire(model, self.now, tokens=tokens)
            self.pool.record(lease, SERVED, self.now, prompt_tokens=prompt)

    def refuse(self, *quotas, model=MODEL, until=None):
        lease = self.pool.acquire(model, self.now)
        self.pool.record(lease, refusal(*quotas, until=until), self.now)

    def forget_what_was_used(self):
        """Until the window of a minute is empty."""
        self.pass_time(61)

    def fits(self, tokens=0, *, model=MODEL):
        """Whether the pool sends a request now, which stays under way, and not as a probe."""
        try:
            lease = self.pool.acquire(model, self.now, tokens=tokens)
        except QuotaExhausted as error:
            self.error = error
            return False
        return not any(use.probes for use in lease.quota_uses) or self.fits(tokens, model=model)

    def served_at_once(self, model=MODEL, *, tokens=0):
        """How many requests fit now."""
        return sum(takewhile(bool, (self.fits(tokens, model=model) for _ in range(200))))

    @property
    def rows(self):
        return list(self.pool.each_quota(self.now))

    @property
    def limits(self):
        return {row.dimension: row.limit for row in self.rows}


RPM = ExceededQuota("rpm", 5, "RequestsPerMinutePerModel")
RPD = ExceededQuota("rpd", 20, "RequestsPerDayPerModel")
TPM = ExceededQuota("tpm", 1000, "InputTokensPerModelPerMinute")


def test_without_a_429_nothing_is_counted_or_restricted():
    running = Running()
    running.serve(50)
    assert running.rows == []
    assert running.pool.snapshot(running.now).quotas == ()


def test_requests_wait_just_before_google_would_refuse_them():
    running = Running()
    running.refuse(RPM)
    running.forget_what_was_used()
    running.serve(3)
    running.pass_time(10)
    assert running.served_at_once() == 2
    # The three leave Google's window 60 seconds after they came there.
    assert running.error.retry_after == 51.0
    assert running.error.free_at == running.now + 51
    (skipped,) = ineligible_keys(running.pool, MODEL, running.now)
    assert skipped.reason is Reason.QUOTA_REACHED
    assert skipped.until == date(running.clock.wall() + 51)
    running.pass_time(51)
    assert running.fits()


def test_keys_of_a_project_share_its_quota_and_other_models_have_their_own():
    running = Running(key("a", "p"), key("b", "p"), key("c"))
    running.pool.disable("c")
    running.refuse(RPM)
    running.forget_what_was_used()
    assert running.served_at_once() == 5
    assert running.served_at_once("gemini-other") == 200
    running.pool.enable("c")
    assert running.served_at_once() == 200


def test_quota_of_all_models_is_shared_by_them():
    running = Running()
    running.refuse(replace(RPM, model="*"))
    running.forget_what_was_used()
    running.serve(3)
    assert running.served_at_once("gemini-other") == 2
    assert running.served_at_once() == 0
    assert running.rows[0].model == "*"


def test_model_that_google_counts_under_another_name_shares_its_quota():
    running = Running()
    running.refuse(replace(RPM, model=MODEL), model="gemini-flash-latest")
    running.forget_what_was_used()
    running.serve(3, model="gemini-flash-latest")
    assert running.served_at_once(MODEL) == 2
    assert [row.model for row in running.rows] == [MODEL]


def test_day_ends_at_midnight_in_los_angeles():
    running = Running()
    running.refuse(RPD, until=MIDNIGHT)
    running.pass_time(12 * HOUR)
    assert running.served_at_once() == 20
    assert isinstance(running.error, DailyQuotaExhausted)
    assert running.error.retry_after == pytest.approx(DAY)
    assert running.pool.cooling(running.now) == 1
    (row,) = running.rows
    assert row.used >= 20
    assert (row.remaining, row.ends) == (0, date(MIDNIGHT + DAY))
    running.pass_time(DAY)
    assert running.rows[0].used == 0


def test_tokens_are_counted_as_google_tells_them():
    running = Running()
    running.refuse(TPM)
    running.forget_what_was_used()
    running.serve(tokens=400, prompt=700)
    assert not running.fits(300)


def test_estimates_that_are_too_low_are_corrected():
    """Prompts in another language have three times the tokens that their length suggests."""
    running = Running()
    running.refuse(TPM)
    for _ in range(30):
        running.forget_what_was_used()
        running.serve(tokens=100, prompt=300)
    running.forget_what_was_used()
    assert running.served_at_once(tokens=100) in (2, 3)


def test_prompt_larger_than_the_quota_goes_alone():
    running = Running()
    running.refuse(TPM)
    running.forget_what_was_used()
    running.serve(tokens=5000, prompt=5000)
    assert not running.fits(1)


def test_what_google_counts_and_nobody_here_sent_is_taken_into_account():
    """The project has other users, or requests were sent before the quota was known."""
    running = Running()
    running.refuse(replace(RPM, limit=60))
    running.pass_time(31)
    assert 25 <= running.served_at_once() <= 35
    assert running.rows[0].used == 60


def test_smallest_of_several_values_counts():
    running = Running()
    running.refuse(RPM, replace(RPM, limit=3), replace(RPM, limit=9), TPM)
    assert running.limits == {"rpm": 3, "tpm": 1000}


def test_newer_value_replaces_the_older():
    running = Running()
    running.refuse(RPM)
    running.forget_what_was_used()
    running.refuse(replace(RPM, limit=2))
    running.forget_what_was_used()
    assert running.served_at_once() == 2


def test_quota_of_zero_is_shown_and_left_to_the_cooldown():
    running = Running()
    running.refuse(replace(RPD, limit=0), until=MIDNIGHT)
    (row,) = running.rows
    assert (row.limit, row.used, row.exhausted_at) == (0, 0, None)
    assert running.served_at_once() == 0
    running.pass_time(12 * HOUR)
    assert running.served_at_once() == 200


class Enforced(Running):
    """Google counts in the same moments, and ``quota`` is what it really grants."""

    def __init__(self, quota):
        super().__init__()
        self.quota = quota
        self.counted = []
        self.refusals = 0

    def minute(self, asked=200):
        """Ask as often as possible in a new minute. Returns how many were answered."""
        self.forget_what_was_used()
        answered = 0
        for _ in range(asked):
            try:
                lease = self.pool.acquire(MODEL, self.now)
            except QuotaExhausted:
                self.pass_time(0.2)
                continue
            self.counted = [at for at in self.counted if at > self.now - 60]
            if len(self.counted) < self.quota:
                self.counted.append(self.now)
                answered += 1
                self.pool.record(lease, SERVED, self.now)
            else:
                self.refusals += 1
                self.pool.record(lease, refusal(replace(RPM, limit=self.quota)), self.now)
            self.pass_time(0.2)
        return answered


def test_value_that_is_too_low_is_raised_by_a_probe():
    google = Enforced(10)
    google.minute()
    assert google.limits == {"rpm": 10}
    google.quota = 40
    google.minute()
    google.minute()
    assert google.minute() == 40
    assert google.limits == {"rpm": 40}


def test_value_that_is_right_costs_ever_fewer_probes():
    google = Enforced(100)
    google.minute()
    google.refusals = 0
    answered = sum(google.minute() for _ in range(30))
    assert answered == 30 * 100
    assert google.refusals <= 2 + answered / BETWEEN_PROBES


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, 3),
    st.lists(
        st.tuples(
            st.sampled_from([0.0, 2.3, 58.3, 60.6]),
            st.sampled_from([0.0, 0.99]),
        )
    ),
)
def test_google_never_sees_more_in_any_minute_than_the_quota(limit, sent):
    """Whatever the latency of each request is, within the guard, and probes apart."""
    running = Running()
    running.refuse(replace(RPM, limit=limit))
    running.forget_what_was_used()
    arrived = []
    for pause, latency in sent:
        running.pass_time(pause)
        if running.fits():
            arrived.append(running.now + latency)
    arrived.sort()
    for first, last in zip(arrived, arrived[limit:], strict=False):
        assert last - first >= 60


def test_one_probe_is_under_way_at_a_time():
    running = Running()
    running.refuse(RPM)
    running.pass_time(3600)
    running.serve(5)
    running.pool.acquire(MODEL, running.now)
    with pytest.raises(QuotaExhausted):
        running.pool.acquire(MODEL, running.now)


def test_probe_without_an_answer_is_followed_by_another():
    running = Running()
    running.refuse(RPM)
    running.pass_time(3600)
    running.serve(5)
    lease = running.pool.acquire(MODEL, running.now)
    running.pool.release(lease, running.now)
    running.pool.acquire(MODEL, running.now)


def test_quota_that_is_not_seen_again_is_forgotten():
    running = Running()
    running.refuse(RPM, RPD)
    running.pass_time(DAY)
    assert running.limits == {"rpd": 20}
    running.pass_time(2 * DAY)
    assert running.limits == {}
    for _ in running.pool.prepare_snapshot(1, running.now):
        pass
    assert running.pool.snapshot(running.now).quotas == ()


def test_operator_forgets_quotas_with_the_cooldowns():
    running = Running()
    running.refuse(RPM)
    running.forget_what_was_used()
    assert running.served_at_once() == 5
    running.pool.reset("a")
    assert running.served_at_once() == 200
    assert running.rows == []


def test_quotas_follow_a_key_that_is_renamed_and_leave_with_a_project():
    running = Running()
    running.refuse(RPM)
    running.pool.apply([replace(key("a"), name="z", project="z")], PoolSettings(), running.now)
    assert [row.project for row in running.rows] == ["z"]
    running.pool.apply([key("b")], PoolSettings(), running.now)
    assert running.rows == []


def test_key_that_takes_the_name_of_another_takes_its_place():
    running = Running(key("a"), key("b"))
    for limit in (5, 7):
        running.refuse(replace(RPM, limit=limit))
    renamed = [replace(key("a"), name="b", project="b"), replace(key("b"), name="c", project="c")]
    running.pool.apply(renamed, PoolSettings(), running.now)
    assert {row.project: row.limit for row in running.rows} == {"b": 5, "c": 7}
    running.pool.apply([renamed[0]], PoolSettings(), running.now)
    assert {row.project: row.limit for row in running.rows} == {"b": 5}


def test_quotas_may_be_forgotten_while_the_state_is_prepared():
    running = Running(key("a"), key("b"))
    for _ in range(2):
        running.refuse(RPM)
    running.pass_time(DAY)
    steps = running.pool.prepare_snapshot(1, running.now)
    next(steps)
    running.pool.reset("a")
    running.pool.reset("b")
    assert list(steps) is not None
    assert running.pool.snapshot(running.now).quotas == ()


def test_number_of_ledgers_is_bounded():
    quotas = LearnedQuotas(Running().pool._eligibility.calendar, capacity=3)
    for number in range(5):
        quotas.learn("p", f"m{number}", [RPM], NOON)
    assert quotas.size == 3
    assert not quotas.find("p", "m1")
    assert quotas.find("p", "m4")
    assert not quotas.concern("m1")


def test_forecast_is_that_of_the_last_hour():
    running = Running()
    running.refuse(RPD, until=MIDNIGHT)
    running.pass_time(13 * HOUR)
    for _ in range(6):
        running.serve()
        running.pass_time(600)
    (row,) = running.rows
    assert (row.used, row.remaining) == (6, 14)
    assert row.exhausted_at == date(running.clock.wall() + 14 * 600)
    running.pass_time(4 * HOUR)
    assert running.rows[0].exhausted_at is None


def test_configured_limits_are_shown_for_each_key():
    running = Running(key("a", limits=Limits(rpm=60, tpm=9000, rpd=40)), key("b"))
    for _ in range(10):
        running.pool.record(
            running.pool.acquire_again(key("a").id, MODEL, running.now, tokens=100),
            SERVED,
            running.now,
            tokens=150,
        )
    shown = {row.dimension: row for row in running.rows}
    assert {(d, row.limit, row.used) for d, row in shown.items()} == {
        ("rpm", 60, 10),
        ("tpm", 9000, 1500),
        ("rpd", 40, 10),
    }
    row = shown["rpd"]
    assert (row.project, row.model, row.source, row.key) == ("a", "*", "configured", "a")
    assert (row.ends, row.quota_id) == (date(MIDNIGHT), None)
    assert row.exhausted_at == date(NOON + 30 * 6)
    assert shown["rpm"].ends == date(NOON + 60)


def test_knowledge_survives_a_restart():
    running = Running()
    running.refuse(RPM, RPD, until=MIDNIGHT)
    running.pass_time(12 * HOUR)
    running.serve(4)
    running.pass_time(10)
    again = Running(snapshot=running.pool.snapshot(running.now), wall=running.clock.wall())
    # A forecast needs some time again.
    assert [replaced(row, exhausted_at=None) for row in again.rows] == [
        replaced(row, exhausted_at=None) for row in running.rows
    ]
    assert again.served_at_once() == 1
    again.pass_time(51)
    assert again.fits()


def test_unchanged_ledger_is_the_same_row():
    running = Running()
    running.refuse(RPM)
    (before,) = running.pool.snapshot(running.now).quotas
    running.pass_time(5)
    (same,) = running.pool.snapshot(running.now).quotas
    assert same is before
    running.serve()
    (after,) = running.pool.snapshot(running.now).quotas
    assert after is not before


@pytest.mark.parametrize("step", [-3 * DAY, -HOUR, -5.0, 700.0, HOUR, 30 * DAY])
def test_clock_that_is_set_changes_no_minute_and_keeps_the_days_count(step):
    running = Running()
    running.refuse(RPM, RPD, until=MIDNIGHT)
    running.pass_time(14 * HOUR)
    running.serve(3)
    running.clock.set_wall_clock(step)
    running.tell()
    assert {row.dimension: row.used for row in running.rows} == {"rpm": 3, "rpd": 3}
    assert running.served_at_once() == 2
    assert running.error.retry_after == 61.0


@pytest.mark.parametrize("step", [-30 * DAY, 30 * DAY])
def test_state_of_a_wrong_clock_restricts_no_longer_than_its_rules(step):
    running = Running(wall=NOON + step)
    running.refuse(RPM, RPD)
    later = Running(snapshot=running.pool.snapshot(running.now))
    later.pass_time(61)
    later.served_at_once()
    later.pass_time(3 * DAY)
    assert later.rows == []
    assert later.served_at_once() == 200
