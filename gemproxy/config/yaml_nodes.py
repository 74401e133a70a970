"""Parse YAML and keep the place of every node, so that a message can name the line of a mistake.

The text is composed to PyYAML's nodes and never constructed to objects. A node keeps its line, a
tag cannot call anything, and an alias is one shared node, so a document that would expand to
gigabytes stays as small as its text. A syntax error is one fault.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import yaml

from gemproxy.config.faults import Faults, shown_text

_LOADER: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_CONSTRUCTOR = yaml.constructor.SafeConstructor()
#: Only for scalars: ``construct_object`` keeps a reference to every node.
_READ = {
    "bool": _CONSTRUCTOR.construct_yaml_bool,
    "int": _CONSTRUCTOR.construct_yaml_int,
    "float": _CONSTRUCTOR.construct_yaml_float,
    "null": _CONSTRUCTOR.construct_yaml_null,
}
_TAG = "tag:yaml.org,2002:"
_MERGE = _TAG + "merge"

#: Settings nest four deep. libyaml's composer recurses on the C stack without a limit.
_DEEPEST = 32
#: Bytes of a file; ten thousand keys take about two million.
LARGEST = 16 * 1024 * 1024
#: YAML events of a file; ten thousand keys have half as many.
_MOST_EVENTS = 500_000
#: The most settings that merge keys may add to one mapping.
_MOST_MERGED = 10_000
#: Above every setting.
_LARGEST_FLOAT = 1e12
#: Numbers that mean the same to everybody. YAML 1.1, by which PyYAML reads, has more of them: 010
#: is 8 there and 10 in YAML 1.2, 1:30 is 90 there and text in YAML 1.2, and so is 1_000.
_NUMBERS = {
    "int": re.compile(r"[-+]?(?:0|[1-9][0-9]{0,39}|0x[0-9A-Fa-f]{1,16})"),
    "float": re.compile(
        r"[-+]?(?:\.[0-9]{1,40}|[0-9]{1,40}\.[0-9]{0,40})(?:[eE][-+]?[0-9]{1,3})?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
    ),
}


@dataclass(frozen=True)
class Entry:
    """One ``name: value`` of a mapping; ``line`` is the name's, counted from 1."""

    line: int
    value: yaml.Node


class OddNumber(ValueError):
    """A number that programs read differently, or that is longer than any setting."""


class Unreadable(Exception):
    """The text is not valid YAML; ``line`` is 0 if unknown."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line
        self.message = message


def compose(data: bytes) -> yaml.Node | None:
    """The root of the document, ``None`` for an empty one. Raises :class:`Unreadable`."""
    text = _decode(data)
    try:
        _refuse_bombs(text)
        return yaml.compose(text, Loader=_LOADER)
    except yaml.MarkedYAMLError as error:
        raise Unreadable(_line_of(error), f"not valid YAML: {_without_quotes(error)}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise Unreadable(line, "not valid YAML: a control character stands here") from None
    except (yaml.YAMLError, RecursionError):
        raise Unreadable(0, "not valid YAML") from None


def node_of(value: object) -> yaml.Node:
    """The node of a value of JSON, so that it is read as a file is. It has no line."""
    if isinstance(value, dict):
        pairs = [(node_of(name), node_of(each)) for name, each in value.items()]
        return yaml.MappingNode(_TAG + "map", pairs)
    if isinstance(value, list):
        return yaml.SequenceNode(_TAG + "seq", [node_of(each) for each in value])
    if value is None:
        return yaml.ScalarNode(_TAG + "null", "null")
    if isinstance(value, bool):
        return yaml.ScalarNode(_TAG + "bool", str(value).lower())
    if isinstance(value, int):
        return yaml.ScalarNode(_TAG + "int", str(value))
    if isinstance(value, float):
        # Without an exponent, which few programs read alike.
        written = f"{value:.12f}".rstrip("0") if abs(value) < _LARGEST_FLOAT else ".inf"
        return yaml.ScalarNode(_TAG + "float", f"{written}0" if written[-1] == "." else written)
    return yaml.ScalarNode(_TAG + "str", str(value))


def line_of(node: yaml.Node) -> int:
    """The line, counted from 1, on which the node begins."""
    return int(node.start_mark.line) + 1 if node.start_mark else 0


def scalar(node: yaml.Node) -> object:
    """The value of a plain node: text, bool, int, float or None.

    Raises :class:`ValueError` for another node, :class:`OddNumber` for an ambiguous number.

    Dates and similar values stay text.
    """
    if not isinstance(node, yaml.ScalarNode) or not node.tag.startswith(_TAG):
        raise ValueError
    kind = node.tag.removeprefix(_TAG)
    read = _READ.get(kind)
    if kind in _NUMBERS and _NUMBERS[kind].fullmatch(node.value) is None:
        raise OddNumber
    try:
        return read(node) if read else str(node.value)
    except (ValueError, KeyError, IndexError, OverflowError):
        raise ValueError from None


def is_null(node: yaml.Node) -> bool:
    """Whether the value is empty or ``null``."""
    return isinstance(node, yaml.ScalarNode) and node.tag == _TAG + "null"


def is_scalar(node: yaml.Node) -> bool:
    """Whether the node is neither a list nor a mapping."""
    return isinstance(node, yaml.ScalarNode)


def described(node: yaml.Node) -> str:
    """The node for a person: ``'two'``, ``2.5``, ``a list``. Long text is masked like a secret."""
    if not isinstance(node, yaml.ScalarNode):
        return kind_of(node)
    if is_null(node):
        return "nothing"
    if "@" in node.value:
        # The address of a proxy or gateway may contain a password.
        return "text with '@' in it"
    if node.tag == _TAG + "str":
        return repr(shown_text(node.value))
    return shown_text(node.value) if node.tag.startswith(_TAG) else "a tagged value"


def kind_of(node: yaml.Node) -> str:
    """The type of the value without the value, for places that may contain a secret."""
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    if not node.tag.startswith(_TAG):
        return "a tagged value"
    names = {"null": "nothing", "bool": "true or false", "int": "a number", "float": "a number"}
    return names.get(node.tag.removeprefix(_TAG), "text")


def items(node: yaml.Node) -> list[yaml.Node] | None:
    """The list's nodes; ``None`` if the node is not a list."""
    return list(node.value) if isinstance(node, yaml.SequenceNode) else None


def entries(node: yaml.Node, path: str, faults: Faults) -> dict[str, Entry] | None:
    """The mapping's entries by name, merge keys (``<<``) resolved; ``None`` if it is no mapping.

    Names given twice and names that are not text become faults.
    """
    if not isinstance(node, yaml.MappingNode) or node.tag != _TAG + "map":
        return None
    found: dict[str, Entry] = {}
    for key, value in node.value:
        if key.tag == _MERGE:
            continue
        if not isinstance(key, yaml.ScalarNode) or key.tag != _TAG + "str":
            faults.add(line_of(key), path, f"expected the name of a setting, got {kind_of(key)}")
        elif key.value in found:
            first = found[key.value].line
            faults.add(line_of(key), join(path, key.value), f"given twice, first in line {first}")
        else:
            found[key.value] = Entry(line_of(key), value)
    merged = _merged(node, frozenset(), {})
    if len(merged) > _MOST_MERGED:
        faults.add(line_of(node), path, f"merge keys bring more than {_MOST_MERGED} settings")
    return {**merged, **found}


def join(path: str, name: str) -> str:
    """``path`` and one more name; a long name that is no setting is masked."""
    return f"{path}.{shown_text(name)}" if path else shown_text(name)


def _merged(
    node: yaml.MappingNode, above: frozenset[int], done: dict[int, dict[str, Entry]]
) -> dict[str, Entry]:
    """The entries from merge keys. Each node is resolved once, so nested merges cannot explode."""
    if id(node) in done:
        return done[id(node)]
    result: dict[str, Entry] = {}
    for key, value in node.value:
        if key.tag != _MERGE:
            continue
        sources = value.value if isinstance(value, yaml.SequenceNode) else [value]
        # Merging the same node again adds nothing; nested merges are made of such repetitions.
        for source in {id(source): source for source in sources}.values():
            if len(result) > _MOST_MERGED:
                break
            # A mapping that merges itself adds nothing.
            if isinstance(source, yaml.MappingNode) and id(source) not in above | {id(node)}:
                inner = _merged(source, above | {id(node)}, done)
                result = {**inner, **_own(source), **result}
    done[id(node)] = result
    return result


def _own(node: yaml.MappingNode) -> dict[str, Entry]:
    return {
        key.value: Entry(line_of(key), value)
        for key, value in node.value
        if isinstance(key, yaml.ScalarNode) and key.tag == _TAG + "str"
    }


def _decode(data: bytes) -> str:
    if len(data) > LARGEST:
        raise Unreadable(0, f"is larger than {LARGEST // 1024 // 1024} MiB")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise Unreadable(line, "not valid UTF-8") from None


def _refuse_bombs(text: str) -> None:
    depth = 0
    for number, event in enumerate(yaml.parse(text, Loader=_LOADER)):
        if number == _MOST_EVENTS:
            raise Unreadable(0, f"has more than {_MOST_EVENTS} names and values")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > _DEEPEST:
                line = event.start_mark.line + 1 if event.start_mark else 0
                raise Unreadable(line, "nested too deeply")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _line_of(error: yaml.MarkedYAMLError) -> int:
    mark = error.problem_mark or error.context_mark
    return int(mark.line) + 1 if mark else 0


def _without_quotes(error: yaml.MarkedYAMLError) -> str:
    """The parser's message without its quotes from the file, which may contain a secret."""
    words = ", ".join(part for part in (error.context, error.problem) if part)
    return re.sub(r"'.*'|\".*\"", "'…'", words, flags=re.DOTALL)
