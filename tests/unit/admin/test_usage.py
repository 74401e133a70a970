"""``GET /admin/usage``, and what the stores answer."""

from __future__ import annotations

import csv
import io
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from fakes.admin import NOON, AdminStage
from fakes.stores import full_state, used
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock

from gemproxy.admin.usage import read_moment
from gemproxy.state.fallback import FallbackStateStore
from gemproxy.state.json.store import JSONStateStore
from gemproxy.state.model import USAGE_DAY, USAGE_HOUR
from gemproxy.state.sqlite.store import SQLiteStateStore
from gemproxy.state.usage_query import DIMENSIONS, UsageQuery, selected, summed

DAY = int(NOON) // USAGE_DAY * USAGE_DAY
HOUR = int(NOON)


@pytest.fixture
def stage():
    clock = Clock()
    clock.advance(NOON)
    stage = AdminStage(clock)
    stage.stored_usage = [
        row
        for period, start in ((USAGE_HOUR, HOUR), (USAGE_DAY, DAY))
        for row in (
            used(period=period, start=start, input=100, cost=0.5, theirs=1),
            used(period=period, start=start, model="gemini-9", input=7, cost=0.0, unpriced=2),
            used(period=period, start=start, client="web", output=9, output_audio=5, cost=0.25),
        )
    ] + [used(period=USAGE_DAY, start=DAY - 86400, requests=40)]
    return stage


def rows(stage, query=""):
    return stage.ask("GET", f"/admin/usage{query}").json["usage"]


class TestAnswer:
    def test_the_whole_of_today(self, stage):
        answer = stage.ask("GET", "/admin/usage").json
        assert answer == {
            "from": "2026-11-22T00:00:00Z",
            "to": "2026-11-23T00:00:00Z",
            "by": [],
            "usage": [
                {
                    "requests": 9,
                    "failures": {"theirs": 1, "ours": 0, "upstream": 0},
                    "tokens": {
                        "input": 207,
                        "cached": 0,
                        "output": 9,
                        "reasoning": 0,
                        "by_modality": {
                            "input": {"text": 0, "audio": 0, "image": 0, "video": 0, "document": 0},
                            "output": {"text": 4, "audio": 5, "image": 0},
                        },
                    },
                    "grounding_calls": 0,
                    "images": 0,
                    "seconds": 0.2,
                    "cost_usd": None,
                    "unpriced": 2,
                }
            ],
        }

    def test_by_dimensions_in_their_order(self, stage):
        found = rows(stage, "?by=client,model")
        assert [list(row)[:2] for row in found] == [["client", "model"]] * 3
        assert {(row["client"], row["model"]): row["cost_usd"] for row in found} == {
            ("ci", "gemini-3.8-flash"): 0.5,
            ("ci", "gemini-9"): None,
            ("web", "gemini-3.8-flash"): 0.25,
        }

    @pytest.mark.parametrize(
        ("by", "words"),
        [
            ("hour", ["2026-11-22T20:00:00Z"]),
            ("day", ["2026-11-21", "2026-11-22"]),
            ("month", ["2026-11"]),
        ],
    )
    def test_by_time(self, stage, by, words):
        assert [row[by] for row in rows(stage, f"?from=yesterday&by={by}")] == words

    def test_whole_days_are_counted_back_from_today(self, stage):
        asked = "?from=today-6d&by=day"
        assert rows(stage, asked) == rows(stage, "?from=2026-11-16&by=day")
        assert [row["day"] for row in rows(stage, "?from=today-1d&to=today-1d&by=day")] == [
            "2026-11-21"
        ]
        assert stage.ask("GET", "/admin/usage?from=today-99999d").status == 400

    def test_filters(self, stage):
        assert [row["requests"] for row in rows(stage, "?client=web,nobody")] == [3]
        assert rows(stage, "?client=nobody") == []

    def test_a_time_within_a_day_is_answered_by_the_hour(self, stage):
        assert rows(stage, "?from=2026-11-22T21:00:00Z&to=2026-11-22T23:00:00Z") == []
        assert [row["requests"] for row in rows(stage, "?from=3h")] == [9]

    def test_what_is_in_memory_is_included(self, stage):
        (before,) = rows(stage)
        stage.usage.restore([used(start=HOUR), used(period=USAGE_DAY, start=DAY)], NOON)
        (after,) = rows(stage)
        assert after["requests"] == before["requests"] + 3

    @pytest.mark.parametrize("how", [{"accept": "text/csv"}, {}])
    def test_csv_has_the_same_in_the_same_order(self, stage, how):
        form = "" if how else "&format=csv"
        answer = stage.ask("GET", f"/admin/usage?by=client{form}", **how)
        assert answer.headers["content-type"] == "text/csv; charset=utf-8"
        first, *more = csv.DictReader(io.StringIO(answer.body.decode()))
        assert list(first) == [
            *("client", "requests", "failures_theirs", "failures_ours", "failures_upstream"),
            *("tokens_input", "tokens_cached", "tokens_output", "tokens_reasoning"),
            *(f"tokens_by_modality_input_{each}" for each in ("text", "audio", "image")),
            *("tokens_by_modality_input_video", "tokens_by_modality_input_document"),
            *(f"tokens_by_modality_output_{each}" for each in ("text", "audio", "image")),
            *("grounding_calls", "images", "seconds", "cost_usd", "unpriced"),
        ]
        assert (first["client"], first["requests"], first["cost_usd"]) == ("ci", "6", "")
        assert (more[0]["client"], more[0]["cost_usd"]) == ("web", "0.25")

    @pytest.mark.parametrize(("form", "bytes_a_row"), [("json", 300), ("csv", 60)])
    def test_a_large_answer_is_made_in_short_turns(self, stage, form, bytes_a_row):
        stage.stored_usage = [
            used(period=USAGE_DAY, start=DAY, client=f"client-{n * 7 % 2000:04}")
            for n in range(2000)
        ]
        stage.pauses = 0
        answer = stage.ask("GET", f"/admin/usage?by=client&format={form}").body.decode()
        places = [answer.index(f"client-{n:04}") for n in range(2000)]
        assert places == sorted(places)
        assert len(answer) > 2000 * bytes_a_row
        # Of which each sums 200 rows, sorts 500, or writes 50.
        assert stage.pauses >= 2000 / 200 + 2000 / 500 + 2000 / 50 - 5

    def test_a_name_is_no_formula(self, stage):
        stage.stored_usage = [used(period=USAGE_DAY, start=DAY, client="=1+1")]
        answer = stage.ask("GET", "/admin/usage?by=client&format=csv")
        assert b"\n'=1+1," in answer.body

    @pytest.mark.parametrize(
        ("query", "param"),
        [
            ("from=soon", "from"),
            ("to=2026-13-01", "to"),
            ("from=99999999w", "from"),
            ("from=today&to=yesterday", "to"),
            ("by=colour", "by"),
            ("by=hour,day", "by"),
            ("format=xml", "format"),
            ("colour=red", "colour"),
            ("client=" + ",".join("x" * 101), "client"),
        ],
    )
    def test_a_mistake_is_named(self, stage, query, param):
        answer = stage.ask("GET", f"/admin/usage?{query}")
        assert (answer.status, answer.error["param"]) == (400, param)

    def test_days_begin_at_midnight_of_the_zone(self):
        now = datetime(2026, 3, 30, 1, tzinfo=ZoneInfo("Europe/Berlin"))
        yesterday, whole = read_moment("yesterday", now)
        assert (yesterday.date().isoformat(), whole) == ("2026-03-29", True)


_usage_rows = st.lists(
    st.builds(
        used,
        period=st.sampled_from([USAGE_HOUR, USAGE_DAY]),
        start=st.sampled_from([DAY, DAY + 3600, DAY + 86400]),
        client=st.sampled_from("ab"),
        model=st.sampled_from("xy"),
        requests=st.integers(0, 9),
        cost=st.just(0.0),
    ),
    unique_by=lambda row: row.identity,
    max_size=12,
).map(tuple)
_queries = st.builds(
    UsageQuery,
    st.sampled_from([USAGE_HOUR, USAGE_DAY]),
    st.sampled_from([DAY, DAY + 1]),
    st.sampled_from([DAY + 3600, DAY + 90_000]),
    st.sets(st.sampled_from(DIMENSIONS)).map(tuple),
    st.booleans(),
    st.sampled_from([{}, {"client": ("a",)}, {"client": ("a", "b"), "model": ("x",)}]),
)


def sums(rows):
    return sorted((row.start, *row.series, row.requests, row.input) for row in rows if row.requests)


@settings(max_examples=60, deadline=None)
@given(stored=_usage_rows, later=_usage_rows, query=_queries)
def test_the_store_sums_what_it_has_and_what_is_present(tmp_path_factory, stored, later, query):
    """As if all rows were in one list, of which later ones replace whole hours and days."""
    folder = tmp_path_factory.mktemp("usage")
    store = FallbackStateStore(SQLiteStateStore(folder / "a.db"), JSONStateStore(folder / "a.json"))
    store.save(full_state(NOON, usage=stored))
    starts = {(row.period, row.start) for row in later}
    kept = [row for row in stored if (row.period, row.start) not in starts]
    expected = summed(query, selected(query, [*kept, *later]))
    assert sums(store.usage(query, later)) == sums(expected)
    store.close()


def test_what_waits_for_a_database_that_fails_is_included(tmp_path):
    path = tmp_path / "a.db"
    store = FallbackStateStore(SQLiteStateStore(path), JSONStateStore(tmp_path / "a.json"))
    path.mkdir()
    store.save(full_state(NOON, usage=(used(period=USAGE_DAY, start=DAY),)))
    query = UsageQuery(USAGE_DAY, DAY, DAY + 1, ("client",))
    assert sums(store.usage(query, ())) == [(0, "ci", "", "", "", 3, 100)]
    store.close()
