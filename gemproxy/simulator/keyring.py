"""The keys of a running simulator, and the behaviour of each for the next request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gemproxy.secret import Secret
from gemproxy.simulator import words
from gemproxy.simulator.behaviours import OK, Assignment, Behaviour, Call
from gemproxy.simulator.config import SimulatedKey, SimulatorConfig

_UNKNOWN = "unknown"


@dataclass(slots=True)
class KeyState:
    """One key and its behaviour; ``seen`` counts the requests that the behaviour could apply to."""

    config: SimulatedKey
    assignment: Assignment
    own: bool
    seen: int = 0
    applied: int = 0

    @property
    def project(self) -> str:
        return self.config.project or self.config.name

    @property
    def project_number(self) -> str:
        """A made-up project number, always the same for a project."""
        return str(int(words.digest(self.project), 16) % 10**12)

    def assign(self, assignment: Assignment, *, own: bool) -> None:
        self.assignment, self.own, self.seen, self.applied = assignment, own, 0, 0

    def draw(self, call: Call, model: str, seed: int) -> Behaviour:
        """Choose the behaviour for one request; uses up one of ``times``."""
        assignment = self.assignment
        if assignment.times is not None and self.applied >= assignment.times:
            return OK
        if call not in assignment.calls or (assignment.models and model not in assignment.models):
            return OK
        self.seen += 1
        if not self._hits(assignment, seed):
            return OK
        self.applied += 1
        return assignment.behaviour

    def _hits(self, assignment: Assignment, seed: int) -> bool:
        if assignment.every_nth:
            return self.seen % assignment.every_nth == 0
        if assignment.probability >= 1:
            return True
        dice = words.dice_for(seed, "flaky", self.config.name, self.seen)
        return dice.random() < assignment.probability

    def describe(self) -> dict[str, Any]:
        """The state for the control API; never the key itself."""
        assignment = self.assignment
        left = None if assignment.times is None else max(0, assignment.times - self.applied)
        return {
            "name": self.config.name,
            "project": self.project,
            "behaviour": OK.name if left == 0 else assignment.behaviour.name,
            "parameters": dict(assignment.behaviour.parameters),
            "timesLeft": left,
            "probability": assignment.probability,
            "everyNth": assignment.every_nth,
            "applied": self.applied,
        }


class Keyring:
    """Finds a key's state by its secret or name."""

    def __init__(self, config: SimulatorConfig) -> None:
        self._config = config
        self._default = config.default
        self._states = {key.name: self._state(key) for key in config.keys}

    def by_secret(self, secret: str) -> KeyState | None:
        """The key with this secret, or None if it is not valid."""
        candidate = secret.encode()
        for state in self._states.values():
            if state.config.key.matches(candidate):
                return state
        return self._unknown() if self._config.accept_unknown_keys else None

    def by_name(self, name: str) -> KeyState:
        """The key with this name or secret. Raises KeyError if there is none."""
        if name in self._states:
            return self._states[name]
        for state in self._states.values():
            if state.config.key.matches(name.encode()):
                return state
        raise KeyError(name)

    def set_default(self, assignment: Assignment) -> None:
        """Set the behaviour of every key that has no other."""
        self._default = assignment
        for state in self._states.values():
            if not state.own:
                state.assign(assignment, own=False)

    def reset(self) -> None:
        """Restore the configuration."""
        self._default = self._config.default
        self._states = {key.name: self._state(key) for key in self._config.keys}

    def describe(self) -> list[Mapping[str, Any]]:
        return [state.describe() for state in self._states.values()]

    def _state(self, key: SimulatedKey) -> KeyState:
        return KeyState(key, key.behaviour or self._default, own=key.behaviour is not None)

    def _unknown(self) -> KeyState:
        if _UNKNOWN not in self._states:
            self._states[_UNKNOWN] = self._state(SimulatedKey(_UNKNOWN, Secret("")))
        return self._states[_UNKNOWN]
