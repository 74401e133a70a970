"""What every store does: one suite for memory, JSON and SQLite."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pytest
from fakes.stores import (
    NOON,
    MemoryStateStore,
    audit_event,
    comparable,
    full_state,
    idle_key,
    key_snapshot,
    minute,
    used,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from gemproxy.core.errors import SchemaTooNew, StorageCorrupt, StorageUnavailable
from gemproxy.pool.breaker import BreakerSnapshot
from gemproxy.pool.cooldowns import Cooldown
from gemproxy.pool.limits import LedgerSnapshot
from gemproxy.pool.snapshot import KeySnapshot, LastError, Override, PoolSnapshot
from gemproxy.state.fallback import FallbackStateStore, NullStateStore, state_store
from gemproxy.state.json.store import JSONStateStore, decode_state, encode_state, write_state
from gemproxy.state.kinds import Retention
from gemproxy.state.model import MetricsRow, RecordRow, State, UsageRow
from gemproxy.state.sqlite.store import SQLiteStateStore
from gemproxy.translate.shared.signatures import RememberedCall

KINDS = {
    "memory": lambda folder: MemoryStateStore(),
    "json": lambda folder: JSONStateStore(folder / "state" / "gemproxy.json"),
    "sqlite": lambda folder: SQLiteStateStore(folder / "state" / "gemproxy.db"),
    "fallback": lambda folder: FallbackStateStore(
        SQLiteStateStore(folder / "state" / "gemproxy.db"),
        JSONStateStore(folder / "state" / "gemproxy.json"),
    ),
}


@pytest.fixture(params=KINDS)
def store(request, tmp_path):
    made = KINDS[request.param](tmp_path)
    yield made
    made.close()


@pytest.fixture(params=["memory", "sqlite", "fallback"])
def keeping_store(request, tmp_path):
    """The stores that keep metrics, events and absent keys which a later state does not have."""
    made = KINDS[request.param](tmp_path)
    yield made
    made.close()


def test_a_new_store_is_empty(store):
    assert store.load(NOON) is None
    assert store.load() is None


def test_what_was_saved_is_loaded(store):
    store.save(full_state())
    assert comparable(store.load(NOON)) == comparable(full_state())


def test_it_outlives_a_close(store):
    store.save(full_state())
    store.close()
    assert comparable(store.load(NOON)) == comparable(full_state())


def test_the_latest_save_counts(store):
    first = full_state()
    store.save(first)
    busy = key_snapshot(requests_total=12, needs_attention=None, last_error=None, usage=None)
    second = State(
        PoolSnapshot(
            NOON + 5,
            (busy, first.pool.keys[1]),
            (Cooldown("team-a", "gemini-3.8-flash", NOON + 90, "quota_minute"),),
            (),
            (
                ("primary-fingerprint", Override(enabled=True, weight=3)),
                ("absent-fingerprint", Override(weight=7)),
            ),
        ),
        {
            "call_2": first.signatures["call_2"],
            "call_3": RememberedCall("bmV3", issued_upstream=True),
        },
        (minute(requests=6), *first.metrics[1:]),
        first.events,
        usage=(used(requests=4), *first.usage[1:]),
        # The first one was deleted: its row without token takes the place of the one with it.
        client_seen=first.client_seen,
        clients=(replace(first.clients[0], digest="", settings={}), *first.clients[1:]),
    )
    store.save(second)
    assert comparable(store.load(NOON)) == comparable(second)
    store.close()
    assert comparable(store.load(NOON)) == comparable(second)


def test_a_file_of_an_earlier_version_has_no_resources():
    document = msgspec.json.decode(b"".join(encode_state(full_state())))
    del document["resources"]
    loaded = decode_state(msgspec.json.encode(document))
    assert loaded == replace(full_state(), resources=())


def test_rests_and_signatures_that_are_over_are_gone(store):
    store.save(full_state())
    over = State(PoolSnapshot(NOON + 5, full_state().pool.keys))
    store.save(over)
    loaded = store.load(NOON)
    assert loaded.pool.cooldowns == loaded.pool.denials == ()
    assert loaded.signatures == {}


def test_first_save_of_a_new_run_replaces_rests_and_signatures_of_the_old_one(tmp_path):
    path = tmp_path / "gemproxy.db"
    old, new = SQLiteStateStore(path), SQLiteStateStore(path)
    old.save(full_state())
    old.close()
    new.save(State(PoolSnapshot(NOON + 5)))
    loaded = new.load(NOON)
    assert loaded.pool.cooldowns == loaded.pool.denials == ()
    assert loaded.signatures == {}
    new.close()


def test_metrics_events_and_words_on_absent_keys_stay(keeping_store):
    keeping_store.save(full_state())
    later = State(
        PoolSnapshot(NOON + 60, (idle_key("spare"),)),
        metrics=(minute(NOON + 60),),
        events=(audit_event(NOON + 50, action="key.enable"),),
    )
    keeping_store.save(later)
    loaded = keeping_store.load(NOON + 60)
    assert len(loaded.metrics) == 4
    assert [event.action for event in loaded.events] == ["key.disable"] * 2 + ["key.enable"]
    assert dict(loaded.pool.overrides) == dict(full_state().pool.overrides)
    assert {kept.name for kept in loaded.pool.keys} == {"primary", "spare"}


def test_only_metrics_that_a_ledger_remembers_are_loaded_unless_all_are_asked_for(keeping_store):
    keeping_store.save(
        full_state(
            metrics=(
                minute(NOON - 2 * 3600),
                minute(NOON),
                minute(NOON - 30 * 3600, period=3600),
                minute(NOON - 2 * 3600, period=3600),
            )
        )
    )
    kept = {(row.period, row.start - NOON) for row in keeping_store.load(NOON).metrics}
    assert kept == {(60, 0), (3600, -7200)}
    assert len(keeping_store.load().metrics) == 4


def test_usage_is_kept_by_hour_and_by_day_and_older_rows_go(tmp_path):
    store = SQLiteStateStore(tmp_path / "gemproxy.db", Retention())
    rows = tuple(
        used(period=period, start=int(NOON) - days * 86400)
        for period in (3600, 86400)
        for days in (0, 34, 36, 399, 401)
    )
    for second in range(10):
        store.save(full_state(NOON + second, usage=rows if second == 0 else ()))
    kept = {(row.period, (int(NOON) - row.start) // 86400) for row in store.load().usage}
    assert kept == {(3600, 0), (3600, 34), *((86400, days) for days in (0, 34, 36, 399))}
    assert {row.start for row in store.load(NOON).usage} == {int(NOON)}
    store.close()


def test_a_json_state_of_a_version_without_usage_is_read():
    document = b"".join(encode_state(full_state(usage=())))
    older = document.replace(b',\n"usage":[]', b"")
    assert older != document
    assert comparable(decode_state(older)) == comparable(full_state(usage=()))


def test_null_store_keeps_nothing_and_is_content():
    store = state_store(None, None, Retention())
    assert isinstance(store, NullStateStore)
    store.save(full_state())
    store.configure(Retention(days=1))
    assert store.load(NOON) is None
    assert store.recovered() is None
    assert (store.status().backend, store.status().degraded_since) == ("none", None)
    store.close()


# What Python's text can hold and UTF-8 cannot never gets into a name.
_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
_times = st.floats(0, 4e9)
_counts = st.integers(0, 2**53)
_maybe = st.none
_names = st.text("abcdef0123456789", min_size=12, max_size=12)

_keys = st.builds(
    KeySnapshot,
    id=_names,
    name=_texts,
    breaker=st.builds(BreakerSnapshot, _maybe() | _times, _times, _counts),
    buckets=st.lists(st.tuples(_times, _counts, _counts), max_size=10).map(tuple),
    needs_attention=_maybe() | _texts.filter(bool),
    requests_total=_counts,
    last_used=_maybe() | _times,
    last_error=_maybe() | st.builds(LastError, _times, _texts, _maybe() | _counts, _texts),
    usage=_maybe()
    | st.builds(
        LedgerSnapshot, st.lists(st.tuples(_times, _counts), max_size=5).map(tuple), _counts, _times
    ),
)
_rests = st.lists(
    st.builds(Cooldown, _texts, _texts, _times, _texts),
    unique_by=lambda rest: (rest.project, rest.model),
    max_size=5,
).map(tuple)
_overrides = st.dictionaries(
    _names,
    st.builds(Override, _maybe() | st.booleans(), _maybe() | st.integers(1, 1000)),
    max_size=5,
).map(lambda words: tuple(words.items()))
_rows = st.builds(
    MetricsRow,
    st.sampled_from([60, 3600]),
    st.integers(1, 2**40),
    *[_texts] * 4,
    *[_counts] * 7,
    _times,
    _counts,
    _times,
)
_usage = st.builds(
    UsageRow,
    st.sampled_from([3600, 86400]),
    st.integers(1, 2**40),
    *[_texts] * 4,
    *[_counts] * 17,
    _times,
    _counts,
)
_records = st.builds(
    RecordRow, _counts, _counts, *[_texts] * 4, st.integers(100, 599), *[_texts] * 2
)
_values = _maybe() | st.booleans() | _counts | _texts | st.lists(_texts, max_size=3).map(tuple)
_events = st.builds(
    audit_event,
    at=_times,
    action=_texts,
    target=_texts,
    before=st.dictionaries(_texts, _values, max_size=3),
    after=st.dictionaries(_texts, _values, max_size=3),
)
_states = st.builds(
    State,
    st.builds(
        PoolSnapshot,
        _times,
        st.lists(_keys, unique_by=lambda kept: kept.id, max_size=5).map(tuple),
        _rests,
        _rests,
        _overrides,
    ),
    st.dictionaries(_texts, st.builds(RememberedCall, _maybe() | _texts, st.booleans())),
    st.lists(_rows, unique_by=lambda row: row.identity, max_size=5).map(tuple),
    st.lists(_events, unique_by=lambda event: event.at, max_size=3).map(
        lambda events: tuple(sorted(events, key=lambda event: event.at))
    ),
    usage=st.lists(_usage, unique_by=lambda row: row.identity, max_size=5).map(tuple),
    records=st.lists(_records, unique_by=lambda row: row.number, max_size=5).map(tuple),
)


_FOR_EVER = Retention(
    days=1e9, event_days=1e9, usage_hour_days=1e9, usage_days=1e9, record_days=1e9
)


@settings(max_examples=100, deadline=None)
@given(state=_states)
def test_json_brings_any_state_back_as_it_was(state):
    decoded = decode_state(b"".join(encode_state(state)))
    assert comparable(decoded, records=True) == comparable(state, records=True)


@settings(max_examples=30, deadline=None)
@given(state=_states)
def test_sqlite_brings_any_state_back_as_it_was(state):
    with TemporaryDirectory() as folder:
        store = SQLiteStateStore(Path(folder, "gemproxy.db"), _FOR_EVER)
        store.save(state)
        store.close()
        loaded = store.load()
        store.close()
    assert comparable(loaded, records=True) == comparable(state, records=True)


def test_json_weight_that_would_stop_the_pool_is_refused(tmp_path):
    path = tmp_path / "gemproxy.json"
    JSONStateStore(path).save(full_state())
    path.write_bytes(path.read_bytes().replace(b'"weight":7', b'"weight":0'))
    with pytest.raises(StorageCorrupt, match="a weight"):
        JSONStateStore(path).load(NOON)


def test_json_of_a_newer_program_is_refused_and_stays(tmp_path):
    path = tmp_path / "gemproxy.json"
    path.write_bytes(b'{"format": "gemproxy-state", "version": 2, "new": {}}')
    with pytest.raises(SchemaTooNew, match="version 2, and this program knows versions up to 1"):
        JSONStateStore(path).load(NOON)
    assert path.exists()


def test_json_is_readable_and_one_value_a_line(tmp_path):
    path = tmp_path / "gemproxy.json"
    JSONStateStore(path).save(full_state())
    document = msgspec.json.decode(path.read_bytes())
    assert document["keys"][0]["needs_attention"] == "leaked"
    assert len(path.read_bytes().splitlines()) > 15


def test_file_that_must_not_be_overwritten_stays_and_nothing_is_left_beside_it(tmp_path):
    path = tmp_path / "export.json"
    path.write_text("mine")
    with pytest.raises(StorageUnavailable, match=r"export\.json: File exists"):
        write_state(path, full_state(), overwrite=False)
    assert path.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [path]
