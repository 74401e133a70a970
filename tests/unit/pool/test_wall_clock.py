"""The pool's time is monotonic; the calendar is asked for midnights, for records and the state."""

from dataclasses import replace

import pytest
from fakes.clocks import DAY, HOUR, TwoClocks
from fakes.pools import date, ineligible_keys

from gemproxy.core.errors import NoHealthyKeys, QuotaExhausted
from gemproxy.pool.breaker import BreakerSnapshot
from gemproxy.pool.cooldowns import Calendar, Cooldown, next_pacific_midnight
from gemproxy.pool.key import Key, Limits
from gemproxy.pool.outcome import Outcome, Verdict
from gemproxy.pool.pool import KeyPool, PoolSettings
from gemproxy.secret import Secret

MODEL = "gemini-3.8-flash"
#: 2026-08-01 22:00 in Los Angeles.
EVENING = 1_785_646_800.0
STEPS = [-3 * DAY, -HOUR, -5.0, 700.0, HOUR, 30 * DAY]
BUSY = Outcome(Verdict.QUOTA_MINUTE, 429, retry_after=40.0)
INVALID = Outcome(Verdict.KEY, 400, reason="invalid")


class Running:
    """A pool that hears of the wall clock as in the daemon."""

    def __init__(self, *keys, wall=EVENING, seconds=5000.0, **settings):
        self.clock = TwoClocks(wall, seconds)
        self.pool = KeyPool(keys or [key("alpha")], PoolSettings(**settings))
        self.tell()

    def tell(self):
        self.pool.set_wall_clock(self.clock.seconds(), self.clock.wall())

    def set_wall_clock(self, step):
        self.clock.set_wall_clock(step)
        self.tell()

    def had(self, outcome, model=MODEL):
        lease = self.pool.acquire(model, self.clock.seconds())
        if outcome.verdict is Verdict.QUOTA_DAY:
            outcome = replace(outcome, until=next_pacific_midnight(self.clock.wall()))
        self.pool.record(lease, outcome, self.clock.seconds())

    def retry_after(self, model=MODEL):
        """The seconds that a client is asked to wait; 0 if a key serves."""
        now = self.clock.seconds()
        try:
            self.pool.release(self.pool.acquire(model, now), now)
        except (QuotaExhausted, NoHealthyKeys) as error:
            return error.retry_after
        return 0.0

    def snapshot(self):
        return self.pool.snapshot(self.clock.seconds())

    def restarted(self, down=0.0, step=0.0, seconds=77.0, snapshot=None):
        """What comes after a stop: ``step`` is how far the clock was set while it was down."""
        wall = self.clock.wall() + down + step
        settings = self.pool._settings
        keys = [entry.key for entry in self.pool._entries.values()]
        again = Running(*keys, wall=wall, seconds=seconds)
        again.pool.apply(keys, settings, again.clock.seconds())
        again.pool.restore(snapshot or self.snapshot(), again.clock.seconds())
        return again


def key(name, **options):
    return Key(name, Secret(f"test-key-{name}-0123456789abcdef"), project=name, **options)


# -- while it runs ---------------------------------------------------------------------------------


@pytest.mark.parametrize("hears", [True, False])
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(("outcome", "seconds"), [(BUSY, 40.0), (INVALID, 300.0)])
def test_no_cooldown_changes_when_the_clock_is_set(outcome, seconds, step, hears):
    running = Running()
    running.had(outcome)
    running.clock.set_wall_clock(step)
    if hears:
        running.tell()
    running.clock.advance(10)
    assert running.retry_after() == pytest.approx(seconds - 10)
    running.clock.advance(seconds - 10)
    assert running.retry_after() == 0.0


@pytest.mark.parametrize("step", STEPS)
def test_an_operator_sees_times_by_the_clock_of_now(step):
    running = Running()
    running.had(BUSY)
    running.set_wall_clock(step)
    wall = running.clock.wall()
    (status,) = running.pool.statuses(running.clock.seconds())
    assert status.last_used == date(wall)
    assert status.last_error.at == date(wall)
    assert status.cooldowns[0].until == date(wall + 40)
    (skipped,) = ineligible_keys(running.pool, MODEL, running.clock.seconds())
    assert skipped.until == date(wall + 40)


@pytest.mark.parametrize("step", STEPS)
def test_a_minutes_limit_stays_a_minutes_limit(step):
    running = Running(key("alpha", limits=Limits(rpm=1)))
    running.had(Outcome(Verdict.SUCCESS, 200))
    running.set_wall_clock(step)
    assert running.retry_after() == pytest.approx(60)
    running.clock.advance(60)
    assert running.retry_after() == 0.0


@pytest.mark.parametrize("step", STEPS)
def test_the_health_window_neither_empties_nor_stands_still(step):
    running = Running(window=300.0)
    running.had(Outcome(Verdict.SERVICE, 503))
    running.set_wall_clock(step)
    assert running.pool.statuses(running.clock.seconds())[0].failure_count == 1
    running.clock.advance(301)
    assert running.pool.statuses(running.clock.seconds())[0].failure_count == 0


@pytest.mark.parametrize(
    ("delay", "longest"), [(5 * DAY, 600.0), (float("inf"), 600.0), (599.0, 599.0)]
)
def test_a_delay_of_days_is_no_days_for_a_minutes_quota(delay, longest):
    running = Running()
    running.had(replace(BUSY, retry_after=delay))
    assert running.retry_after() == pytest.approx(longest)


# -- midnights -------------------------------------------------------------------------------------


USED_UP = Outcome(Verdict.QUOTA_DAY, 429)


@pytest.mark.parametrize(
    ("ahead", "after", "left"),
    [
        # Set right before midnight: it is two hours, less what has passed.
        (3 * HOUR, HOUR, HOUR),
        (-3 * HOUR, HOUR, HOUR),
        (30 * DAY, HOUR, HOUR),
        # Set right after the midnight at which the quota came back.
        (3 * HOUR, 2.5 * HOUR, 0.0),
        (-3 * HOUR, 2.5 * HOUR, 0.0),
    ],
)
def test_a_days_quota_returns_at_the_midnight_of_the_clock_that_was_set_right(ahead, after, left):
    running = Running(wall=EVENING + ahead)
    running.had(USED_UP)
    running.clock.advance(after)
    running.set_wall_clock(-ahead)
    assert running.retry_after() == pytest.approx(left)


def test_one_of_an_earlier_run_ends_no_later_than_was_known():
    running = Running()
    running.had(USED_UP)
    again = running.restarted()
    again.set_wall_clock(-20 * HOUR)
    assert again.retry_after() == pytest.approx(2 * HOUR)
    again.set_wall_clock(21 * HOUR)
    assert again.retry_after() == pytest.approx(HOUR)


@pytest.mark.parametrize("step", STEPS)
def test_a_days_limit_ends_at_the_midnight_of_the_clock_of_now(step):
    running = Running(key("alpha", limits=Limits(rpd=1)))
    running.had(Outcome(Verdict.SUCCESS, 200))
    assert running.retry_after() == pytest.approx(2 * HOUR)
    running.set_wall_clock(step)
    expected = next_pacific_midnight(running.clock.wall()) - running.clock.wall()
    assert running.retry_after() == pytest.approx(expected)
    running.clock.advance(expected)
    assert running.retry_after() == 0.0


def test_a_year_without_a_calendar_has_days_all_the_same():
    calendar = Calendar()
    calendar.epoch_offset = 1e15
    assert calendar.next_midnight(5000.0) == 5000.0 + 25 * HOUR


# -- over a restart --------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [3.0, 5000.0, 1e9])
@pytest.mark.parametrize(
    ("outcome", "cooldown"), [(BUSY, 40.0), (INVALID, 300.0), (USED_UP, 2 * HOUR)]
)
def test_a_cooldown_goes_on_with_the_time_that_has_passed(outcome, cooldown, seconds):
    running = Running()
    running.had(outcome)
    again = running.restarted(down=30.0, seconds=seconds)
    assert again.retry_after() == pytest.approx(cooldown - 30)
    before, after = running.snapshot(), again.snapshot()
    assert after.taken_at == pytest.approx(before.taken_at + 30)
    for old, new in zip(before.keys, after.keys, strict=True):
        assert new.last_used == pytest.approx(old.last_used)
        assert new.breaker.until == (old.breaker.until and pytest.approx(old.breaker.until))


@pytest.mark.parametrize("step", [-3 * DAY, -HOUR, -1000 * DAY])
@pytest.mark.parametrize(
    ("outcome", "cooldown"),
    [(replace(BUSY, retry_after=5.0), 5.0), (INVALID, 300.0), (USED_UP, 2 * HOUR)],
)
def test_a_clock_that_was_set_back_while_it_was_down_prolongs_nothing(outcome, cooldown, step):
    running = Running()
    running.had(outcome)
    again = running.restarted(step=step)
    assert again.retry_after() == pytest.approx(cooldown)


@pytest.mark.parametrize("step", [-3 * DAY, -HOUR])
def test_nor_one_that_was_set_back_while_it_ran(step):
    running = Running()
    running.had(replace(BUSY, retry_after=5.0))
    before = running.snapshot()
    running.set_wall_clock(step)
    for snapshot in (before, running.snapshot()):
        assert running.restarted(snapshot=snapshot).retry_after() == pytest.approx(5.0)


@pytest.mark.parametrize("taken_at", [EVENING, EVENING + 1e9, EVENING - 1e9, 0.0])
@pytest.mark.parametrize("until", [EVENING + 1e6, EVENING + 1e9, EVENING - 1e9, 2e11])
@pytest.mark.parametrize(("reason", "longest"), [("quota_minute", 600.0), ("x", 25 * HOUR)])
def test_whatever_a_state_says_nothing_cools_down_longer_than_its_rule(
    reason, longest, until, taken_at
):
    running = Running(key("alpha", limits=Limits(rpd=10)))
    running.had(BUSY)
    snapshot = running.snapshot()
    kept = snapshot.keys[0]
    wrong = replace(
        snapshot,
        taken_at=taken_at,
        keys=(
            replace(
                kept,
                breaker=BreakerSnapshot(until, 1e9, 7),
                last_used=until,
                last_error=replace(kept.last_error, at=until),
                buckets=((until, 1, 5), (until - 7, 2, 2)),
                usage=replace(kept.usage, uses=((until, 5),), today=10, day_ends=until),
            ),
        ),
        cooldowns=(Cooldown("alpha", MODEL, until, reason),),
        denials=(Cooldown("alpha", "other", until, "denied"),),
    )
    again = running.restarted(snapshot=wrong)
    now = again.clock.seconds()
    (status,) = again.pool.statuses(now)
    wall = again.clock.wall()
    assert (status.next_retry or date(wall)) <= date(wall + 300.01)
    assert all(cooldown.until <= date(wall + longest + 0.01) for cooldown in status.cooldowns)
    assert status.last_used <= date(wall)
    assert status.last_error.at <= date(wall)
    assert again.retry_after() <= 25 * HOUR + 0.01
    again.clock.advance(25 * HOUR + 1)
    assert again.retry_after() == 0.0
    again.clock.advance(301)
    assert again.pool.statuses(again.clock.seconds())[0].failure_count == 0


# -- what has not changed is not written again -----------------------------------------------------


def test_what_is_stored_is_the_same_object_until_the_clock_is_set():
    running = Running(key("alpha"), key("beta"))
    running.had(BUSY)
    first = running.snapshot()
    running.clock.advance(5)
    second = running.snapshot()
    assert all(a is b for a, b in zip(first.keys, second.keys, strict=True))
    assert second.cooldowns[0] is first.cooldowns[0]
    running.set_wall_clock(HOUR)
    third = running.snapshot()
    assert third.cooldowns[0].until == first.cooldowns[0].until + HOUR
    assert third.keys[0].last_used == pytest.approx(first.keys[0].last_used + HOUR)
