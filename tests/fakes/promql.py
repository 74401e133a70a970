"""PromQL taken apart, as far as it says which metrics and labels a query speaks of.

A parser of precedence it is not: ``promtool`` judges the grammar, where it is installed. It stops
at every word that it does not know, so that nothing in a query goes unread.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_AGGREGATORS = frozenset({"sum", "min", "max", "count", "topk", "bottomk"})
_FUNCTIONS = frozenset(
    {"absent", "changes", "deriv", "histogram_quantile", "increase", "rate", "time"}
)
_MATCHING = frozenset({"on", "ignoring", "group_left", "group_right"})
_OPERATORS = frozenset({"and", "or", "unless", "bool", "offset"})
_TOKEN = re.compile(
    r"""\s*(?:
      (?P<string>"(?:[^"\\]|\\.)*")
    | (?P<range>\[[^\]"]*\])
    | (?P<number>\d[\w.]*)
    | (?P<word>[A-Za-z_:][\w:]*)
    | (?P<sign>=~|!~|!=|==|<=|>=|[-+*/%^<>=(){},])
    )""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class Matcher:
    """``label operator "value"`` in the braces of a selector."""

    label: str
    operator: str
    value: str


@dataclass(frozen=True)
class Selector:
    """The series of one metric."""

    metric: str
    matchers: tuple[Matcher, ...] = ()


@dataclass(frozen=True)
class Grouping:
    """Labels that are named beside an expression, which has these selectors.

    ``word`` is ``by``, ``without`` or one of vector matching.
    """

    word: str
    labels: tuple[str, ...]
    selectors: tuple[Selector, ...]


@dataclass
class Query:
    """Everything that a query names."""

    selectors: list[Selector] = field(default_factory=list)
    groupings: list[Grouping] = field(default_factory=list)


def read(text: str) -> Query:
    """Take ``text`` apart. Raises ``ValueError`` at what is unknown here."""
    query = Query()
    reader = _Reader(text, query)
    query.selectors = reader.expression()
    if reader.tokens:
        raise ValueError(f"{reader.tokens[0][1]!r} is left over in {text!r}")
    return query


class _Reader:
    def __init__(self, text: str, query: Query) -> None:
        self.tokens = _tokens(text)
        self._query = query

    def expression(self) -> list[Selector]:
        """Up to a bracket that was not opened in it, or the end; the selectors that are in it."""
        found: list[Selector] = []
        matchings: list[tuple[str, tuple[str, ...], int]] = []
        while self.tokens and self._next != ")":
            kind, token = self._take()
            if token == "(":
                found += self._rest_of_brackets()
            elif token in _MATCHING:
                matchings.append((token, self._names() if self._next == "(" else (), len(found)))
            elif token in _AGGREGATORS:
                found += self._aggregation()
            elif token in _FUNCTIONS:
                self._expect("(")
                found += self._rest_of_brackets()
            elif token in {"{", "}", '"'} or kind == "string":
                raise ValueError(f"{token!r} where a metric or an operator should be")
            elif kind == "word" and token not in _OPERATORS:
                found.append(self._selector(token))
        for word, labels, position in matchings:
            for side in (found[:position], found[position:]):
                self._query.groupings.append(Grouping(word, labels, tuple(side)))
        return found

    def _aggregation(self) -> list[Selector]:
        clauses = self._clause()
        self._expect("(")
        inner = self._rest_of_brackets()
        for word, labels in clauses + self._clause():
            self._query.groupings.append(Grouping(word, labels, tuple(inner)))
        return inner

    def _clause(self) -> list[tuple[str, tuple[str, ...]]]:
        if self._next not in {"by", "without"}:
            return []
        return [(self._take()[1], self._names())]

    def _selector(self, metric: str) -> Selector:
        if self._next == "(":
            raise ValueError(f"{metric} is no function that is known here")
        if self._next != "{":
            return Selector(metric)
        self._take()
        matchers = []
        while self._next != "}":
            label, operator, value = (self._take()[1] for _ in range(3))
            matchers.append(Matcher(label, operator, value[1:-1]))
            if self._next == ",":
                self._take()
        self._take()
        return Selector(metric, tuple(matchers))

    def _rest_of_brackets(self) -> list[Selector]:
        inner = self.expression()
        self._expect(")")
        return inner

    def _names(self) -> tuple[str, ...]:
        self._expect("(")
        names = []
        while self._next != ")":
            names.append(self._take()[1])
            if self._next == ",":
                self._take()
        self._take()
        return tuple(names)

    @property
    def _next(self) -> str:
        return self.tokens[0][1] if self.tokens else ""

    def _take(self) -> tuple[str, str]:
        if not self.tokens:
            raise ValueError("the query ends too early")
        return self.tokens.pop(0)

    def _expect(self, token: str) -> None:
        taken = self._take()[1]
        if taken != token:
            raise ValueError(f"{taken!r} where {token!r} should be")


def _tokens(text: str) -> list[tuple[str, str]]:
    """Kind and text of each, without ranges, which name nothing."""
    found, position = [], 0
    text = text.rstrip()
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise ValueError(f"{text[position : position + 20]!r} is no PromQL")
        position = match.end()
        if match.lastgroup != "range":
            found.append((match.lastgroup or "", match[match.lastgroup or 0]))
    return found
