"""Read a list of prices: the shipped one, and the operator's (``pricing.file``)."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gemproxy import pricing
from gemproxy.config import yaml_nodes
from gemproxy.config.kinds import IntRange, ListOf, Nullable, Number, OneOf, Text
from gemproxy.config.reading import FileReader
from gemproxy.core.errors import ConfigError
from gemproxy.pricing.prices import LongContext, Price

if TYPE_CHECKING:
    import yaml

    from gemproxy.config.kinds import Shape

SHIPPED = Path(pricing.__file__).with_name("prices.yaml")

_ROOT = ("date", "source", "prices")
_USD = Number(most=1e6, noun="a number of US dollars")
_PATTERN = Text("a pattern of models", 200)
#: Name in the file -> field, shape; all but the first three may be left out.
_FIELDS: dict[str, tuple[str, Shape]] = {
    "models": ("models", ListOf(_PATTERN)),
    "input": ("input", _USD),
    "output": ("output", _USD),
    "tier": ("tier", Nullable(Text("a tier", 20))),
    "cachedInput": ("cached_input", Nullable(_USD)),
    "audioInput": ("audio_input", Nullable(_USD)),
    "imageOutput": ("image_output", Nullable(_USD)),
    "grounding": ("grounding", Nullable(_USD)),
    "groundingUnit": ("grounding_unit", OneOf(("search", "request"))),
    "batchDiscount": ("batch_discount", Number(0, 1, noun="a number")),
}
_NEEDED = ("models", "input", "output")
_LONG_FIELDS: dict[str, tuple[str, Shape]] = {
    "above": ("above", IntRange(1)),
    "input": ("input", _USD),
    "output": ("output", _USD),
    "cachedInput": ("cached_input", Nullable(_USD)),
}
_LONG_NEEDED = ("above", "input", "output")


@cache
def shipped_prices() -> tuple[Price, ...]:
    """The prices that come with the program."""
    reader = FileReader(SHIPPED, {})
    prices = read_prices(reader)
    faults = tuple(reader.faults.found())
    if faults:
        raise ConfigError(faults)
    return prices


def read_prices(reader: FileReader) -> tuple[Price, ...]:
    """The prices in a file; ``reader`` collects mistakes."""
    root = reader.entries(reader.root(), "", _ROOT) or {}
    for name in ("date", "source"):
        if name in root:
            reader.value(Nullable(Text("text", 1000)), root[name].value, name, None)
    if "prices" not in root or yaml_nodes.is_null(root["prices"].value):
        return ()
    node = root["prices"].value
    nodes = yaml_nodes.items(node)
    if nodes is None:
        reader.refuse(node, "prices", "a list of prices")
        return ()
    read = [_read_price(reader, item, f"prices[{i}]") for i, item in enumerate(nodes)]
    return tuple(price for price in read if price is not None)


def _read_price(reader: FileReader, node: yaml.Node, path: str) -> Price | None:
    reader.note(path, yaml_nodes.line_of(node))
    entries = reader.entries(node, path, (*_FIELDS, "longContext"))
    if entries is None:
        return None
    long = None
    if "longContext" in entries and not yaml_nodes.is_null(entries["longContext"].value):
        place = f"{path}.longContext"
        found = reader.entries(entries.pop("longContext").value, place, _LONG_FIELDS)
        long = None if found is None else _values(reader, found, place, _LONG_FIELDS, _LONG_NEEDED)
    entries.pop("longContext", None)
    values = _values(reader, entries, path, _FIELDS, _NEEDED)
    if values is None:
        return None
    if values["tier"] is not None:
        values["tier"] = values["tier"].lower()
    return Price(**values, long_context=None if long is None else LongContext(**long))


def _values(
    reader: FileReader,
    entries: dict[str, yaml_nodes.Entry],
    path: str,
    fields: dict[str, tuple[str, Shape]],
    needed: tuple[str, ...],
) -> dict[str, Any] | None:
    """The values by field; ``None`` if one that is needed is missing or has a mistake."""
    values = {
        field: reader.value(shape, entries[name].value, f"{path}.{name}", None)
        for name, (field, shape) in fields.items()
        if name in entries
    }
    for name in needed:
        if name not in entries:
            reader.fault(f"{path}.{name}", "is missing")
    if values.get("models") == ():
        reader.fault(f"{path}.models", "expected at least one pattern, got none")
    if any(values.get(fields[name][0]) in (None, ()) for name in needed):
        return None
    if "tier" in fields:
        values.setdefault("tier", None)
    return values
