"""Values made from a schema fit it."""

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemproxy.simulator import config_for
from gemproxy.simulator.api import Api
from gemproxy.simulator.keyring import Keyring
from gemproxy.simulator.recording import received
from gemproxy.simulator.schemas import example

TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}


def fits(value, schema, root):
    """A small validator of JSON Schema, for what the generator promises."""
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].removeprefix("#/$defs/")]
    if "enum" in schema:
        return value in schema["enum"]
    for keyword in ("anyOf", "oneOf"):
        if keyword in schema:
            return any(fits(value, branch, root) for branch in schema[keyword])
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    return any(_fits_type(value, kind.lower(), schema, root) for kind in kinds)


def _fits_type(value, kind, schema, root):
    if kind == "integer":
        typed = isinstance(value, int) and not isinstance(value, bool)
        return typed and schema.get("minimum", value) <= value <= schema.get("maximum", value)
    if kind == "number":
        typed = isinstance(value, (int, float)) and not isinstance(value, bool)
        return typed and schema.get("minimum", value) <= value <= schema.get("maximum", value)
    if not isinstance(value, TYPES[kind]):
        return False
    if kind == "string":
        return schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value))
    if kind == "array":
        long_enough = schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value))
        return long_enough and all(fits(item, schema["items"], root) for item in value)
    if kind == "object":
        properties = schema.get("properties", {})
        return set(schema.get("required", ())) <= set(value) <= set(properties) and all(
            fits(item, properties[name], root) for name, item in value.items()
        )
    return True


LEAVES = st.one_of(
    st.just({"type": "boolean"}),
    st.just({"type": "null"}),
    st.just({"type": ["string", "null"]}),
    st.just({"$ref": "#/$defs/Tree"}),
    st.lists(st.text(min_size=1) | st.integers(), min_size=1, max_size=3).map(
        lambda v: {"type": "string", "enum": v}
    ),
    st.tuples(st.integers(-50, 50), st.integers(0, 9)).map(
        lambda v: {"type": "integer", "minimum": v[0], "maximum": v[0] + v[1]}
    ),
    st.tuples(st.floats(-50, 50), st.floats(0, 9)).map(
        lambda v: {"type": "number", "minimum": v[0], "maximum": v[0] + v[1]}
    ),
    st.tuples(st.integers(0, 30), st.integers(0, 30)).map(
        lambda v: {"type": "STRING", "minLength": v[0], "maxLength": v[0] + v[1]}
    ),
)


def _object(properties):
    return {"type": "object", "properties": properties, "required": sorted(properties)[::2]}


SCHEMAS = st.recursive(
    LEAVES,
    lambda below: st.one_of(
        st.dictionaries(st.text("abc", min_size=1, max_size=2), below, max_size=3).map(_object),
        st.tuples(below, st.integers(0, 3), st.integers(0, 3)).map(
            lambda v: {"type": "array", "items": v[0], "minItems": v[1], "maxItems": v[1] + v[2]}
        ),
        st.lists(below, min_size=1, max_size=3).map(lambda v: {"anyOf": v}),
    ),
    max_leaves=8,
)
TREE = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "left": {"anyOf": [{"$ref": "#/$defs/Tree"}, {"type": "null"}]},
        "children": {"type": "array", "items": {"$ref": "#/$defs/Tree"}},
    },
    "required": ["name", "left"],
}


@given(SCHEMAS, st.integers())
def test_the_example_fits_its_schema(schema, seed):
    root = {**schema, "$defs": {"Tree": TREE}}
    assert fits(example(root, random.Random(seed)), root, root)


@given(SCHEMAS)
def test_the_same_dice_make_the_same_example(schema):
    root = {**schema, "$defs": {"Tree": TREE}}
    assert example(root, random.Random(1)) == example(root, random.Random(1))


def test_a_required_recursion_without_end_ends():
    loop = {"type": "object", "properties": {"next": {"$ref": "#"}}, "required": ["next"]}
    assert "next" in example(loop, random.Random(1))


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "integer", "const": 4}, 4),
        ({"type": "integer", "exclusiveMinimum": 4, "exclusiveMaximum": 6}, 5),
        ({"type": "integer", "multipleOf": 7, "minimum": 20, "maximum": 27}, 21),
        (
            {
                "type": "array",
                "prefixItems": [{"type": "integer", "const": 1}, {"type": "integer", "const": 2}],
                "items": False,
            },
            [1, 2],
        ),
        (
            {
                "allOf": [
                    {"properties": {"a": {"type": "integer", "const": 1}}},
                    {"properties": {"b": {"type": "integer", "const": 2}}},
                ]
            },
            {"a": 1, "b": 2},
        ),
        (
            {
                "type": "object",
                "properties": {
                    "b": {"type": "integer", "const": 1},
                    "a": {"type": "integer", "const": 2},
                },
                "propertyOrdering": ["a", "b"],
            },
            {"a": 2, "b": 1},
        ),
    ],
)
def test_keywords(schema, expected):
    assert example(schema, random.Random(3)) == expected


@pytest.mark.parametrize("keyword", [{"const": 4}, {"enum": [4]}])
def test_an_enumeration_without_a_type_is_not_heeded(keyword):
    assert example(keyword, random.Random(3)) != 4
    assert example({"type": "integer", **keyword}, random.Random(3)) == 4


@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=3),
        lambda b: (
            st.lists(b, max_size=2)
            | st.dictionaries(
                st.sampled_from(["type", "properties", "items", "anyOf", "enum", "required"]),
                b,
                max_size=3,
            )
        ),
        max_leaves=6,
    )
)
def test_nonsense_makes_no_crash_through_the_api(schema):
    """Any JSON may stand where a JSON Schema is expected."""
    settings = config_for([("one", "k")])
    path = "/v1beta/models/gemini-3.8-flash:generateContent"
    exchange = received(1, 0.0, "POST", path, {}, {"x-goog-api-key": "k"})
    body = {
        "contents": [{"parts": [{"text": "Hi"}]}],
        "generationConfig": {"responseMimeType": "application/json", "responseJsonSchema": schema},
    }
    steps = list(Api(settings, Keyring(settings)).respond(exchange, json.dumps(body).encode(), 0.0))
    assert steps[0].status in {200, 400}
