"""Reads the pairs that lie here; README.md tells what they are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parent


def _load(path: Path) -> Any:
    return yaml.load(path.read_text("utf-8"), Loader=yaml.CSafeLoader)


#: What is known of the wire, by the names that pairs give to it.
SHAPES: dict[str, str] = _load(FOLDER / "shapes.yaml")
#: The pairs by the name of their file.
FILES: dict[str, list[dict[str, Any]]] = {
    path.stem: _load(path) for path in sorted(FOLDER.glob("*.yaml")) if path.stem != "shapes"
}


def answers_of_google() -> Iterator[Any]:
    """Each JSON value that Google sends in some pair."""
    for pairs in FILES.values():
        for upstream in (pair.get("upstream", "") for pair in pairs):
            for body in upstream if isinstance(upstream, list) else [upstream]:
                for text in json_texts(body):
                    yield from json.loads(f"[{text}]" if text.startswith("{") else text)


def json_texts(body: str) -> list[str]:
    """The events of a stream, or the whole body; nothing of a body that ends early."""
    lines = [line.removeprefix("data: ") for line in body.splitlines() if line[:5] == "data:"]
    return lines or ([body] if body.rstrip()[-1:] in {"}", "]"} else [])


def field_paths(value: Any, at: str = "") -> Iterator[str]:
    """Every field in ``value``, as ``candidates[].content.role``."""
    if isinstance(value, dict):
        for name, item in value.items():
            path = f"{at}.{name}" if at else name
            yield path
            # What a function's own arguments and results look like is nobody's format.
            if name not in {"args", "response", "metadata"}:
                yield from field_paths(item, path)
    elif isinstance(value, list):
        for item in value:
            yield from field_paths(item, f"{at}[]")
