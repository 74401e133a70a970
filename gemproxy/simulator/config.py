"""The configuration of a simulator: its keys, their behaviours, its seed and its delays.

``load`` reads the YAML of ``config/simulator.example.yaml``; tests create the values directly.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from gemproxy.core.errors import ConfigError, Fault
from gemproxy.secret import Secret
from gemproxy.simulator.behaviours import (
    OK,
    Assignment,
    BehaviourError,
    Call,
    assignment,
    behaviour,
)
from gemproxy.simulator.quotas import UNLIMITED, Limits

_MEBIBYTE = 1024 * 1024

#: The keys of ``--demo``, as (name, secret): one steady, one rate limited, one flaky.
DEMO_KEYS: tuple[tuple[str, str], ...] = (
    ("demo-steady", "demo-key-steady-not-a-real-secret"),
    ("demo-rate-limited", "demo-key-slowed-not-a-real-secret"),
    ("demo-flaky", "demo-key-flaky-not-a-real-secret"),
)

ALWAYS_OK = assignment(OK)


@dataclass(frozen=True, slots=True)
class SimulatedKey:
    """One API key that the simulator accepts.

    ``behaviour`` None means the simulator's default. ``project`` "" means a separate project.
    ``closed_models`` are listed, but "no longer available to new users" such as this project.
    """

    name: str
    key: Secret
    project: str = ""
    behaviour: Assignment | None = None
    limits: Limits = UNLIMITED
    closed_models: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class SimulatorConfig:
    """The configuration of a simulator.

    ``first_byte_delay`` and ``chunk_delay`` are seconds. ``strict_signatures`` refuses a
    thoughtSignature that was made for another call. ``implicit_cache_tokens`` is the shortest
    prompt that is cached implicitly, 0 for none. ``accept_unknown_keys`` accepts any key, under
    the name "unknown". ``keep_requests`` and ``keep_bytes`` bound the log of requests,
    ``max_body_size`` (bytes) one request.
    """

    keys: tuple[SimulatedKey, ...] = ()
    default: Assignment = ALWAYS_OK
    seed: int = 0
    first_byte_delay: float = 0.0
    chunk_delay: float = 0.0
    accept_unknown_keys: bool = False
    strict_signatures: bool = False
    implicit_cache_tokens: int = 0
    max_body_size: int = 20 * _MEBIBYTE
    keep_requests: int = 200
    keep_bytes: int = 64 * _MEBIBYTE


def config_for(keys: Iterable[tuple[str, str]], **settings: Any) -> SimulatorConfig:
    """A simulator that accepts these (name, secret) pairs, each in a separate project."""
    simulated = tuple(SimulatedKey(name, Secret(secret)) for name, secret in keys)
    return SimulatorConfig(simulated, **settings)


def demo_config() -> SimulatorConfig:
    """The configuration for ``--demo``: DEMO_KEYS, with delays that people can watch."""
    steady, limited, flaky = (SimulatedKey(name, Secret(key)) for name, key in DEMO_KEYS)
    failing = assignment(behaviour("flaky", {"probability": 0.4}))
    keys = (
        steady,
        SimulatedKey(limited.name, limited.key, limits=Limits(rpm=3)),
        SimulatedKey(flaky.name, flaky.key, behaviour=failing),
    )
    return SimulatorConfig(keys, seed=7, first_byte_delay=0.15, chunk_delay=0.04)


def load(path: Path) -> SimulatorConfig:
    """Read a YAML file. Raises ConfigError with every mistake in it."""
    try:
        text = path.read_text(encoding="utf-8")
        document = yaml.safe_load(text)
        lines = _lines(yaml.compose(text, Loader=yaml.SafeLoader))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError((Fault(str(path), 0, "", f"cannot be read: {error}"),)) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark is not None else 0
        problem = getattr(error, "problem", None) or "not YAML"
        raise ConfigError((Fault(str(path), line, "", str(problem)),)) from error
    reader = _Reader(str(path), lines)
    config = reader.config({} if document is None else document)
    if reader.faults:
        raise ConfigError(tuple(reader.faults))
    return config


def parse_assignment(given: Mapping[str, Any]) -> Assignment:
    """Decode an assignment from YAML or JSON. Raises BehaviourError with what is wrong.

    Fields: behaviour, parameters, times, probability, everyNth, calls, models.
    """
    unknown = [name for name in given if name not in _ASSIGNMENT_FIELDS]
    if unknown:
        raise BehaviourError(
            f"unknown field {unknown[0]!r}{_nearest(unknown[0], _ASSIGNMENT_FIELDS)}"
        )
    for name, kind in _ASSIGNMENT_FIELDS.items():
        _expect(name, given.get(name), kind)
    chosen = behaviour(given.get("behaviour") or "ok", given.get("parameters"))
    return assignment(
        chosen,
        times=given.get("times"),
        probability=float(given.get("probability", 1.0)),
        every_nth=given.get("everyNth", 0),
        calls=frozenset(map(_call, given["calls"])) if given.get("calls") else None,
        models=frozenset(given.get("models") or ()),
    )


_ASSIGNMENT_FIELDS: dict[str, tuple[type, ...]] = {
    "behaviour": (str,),
    "parameters": (dict,),
    "times": (int,),
    "probability": (int, float),
    "everyNth": (int,),
    "calls": (list,),
    "models": (list,),
}
_KEY_FIELDS: dict[str, tuple[type, ...]] = {
    "name": (str,),
    "key": (str,),
    "project": (str,),
    "limits": (dict,),
    "closedModels": (list,),
    **_ASSIGNMENT_FIELDS,
}
_TOP_FIELDS: dict[str, tuple[type, ...]] = {
    "seed": (int,),
    "firstByteDelaySeconds": (int, float),
    "chunkDelaySeconds": (int, float),
    "acceptUnknownKeys": (bool,),
    "strictSignatures": (bool,),
    "implicitCacheTokens": (int,),
    "maxBodySize": (int,),
    "keepRequests": (int,),
    "default": (dict,),
    "keys": (list,),
}
_SETTINGS = {
    "seed": "seed",
    "firstByteDelaySeconds": "first_byte_delay",
    "chunkDelaySeconds": "chunk_delay",
    "acceptUnknownKeys": "accept_unknown_keys",
    "strictSignatures": "strict_signatures",
    "implicitCacheTokens": "implicit_cache_tokens",
    "maxBodySize": "max_body_size",
    "keepRequests": "keep_requests",
}


@dataclass
class _Reader:
    """Reads a document and collects its faults."""

    file: str
    lines: Mapping[str, int]
    faults: list[Fault] = field(default_factory=list)

    def config(self, document: object) -> SimulatorConfig:
        top = self._mapping(document, "", _TOP_FIELDS)
        settings = {_SETTINGS[name]: top[name] for name in _SETTINGS if name in top}
        for name, value in settings.items():
            if isinstance(value, (int, float)) and value < 0:
                self._fault(name, "expected 0 or more")
        default = self._assignment(top.get("default", {}), "default") or ALWAYS_OK
        keys = tuple(self._key(key, f"keys[{at}]") for at, key in enumerate(top.get("keys", ())))
        self._check_unique(keys)
        return SimulatorConfig(keys, default, **settings)

    def _key(self, given: object, path: str) -> SimulatedKey:
        fields = self._mapping(given, path, _KEY_FIELDS)
        for name in ("name", "key"):
            if not fields.get(name):
                self._fault(path, f"{name} is missing")
        own = {name: value for name, value in fields.items() if name in _ASSIGNMENT_FIELDS}
        return SimulatedKey(
            fields.get("name", ""),
            Secret(fields.get("key", "")),
            fields.get("project", ""),
            self._assignment(own, path) if own else None,
            self._limits(fields.get("limits", {}), f"{path}.limits"),
            frozenset(map(str, fields.get("closedModels", ()))),
        )

    def _limits(self, given: object, path: str) -> Limits:
        fields = self._mapping(given, path, {"rpm": (int,), "tpm": (int,), "rpd": (int,)})
        return Limits(**fields)

    def _assignment(self, given: Mapping[str, Any], path: str) -> Assignment | None:
        try:
            return parse_assignment(given)
        except BehaviourError as error:
            self._fault(path, str(error))
            return None

    def _check_unique(self, keys: tuple[SimulatedKey, ...]) -> None:
        names, secrets = [key.name for key in keys], [key.key for key in keys]
        for at, key in enumerate(keys):
            if key.name in names[:at]:
                self._fault(f"keys[{at}].name", f"{key.name!r} is used twice")
            if key.key in secrets[:at]:
                self._fault(f"keys[{at}].key", "the same key as another one")

    def _mapping(
        self, given: object, path: str, known: Mapping[str, tuple[type, ...]]
    ) -> dict[str, Any]:
        if not isinstance(given, dict):
            self._fault(path, f"expected a mapping, got {type(given).__name__}")
            return {}
        fields: dict[str, Any] = {}
        for name, value in given.items():
            where = f"{path}.{name}" if path else str(name)
            if name not in known:
                self._fault(where, f"unknown setting{_nearest(str(name), known)}")
                continue
            try:
                _expect(name, value, known[name])
            except BehaviourError as error:
                self._fault(where, str(error))
                continue
            if value is not None:
                fields[name] = value
        return fields

    def _fault(self, path: str, message: str) -> None:
        line = next((self.lines[p] for p in _upwards(path) if p in self.lines), 0)
        self.faults.append(Fault(self.file, line, path, message))


def _expect(name: str, value: object, kinds: tuple[type, ...]) -> None:
    # A bool is an int in Python, but not in YAML.
    wrong_bool = isinstance(value, bool) and bool not in kinds
    if value is not None and (wrong_bool or not isinstance(value, kinds)):
        expected = " or ".join(kind.__name__ for kind in kinds)
        raise BehaviourError(f"{name}: expected {expected}, got {type(value).__name__}")


def _call(name: object) -> Call:
    try:
        return Call(name)
    except ValueError:
        known = ", ".join(call.value for call in Call)
        raise BehaviourError(f"calls: expected some of {known}, got {name!r}") from None


def _nearest(name: str, known: Iterable[str]) -> str:
    matches = get_close_matches(name, list(known), 1)
    return f"; did you mean {matches[0]!r}?" if matches else ""


def _upwards(path: str) -> list[str]:
    """``path`` and its parents, up to the root."""
    found = [path]
    while path:
        path = path[: max(path.rfind("."), path.rfind("["), 0)]
        found.append(path)
    return found


def _lines(node: yaml.Node | None, path: str = "") -> dict[str, int]:
    """The line of every value of a document, by its path."""
    lines = {path: node.start_mark.line + 1} if node is not None else {}
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            below = f"{path}.{name.value}" if path else str(name.value)
            lines |= _lines(value, below) | {below: name.start_mark.line + 1}
    elif isinstance(node, yaml.SequenceNode):
        for at, value in enumerate(node.value):
            lines |= _lines(value, f"{path}[{at}]")
    return lines
