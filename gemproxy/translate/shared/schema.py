"""Rewrite a client's JSON Schema with the keywords that Gemini supports.

``parametersJsonSchema`` and ``responseJsonSchema`` know ``$id $defs $ref $anchor type format title
description enum items prefixItems minItems maxItems minimum maximum anyOf oneOf properties
additionalProperties required propertyOrdering``; other keywords are ignored or refused,
depending on the model. So they are replaced by an equivalent, or described in the description, or
omitted if neither is possible. ``$ref`` stays if it is alone in its node; Google accepts only ``$``
keys beside it. A cycle of references is allowed only within optional properties.
Source: ai.google.dev, structured output; google-genai, ``response_json_schema`` in its types.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple
from urllib.parse import unquote

import msgspec

from gemproxy.core.errors import InvalidRequest
from gemproxy.translate.shared.schema_budget import OutOfSteps, SchemaBudget
from gemproxy.translate.shared.schema_keywords import (
    allow_null,
    clean_bounds,
    clean_words,
    infer_type,
    without_nulls,
)
from gemproxy.translate.shared.schema_limits import ItemLimits
from gemproxy.translate.shared.schema_merging import merged

Schema = dict[str, Any]

#: Deeper schemas are refused: Google's own limit is far lower, and the walk below is recursive.
MAX_DEPTH = 64
#: Nodes of the result; a few references can multiply into very many.
MAX_NODES = 20_000
#: Cached results, and the bytes of each and of its schema: at most 8 MB.
_REMEMBERED_SCHEMAS = 512
_LONGEST_REMEMBERED = 8192

_KEPT = (
    "$id",
    "$anchor",
    "type",
    "format",
    "title",
    "description",
    "enum",
    "minItems",
    "maxItems",
    "minimum",
    "maximum",
    "propertyOrdering",
)
_LONGEST_NUMBER = 309
_TOO_LARGE = 10**_LONGEST_NUMBER
_DIGIT = re.compile(rb"[0-9]")
_LONG_NUMBER = re.compile(rb"[0-9]{%d}" % (_LONGEST_NUMBER + 1))

_DEFINITIONS = ("$defs", "definitions")
#: RFC 6901, section 4. The number of digits is bounded, because Python refuses very long numbers.
_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")
_WITHOUT_REFERENCES = frozenset({*_DEFINITIONS, "enum", "required", "examples", "const", "default"})


def clean_schema(schema: Schema, path: str, budget: SchemaBudget) -> Schema:
    """``schema`` in the form that Gemini accepts; the argument is not changed.

    Raises :class:`InvalidRequest` with ``param`` ``path`` for an unresolved reference, and for a
    schema that is nested too deeply, grows too large, or takes more steps than ``budget`` has left.
    With a brief budget the last is :class:`OutOfSteps`.
    """
    try:
        return _Cleaning(schema, budget).result()
    except _UnusableSchema as reason:
        raise _refused(str(reason), path) from None
    except OutOfSteps as reason:
        if budget.brief:
            raise
        raise _refused(str(reason), path) from None


def schema_text(schema: Schema, path: str, budget: SchemaBudget) -> msgspec.Raw:
    """The cleaned schema as JSON. Raises like :func:`clean_schema`."""
    return _cleaned_text(schema, path, budget).text


def parameters_text(schema: Schema, path: str, budget: SchemaBudget) -> msgspec.Raw | None:
    """The same for a function's parameters; ``None`` if there are none.

    Gemini refuses an object without properties ("should be non-empty").
    """
    cleaned = _cleaned_text(schema, path, budget)
    return None if cleaned.takes_nothing else cleaned.text


class _CleanedText(NamedTuple):
    text: msgspec.Raw
    takes_nothing: bool


class _UnusableSchema(Exception):
    """Why a schema cannot be used; the caller adds the path."""


def _cleaned_text(schema: Schema, path: str, budget: SchemaBudget) -> _CleanedText:
    made: _CleanedText | None = budget.made.get(path)
    if made is None:
        made = budget.made[path] = _made_text(schema, path, budget)
    return made


def _made_text(schema: Schema, path: str, budget: SchemaBudget) -> _CleanedText:
    try:
        text = msgspec.json.encode(schema)
        return _remembered.get(text) or _clean_text(text, budget)
    except RecursionError:
        raise _refused("nested too deeply", path) from None
    except _UnusableSchema as reason:
        raise _refused(str(reason), path) from None
    except OutOfSteps as reason:
        if budget.brief:
            raise
        raise _refused(str(reason), path) from None


def _clean_text(text: bytes, budget: SchemaBudget) -> _CleanedText:
    budget.text(len(text))
    root = msgspec.json.decode(text)
    _refuse_long_numbers(text, root)
    schema = _Cleaning(root, budget).result()
    made = msgspec.json.encode(schema)
    cleaned = _CleanedText(msgspec.Raw(made), _takes_nothing(schema))
    if len(text) <= _LONGEST_REMEMBERED and len(made) <= _LONGEST_REMEMBERED:
        while len(_remembered) >= _REMEMBERED_SCHEMAS:
            # Translations run in several threads; another one may have evicted an entry.
            _remembered.pop(next(iter(_remembered)), None)
        _remembered[text] = cleaned
    return cleaned


def _refuse_long_numbers(text: bytes, root: object) -> None:
    """Refuse numbers that no double can hold: Google refuses them, and encoding them is slow."""
    # Looking at one byte in so many is enough to find a long run of digits.
    if not _DIGIT.search(text[_LONGEST_NUMBER::_LONGEST_NUMBER]) or not _LONG_NUMBER.search(text):
        return
    waiting = [root]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
        elif isinstance(value, int) and abs(value) >= _TOO_LARGE:
            raise _UnusableSchema(f"it has a number of more than {_LONGEST_NUMBER} digits")


#: An agent sends the same tools with every request; the oldest entry is evicted.
_remembered: dict[bytes, _CleanedText] = {}


def _refused(reason: str, path: str) -> InvalidRequest:
    return InvalidRequest(f"{path}: the schema cannot be used: {reason}.", param=path)


def _takes_nothing(schema: Schema) -> bool:
    """Whether this (cleaned) schema of an object has no properties and no choices.

    Without ``additionalProperties`` such an object is meant to be empty.
    """
    return not (
        schema.get("properties")
        or schema.get("anyOf")
        or "$ref" in schema
        or schema.get("additionalProperties", False) is not False
    )


class _Cleaning:
    """The rewriting of one schema."""

    def __init__(self, root: Schema, budget: SchemaBudget) -> None:
        self._root = root
        self._budget = budget
        self._nodes = 0
        self._names: dict[str, str] = {}  # reference -> its name under $defs
        self._taken: set[str] = set()
        self._waiting: list[str] = []  # references whose definition is still to be cleaned
        self._refers: dict[str, frozenset[str]] = {}  # reference -> what its target refers to
        self._reaches: dict[str, frozenset[str]] = {}  # the same, followed to the end
        self._targets: dict[str, Schema] = {}  # reference -> what it points at
        self._here = "#"  # the definition that is being cleaned
        self._refers_at_all = bool(self._references(root))
        self._items = ItemLimits(budget)

    def result(self) -> Schema:
        root = self._clean(self._unreferenced(self._root), 0)
        definitions = {}
        while self._waiting:
            self._here = self._waiting.pop()
            target = self._resolve(self._here)
            definitions[self._names[self._here]] = self._clean(target, 0)
        self._items.lower()
        if definitions:
            root["$defs"] = definitions
        return root

    def _unreferenced(self, root: Schema) -> Schema:
        """Resolve a reference at the root: zod and others make the root a reference."""
        seen = set()
        root = without_nulls(root)
        while isinstance(reference := root.get("$ref"), str) and reference != "#":
            if reference in seen:
                raise _UnusableSchema(f"$ref '{reference[:60]}' refers to itself")
            seen.add(reference)
            rest = {key: value for key, value in root.items() if key not in ("$ref", *_DEFINITIONS)}
            root = merged(rest, without_nulls(self._resolve(reference)), self._budget)
        return root

    # One node -------------------------------------------------------------------------------

    def _clean(self, node: object, depth: int) -> Schema:
        if not isinstance(node, dict):
            # ``true`` and ``false`` are schemas too; an empty schema is the nearest to both.
            return {}
        self._count(depth, 1)
        node = self._flattened(without_nulls(node))
        if "$ref" in node:
            return self._reference(node, depth)
        clean: Schema = {key: node[key] for key in _KEPT if key in node}
        for value in clean.values():
            self._budget.copies(value)
        clean_words(clean, node, self._budget)
        infer_type(clean, self._budget)
        clean_bounds(clean, node)
        self._clean_choices(clean, node, depth)
        self._clean_object(clean, node, depth)
        self._clean_array(clean, node, depth)
        if node.get("nullable") is True:
            allow_null(clean)
        self._items.limits(clean, self._here)
        return clean

    def _count(self, depth: int, nodes: int) -> None:
        self._nodes += nodes
        self._budget.nodes(nodes)
        if depth > MAX_DEPTH:
            raise _UnusableSchema(f"nested more than {MAX_DEPTH} levels deep")
        if self._nodes > MAX_NODES:
            raise _UnusableSchema(f"larger than {MAX_NODES} nodes with its references resolved")

    def _flattened(self, node: Schema) -> Schema:
        """The node with its ``allOf`` merged into it."""
        for _ in range(MAX_DEPTH):
            members = node.get("allOf")
            if not isinstance(members, list):
                return node
            node = {key: value for key, value in node.items() if key != "allOf"}
            for member in members:
                if isinstance(member, dict):
                    node = merged(node, self._inlined(without_nulls(member)), self._budget)
                    self._count(0, 1)
        raise _UnusableSchema("allOf refers to itself")

    def _inlined(self, node: Schema) -> Schema:
        reference = node.get("$ref")
        if not isinstance(reference, str):
            return node
        rest = {key: value for key, value in node.items() if key != "$ref"}
        return merged(rest, without_nulls(self._resolve(reference)), self._budget)

    # References -----------------------------------------------------------------------------

    def _reference(self, node: Schema, depth: int) -> Schema:
        reference = node["$ref"]
        target = self._resolve(reference)
        siblings = {
            key: value for key, value in node.items() if key != "$ref" and key not in _DEFINITIONS
        }
        nullable = siblings.pop("nullable", None) is True
        if siblings and not self._is_cyclic(reference):
            inlined = merged(siblings, without_nulls(target), self._budget)
            return self._clean({**inlined, "nullable": True} if nullable else inlined, depth + 1)
        kept = self._kept_reference(reference)
        return {"anyOf": [kept, {"type": "null"}]} if nullable else kept

    def _kept_reference(self, reference: str) -> Schema:
        self._items.refers(self._here, reference)
        if reference == "#":
            return {"$ref": "#"}
        self._budget.copies(reference)
        if reference not in self._names:
            self._names[reference] = self._free_name(reference.rpartition("/")[2])
            self._waiting.append(reference)
        return {"$ref": f"#/$defs/{self._names[reference]}"}

    def _free_name(self, wanted: str) -> str:
        name = "".join(c if c.isalnum() or c in "_-." else "_" for c in unquote(wanted)) or "root"
        while name in self._taken:
            name = f"{name}_{len(self._taken)}"
        self._taken.add(name)
        return name

    def _resolve(self, reference: object) -> Schema:
        """The target of a reference (RFC 6901) within this schema."""
        if not isinstance(reference, str) or not reference.startswith("#"):
            raise _UnusableSchema(
                f"$ref {str(reference)[:60]!r}: only references within the schema can be followed"
            )
        known = self._targets.get(reference)
        if known is not None:
            return known
        target: object = self._root
        self._budget.references(1 + len(reference) // 32)
        for token in unquote(reference[1:]).split("/")[1:]:
            self._budget.references(1)
            target = _step(target, token.replace("~1", "/").replace("~0", "~"))
        if isinstance(target, bool):
            target = {}
        if not isinstance(target, dict):
            raise _UnusableSchema(f"$ref {reference[:60]!r} leads nowhere")
        self._targets[reference] = target
        return target

    def _is_cyclic(self, reference: str) -> bool:
        """Whether following the reference can lead back to it."""
        return reference in self._reachable(reference)

    def _closes_a_cycle(self, schema: object) -> bool:
        """Whether the schema refers, at any depth, to the definition that contains it."""
        return self._refers_at_all and any(
            reference == self._here or self._here in self._reachable(reference)
            for reference in self._references(schema)
        )

    def _reachable(self, reference: str) -> frozenset[str]:
        if reference not in self._reaches:
            found: set[str] = set()
            waiting = [reference]
            while waiting:
                referred = self._referred(waiting.pop())
                self._budget.references(1)
                self._budget.entries(len(referred))
                new = referred - found
                found |= new
                waiting.extend(new)
            self._reaches[reference] = frozenset(found)
        return self._reaches[reference]

    def _referred(self, reference: str) -> frozenset[str]:
        if reference not in self._refers:
            self._refers[reference] = self._references(self._resolve(reference))
        return self._refers[reference]

    def _references(self, schema: object) -> frozenset[str]:
        """Every reference in the schema outside its definitions."""
        found = set()
        waiting = [schema]
        while waiting:
            node = waiting.pop()
            self._budget.references(1)
            if isinstance(node, dict):
                self._budget.entries(len(node))
                if isinstance(reference := node.get("$ref"), str):
                    found.add(reference)
                waiting.extend(
                    value
                    for key, value in node.items()
                    if isinstance(value, dict | list) and key not in _WITHOUT_REFERENCES
                )
            elif isinstance(node, list):
                self._budget.entries(len(node))
                waiting.extend(each for each in node if isinstance(each, dict))
        return frozenset(found)

    # Keywords with schemas in them ------------------------------------------------------------

    def _clean_choices(self, clean: Schema, node: Schema, depth: int) -> None:
        choices = node.get("anyOf") or node.get("oneOf")
        if not isinstance(choices, list):
            return
        options = [self._clean(choice, depth + 1) for choice in choices]
        if options and all(options):
            # An alternative that allows anything makes the choice meaningless.
            clean["anyOf"] = options

    def _clean_object(self, clean: Schema, node: Schema, depth: int) -> None:
        properties = node.get("properties")
        if isinstance(properties, dict):
            clean.setdefault("type", "object")
            self._budget.names(properties)
            clean["properties"] = {
                name: self._clean(schema, depth + 1)
                for name, schema in properties.items()
                if schema is not False
            }
            required = self._required(node.get("required"), properties)
            if required:
                self._budget.names(required)
                clean["required"] = required
        additional = node.get("additionalProperties")
        patterns = node.get("patternProperties")
        if isinstance(patterns, dict) and len(patterns) == 1 and not additional:
            additional = next(iter(patterns.values()))
        elif additional is None and not properties and _wants_properties(node):
            additional = True
        if isinstance(additional, bool):
            clean["additionalProperties"] = additional
        elif isinstance(additional, dict):
            clean["additionalProperties"] = self._clean(additional, depth + 1)

    def _required(self, names: object, properties: Schema) -> list[str]:
        """The existing names without those whose schema leads back here."""
        if not isinstance(names, list):
            return []
        self._budget.entries(2 * len(names))
        known = dict.fromkeys(name for name in names if isinstance(name, str))
        return [
            name
            for name in known
            if properties.get(name, False) is not False
            and not self._closes_a_cycle(properties[name])
        ]

    def _clean_array(self, clean: Schema, node: Schema, depth: int) -> None:
        items, members = node.get("items"), node.get("prefixItems")
        if isinstance(items, list):
            # Draft 4 to 2019-09 wrote tuples like this.
            items, members = node.get("additionalItems"), items
        if isinstance(members, list) and members:
            clean["prefixItems"] = [self._clean(member, depth + 1) for member in members]
        if isinstance(items, dict):
            clean["items"] = self._clean(items, depth + 1)
        if "items" in clean or "prefixItems" in clean:
            clean.setdefault("type", "array")


def _wants_properties(node: Schema) -> bool:
    """Whether keywords that Google does not know show that some properties are meant."""
    patterns, least = node.get("patternProperties"), node.get("minProperties")
    return (
        (isinstance(patterns, dict) and bool(patterns))
        or (isinstance(least, int | float) and least > 0)
        or node.get("unevaluatedProperties") not in (None, False)
    )


def _step(target: object, token: str) -> object:
    if isinstance(target, dict):
        return target.get(token)
    if isinstance(target, list) and _INDEX.fullmatch(token) and int(token) < len(target):
        return target[int(token)]
    return None
