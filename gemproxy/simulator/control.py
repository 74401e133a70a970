"""The control API under ``/_simulator``: sets behaviours of keys and shows received requests.

It needs no credential: the simulator listens on loopback and has only made-up keys.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
from twisted.web.resource import Resource

from gemproxy.clock import wall_clock
from gemproxy.simulator import script
from gemproxy.simulator.behaviours import CATALOGUE, Assignment, BehaviourError
from gemproxy.simulator.config import parse_assignment

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime
    from twisted.web.server import Request

    from gemproxy.simulator.handed_out import HandedOut
    from gemproxy.simulator.recording import Exchange


class _Wrong(Exception):
    """A control request that cannot be served; becomes an answer with this status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Controlled(Protocol):
    """What the control API needs from the simulator."""

    @property
    def in_flight(self) -> int:
        """The number of exchanges that have not ended."""

    @property
    def requests(self) -> Iterable[Exchange]:
        """The latest exchanges, oldest first."""

    @property
    def handed_out(self) -> HandedOut:
        """The tokens that clients were told."""

    def describe_keys(self) -> list[Any]:
        """The state of every key, without secrets."""

    def assign(self, key: str, assignment: Assignment) -> None:
        """Assign a behaviour to ``key``. Raises KeyError for an unknown one."""

    def set_default(self, assignment: Assignment) -> None:
        """Set the behaviour of keys without one of their own."""

    def reset(self) -> None:
        """Restore the configuration."""


class ControlResource(Resource):
    """The paths below ``/_simulator``: keys, default, requests, behaviours and reset."""

    isLeaf = True

    def __init__(self, simulator: Controlled, reactor: IReactorTime) -> None:
        super().__init__()
        self._simulator = simulator
        self._wall = wall_clock(reactor)

    def render(self, request: Request) -> bytes:
        try:
            status, body = 200, self._do(request)
        except _Wrong as wrong:
            status, body = wrong.status, {"error": str(wrong)}
        request.setResponseCode(status)
        request.setHeader("content-type", script.JSON_TYPE)
        return script.pretty(body)

    def _do(self, request: Request) -> Any:
        steps = [step.decode("utf-8", "replace") for step in request.postpath or () if step]
        match request.method, steps:
            case b"GET", []:
                return {"inFlight": self._simulator.in_flight, "time": self._wall()}
            case b"GET", ["keys"]:
                return {"keys": self._simulator.describe_keys()}
            case b"PUT", ["keys", name]:
                return self._assign(name, _assignment(request))
            case b"PUT", ["default"]:
                self._simulator.set_default(_assignment(request))
                return {"keys": self._simulator.describe_keys()}
            case b"GET", ["requests"]:
                return {"requests": self._last(request)}
            case b"GET", ["handed-out"]:
                return {"keys": self._simulator.handed_out.describe()}
            case b"POST", ["reset"]:
                self._simulator.reset()
                return {"reset": True}
            case b"GET", ["behaviours"]:
                return {"behaviours": _catalogue()}
        raise _Wrong(404, "no such control call; see docs/simulator.md")

    def _assign(self, name: str, assignment: Assignment) -> Any:
        try:
            self._simulator.assign(name, assignment)
        except KeyError:
            known = ", ".join(key["name"] for key in self._simulator.describe_keys())
            raise _Wrong(404, f"no such key; the keys are: {known}") from None
        keys = self._simulator.describe_keys()
        return next((key for key in keys if key["name"] == name), {"keys": keys})

    def _last(self, request: Request) -> list[Any]:
        given = (request.args or {}).get(b"limit", [b"20"])[-1]
        if not given.isdigit():
            raise _Wrong(400, "limit: expected a whole number")
        listed = list(self._simulator.requests)
        return [exchange.describe() for exchange in listed[max(0, len(listed) - int(given)) :]]


def _assignment(request: Request) -> Assignment:
    try:
        given = msgspec.json.decode(request.content.read() if request.content else b"")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _Wrong(400, f"the body is not JSON: {error}") from error
    if not isinstance(given, dict):
        raise _Wrong(400, 'the body has to be an object such as {"behaviour": "overloaded"}')
    try:
        return parse_assignment(given)
    except BehaviourError as error:
        raise _Wrong(400, str(error)) from error


def _catalogue() -> list[dict[str, Any]]:
    return [
        {"name": name, "summary": entry.summary, "parameters": dict(entry.parameters)}
        for name, entry in CATALOGUE.items()
    ]
