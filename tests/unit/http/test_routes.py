"""The table of paths."""

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemproxy.http.routes import RouteTable, is_admin_path

TABLE = RouteTable(
    {
        "/a/things": {"GET": "list"},
        "/a/things/{id}": {"GET": "show", "PUT": "replace"},
        "/a/things/{id}/stop": {"POST": "stop"},
    }
)


@pytest.mark.parametrize(
    ("path", "template", "value"),
    [
        ("/a/things", "/a/things", ""),
        ("/a/things/one", "/a/things/{id}", "one"),
        ("/a/things/one/stop", "/a/things/{id}/stop", "one"),
        ("/a/things/stop", "/a/things/{id}", "stop"),
        ("/a/things/%7Bid%7D", "/a/things/{id}", "{id}"),
        ("/a/things/team%2Fone/stop", "/a/things/{id}/stop", "team/one"),
        ("/a/things/gr%C3%BCn%20x", "/a/things/{id}", "grün x"),
        ("/a/things/a+b", "/a/things/{id}", "a+b"),
        ("/a/thing%73", "/a/things", ""),
        ("/a/things/..", "/a/things/{id}", ".."),
    ],
)
def test_paths_that_are_served(path, template, value):
    found = TABLE.find(path)
    assert (found.template, found.value) == (template, value)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/a",
        "/a/",
        "/a/things/",
        "//a/things",
        "/a//things",
        "/A/things",
        "/a/things//stop",
        "/a/things/team/one/stop",
        "/a/things/one/stop/",
        "/a/things%2Fone",
        "/b/a/things",
    ],
)
def test_paths_that_are_not(path):
    assert TABLE.find(path) is None


def test_methods_and_what_is_allowed():
    found = TABLE.find("/a/things/one")
    assert found.action("GET") == found.action("HEAD") == "show"
    assert found.action("PUT") == "replace"
    assert found.action("DELETE") is found.action("get") is None
    assert found.allow == ("GET", "PUT", "HEAD")
    assert TABLE.find("/a/things/one/stop").action("HEAD") is None
    assert TABLE.find("/a/things/one/stop").allow == ("POST",)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_every_name_can_be_asked_for(name):
    assert TABLE.find(f"/a/things/{quote(name, safe='')}/stop").value == name


@given(st.text())
def test_any_other_path_is_none(path):
    assert TABLE.find(f"/b{path}") is None


def test_what_belongs_to_the_admin_api():
    for path in (b"/admin", b"/admin/", b"/admin/x", b"/admin//x"):
        assert is_admin_path(path)
    for path in (b"/administrators", b"/v1/admin", b"//admin", b"/", b"", b"/Admin/"):
        assert not is_admin_path(path)
