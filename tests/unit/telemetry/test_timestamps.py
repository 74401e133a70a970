"""Times as text, with the second remembered."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemproxy.telemetry.timestamps import timestamp


@given(st.lists(st.integers(min_value=0, max_value=4_000_000_000_000), min_size=1))
def test_any_order_of_times_is_told_as_the_calendar_has_it(milliseconds):
    for number in milliseconds:
        when = (number + 0.25) / 1000
        told = datetime.strptime(timestamp(when), "%Y-%m-%dT%H:%M:%S.%f%z")
        assert told == datetime.fromtimestamp(number // 1000, UTC).replace(
            microsecond=number % 1000 * 1000
        )


def test_a_time_is_in_utc_with_milliseconds():
    assert timestamp(1_790_000_000.05) == "2026-09-21T14:13:20.050Z"
    assert timestamp(1_790_000_000.999) == "2026-09-21T14:13:20.999Z"
    assert timestamp(1_790_000_001.0) == "2026-09-21T14:13:21.000Z"
    assert timestamp(-0.5) == "1969-12-31T23:59:59.500Z"


@pytest.mark.parametrize("when", [1e300, float("inf"), float("-inf"), float("nan")])
def test_a_time_beyond_the_calendar_is_a_dash(when):
    assert timestamp(when) == "-"
    assert timestamp(1.0) == "1970-01-01T00:00:01.000Z"
