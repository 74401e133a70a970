"""What a hostile request costs: each shape of :mod:`fakes.hostile_bodies`, in processor time.

The bounds are those of the contract where nothing else runs: no body below 256 KiB holds up the
reactor for more than 50 ms. On a loaded machine times are several times longer, so that the tests
allow ten times that much; what they are to find takes seconds.
"""

import contextlib
import itertools
import time
import tracemalloc

import pytest
from fakes.hostile_bodies import all_shapes, dumped, nested, request, tool, with_format, with_schema
from fakes.openai_errors import seen
from hypothesis import given, settings
from hypothesis import strategies as st

from gemproxy.api.openai.schema.requests import decode_chat_completion
from gemproxy.core.errors import InvalidRequest
from gemproxy.translate.openai_chat__gemini.request import to_gemini
from gemproxy.translate.shared.schema_budget import OutOfSteps, SchemaBudget
from gemproxy.translate.shared.signatures import SignatureStore

SHAPES = all_shapes()
#: Just below what is translated in a thread, and the size of the first body that showed the fault.
SIZES = (262_000, 69_000)


def translated(body, *, brief=False, budget=None):
    request = decode_chat_completion(body)
    return to_gemini(
        request,
        model=request.model,
        signatures=SignatureStore(),
        budget=budget or SchemaBudget(brief=brief),
    )


def is_cheap(body, *, brief):
    """Whether it takes no longer than allowed; once more if not, since others may disturb it."""
    for _ in range(2):
        begun = time.process_time()
        with contextlib.suppress(InvalidRequest, OutOfSteps):
            translated(body, brief=brief)
        if time.process_time() - begun < (0.5 if brief else 1.0):
            return True
    return False


@pytest.mark.parametrize("shape", SHAPES)
def test_no_body_holds_up_the_reactor_or_a_thread(shape):
    """In the reactor the budget is brief; beyond it a thread begins anew, with the whole one."""
    for size in SIZES:
        body = SHAPES[shape](size)
        assert is_cheap(body, brief=True)
        assert is_cheap(body, brief=False)


@pytest.mark.parametrize(
    ("what", "size"),
    [
        ("enum", 69_000),
        ("names", 262_000),
        ("required-names", 262_000),
        ("references", 262_000),
    ],
)
def test_a_body_makes_no_hundreds_of_megabytes(what, size):
    """Copies are counted by their bytes: of values, and of names, which may be as long."""
    body = SHAPES[f"schema-copied-{what}"](size)
    tracemalloc.start()
    with contextlib.suppress(InvalidRequest):
        translated(body)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 40_000_000


def test_a_schema_beyond_the_budget_is_refused_by_name():
    """The message says which budget it is, and what there was too much of."""
    with pytest.raises(InvalidRequest) as caught:
        translated(SHAPES["schema-merged-enums"](69_000))
    assert seen(caught.value).status == 400
    assert caught.value.param == "tools[0].function.parameters"
    assert "the schemas of one request may take 400000 steps" in caught.value.message
    assert "too many values to compare" in caught.value.message


def test_all_schemas_of_a_request_share_one_budget():
    """What one tool may cost, two may not each, nor a tool and the answer's format."""
    enum = [nested(8, k) for k in range(340)]
    schema = {"properties": {"p": {"enum": enum, "allOf": [{"enum": enum[::-1]}] * 5}}}
    assert translated(dumped(with_schema(schema)))
    assert translated(dumped(with_format(schema)))
    with pytest.raises(InvalidRequest) as caught:
        translated(dumped(request(tools=[tool("f", schema), tool("g", {**schema, "title": "g"})])))
    assert caught.value.param == "tools[1].function.parameters"
    with pytest.raises(InvalidRequest) as caught:
        translated(dumped({**with_schema(schema), **with_format({**schema, "title": "g"})}))
    assert caught.value.param == "response_format.json_schema.schema"


def test_what_was_made_for_a_first_translation_is_not_made_again():
    """A request is translated anew where Google refuses a signature: in the reactor."""
    body = SHAPES["schema-names"](100_000)
    budget = SchemaBudget()
    first = translated(body, budget=budget)
    used = budget.used
    assert used > 50_000
    assert translated(body, budget=budget).body == first.body
    assert budget.used == used


BOUNDS = ["exclusiveMinimum", "exclusiveMaximum", "minimum", "maximum", "minItems", "maxItems"]
WORDS = ["default", "multipleOf", "minLength", "minProperties", "const", "enum", "type", "required"]


@pytest.mark.parametrize("digits", [308, 310, 10_000])
@pytest.mark.parametrize("keyword", BOUNDS + WORDS)
def test_numbers_of_any_length_are_taken_or_refused(keyword, digits):
    """No double holds the longer ones, so that Google would refuse them; none is a 500 of ours."""
    number = "1" * digits
    for kind, value in itertools.product(
        ("integer", "number"), (number, f"-{number}", f"[{number}]", f'{{"a":{number}}}')
    ):
        node = {"type": kind, "minimum": 1, "maximum": 2, keyword: "VALUE"}
        body = dumped(with_schema({"properties": {"p": node}}))
        body = body.replace(b'"VALUE"', value.encode())
        if digits <= 308:
            assert translated(body)
            continue
        with pytest.raises(InvalidRequest) as caught:
            translated(body)
        assert caught.value.param.startswith("tools[0].function.parameters")


def test_a_text_of_many_digits_is_no_number():
    """An identifier in a description may be as long as it likes."""
    long = "9" * 5000
    schema = {"properties": {"p": {"description": f"a:{long}", "enum": [f"b,{long}"]}}}
    assert long.encode() in bytes(translated(dumped(with_schema(schema))).body)


@pytest.mark.parametrize("token", ["9" * 10_000, "٣", "00", "-1", "1.0", "1" * 9])
def test_a_reference_to_no_place_of_a_list_is_refused(token):
    """Whatever stands for the place; Python would read some of these as numbers, and others not."""
    schema = {"properties": {"a": {"$ref": f"#/anyOf/{token}"}}, "anyOf": [{"title": "t"}]}
    with pytest.raises(InvalidRequest, match="leads nowhere"):
        translated(dumped(with_schema(schema)))


KEYWORDS = (
    "type", "properties", "items", "anyOf", "oneOf", "allOf", "$ref", "required", "enum", "const",
    "nullable", "additionalProperties", "exclusiveMinimum", "minimum", "description", "default",
    "$defs", "prefixItems", "a",
)  # fmt: skip
values = st.recursive(
    st.sampled_from(["string", "#", "#/$defs/a", "#/$defs/b", "a", 1, 1.5, True, None, "x" * 500]),
    lambda each: (
        st.lists(each, max_size=4)
        | st.dictionaries(st.sampled_from(KEYWORDS), each, max_size=5)
        | st.tuples(each, st.integers(1, 200)).map(lambda pair: [pair[0]] * pair[1])
    ),
    max_leaves=12,
)
schemas = st.dictionaries(st.sampled_from(KEYWORDS), values, min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(schemas, schemas, st.integers(1, 300))
def test_what_is_multiplied_by_references_and_merging_is_bounded(one, other, times):
    """Shapes that nobody thought of: two random schemas that all places refer to and merge."""
    reference = {"$ref": "#/$defs/a", "title": "t"}
    body = dumped(
        with_schema(
            {
                **other,
                "properties": {f"p{k}": reference for k in range(times)},
                "required": [f"p{k}" for k in range(times)],
                "allOf": [{"$ref": "#/$defs/b"}] * times,
                "$defs": {"a": one, "b": other},
            }
        )
    )
    if len(body) < 256 * 1024:
        assert is_cheap(body, brief=True)
        assert is_cheap(body, brief=False)
