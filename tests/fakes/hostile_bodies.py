"""Requests whose translation would cost much more than their length tells.

Each shape makes a body of about the number of bytes that it is asked for. They are valid JSON, and
what is made of them (an answer of the upstream's, a 400) is no matter: what counts is the time.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

Shape = Callable[[int], bytes]


def dumped(value: object) -> bytes:
    """``value`` as JSON without blanks, as a hostile client would save every byte."""
    return json.dumps(value, separators=(",", ":")).encode()


def filled(size: int, make: Callable[[int], object]) -> bytes:
    """The JSON of ``make(n)`` for about the largest ``n`` that keeps it within ``size`` bytes."""
    few, many = 1, 2
    body = b""
    while len(longer := dumped(make(many))) <= size:
        few, many, body = many, many * 2, longer
    while many - few > 1 and len(body) < 0.97 * size:
        middle = (few + many) // 2
        longer = dumped(make(middle))
        if len(longer) <= size:
            few, body = middle, longer
        else:
            many = middle
    return body


_USER = {"role": "user", "content": "x"}


def request(**more: object) -> dict[str, object]:
    """The least request, and ``more``."""
    return {"model": "gemini-3.8-flash", "messages": [_USER], **more}


def tool(name: str, parameters: object) -> dict[str, object]:
    """A tool of a request."""
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


def with_schema(schema: object) -> dict[str, object]:
    """A request whose one tool has ``schema``."""
    return request(tools=[tool("f", schema)])


def with_format(schema: object) -> dict[str, object]:
    """A request whose answer shall follow ``schema``."""
    return request(
        response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    )


def nested(levels: int, inside: object = 0) -> Any:
    """``{"a": {"a": …}}``."""
    for _ in range(levels):
        inside = {"a": inside}
    return inside


def _properties(count: int, each: object = None) -> dict[str, object]:
    return {f"p{n}": {} if each is None else each for n in range(count)}


def _merged_enums(n: int) -> object:
    members = [nested(8, k) for k in range(n)]
    definitions = {"b": {"enum": members[::-1]}}
    merged = {"enum": members, "allOf": [{"$ref": "#/$defs/b"}] * 80}
    return with_schema({"properties": {"p": merged}, "$defs": definitions})


def _merged_required(n: int) -> object:
    required = [f"r{k}" for k in range(n)]
    merged = {"required": required, "allOf": [{"$ref": "#/$defs/b"}] * 100}
    return with_schema({**merged, "$defs": {"b": {"required": [f"q{k}" for k in range(n)]}}})


def _merged_types(n: int) -> object:
    kinds = ["string"] * n
    merged = {"type": ["number"] * n, "allOf": [{"$ref": "#/$defs/b"}] * 50}
    return with_schema({"properties": {"p": merged}, "$defs": {"b": {"type": kinds}}})


def _merged_properties(n: int) -> object:
    definitions = {"b": {"properties": _properties(n, {"title": "t"})}}
    return with_schema({"allOf": [{"$ref": "#/$defs/b", "a": k} for k in range(n)],
                        "properties": _properties(n), "$defs": definitions})  # fmt: skip


def _merged_deeply(n: int) -> object:
    tree: object = {"type": "string"}
    for _ in range(12):
        tree = {"properties": {"a": tree, "b": tree} if _ < 6 else {"a": tree}, "title": "t"}
    return with_schema({"allOf": [{"$ref": "#/$defs/b"}] * n, "$defs": {"b": tree, "c": tree}})


def _escaped_reference(n: int) -> object:
    reference = "#/$defs/" + "~1" * n
    definitions = {"/" * n: {"title": "t"}}
    return with_schema({"properties": {f"p{k}": {"$ref": reference, "title": "x"}
                                       for k in range(max(1, 200_000 // (2 * n + 30)))},
                        "$defs": definitions})  # fmt: skip


def _ring(n: int) -> object:
    definitions = {
        f"d{k}": {
            "properties": {"a": {"$ref": f"#/$defs/d{(k + 1) % n}"}},
            "required": ["a"],
        }
        for k in range(n)
    }
    return with_schema({"properties": {"a": {"$ref": "#/$defs/d0"}}, "$defs": definitions})


def _rings_of_nests(n: int) -> object:
    definitions = {
        f"d{k}": {"properties": {"a": nested_schema(60, {"$ref": f"#/$defs/d{(k + 1) % n}"})},
                  "required": ["a"]}
        for k in range(n)
    }  # fmt: skip
    return with_schema({"properties": {"a": {"$ref": "#/$defs/d0"}}, "$defs": definitions})


def nested_schema(levels: int, inside: object) -> Any:
    """Objects in objects, each of which requires its one property."""
    for _ in range(levels):
        inside = {"properties": {"a": inside}, "required": ["a"]}
    return inside


def _required_nests(n: int) -> object:
    nest = nested_schema(60, {"$ref": "#/$defs/d"})
    return with_schema({"properties": _properties(n, nest), "required": [f"p{k}" for k in range(n)],
                        "$defs": {"d": {"title": "t"}}})  # fmt: skip


def _complete_graph(n: int) -> object:
    definitions = {
        f"d{k}": {
            "properties": {f"p{j}": {"$ref": f"#/$defs/d{j}"} for j in range(n)},
            "required": [f"p{j}" for j in range(n)],
        }
        for k in range(n)
    }
    return with_schema({"properties": {"a": {"$ref": "#/$defs/d0"}}, "$defs": definitions})


def _doubling(n: int) -> object:
    definitions: dict[str, object] = {"d0": {"type": "string"}}
    for k in range(1, min(n, 40)):
        each = {"$ref": f"#/$defs/d{k - 1}", "title": "t"}
        definitions[f"d{k}"] = {"properties": {"a": each, "b": each}}
    last = {"$ref": f"#/$defs/d{len(definitions) - 1}", "title": "t"}
    return with_schema({"properties": {"a": last}, "x": "y" * n, "$defs": definitions})


def _doubling_merges(n: int) -> object:
    definitions: dict[str, object] = {"d0": {"type": "string"}}
    for k in range(1, min(n, 40)):
        definitions[f"d{k}"] = {"allOf": [{"$ref": f"#/$defs/d{k - 1}"}] * 2}
    last = {"allOf": [{"$ref": f"#/$defs/d{len(definitions) - 1}"}] * 2}
    return with_schema({"properties": {"a": last}, "x": "y" * n, "$defs": definitions})


def _copied_text(n: int) -> object:
    definitions = {"b": {"description": "d" * (n * 50), "default": "v" * (n * 50)}}
    return with_schema({"properties": _properties(n, {"$ref": "#/$defs/b", "title": "t"}),
                        "$defs": definitions})  # fmt: skip


def _copied_enum(n: int) -> object:
    definitions = {"b": {"enum": [nested(5, k) for k in range(n)], "default": nested(50)}}
    return with_schema({"properties": _properties(n, {"$ref": "#/$defs/b", "title": "t"}),
                        "$defs": definitions})  # fmt: skip


def _copied_required(n: int) -> object:
    definitions = {"b": {"required": [f"r{k}" for k in range(n)], "properties": {"a": {}}}}
    return with_schema({"properties": _properties(n, {"$ref": "#/$defs/b", "title": "t"}),
                        "$defs": definitions})  # fmt: skip


def _copied_types(n: int) -> object:
    definitions = {"b": {"type": ["string"] * n}}
    return with_schema({"properties": _properties(n, {"$ref": "#/$defs/b", "title": "t"}),
                        "$defs": definitions})  # fmt: skip


def _long_name(n: int) -> str:
    return "n" * (n * 50)


def _copied_names(n: int) -> object:
    definitions = {"b": {"properties": {_long_name(n): {}}}}
    return with_schema({"properties": _properties(n, {"$ref": "#/$defs/b", "title": "t"}),
                        "$defs": definitions})  # fmt: skip


def _copied_required_names(n: int) -> object:
    definitions = {"b": {"properties": {_long_name(n): {}}, "required": [_long_name(n)]}}
    return with_schema({"properties": _properties(n, {"$ref": "#/$defs/b", "title": "t"}),
                        "$defs": definitions})  # fmt: skip


def _copied_references(n: int) -> object:
    inner = {"properties": {"a": {"$ref": f"#/$defs/{_long_name(n)}"}}}
    definitions = {"b": inner, _long_name(n): {"type": "string"}}
    return with_schema({"properties": _properties(n, {"$ref": "#/$defs/b", "title": "t"}),
                        "$defs": definitions})  # fmt: skip


def _nullable_enum(n: int) -> object:
    definitions = {"b": {"enum": [nested(3, k) for k in range(n)], "nullable": True, "type": "s"}}
    return with_schema({"properties": _properties(n, {"$ref": "#/$defs/b", "title": "t"}),
                        "$defs": definitions})  # fmt: skip


def _nullable_choices(n: int) -> object:
    definitions = {"b": {"anyOf": [{"type": "string"}] * n, "nullable": True}}
    return with_schema({"properties": _properties(n, {"$ref": "#/$defs/b", "title": "t"}),
                        "$defs": definitions})  # fmt: skip


def _choices(n: int) -> object:
    return with_schema({"properties": {"a": {"anyOf": [{"oneOf": [{}, {"a": 1}]}] * n}}})


def _unused_definitions(n: int) -> object:
    return with_schema({"properties": {"a": {"$ref": "#/$defs/d0"}},
                        "$defs": {f"d{k}": {} for k in range(n)}})  # fmt: skip


def _names(n: int) -> object:
    return with_schema({"properties": {f"p{k}": {"$ref": f"#/$defs/x{k}/foo"} for k in range(n)},
                        "$defs": {f"x{k}": {"foo": {}} for k in range(n)}})  # fmt: skip


def _chain(n: int) -> object:
    definitions: dict[str, object] = {f"d{k}": {"$ref": f"#/$defs/d{k + 1}"} for k in range(n)}
    return with_schema({"$ref": "#/$defs/d0", "$defs": definitions | {f"d{n}": {"type": "object"}}})


def _merging_chain(n: int) -> object:
    definitions: dict[str, object] = {
        f"d{k}": {"$ref": f"#/$defs/d{k + 1}", "properties": _properties(30)} for k in range(n)
    }
    return with_schema({"$ref": "#/$defs/d0", "$defs": definitions | {f"d{n}": {"type": "object"}}})


def _long_pointer(n: int) -> object:
    inner: object = {"title": "t"}
    for _ in range(150):
        inner = {"x": inner}
    reference = "#/$defs" + "/x" * 150
    return with_schema({"properties": _properties(n, {"$ref": reference, "title": "t"}),
                        "$defs": inner})  # fmt: skip


def _index_pointer(n: int) -> object:
    return with_schema({"properties": {"a": {"$ref": f"#/enum/{'9' * n}"}}, "enum": [1]})


def _numbers(n: int) -> object:
    return with_schema({"properties": _properties(n, {"minimum": 10**400, "exclusiveMinimum": 1})})


SCHEMAS: dict[str, Callable[[int], object]] = {
    name.removeprefix("_").replace("_", "-"): make
    for name, make in list(globals().items())
    if name.startswith("_") and callable(make) and name not in {"_properties", "_long_name"}
}


def _text(size: int, opening: str, piece: str, closing: str) -> bytes:
    count = (size - len(opening) - len(closing)) // len(piece)
    return (opening + piece * count + closing).encode()


def _message(size: int, piece: str) -> bytes:
    opening = '{"model":"gemini-3.8-flash","messages":[{"role":"user","content":"x"}'
    return _text(size, opening, "," + piece, "]}")


def _parts(size: int, piece: str, first: str = '{"type":"text","text":"x"}') -> bytes:
    opening = '{"model":"gemini-3.8-flash","messages":[{"role":"user","content":[' + first
    return _text(size, opening, "," + piece, "]}]}")


def _field(size: int, field: str, piece: str, first: str, closing: str = "]}") -> bytes:
    opening = (
        '{"model":"gemini-3.8-flash","messages":[{"role":"user","content":"x"}],'
        f'"{field}":' + first
    )
    return _text(size, opening, piece, closing)


def _calls(size: int, arguments: str = "{}", *, results: bool = True) -> bytes:
    def make(n: int) -> object:
        calls = [
            {"id": f"c{k}", "type": "function",
             "function": {"name": "f", "arguments": arguments}} for k in range(n)
        ]  # fmt: skip
        answers = [{"role": "tool", "tool_call_id": f"c{k}", "content": "{}"} for k in range(n)]
        messages = [
            _USER,
            {"role": "assistant", "tool_calls": calls},
            *(answers if results else ()),
        ]
        return {"model": "gemini-3.8-flash", "messages": messages}

    return filled(size, make)


def _one_call(arguments: str = "{}", *, name: str = "a", result: str | None = None) -> bytes:
    """A request with one call, whose id is ``name``, and with its result where there is one."""
    call = {"id": name, "type": "function", "function": {"name": "f", "arguments": arguments}}
    answer = {"role": "tool", "tool_call_id": name, "content": result}
    messages = [_USER, {"role": "assistant", "tool_calls": [call]}]
    return dumped(request(messages=messages if result is None else [*messages, answer]))


def _same_ids(size: int) -> bytes:
    call = '{"id":"","function":{"name":"f"}}'
    messages = f'{{"role":"assistant","tool_calls":[{",".join([call] * 50)}]}}'
    answers = '{"role":"tool","tool_call_id":""}'
    return _message(size, f"{messages},{answers}")


def _many_small_call_messages(size: int) -> bytes:
    one = '{"role":"assistant","tool_calls":[{"id":"","function":{"name":"f"}}]}'
    return _message(size, f'{one},{{"role":"tool","tool_call_id":""}}')


_LONG_NUMBER = "9" * 4000

OTHERS: dict[str, Shape] = {
    "messages-user": lambda n: _message(n, '{"role":"user","content":""}'),
    "messages-said": lambda n: _message(n, '{"role":"user","content":"x"}'),
    "messages-turns": lambda n: _message(
        n, '{"role":"assistant","content":"x"},{"role":"user","content":"x"}'
    ),
    "messages-system": lambda n: _message(n, '{"role":"system","content":"x"}'),
    "messages-system-parts": lambda n: _message(
        n, '{"role":"system","content":[{"type":"text","text":"x"}]}'
    ),
    "parts-text": lambda n: _parts(n, '{"type":"text","text":"x"}'),
    "parts-empty-text": lambda n: _parts(n, '{"type":"text","text":""}'),
    "parts-refusal": lambda n: _parts(n, '{"type":"refusal","refusal":"x"}'),
    "parts-image-url": lambda n: _parts(n, '{"type":"image_url","image_url":"http://a"}'),
    "parts-image-data": lambda n: _parts(
        n, '{"type":"image_url","image_url":"data:image/png;base64,AAAA"}'
    ),
    "parts-image-detail": lambda n: _parts(
        n, '{"type":"image_url","image_url":{"url":"gs://a","detail":"low"}}'
    ),
    "parts-video": lambda n: _parts(n, '{"type":"video_url","video_url":"http://youtu.be/a"}'),
    "parts-audio": lambda n: _parts(
        n, '{"type":"input_audio","input_audio":{"data":"AAAA","format":"wav"}}'
    ),
    "parts-file-id": lambda n: _parts(n, '{"type":"file","file":{"file_id":"a"}}'),
    "parts-file-url": lambda n: _parts(n, '{"type":"file","file":{"file_id":"http://a/b"}}'),
    "image-one-url": lambda n: _text(
        n,
        '{"model":"m","messages":[{"role":"user","content":[{"type":"image_url",'
        '"image_url":"http://h/',
        "%20",
        '"}]}]}',
    ),
    "image-blanks": lambda n: _text(
        n,
        '{"model":"m","messages":[{"role":"user","content":[{"type":"image_url",'
        '"image_url":"data:image/png;base64,',
        " A",
        '"}]}]}',
    ),
    "image-host": lambda n: _text(
        n,
        '{"model":"m","messages":[{"role":"user","content":[{"type":"image_url",'
        '"image_url":"http://',
        "[@:",
        '"}]}]}',
    ),
    "escapes": lambda n: _text(
        n, '{"model":"m","messages":[{"role":"user","content":"', "\\u00e9", '"}]}'
    ),
    "escaped-controls": lambda n: _text(
        n, '{"model":"m","messages":[{"role":"user","content":"', "\\u0001", '"}]}'
    ),
    "model-prefixes": lambda n: _text(
        n, '{"messages":[{"role":"user","content":"x"}],"model":"', "models/", '"}'
    ),
    "model-long": lambda n: _text(
        n, '{"messages":[{"role":"user","content":"x"}],"model":"', "a", '"}'
    ),
    "skipped-nest": lambda n: _text(
        n, '{"model":"m","messages":[{"role":"user","content":"x"}],"metadata":', "[", "]}"
    ),
    "skipped-list": lambda n: _field(n, "metadata", ",0", "[0"),
    "skipped-objects": lambda n: _field(n, "logit_bias", ',"1":0', '{"1":0', "}}"),
    "skipped-number": lambda n: _field(n, "metadata", "9", "1", "}"),
    "seed-number": lambda n: _field(n, "seed", "9", "1", "}"),
    "temperature-number": lambda n: _field(n, "temperature", "0", "1.", "}"),
    "n-number": lambda n: _field(n, "n", "0", "1", "}"),
    "duplicates": lambda n: _field(n, "temperature", ',"temperature":1', "1", "}"),
    "duplicate-messages": lambda n: _field(
        n,
        "messages",
        ',"messages":[{"role":"user","content":""}]',
        '[{"role":"user","content":"x"}]',
        "}",
    ),
    "duplicate-tools": lambda n: _field(
        n,
        "tools",
        ',"tools":[{"type":"function","function":{"name":"f","parameters":{"a":1}}}]',
        "[]",
        "}",
    ),
    "stop": lambda n: _field(n, "stop", ',"a"', '["a"'),
    "stop-long": lambda n: _field(n, "stop", "a", '"a', '"}'),
    "modalities": lambda n: _field(n, "modalities", ',"text"', '["text"'),
    "safety-settings": lambda n: _field(
        n,
        "google",
        ',{"category":"a","threshold":"b"}',
        '{"safety_settings":[{"category":"a","threshold":"b"}',
        "]}}",
    ),
    "tools-without-parameters": lambda n: filled(
        n, lambda k: request(tools=[tool(f"f{j}", {}) for j in range(k)])
    ),
    "tools-small": lambda n: filled(
        n, lambda k: request(tools=[tool(f"f{j}", {"properties": {"a": {}}}) for j in range(k)])
    ),
    "tools-alike": lambda n: filled(
        n, lambda k: request(tools=[tool(" " * 64 + str(j), {}) for j in range(k)])
    ),
    "tools-odd-names": lambda n: filled(
        n, lambda k: request(tools=[tool(chr(0x4E00 + j), {}) for j in range(k)])
    ),
    "tools-numbers": lambda n: filled(
        n,
        lambda k: request(
            tools=[tool(f"f{j}", {"properties": {"a": {"default": j}}}) for j in range(k)]
        ),
    ),
    "functions": lambda n: filled(
        n,
        lambda k: request(functions=[{"name": f"f{j}", "parameters": {"a": 1}} for j in range(k)]),
    ),
    "allowed-tools": lambda n: filled(
        n,
        lambda k: request(
            tools=[tool(f"f{j}", {}) for j in range(k)],
            tool_choice={
                "type": "allowed_tools",
                "allowed_tools": {
                    "mode": "auto",
                    "tools": [
                        {"type": "function", "function": {"name": f"f{j}"}} for j in range(k)
                    ],
                },
            },
        ),
    ),
    "calls": _calls,
    "calls-without-results": lambda n: _calls(n, results=False),
    "calls-blank-arguments": lambda n: _calls(n, " " * 100),
    "calls-object-arguments": lambda n: _calls(n, '{"a":[[],[],[],[]]}'),
    "calls-same-ids": _same_ids,
    "calls-one-a-message": _many_small_call_messages,
    "calls-long-arguments": lambda n: _one_call('{"a":[' + "{}," * (n // 3 - 100) + "{}]}"),
    "calls-number-arguments": lambda n: _one_call('{"a":' + "9" * (n - 400) + "}"),
    "calls-numbers-arguments": lambda n: _one_call(
        '{"a":[' + (_LONG_NUMBER + ",") * (n // 4001 - 1) + "1]}"
    ),
    "calls-signature": lambda n: _one_call(name="a__thought__" + "A" * (n - 400) + "!"),
    "results-object": lambda n: _one_call(result='{"a":[' + "{}," * (n // 3 - 150) + "{}]}"),
    "results-blanks": lambda n: _one_call(result=" " * (n - 500) + "{}"),
    "schema-long-number": lambda n: _field(
        n,
        "tools",
        "9",
        '[{"type":"function","function":{"name":"f","parameters":{"minimum":1',
        "}}}]}",
    ),
    "schema-long-numbers": lambda n: _field(
        n,
        "tools",
        "," + _LONG_NUMBER,
        '[{"type":"function","function":{"name":"f","parameters":{"enum":[1',
        "]}}}]}",
    ),
    "schema-nest": lambda n: _text(
        n,
        '{"model":"m","messages":[{"role":"user","content":"x"}],"response_format":{"type":'
        '"json_schema","json_schema":{"name":"n","schema":',
        '{"a":',
        "}}}",
    ),
    "schema-empty-objects": lambda n: _field(
        n,
        "tools",
        ",{}",
        '[{"type":"function","function":{"name":"f","parameters":{"enum":[{}',
        "]}}}]}",
    ),
    "schema-pattern-properties": lambda n: filled(
        n, lambda k: with_schema({"patternProperties": _properties(k)})
    ),
}


def all_shapes() -> dict[str, Shape]:
    """Every shape by its name."""
    shapes: dict[str, Shape] = dict(OTHERS)
    for name, make in SCHEMAS.items():
        shapes[f"schema-{name}"] = lambda size, make=make: filled(size, make)  # type: ignore[misc]
    return shapes
