"""JSON Schema as clients write it, as Gemini takes it."""

import contextlib
import copy
import json
import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemproxy.core.errors import InvalidRequest
from gemproxy.translate.shared.schema import MAX_DEPTH, clean_schema, schema_text
from gemproxy.translate.shared.schema_budget import SchemaBudget


def cleaned(schema):
    before = copy.deepcopy(schema)
    made = clean_schema(schema, "p", SchemaBudget())
    assert schema == before
    return made


def wrapped(schema, **more):
    """``schema`` as the property ``a`` of an object."""
    return {"type": "object", "properties": {"a": schema}, **more}


def inner(schema, **more):
    return cleaned(wrapped(schema, **more))["properties"]["a"]


def refusal(schema):
    with pytest.raises(InvalidRequest) as caught:
        clean_schema(schema, "tools[0].function.parameters", SchemaBudget())
    assert caught.value.param == "tools[0].function.parameters"
    return caught.value.message


def test_a_plain_schema_stays_as_it_is():
    schema = {
        "type": "object",
        "title": "T",
        "description": "d",
        "properties": {
            "s": {"type": "string", "enum": ["a", "b"], "format": "date"},
            "n": {"type": ["number", "null"], "minimum": 0, "maximum": 1},
            "l": {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 3},
            "t": {"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}]},
            "c": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        },
        "required": ["s", "n"],
        "additionalProperties": False,
    }
    assert cleaned(schema) == schema


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"$schema": "x", "$comment": "y", "examples": [1], "type": "string"}, {"type": "string"}),
        ({"not": {}, "if": {}, "then": {}, "else": {}, "type": "string"}, {"type": "string"}),
        ({"const": "x"}, {"enum": ["x"], "type": "string"}),
        ({"const": None}, {"enum": [None], "type": "null"}),
        ({"type": "STRING"}, {"type": "string"}),
        ({"type": ["STRING", "null"]}, {"type": ["string", "null"]}),
        ({"type": ["string"]}, {"type": "string"}),
        ({"type": "file"}, {}),
        (
            {"oneOf": [{"type": "string"}, {"const": 1}]},
            {"anyOf": [{"type": "string"}, {"enum": [1], "type": "integer"}]},
        ),
        ({"anyOf": [{"type": "string"}, True]}, {}),
        ({"anyOf": [{"required": ["x"]}, {"required": ["y"]}]}, {}),
        ({"type": "string", "nullable": True}, {"type": ["string", "null"]}),
        (
            {"enum": ["a"], "type": "string", "nullable": True},
            {"type": ["string", "null"], "enum": ["a", None]},
        ),
        (
            {"anyOf": [{"type": "string"}], "nullable": True},
            {"anyOf": [{"type": "string"}, {"type": "null"}]},
        ),
        ({"type": "integer", "exclusiveMinimum": 0}, {"type": "integer", "minimum": 1}),
        ({"type": "integer", "exclusiveMaximum": 9}, {"type": "integer", "maximum": 8}),
        (
            {"type": "integer", "exclusiveMinimum": 0, "minimum": 5},
            {"type": "integer", "minimum": 5},
        ),
        ({"type": "number", "exclusiveMinimum": 0}, {"type": "number", "minimum": 0}),
        (
            {"type": "integer", "minimum": 3, "exclusiveMinimum": True},
            {"type": "integer", "minimum": 4},
        ),
        (
            {"type": "integer", "minimum": 3, "exclusiveMinimum": False},
            {"type": "integer", "minimum": 3},
        ),
        (
            {"items": [{"type": "string"}], "additionalItems": {"type": "null"}},
            {"type": "array", "prefixItems": [{"type": "string"}], "items": {"type": "null"}},
        ),
        (
            {"prefixItems": [{"type": "string"}], "items": False},
            {"type": "array", "prefixItems": [{"type": "string"}]},
        ),
        (
            {"properties": {"x": True, "y": False}, "required": ["x", "y"]},
            {"type": "object", "properties": {"x": {}}, "required": ["x"]},
        ),
        (
            {"type": "object", "patternProperties": {"^.*$": {"type": "string"}}},
            {"type": "object", "additionalProperties": {"type": "string"}},
        ),
        (
            {"type": "object", "additionalProperties": True},
            {"type": "object", "additionalProperties": True},
        ),
        (
            {"properties": {"x": {}}, "required": ["z", "x", "x", 5]},
            {"type": "object", "properties": {"x": {}}, "required": ["x"]},
        ),
        ({"properties": {"x": {}}, "required": True}, {"type": "object", "properties": {"x": {}}}),
        ({"type": "object", "required": ["x"]}, {"type": "object"}),
        ({"type": "string", "description": 5}, {"type": "string"}),
        (True, {}),
        (False, None),
    ],
)
def test_each_rewriting(schema, expected):
    made = cleaned(wrapped(schema))["properties"].get("a")
    assert made == expected


def test_what_cannot_be_enforced_is_told():
    made = inner({"type": "string", "description": "A word", "pattern": "^a$", "maxLength": 3})
    assert made == {"type": "string", "description": "A word (pattern: ^a$, maxLength: 3)"}


def test_what_cannot_be_enforced_is_told_without_a_description_too():
    assert inner({"type": "integer", "default": 0, "multipleOf": 5})["description"] == (
        "(multipleOf: 5, default: 0)"
    )


def test_a_property_may_be_called_like_a_keyword():
    names = ["$ref", "const", "oneOf", "default", "nullable", "allOf", "definitions"]
    schema = {"type": "object", "properties": {name: {"type": "string"} for name in names}}
    assert cleaned(schema) == schema


# allOf ------------------------------------------------------------------------------------------


def test_all_of_is_merged():
    schema = {
        "description": "outer",
        "allOf": [
            {"type": "object", "properties": {"a": {"type": "number", "minimum": 1}},
             "required": ["a"], "description": "inner"},
            {"properties": {"a": {"type": "integer", "minimum": 3}, "b": {"type": "string"}},
             "required": ["b"]},
        ],
    }  # fmt: skip
    assert cleaned(schema) == {
        "description": "outer",
        "type": "object",
        "properties": {"a": {"type": "integer", "minimum": 3}, "b": {"type": "string"}},
        "required": ["a", "b"],
    }


def test_all_of_one_reference_is_inlined():
    made = inner({"allOf": [{"$ref": "#/$defs/X"}]}, **{"$defs": {"X": {"type": "string"}}})
    assert made == {"type": "string"}


def test_all_of_meets_enums():
    made = inner({"allOf": [{"enum": ["a", "b"]}, {"enum": ["b", "c"]}]})
    assert made == {"enum": ["b"], "type": "string"}


def test_all_of_itself_is_refused():
    assert "allOf" in refusal(wrapped({"$ref": "#/$defs/X", "title": "t"}) | {
        "$defs": {"X": {"allOf": [{"$ref": "#/$defs/X"}]}}
    })  # fmt: skip


# References -------------------------------------------------------------------------------------

POINT = {"type": "object", "properties": {"x": {"type": "number"}}, "required": ["x"]}


def test_references_are_kept():
    schema = wrapped({"$ref": "#/$defs/Point"}, **{"$defs": {"Point": POINT}})
    assert cleaned(schema) == schema


def test_definitions_are_renamed_and_unused_ones_left_out():
    schema = wrapped(
        {"type": "array", "items": {"$ref": "#/definitions/Point"}},
        definitions={"Point": POINT, "Unused": {"type": "string"}},
    )
    assert cleaned(schema) == wrapped(
        {"type": "array", "items": {"$ref": "#/$defs/Point"}}, **{"$defs": {"Point": POINT}}
    )


def test_words_beside_a_reference_bring_its_definition_in():
    schema = wrapped(
        {"$ref": "#/$defs/Point", "description": "where"}, **{"$defs": {"Point": POINT}}
    )
    assert cleaned(schema) == wrapped({**POINT, "description": "where"})


def test_a_nullable_reference_is_a_choice():
    made = inner({"$ref": "#/$defs/Point", "nullable": True}, **{"$defs": {"Point": POINT}})
    assert made == {"anyOf": [{"$ref": "#/$defs/Point"}, {"type": "null"}]}


def test_a_root_that_is_a_reference_says_itself_what_it_is():
    schema = {"$ref": "#/definitions/P", "definitions": {"P": POINT}, "$schema": "x"}
    assert cleaned(schema) == POINT


def test_a_reference_into_the_schema_gets_a_definition():
    schema = {"type": "object", "properties": {"a": POINT, "b": {"$ref": "#/properties/a"}}}
    made = cleaned(schema)
    assert made["properties"]["b"] == {"$ref": "#/$defs/a"}
    assert made["$defs"] == {"a": POINT}


def test_escaped_references_are_followed():
    schema = wrapped({"$ref": "#/$defs/a~1b%20c"}, **{"$defs": {"a/b c": {"type": "string"}}})
    made = cleaned(schema)
    (name,) = made["$defs"]
    assert made["properties"]["a"] == {"$ref": f"#/$defs/{name}"}
    assert made["$defs"][name] == {"type": "string"}


def test_definitions_of_the_same_last_name_stay_apart():
    schema = {
        "type": "object",
        "properties": {"a": {"$ref": "#/$defs/X"}, "b": {"$ref": "#/definitions/X"}},
        "$defs": {"X": {"type": "string"}},
        "definitions": {"X": {"type": "number"}},
    }
    made = cleaned(schema)
    names = [made["properties"][each]["$ref"].rpartition("/")[2] for each in "ab"]
    assert [made["$defs"][name]["type"] for name in names] == ["string", "number"]


def test_a_cycle_stays_but_is_not_required():
    node = {
        "type": "object",
        "properties": {
            "value": {"type": "string"},
            "next": {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]},
        },
        "required": ["value", "next"],
    }
    made = cleaned(wrapped({"$ref": "#/$defs/Node"}, required=["a"], **{"$defs": {"Node": node}}))
    assert made["required"] == ["a"]
    assert made["$defs"]["Node"]["required"] == ["value"]
    assert made["$defs"]["Node"]["properties"]["next"] == node["properties"]["next"]


def test_a_cycle_through_the_root_is_not_required():
    children = {"type": "array", "items": {"$ref": "#"}}
    made = cleaned({"type": "object", "properties": {"c": children}, "required": ["c"]})
    assert made == {"type": "object", "properties": {"c": children}}


def test_words_beside_a_cyclic_reference_are_dropped():
    node = {"type": "object", "properties": {"n": {"$ref": "#/$defs/N", "description": "d"}}}
    made = cleaned(wrapped({"$ref": "#/$defs/N"}, **{"$defs": {"N": node}}))
    assert made["$defs"]["N"]["properties"]["n"] == {"$ref": "#/$defs/N"}


@pytest.mark.parametrize(
    "reference",
    ["#/$defs/Missing", "https://a.example/schema.json", "other.json#/x", "#/type", 5, "#x/y"],
)
def test_a_reference_that_leads_nowhere_is_refused(reference):
    assert "$ref" in refusal(wrapped({"$ref": reference}))


@pytest.mark.parametrize("reference", ["#/$defs/A"])
def test_a_root_that_refers_only_to_itself_is_refused(reference):
    schema = {"$ref": reference, "$defs": {"A": {"$ref": "#/$defs/B"}, "B": {"$ref": reference}}}
    assert "refers to itself" in refusal(schema)


# Bounds -----------------------------------------------------------------------------------------


def nested(levels):
    schema = {"type": "string"}
    for _ in range(levels):
        schema = {"type": "array", "items": schema}
    return schema


def test_the_text_of_a_schema_names_its_own_place_each_time():
    schema = wrapped({"$ref": "#/nowhere"})
    for path in ("a", "b"):
        with pytest.raises(InvalidRequest) as caught:
            schema_text(schema, path, SchemaBudget())
        assert caught.value.param == path


def test_a_long_schema_has_the_same_text_as_a_short_one():
    long = wrapped({"const": "x", "description": "d" * 20_000})
    for _ in range(2):
        assert json.loads(bytes(schema_text(long, "p", SchemaBudget()))) == cleaned(long)


def test_remembered_schemas_make_room_for_each_other():
    tracemalloc.start()
    for number in range(2_000):
        schema_text(
            wrapped({"type": "string", "description": f"{number:07000}"}), "p", SchemaBudget()
        )
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # Two thousand would be some 28 MB.
    assert held < 12_000_000


def test_absurd_depth_is_refused_before_anything_else():
    with pytest.raises(InvalidRequest) as caught:
        schema_text(nested(100_000), "p", SchemaBudget())
    assert caught.value.param == "p"


def test_depth_is_bounded():
    assert clean_schema(nested(MAX_DEPTH), "p", SchemaBudget())
    assert "levels deep" in refusal(nested(MAX_DEPTH + 1))
    assert "levels deep" in refusal(nested(900))


def doubling(levels, **siblings):
    definitions = {"D0": {"type": "string"}}
    for level in range(1, levels):
        reference = {"$ref": f"#/$defs/D{level - 1}", **siblings}
        definitions[f"D{level}"] = wrapped(reference) | {
            "properties": {"a": reference, "b": reference}
        }
    return wrapped({"$ref": f"#/$defs/D{levels - 1}", **siblings}) | {"$defs": definitions}


def test_references_that_multiply_are_bounded():
    assert len(json.dumps(clean_schema(doubling(40), "p", SchemaBudget()))) < 10_000
    assert "larger than" in refusal(doubling(20, title="t"))


@pytest.mark.parametrize(
    "schema",
    [
        {"allOf": [{"$ref": "#/$defs/B"}] * 1000
         + [{"$ref": "#/$defs/B", "title": str(i)} for i in range(3000)],
         "$defs": {"B": {"properties": {f"p{i}": {} for i in range(3000)}}}},
        {"allOf": [{"enum": list(range(i, i + 20_000))} for i in range(50)]},
        {"$defs": {f"D{i}": {"properties": {f"p{j}": {"$ref": f"#/$defs/D{j}"} for j in range(60)},
                             "required": [f"p{j}" for j in range(60)]} for i in range(60)},
         "properties": {f"p{j}": {"$ref": f"#/$defs/D{j}"} for j in range(60)}},
        {"properties": {f"p{i}": {"$ref": f"#/$defs/x{i}/foo"} for i in range(5000)},
         "$defs": {f"x{i}": {"foo": {}} for i in range(5000)}},
    ],
    ids=["merging", "enums", "graph", "names"],
)  # fmt: skip
def test_hostile_schemas_cost_little(schema):
    begun = time.process_time()
    with contextlib.suppress(InvalidRequest):
        clean_schema(schema, "p", SchemaBudget())
    assert time.process_time() - begun < 2


KEYWORDS = (
    "type", "properties", "items", "anyOf", "oneOf", "allOf", "$ref", "required", "enum", "const",
    "nullable", "additionalProperties", "exclusiveMinimum", "minimum", "description", "default",
    "$defs", "definitions", "prefixItems", "patternProperties", "a",
)  # fmt: skip
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from(["string", "object", "#", "#/$defs/a", "#/properties/a", "#/items", "a"]),
    lambda each: (
        st.lists(each, max_size=3) | st.dictionaries(st.sampled_from(KEYWORDS), each, max_size=5)
    ),
    max_leaves=20,
)
schemas = st.dictionaries(st.sampled_from(KEYWORDS), values, max_size=6)


@given(schemas)
def test_any_json_object_is_cleaned_or_refused(schema):
    made = None
    with contextlib.suppress(InvalidRequest):
        made = clean_schema(schema, "p", SchemaBudget())
    if made is not None:
        assert json.loads(bytes(schema_text(schema, "p", SchemaBudget()))) == made
        assert not {"allOf", "oneOf", "const", "nullable", "definitions"} & set(made)
