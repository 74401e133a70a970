"""The simulator as a Twisted server: a resource, a factory, a listener, and its state."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

from twisted.internet.endpoints import TCP4ServerEndpoint, TCP6ServerEndpoint
from twisted.web import http
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from gemproxy.clock import wall_clock
from gemproxy.simulator import errors, script
from gemproxy.simulator.api import Api
from gemproxy.simulator.behaviours import Assignment, assignment, behaviour
from gemproxy.simulator.control import ControlResource
from gemproxy.simulator.handed_out import HandedOut
from gemproxy.simulator.keyring import Keyring
from gemproxy.simulator.playing import Player
from gemproxy.simulator.recording import Exchange, ExchangeLog, received

if TYPE_CHECKING:
    from collections.abc import Iterable

    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IListeningPort

    from gemproxy.simulator.config import SimulatorConfig
    from gemproxy.simulator.script import Step

_CONTROL = b"_simulator"


class Simulator:
    """A Gemini API on loopback. ``reactor`` needs time, and TCP for :meth:`listen`."""

    def __init__(self, reactor: Any, config: SimulatorConfig) -> None:
        self.config = config
        self.requests = ExchangeLog(config.keep_requests, config.keep_bytes)
        self.handed_out = HandedOut()
        self._reactor = reactor
        self._keyring = Keyring(config)
        self._api = Api(config, self._keyring)
        self._wall = self._api.quotas.wall = self._api.resources.wall = wall_clock(reactor)
        self._playing: set[Player] = set()
        self._received = 0

    @property
    def in_flight(self) -> int:
        """The number of exchanges that have not ended, stalled ones included."""
        return len(self._playing)

    def resource(self) -> IResource:
        """The whole API, with the control calls under ``/_simulator``."""
        return _Root(self, ControlResource(self, self._reactor))

    def factory(self) -> Site:
        """A site for :meth:`resource`. It has no access log, since URLs can contain keys."""
        return _QuietSite(
            self.resource(),
            requestFactory=_bounded_request(self.config.max_body_size),
            parsePOSTFormSubmission=False,
            reactor=self._reactor,
        )

    def listen(self, port: int = 0, interface: str = "127.0.0.1") -> Deferred[IListeningPort]:
        """Listen on a loopback ``interface``; port 0 is any free one. ValueError for others."""
        address = ipaddress.ip_address(interface)
        if not address.is_loopback:
            raise ValueError(f"the simulator listens on loopback only, not on {interface}")
        kind = TCP4ServerEndpoint if address.version == 4 else TCP6ServerEndpoint
        listening: Deferred[IListeningPort] = kind(self._reactor, port, interface=interface).listen(
            self.factory()
        )
        return listening

    def set_behaviour(
        self, key: str, name: str, *, times: int | None = None, **parameters: Any
    ) -> None:
        """Assign the behaviour ``name`` to ``key`` (name or secret).

        ``times`` is the number of requests, None for no end. ``parameters`` are those of the
        behaviour in the catalogue. Raises KeyError for an unknown key and BehaviourError for an
        unknown behaviour or parameter.
        """
        self.assign(key, assignment(behaviour(name, parameters), times=times))

    def assign(self, key: str, assignment: Assignment) -> None:
        """Like :meth:`set_behaviour`, with every field of an assignment."""
        self._keyring.by_name(key).assign(assignment, own=True)

    def set_default(self, assignment: Assignment) -> None:
        """Set the behaviour of keys without one of their own."""
        self._keyring.set_default(assignment)

    def describe_keys(self) -> list[Any]:
        """The state of every key, without secrets."""
        return self._keyring.describe()

    def reset(self) -> None:
        """Restore the configuration: behaviours, quotas and the log of requests."""
        self._keyring.reset()
        self._api.quotas.clear()
        self._api.resources.clear()
        self._api.cache.clear()
        self.requests.clear()
        self.handed_out.clear()

    def abort_connections(self) -> None:
        """Reset every connection with an exchange in flight, when a test or the process ends."""
        for player in tuple(self._playing):
            player.abort()

    def serve(self, request: Request) -> None:
        """Answer one request of the API."""
        exchange = self._received_exchange(request)
        self.requests.add(exchange)
        player = Player(
            self._reactor, request, exchange, self._script(request, exchange), self._ended
        )
        self._playing.add(player)
        player.start()

    def _ended(self, player: Player) -> None:
        self._playing.discard(player)
        self.handed_out.add(player.exchange)

    def _script(self, request: Request, exchange: Exchange) -> Iterable[Step]:
        if getattr(request, "too_large", False):
            text = f"Request payload size exceeds the limit: {self.config.max_body_size} bytes."
            return script.error_reply(errors.invalid_argument(text))
        body = request.content.read() if request.content is not None else b""
        return self._api.respond(exchange, body, self._reactor.seconds())

    def _received_exchange(self, request: Request) -> Exchange:
        self._received += 1
        headers = {
            name.decode("latin-1").lower(): ", ".join(v.decode("latin-1") for v in values)
            for name, values in request.requestHeaders.getAllRawHeaders()
        }
        query = {
            name.decode("latin-1"): values[-1].decode("latin-1")
            for name, values in (request.args or {}).items()
        }
        path, method = request.path.decode("latin-1"), request.method.decode("latin-1")
        exchange = received(self._received, self._wall(), method, path, query, headers)
        if request.content is not None:
            exchange.size = request.content.seek(0, 2)
            request.content.seek(0)
        return exchange


class _Root(Resource):
    """Routes ``/_simulator`` to the control API and everything else to the API."""

    isLeaf = False

    def __init__(self, simulator: Simulator, control: Resource) -> None:
        super().__init__()
        self._api = _ApiResource(simulator)
        self.putChild(_CONTROL, control)

    def getChild(self, _path: bytes, _request: Request) -> Resource:
        return self._api


class _ApiResource(Resource):
    isLeaf = True

    def __init__(self, simulator: Simulator) -> None:
        super().__init__()
        self._simulator = simulator

    def render(self, request: Request) -> int:
        self._simulator.serve(request)
        return NOT_DONE_YET


class _QuietSite(Site):
    noisy = False

    def log(self, request: http.Request) -> None:
        """No access log: ``GET /_simulator/requests`` shows more, without the keys."""


def _bounded_request(limit: int) -> type[Request]:
    """A Request that keeps at most ``limit`` bytes of its body and notes if there were more."""

    class BoundedRequest(Request):
        too_large = False

        def handleContentChunk(self, data: bytes) -> None:
            if self.content is not None and self.content.tell() + len(data) > limit:
                self.too_large = True
            else:
                super().handleContentChunk(data)

    return BoundedRequest
