"""Who asks again gets what has changed since: keys by a version, minutes by a time, all by ETag."""

import json

import pytest
from fakes.admin import NOON, AdminStage
from fakes.admin import key as made_key
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock

from gemproxy.admin.revisions import Revisions
from gemproxy.pool.outcome import Verdict
from gemproxy.state.model import MetricsRow

NAMES = "abcd"


def stage_of(*keys):
    clock = Clock()
    clock.advance(NOON)
    return AdminStage(clock, *keys)


@pytest.fixture
def stage():
    return stage_of()


def since(stage, version=""):
    return stage.ask("GET", f"/admin/keys?since={version}").json


def names(answer):
    return [each["name"] for each in answer["keys"]]


# -- keys ------------------------------------------------------------------------------------------


def test_the_first_answer_is_complete_and_the_next_has_what_changed(stage):
    first = since(stage)
    assert first["complete"]
    assert first["keys"] == stage.ask("GET", "/admin/keys").json["keys"]
    nothing = since(stage, first["version"])
    assert nothing == {"version": first["version"], "complete": False, "keys": []}
    stage.let("beta", Verdict.SUCCESS, status=200)
    changed = since(stage, first["version"])
    assert (names(changed), changed["complete"]) == (["beta"], False)
    assert changed["keys"] == [stage.ask("GET", "/admin/keys").json["keys"][1]]
    assert names(since(stage, changed["version"])) == []


def test_each_viewer_gets_what_another_one_has_seen_already(stage):
    version = since(stage)["version"]
    stage.break_key("alpha")
    for _ in range(2):
        assert names(since(stage, version)) == ["alpha"]


def test_what_time_changes_is_told_as_well(stage):
    stage.break_key("alpha")
    version = since(stage)["version"]
    stage.clock.advance(3600)
    assert "alpha" in names(since(stage, version))


@pytest.mark.parametrize("version", ["x", "0.0", ".1", "-1", "9" * 50, "é"])
def test_a_version_that_is_not_of_this_process_gets_everything(stage, version):
    since(stage)
    answer = stage.ask("GET", "/admin/keys?since=" + version.encode().hex())
    assert answer.json["complete"]
    assert len(answer.json["keys"]) == 3


def test_a_later_version_than_the_latest_gets_everything(stage):
    process = since(stage)["version"].rpartition(".")[0]
    assert since(stage, f"{process}.999")["complete"]


def test_a_filter_does_not_go_with_a_version(stage):
    for other in ("state=open", "project=alpha", "limit=1"):
        assert stage.ask("GET", f"/admin/keys?since=&{other}").status == 400


def test_many_keys_are_looked_at_in_turns():
    stage = stage_of(*(made_key(f"key-{number}") for number in range(250)))
    assert len(since(stage)["keys"]) == 250
    assert stage.pauses >= 3


class Model:
    """What a viewer knows who applies every answer."""

    def __init__(self):
        self.version = ""
        self.rows = {}

    def apply(self, changes):
        self.version = changes.version
        found = {row[:1]: row for row in changes.rows}
        self.rows = found if changes.complete else self.rows | found


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 1), st.lists(st.sampled_from(NAMES), unique=True), st.integers(0, 3)
        ),
        max_size=20,
    )
)
def test_viewers_who_apply_every_answer_know_the_present(steps):
    revisions = Revisions("p")
    viewers = [Model(), Model()]
    for who, present, value in steps:
        rows = {name: f"{name}{value}".encode() for name in present}
        for name, row in rows.items():
            revisions.note(name, row)
        viewers[who].apply(revisions.since(viewers[who].version, present))
        assert list(viewers[who].rows.values()) == list(rows.values())


def test_what_one_scan_notes_while_another_runs_is_not_lost():
    revisions = Revisions("p")
    for row in (b"a1", b"b1"):
        revisions.note(row[:1].decode(), row)
    version = revisions.since("", "ab").version
    revisions.note("a", b"a1")  # The first scan looks at a …
    revisions.note("a", b"a2")  # … a changes, and a second scan sees it …
    revisions.note("b", b"b1")
    assert revisions.since(version, "ab").rows == [b"a2"]
    # … also if a row has gone in the meantime.
    revisions.since(version, "b")
    assert revisions.since(version, "ab").rows == [b"b1"]


# -- clients ---------------------------------------------------------------------------------------


def test_clients_are_told_in_the_same_way(stage):
    first = stage.ask("GET", "/admin/clients?since=").json
    assert (first["complete"], first["clients"]) == (True, [])
    for name in ("web", "ci"):
        stage.ask("POST", "/admin/clients", {"name": name}, content_type="application/json")
    both = stage.ask("GET", f"/admin/clients?since={first['version']}").json
    assert both["clients"] == stage.ask("GET", "/admin/clients").json["clients"]
    body = {"enabled": False}
    stage.ask("PATCH", "/admin/clients/web", body, content_type="application/json")
    changed = stage.ask("GET", f"/admin/clients?since={both['version']}").json
    assert [(each["name"], each["enabled"]) for each in changed["clients"]] == [("web", False)]
    assert not changed["complete"]


# -- minutes ---------------------------------------------------------------------------------------


def test_the_minutes_since_a_time_are_those_that_may_have_changed(stage):
    numbers = {"route": "/v1", "model": "m", "status_class": "2xx", "key": "k", "requests": 2}
    stage.rows = tuple(MetricsRow(60, int(NOON) - 60 * ago, **numbers) for ago in (2, 1, 0))
    all_of_them = stage.ask("GET", "/admin/metrics/series").json["minutes"]
    assert len(all_of_them) == 61
    start = all_of_them[-2]["start"]
    later = stage.ask("GET", f"/admin/metrics/series?since={start}").json["minutes"]
    assert later == all_of_them[-2:]
    assert stage.ask("GET", "/admin/metrics/series?since=soon").status == 400


# -- ETags -----------------------------------------------------------------------------------------


def test_an_answer_that_the_viewer_has_is_not_sent_again(stage):
    whole = stage.ask("GET", "/admin/keys")
    etag = whole.headers["etag"]
    again = stage.ask("GET", "/admin/keys", if_none_match=etag)
    assert (again.status, again.body, again.headers["etag"]) == (304, b"", etag)
    assert stage.told.requests[-1][2] == 304
    stage.let("beta", Verdict.SUCCESS, status=200)
    changed = stage.ask("GET", "/admin/keys", if_none_match=etag)
    assert changed.status == 200
    assert changed.headers["etag"] != etag


def test_an_etag_tells_nothing_without_the_token(stage):
    etag = stage.ask("GET", "/admin/keys").headers["etag"]
    answer = stage.ask("GET", "/admin/keys", token=None, if_none_match=etag)
    assert answer.status == 401
    assert "etag" not in answer.headers


def test_a_change_is_never_answered_by_an_etag(stage):
    answer = stage.ask("POST", "/admin/keys/beta/disable", if_none_match="*")
    assert answer.status == 200
    assert json.loads(answer.body)["success"]
    assert "etag" not in answer.headers
