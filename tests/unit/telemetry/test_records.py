"""Records of finished requests: what is kept, and how it is found again."""

from __future__ import annotations

import importlib.util
import json
import sqlite3
from pathlib import Path

import pytest
from fakes.pools import date
from fakes.stores import NOON, full_state, recorded
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from gemproxy.core.context import Attempt, Refusal, RequestContext
from gemproxy.pool.eligibility import Reason
from gemproxy.pool.outcome import Charge, Outcome, Verdict
from gemproxy.pool.status import SkippedKey
from gemproxy.state.fallback import FallbackStateStore
from gemproxy.state.json.store import JSONStateStore
from gemproxy.state.kinds import Retention
from gemproxy.state.record_query import MICROSECONDS, RecordQuery, digest_of
from gemproxy.state.sqlite import records as sqlite_records
from gemproxy.state.sqlite.migrations import migrate, migrations
from gemproxy.state.sqlite.store import RECORD_BYTES, SQLiteStateStore
from gemproxy.telemetry.history import RequestHistory
from gemproxy.telemetry.records import (
    MOST_FAILURES,
    MOST_REFUSED,
    MOST_SUCCESSES,
    RecordBuffer,
    RequestRecords,
    StoredRecords,
    explanation_of,
)
from gemproxy.translate.shared.usage import TokenUsage

SECRET = "test-key-one-0123456789abcdef"


def context(request_id="r", started=NOON, **more):
    values = {"model": "gemini-3.8-flash", "client": "ci", "outcome": "success"} | more
    return RequestContext(request_id, "/v1/chat/completions", started, **values)


def a_failed_request(**more):
    outcome = Outcome(
        Verdict.QUOTA_MINUTE,
        429,
        message="You exceeded your quota. Please wait.",
        google_status="RESOURCE_EXHAUSTED",
        google_reason="RATE_LIMIT_EXCEEDED",
        quota_id="PerMinute",
    )
    skipped = [SkippedKey(f"k{n}", Reason.COOLING_DOWN, date(NOON + 30)) for n in range(5)]
    attempts = [
        Attempt("a-id", "a", NOON, outcome, 0.5, Charge.KEY, skipped_keys=skipped),
        Attempt("b-id", "b", NOON, Outcome(Verdict.SERVICE, 503), 0.25, Charge.MODEL, sticky=True),
    ]
    refused = Refusal("no_healthy_keys", [SkippedKey("a", Reason.DISABLED)])
    used = TokenUsage(input=7, cached=2, output=3, reasoning=1)
    values = {"attempts": attempts, "refused": refused, "outcome": "service", "usage": used}
    return context(**(values | {"first_byte": NOON + 0.25, "cost": 0.00125} | more))


def data_of(keys):
    """The data of a record whose attempts used these keys, and that ended without one."""
    return f'[["r"],{json.dumps([[key, "service", 503] for key in keys] + [[None]])}]'


class Stage:
    """A history with its buffer, and a store that is asked at once."""

    def __init__(self, folder, retention=None, share=1.0):
        self.buffer = RecordBuffer(lambda text: text.replace(SECRET, "…"), share)
        self.history = RequestHistory(keep=self.buffer.keep)
        self.store = FallbackStateStore(
            SQLiteStateStore(folder / "a.db", retention), JSONStateStore(folder / "a.json")
        )
        self.records = RequestRecords(self.history, StoredRecords(self.at_once, self.store))
        self.saves = 0

    async def at_once(self, operation):
        return operation()

    def save(self):
        self.saves += 1
        records = self.buffer.take()
        self.store.save(full_state(NOON + self.saves, records=records))
        return records

    def restart(self):
        self.history = RequestHistory(keep=self.buffer.keep)
        self.records = RequestRecords(self.history, StoredRecords(self.at_once, self.store))

    def search(self, limit=100, **query):
        found = []
        Deferred.fromCoroutine(self.records.search(RecordQuery(limit, **query))).addBoth(
            found.append
        )
        return found[0]

    def ids(self, limit=100, **query):
        return [record.id for record in self.search(limit, **query).requests]

    def find(self, request_id):
        found = []
        Deferred.fromCoroutine(self.records.find(request_id)).addBoth(found.append)
        return found[0]


@pytest.fixture
def stage(tmp_path):
    stage = Stage(tmp_path)
    yield stage
    stage.store.close()


class TestKeeping:
    def test_a_record_comes_back_as_it_was_but_for_the_names_of_many_keys(self, stage):
        stage.history.request_ended(a_failed_request(), 503, 1.25)
        before = stage.find("r")
        stage.save()
        stage.restart()
        after = stage.find("r")
        assert after.request == before.request
        assert (after.request.client, after.request.cost_usd) == ("ci", 0.00125)
        assert after.attempts[1:] == before.attempts[1:]
        first = after.attempts[0]
        assert (first.google_status, first.quota_id) == ("RESOURCE_EXHAUSTED", "PerMinute")
        assert first.message == "You exceeded your quota."
        assert [skipped.key for skipped in first.passed_over] == ["k0", "k1", "k2"]
        assert first.passed_over_counts == {"cooling_down": 5}

    def test_secrets_are_scrubbed(self, stage):
        stage.history.request_ended(context(SECRET, model=SECRET), 200, 1.0)
        (row,) = stage.buffer.take()
        assert SECRET not in repr(row)
        assert explanation_of(row).request.id == "…"

    @pytest.mark.parametrize(("share", "kept"), [(0.0, 0), (0.25, 25), (1.0, 100)])
    def test_a_share_of_the_successes_and_all_others(self, tmp_path, share, kept):
        buffer = RecordBuffer(str, share)
        history = RequestHistory(keep=buffer.keep)
        for n in range(100):
            history.request_ended(context(f"good-{n}"), 200, 1.0)
            history.request_ended(context(f"bad-{n}", outcome="service"), 503, 1.0)
        rows = buffer.take()
        assert [row.outcome for row in rows].count("success") == kept
        assert [row.outcome for row in rows].count("service") == 100

    def test_a_checkpoint_has_a_bounded_number(self):
        buffer = RecordBuffer(str)
        history = RequestHistory(keep=buffer.keep)
        for n in range(MOST_FAILURES + 10):
            history.request_ended(context(f"good-{n}"), 200, 1.0)
            history.request_ended(context(f"bad-{n}", outcome="service"), 503, 1.0)
        assert len(buffer.take()) == MOST_SUCCESSES + MOST_FAILURES
        history.request_ended(context(), 200, 1.0)
        assert len(buffer.take()) == 1

    def test_refused_requests_are_bounded_by_the_minute_and_client(self):
        buffer = RecordBuffer(str)
        history = RequestHistory(keep=buffer.keep)
        for client in ("ci", None):
            for n in range(200):
                refused = context(f"no-{n}", turned_away=True, outcome="invalid", client=client)
                history.request_ended(refused, 401, 0.0)
        assert len(buffer.take()) == 2 * MOST_REFUSED
        later = context("no", NOON + 61, turned_away=True, outcome="invalid")
        history.request_ended(later, 401, 0.0)
        assert len(buffer.take()) == 1

    def test_rows_are_made_in_short_steps(self):
        buffer = RecordBuffer(str)
        history = RequestHistory(keep=buffer.keep)
        for n in range(220):
            history.request_ended(context(f"r{n}"), 200, 1.0)
        assert len(list(buffer.prepare())) == 5
        assert len({row.number for row in buffer.take()}) == 220


class TestSearching:
    def test_memory_and_store_are_one_list(self, stage):
        for n in range(300):
            stage.history.request_ended(context(f"old-{n}", NOON + n), 200, 1.0)
        stage.save()
        stage.restart()
        for n in range(3):
            stage.history.request_ended(context(f"new-{n}", NOON + 300 + n), 200, 1.0)
        stage.save()
        found = stage.search(5)
        assert [each.id for each in found.requests] == [
            "new-2",
            "new-1",
            "new-0",
            "old-299",
            "old-298",
        ]
        seen = [each.id for each in found.requests]
        while found.next_cursor:
            found = stage.search(100, end=int(found.next_cursor))
            seen += [each.id for each in found.requests]
        assert seen[5:] == [f"old-{n}" for n in range(297, -1, -1)]

    @pytest.mark.parametrize("after", ["before a checkpoint", "after one", "after a restart"])
    def test_filters(self, stage, after):
        for n in range(20):
            outcome, status = ("service", 503) if n % 4 == 0 else ("success", 200)
            attempts = [Attempt("x", f"key-{n % 2}", NOON)]
            if n % 4 in (0, 3):
                attempts = [Attempt("y", f"first-{n // 4 % 2}", NOON) for _ in "12"] + attempts
            request = context(
                f"r{n}", NOON + n, client=("ci", "web")[n % 2], outcome=outcome, attempts=attempts
            )
            stage.history.request_ended(request, status, 0.0)
        stage.history.request_ended(context("left", NOON + 30, outcome="client_gone"), 499, 0.0)
        if after != "before a checkpoint":
            stage.save()
        if after == "after a restart":
            stage.restart()
        assert stage.ids(failed=True) == ["r16", "r12", "r8", "r4", "r0"]
        assert stage.ids(2, filters={"client": ("web",)}) == ["r19", "r17"]
        assert stage.ids(1, filters={"key": ("key-1",), "client": ("ci", "web")}) == ["r19"]
        assert stage.ids(statuses=((500, 599),), filters={"client": ("ci",)})[-1] == "r0"
        assert stage.ids(filters={"outcome": ("client_gone",)}) == ["left"]
        assert stage.ids(2, filters={"key": ("first-1",)}) == ["r15", "r12"]
        assert stage.ids(filters={"key": ("first-1", "key-1"), "client": ("ci",)}) == ["r12", "r4"]
        assert stage.ids(failed=True, filters={"key": ("first-0", "x")}) == ["r16", "r8", "r0"]
        assert stage.ids(statuses=((499, 499),)) == ["left"]
        assert stage.ids(filters={"endpoint": ("messages",)}) == []
        second = int(NOON) * MICROSECONDS
        first, end = second + 5 * MICROSECONDS, second + 8 * MICROSECONDS
        assert stage.ids(first=first, end=end) == ["r7", "r6", "r5"]

    def test_an_id_that_was_used_twice_is_the_newest(self, stage):
        for n in range(2):
            stage.history.request_ended(context("same", NOON + n, client=f"c{n}"), 200, 1.0)
        stage.save()
        stage.restart()
        assert stage.find("same").request.client == "c1"
        assert stage.find("another") is None

    def test_what_waits_for_a_database_that_fails_is_found(self, tmp_path):
        (tmp_path / "a.db").mkdir()
        stage = Stage(tmp_path)
        attempts = [Attempt("x", "one", NOON), Attempt("y", "two", NOON)]
        stage.history.request_ended(context("waits", attempts=attempts), 200, 1.0)
        stage.save()
        stage.restart()
        assert stage.ids() == ["waits"]
        assert stage.find("waits").request.id == "waits"
        assert stage.ids(filters={"key": ("one",)}) == ["waits"]

    @settings(max_examples=40, deadline=None)
    @given(
        st.lists(
            st.tuples(
                st.sampled_from("ab"),
                st.text("xyz", min_size=1, max_size=3),
                st.sampled_from([200, 503]),
            ),
            max_size=60,
        ),
        st.builds(
            RecordQuery,
            st.integers(1, 7),
            filters=st.sampled_from(
                [
                    {},
                    {"client": ("a",)},
                    {"client": ("a",), "key": ("x",)},
                    {"key": ("x",)},
                    {"key": ("x", "y")},
                ]
            ),
            statuses=st.sampled_from([(), ((503, 503),), ((200, 299),)]),
            failed=st.booleans(),
        ),
    )
    def test_pages_make_up_the_whole_however_little_a_search_looks_at(
        self, tmp_path_factory, kept, query
    ):
        store = SQLiteStateStore(tmp_path_factory.mktemp("records") / "a.db")
        rows = tuple(
            recorded(
                n,
                client=client,
                key=keys[-1],
                data=data_of(keys),
                status=status,
                outcome="success" if status == 200 else "service",
            )
            for n, (client, keys, status) in enumerate(kept)
        )
        store.save(full_state(records=rows))
        expected = [row for row in reversed(rows) if query.admits(row)]
        found, end = [], query.end
        usual, sqlite_records.MOST_LOOKED_AT = sqlite_records.MOST_LOOKED_AT, 5
        try:
            while True:
                page = store.search(
                    RecordQuery(query.limit, 0, end, query.filters, query.statuses, query.failed)
                )
                found += page.rows
                if page.rest is not None:
                    end = page.rest
                elif len(page.rows) == query.limit:
                    end = page.rows[-1].number
                else:
                    break
        finally:
            sqlite_records.MOST_LOOKED_AT = usual
            store.close()
        assert found == expected


class TestBounds:
    def test_old_records_and_those_beyond_the_number_go(self, tmp_path):
        store = SQLiteStateStore(tmp_path / "a.db", Retention(record_days=1.0, records=50))
        old = tuple(recorded(n - 2 * 86400 * MICROSECONDS) for n in range(10))
        store.save(full_state(records=(*old, *(recorded(n) for n in range(80)))))
        for second in range(60):
            store.save(full_state(NOON + second, records=()))
        kept = store.search(RecordQuery(1000)).rows
        assert [row.number for row in kept] == [recorded(n).number for n in range(79, 29, -1)]
        store.close()

    def test_the_keys_of_a_record_go_with_it(self, tmp_path):
        path = tmp_path / "a.db"
        store = SQLiteStateStore(path, Retention(records=50))
        rows = tuple(recorded(n, data=data_of(["one", "two", "one", "primary"])) for n in range(80))
        store.save(full_state(records=rows))
        # Again, as after a failure: it is not known what is stored.
        store.close()
        store.save(full_state(records=rows[40:]))
        store.close()
        with sqlite3.connect(path) as connection:
            kept = connection.execute("SELECT * FROM record_keys").fetchall()
            numbers = connection.execute("SELECT number FROM request_records").fetchall()
        assert len(numbers) == 50
        assert sorted(kept) == [(n, key) for (n,) in sorted(numbers) for key in ("one", "two")]

    def test_keys_of_records_of_an_earlier_version_are_found(self, tmp_path):
        path = tmp_path / "a.db"
        some = (
            data_of(["one", "two", "two", "primary"]),
            "no JSON",
            '{"a": [1]}',
            '[["r"], [1, "one", [], [null], [["one"]], {"0": "one"}]]',
            "[]",
            '[["r"], "one"]',
        )
        with sqlite3.connect(path, isolation_level=None) as connection:
            migrate(connection, migrations()[:8], lambda _: None)
            connection.executemany(
                "INSERT INTO request_records"
                " VALUES (?, 7, 'ci', 'chat', 'm', 'primary', 200, 'success', ?)",
                enumerate(some, 1),
            )
        store = SQLiteStateStore(path)
        found = store.search(RecordQuery(10, filters={"key": ("one",)}))
        assert [row.number for row in found.rows] == [1]
        assert len(store.search(RecordQuery(10, filters={"key": ("primary",)})).rows) == 6
        store.close()

    def test_a_start_loads_none_and_an_export_has_them(self, tmp_path):
        store = SQLiteStateStore(tmp_path / "a.db")
        store.save(full_state())
        store.close()
        assert store.load(NOON).records == ()
        assert len(store.load().records) == 2
        assert [row.digest for row in store.find(7)] == [7, 7]
        assert store.find(digest_of("nobody")) == []
        store.close()


def test_a_record_takes_no_more_than_its_bound_and_searches_are_quick(tmp_path):
    """``make records-test`` does the same with three million records."""
    path = Path(__file__).resolve().parents[3] / "benchmarks/records.py"
    spec = importlib.util.spec_from_file_location("records", path)
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    took = benchmark.measure(tmp_path, days=1, a_day=5_000)
    assert took.pop("bytes") < RECORD_BYTES
    took |= benchmark.measure_usage(tmp_path, days=31, hours=30)
    took.pop("bytes")
    assert max(took.values()) < 1.0
