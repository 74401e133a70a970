"""No two modules import each other, not even through others or for annotations alone."""

from graphlib import CycleError, TopologicalSorter

import grimp
import pytest


def imports():
    graph = grimp.build_graph("gemproxy", cache_dir=None)
    return {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}


def check(edges):
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        pytest.fail("modules import each other: " + " <- ".join(error.args[1]))


def test_modules_import_each_other_nowhere():
    edges = imports()
    assert "gemproxy.http.connection" in edges["gemproxy.http.site"]
    check(edges)


def test_a_cycle_is_found():
    with pytest.raises(pytest.fail.Exception, match="a <- c <- b"):
        check({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}})
