"""The JSON front end of the Gemini API: decodes a document to a message, or lists its mistakes.

Proto3 JSON: names in camelCase or snake_case, ``null`` counts as absent, integers also as text,
unknown names are refused. The result has camelCase names, so that the rest of the simulator reads
one spelling. [protobuf.dev ProtoJSON]
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from gemproxy.simulator.fields import ANY_CASE, ENUMS, MESSAGES, PAYLOADS

Violation = tuple[str, str]
_DROPPED = object()


def parse(message: str, body: object) -> tuple[dict[str, Any], list[Violation]]:
    """``body`` as a ``message`` (its name), and every mistake as ``(field path, description)``.

    Use the parsed value only if there is no mistake.
    """
    violations: list[Violation] = []
    parsed = _message(message, body, "", violations)
    return (parsed if isinstance(parsed, dict) else {}), violations


def snake(name: str) -> str:
    """``maxOutputTokens`` as ``max_output_tokens``, the spelling in Google's error texts."""
    return re.sub(r"(?<!^)([A-Z])", lambda match: "_" + match[1].lower(), name)


@lru_cache(maxsize=64)
def _names(message: str) -> Mapping[str, str]:
    """The camelCase name of each field, by both of its spellings."""
    fields = MESSAGES[message]
    return {**{snake(name): name for name in fields}, **{name: name for name in fields}}


def _message(name: str, value: object, path: str, violations: list[Violation]) -> Any:
    if not isinstance(value, dict):
        return _mismatch(
            path,
            f"type.googleapis.com/google.ai.generativelanguage.v1beta.{name}",
            value,
            violations,
        )
    parsed: dict[str, Any] = {}
    for given, item in value.items():
        known = _names(name).get(given)
        if known is None:
            violations.append((path, _unknown_name(given, path)))
            continue
        if item is None:
            continue
        result = _value(MESSAGES[name][known], item, _join(path, snake(known)), violations)
        if result is not _DROPPED:
            parsed[known] = result
    if name == "Part":
        _check_payload(parsed, path, violations)
    return parsed


def _value(kind: str, value: object, path: str, violations: list[Violation]) -> Any:
    if kind.startswith("[]"):
        return _list(kind[2:], value, path, violations)
    if isinstance(value, list) and kind != "value":
        violations.append((path, _not_repeating(path)))
        return _DROPPED
    if kind.startswith("{}"):
        return _map(kind[2:], value, path, violations)
    if kind.startswith("enum:"):
        return _enum(kind[5:], value, path, violations)
    if kind in _SCALARS:
        return _scalar(kind, value, path, violations)
    return _message(kind, value, path, violations)


def _list(kind: str, value: object, path: str, violations: list[Violation]) -> Any:
    # Google accepts a single value instead of a list; some clients depend on it.
    items = value if isinstance(value, list) else [value]
    parsed = (_value(kind, item, f"{path}[{at}]", violations) for at, item in enumerate(items))
    return [item for item in parsed if item is not _DROPPED]


def _map(kind: str, value: object, path: str, violations: list[Violation]) -> Any:
    if not isinstance(value, dict):
        return _mismatch(path, "map", value, violations)
    parsed = {
        key: _value(kind, item, f"{path}[{at}].value", violations)
        for at, (key, item) in enumerate(value.items())
    }
    return {key: item for key, item in parsed.items() if item is not _DROPPED}


def _enum(name: str, value: object, path: str, violations: list[Violation]) -> Any:
    text = value.upper() if isinstance(value, str) and name in ANY_CASE else value
    if isinstance(text, str) and text in ENUMS[name]:
        return text
    return _mismatch(
        path, f"type.googleapis.com/google.ai.generativelanguage.v1beta.{name}", value, violations
    )


def _scalar(kind: str, value: object, path: str, violations: list[Violation]) -> Any:
    label, convert = _SCALARS[kind]
    try:
        return convert(value)
    except binascii.Error:
        failed = f"Base64 decoding failed for {_quoted(value)}"
        violations.append((path, f"Invalid value at '{path}' (TYPE_BYTES), {failed}"))
        return _DROPPED
    except (TypeError, ValueError, OverflowError):
        return _mismatch(path, label, value, violations)


def _mismatch(path: str, label: str, value: object, violations: list[Violation]) -> Any:
    where = f" at '{path}'" if path else ""
    violations.append((path, f"Invalid value{where} ({label}), {_quoted(value)}"))
    return _DROPPED


def _check_payload(part: dict[str, Any], path: str, violations: list[Violation]) -> None:
    payloads = [name for name in part if name in PAYLOADS]
    for extra in payloads[1:]:
        taken = f"oneof field 'data' is already set. Cannot set '{extra}'"
        violations.append((path, f"Invalid value at '{path}' (oneof), {taken}"))


def _not_repeating(path: str) -> str:
    return (
        f"Invalid JSON payload received. Unknown name at '{path}': Proto field is not repeating, "
        "cannot start list."
    )


def _unknown_name(name: str, path: str) -> str:
    where = f" at '{path}'" if path else ""
    return f'Invalid JSON payload received. Unknown name "{name[:200]}"{where}: Cannot find field.'


def _quoted(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    return f'"{text[:100]}"' if isinstance(value, str) else text[:100]


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _whole(bits: int) -> Callable[[object], int]:
    def convert(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise TypeError
        number = int(value)
        if (isinstance(value, float) and number != value) or not -(1 << bits - 1) <= number < (
            1 << bits - 1
        ):
            raise ValueError
        return number

    return convert


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise TypeError
    return float(value)


def _bytes(value: object) -> str:
    """Base64 text, standard or URL-safe, padded or not; stays text."""
    text = _text(value)
    standard = text.replace("-", "+").replace("_", "/").rstrip("=")
    base64.b64decode(standard + "=" * (-len(standard) % 4), validate=True)
    return text


def _struct(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError
    return value


_SCALARS: Mapping[str, tuple[str, Callable[[object], Any]]] = MappingProxyType(
    {
        "string": ("TYPE_STRING", _text),
        "bool": ("TYPE_BOOL", _boolean),
        "int32": ("TYPE_INT32", _whole(32)),
        "int64": ("TYPE_INT64", _whole(64)),
        "float": ("TYPE_FLOAT", _number),
        "bytes": ("TYPE_BYTES", _bytes),
        "struct": ("type.googleapis.com/google.protobuf.Struct", _struct),
        "value": ("type.googleapis.com/google.protobuf.Value", lambda value: value),
    }
)
