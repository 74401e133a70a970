"""Which project a resource belongs to, and until when that is known."""

from gemproxy.pool.resources import Resource, ResourceRegistry

NOW = 1_790_000_000.0


def test_a_resource_is_known_until_it_expires():
    registry = ResourceRegistry()
    registry.learn("files/a", "one", NOW + 60)
    assert registry.project_of("files/a", NOW) == "one"
    assert registry.project_of("files/a", NOW + 60) is None
    assert registry.resources(NOW + 59) == (Resource("files/a", "one", NOW + 60),)
    assert registry.resources(NOW + 60) == ()
    assert len(registry) == 0


def test_what_was_deleted_is_forgotten():
    registry = ResourceRegistry()
    registry.learn("files/a", "one", NOW + 60)
    registry.forget("files/a")
    registry.forget("files/b")
    assert registry.project_of("files/a", NOW) is None
    assert registry.resources(NOW) == ()


def test_the_oldest_give_way_and_what_is_learned_again_is_young():
    registry = ResourceRegistry(capacity=2)
    for name in ("files/a", "files/b", "files/a", "files/c", "files/" + "x" * 300):
        registry.learn(name, "one", NOW + 60)
    assert [each.name for each in registry.resources(NOW)] == ["files/a", "files/c"]


def test_unchanged_resources_are_the_same_objects_so_that_a_store_writes_only_changes():
    registry = ResourceRegistry()
    registry.learn("files/a", "one", NOW + 60)
    before = registry.resources(NOW)
    assert registry.resources(NOW) is before
    registry.learn("files/a", "one", NOW + 60)
    registry.learn("files/b", "two", NOW + 60)
    assert registry.resources(NOW)[0] is before[0]


def test_stored_resources_stand_before_those_that_were_learned_since():
    registry = ResourceRegistry(capacity=3)
    registry.learn("files/b", "new", NOW + 60)
    stored = [Resource(f"files/{name}", "old", NOW + 30) for name in "xyzb"]
    registry.restore(stored)
    assert [each.name for each in registry.resources(NOW)] == ["files/y", "files/z", "files/b"]
    assert registry.project_of("files/b", NOW) == "new"
    assert [each.name for each in registry.resources(NOW + 30)] == ["files/b"]
