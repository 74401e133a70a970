"""The project of what a request names: from memory, by asking each project once, or a clear no."""

import asyncio
import json

import pytest
from fakes.upstreams import FakeGemini, Reply, error, whole

from gemproxy.core.affinity import ResourceLocator
from gemproxy.core.errors import (
    FailureKind,
    InvalidRequest,
    NoHealthyKeys,
    NotFound,
)
from gemproxy.pool.key import Affinity, Key
from gemproxy.pool.outcome import Outcome, Verdict
from gemproxy.pool.pool import KeyPool, PoolSettings
from gemproxy.pool.resources import ResourceRegistry
from gemproxy.providers.gemini.provider import GeminiProvider
from gemproxy.secret import Secret

NOON = 1_790_000_000.0
ABSENT = error(403, "You do not have permission to access the File x or it may not exist.")
GONE = error(404, "Not found.", "NOT_FOUND")


def described(**fields):
    return Reply(200, json.dumps(fields).encode())


class Place:
    """A locator over keys, of which each is a project of its own unless it is named with a dash."""

    def __init__(self, scripts):
        self.now = NOON
        self.upstream = FakeGemini(**scripts)
        self.pool = KeyPool([self.key(name) for name in scripts], PoolSettings(recovery_time=100.0))
        self.registry = ResourceRegistry()
        self.locator = ResourceLocator(
            self.registry,
            GeminiProvider(),
            self.pool,
            self.upstream,
            seconds=lambda: self.now,
            wall=lambda: self.now,
        )

    @staticmethod
    def key(name):
        return Key(name, Secret(f"secret-of-{name}"), project=name.partition("-")[0])

    def locate(self, *names):
        return asyncio.run(self.locator.locate(names, self.now + 60))


def test_what_an_answer_told_is_not_asked():
    place = Place({"a": [], "b": []})
    place.locator.learn("files/x", "b", b'{"file":{"expirationTime":"2026-09-21T17:00:00.5Z"}}')
    assert place.locate("files/x", "files/x") == Affinity("b", "files/x")
    assert place.upstream.requests == []


def test_an_unknown_name_is_asked_for_in_each_project_once_and_then_known():
    told = described(name="files/x", expirationTime="2026-09-21T15:00:00.123456789Z")
    place = Place({"a": [ABSENT], "b-1": [told], "b-2": [], "c": []})
    assert place.locate("files/x").project == "b"
    assert place.upstream.keys_used == ["a", "b-1"]
    assert place.upstream.requests[1][1].path == b"/v1beta/files/x"
    assert place.locate("files/x").project == "b"
    assert len(place.upstream.requests) == 2
    (entry,) = place.registry.resources(NOON)
    assert entry.expires == NOON + 2800


def test_a_part_belongs_to_the_project_of_the_whole():
    place = Place({"a": [], "b": []})
    place.locator.learn("fileSearchStores/s", "b")
    assert place.locate("fileSearchStores/s/documents/d").project == "b"
    place.locator.learn("models/m/operations/o", "a")
    assert place.locate("models/m/operations/o").project == "a"


def test_resources_of_two_projects_cannot_be_in_one_request():
    place = Place({"a": [], "b": []})
    place.locator.learn("files/x", "a")
    place.locator.learn("cachedContents/y", "b")
    with pytest.raises(InvalidRequest) as refused:
        place.locate("files/x", "cachedContents/y")
    assert "files/x and cachedContents/y" in refused.value.message


def test_what_no_project_has_is_not_found_and_not_asked_for_again_at_once():
    place = Place({"a": [ABSENT, ABSENT], "b": [GONE, GONE]})
    for _ in range(2):
        with pytest.raises(NotFound) as refused:
            place.locate("files/x")
        assert "files/x" in refused.value.message
    assert place.upstream.keys_used == ["a", "b"]
    place.now += 6
    with pytest.raises(NotFound):
        place.locate("files/x")
    assert len(place.upstream.requests) == 4


@pytest.mark.parametrize("silence", [error(503, "Overloaded.", "UNAVAILABLE"), FailureKind.REFUSED])
def test_a_project_that_does_not_answer_may_have_it(silence):
    place = Place({"a": [silence], "b": [ABSENT]})
    with pytest.raises(NoHealthyKeys) as refused:
        place.locate("files/x")
    assert refused.value.retry_after == 1.0


def test_another_key_of_the_project_is_asked_where_one_is_rejected():
    invalid = error(400, "API key not valid.", "INVALID_ARGUMENT")
    place = Place({"a-1": [invalid], "a-2": [described(name="files/x")], "b": []})
    assert place.locate("files/x").project == "a"
    assert place.upstream.keys_used == ["a-1", "a-2"]


def test_a_disabled_project_is_not_asked_and_does_not_count_as_silent():
    place = Place({"a": [ABSENT], "b": []})
    place.pool.disable("b")
    with pytest.raises(NotFound):
        place.locate("files/x")


def test_the_last_key_of_a_project_is_gone():
    place = Place({"a": [ABSENT], "b": [], "c": [ABSENT]})
    place.locator.learn("files/x", "b")
    place.pool.apply([place.key("a"), place.key("c")], PoolSettings(), place.now)
    with pytest.raises(NotFound) as refused:
        place.locate("files/x")
    assert refused.value.reason == "project_without_keys"
    place.pool.apply([place.key(name) for name in "abc"], PoolSettings(), place.now)
    assert place.locate("files/x").project == "b"


def test_a_project_that_has_another_name_now_is_found_again():
    place = Place({"a": [ABSENT], "b": [], "new": [described(name="files/x")]})
    place.locator.learn("files/x", "b")
    place.pool.apply([place.key("a"), place.key("new")], PoolSettings(), place.now)
    assert place.locate("files/x").project == "new"


def test_with_one_project_nothing_is_asked():
    place = Place({"a-1": [], "a-2": []})
    assert place.locate("files/x") is None
    assert place.upstream.requests == []


@pytest.mark.parametrize("name", ["gs://bucket/a.pdf", "files/../models", "files/x?y", "files/"])
def test_what_is_no_name_of_a_resource_is_never_part_of_a_path(name):
    place = Place({"a": [], "b": []})
    assert place.locate(name) is None
    assert place.upstream.requests == []


def test_the_state_of_a_key_says_nothing_about_files():
    place = Place({"a": [described(name="files/x")], "b": [whole()]})
    lease = place.pool.acquire("m", NOON)
    place.pool.record(lease, Outcome(Verdict.QUOTA_MINUTE, 429, retry_after=30.0), NOON)
    assert place.locate("files/x").project == "a"
