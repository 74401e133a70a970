"""The answers while the configuration is invalid.

Every request except the probes gets 503 after its head: tokens cannot be checked, because they are
in the configuration. Each answer closes its connection, so that the client's next request reaches
the daemon once it serves.
"""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.web.resource import Resource

from gemproxy.api.dialects import DialectChoice
from gemproxy.core.errors import ConfigurationInvalid, ProxyError
from gemproxy.http.origins import LIVENESS, READINESS
from gemproxy.http.response_writer import lines, write_whole
from gemproxy.http.routes import READING
from gemproxy.http.site import ProxyRequest, ProxySite, new_request_id, request_id_of

#: Seconds after which a client should try again.
RETRY_AFTER = 5
_PROBES = {
    **dict.fromkeys(LIVENESS, (200, b'{"status":"live"}')),
    READINESS: (503, b'{"status":"configuration invalid"}'),
}
_MESSAGE = (
    "The proxy is not configured: its operator has to correct a mistake, which the proxy's log"
    " names. Try again later."
)


def maintenance_site(reactor: IReactorTime, dialects: DialectChoice) -> ProxySite:
    """Return the factory of connections for maintenance mode."""
    return ProxySite(Resource(), reactor, _MaintenanceGate(reactor, dialects), dialects)


class _MaintenanceGate:
    """Refuses everything; see :class:`gemproxy.http.gate.RequestGate`."""

    _log = Logger()

    def __init__(self, reactor: IReactorTime, dialects: DialectChoice) -> None:
        self._reactor = reactor
        self._dialects = dialects

    def check_head(self, _: ProxyRequest) -> None:
        raise ConfigurationInvalid(_MESSAGE, retry_after=RETRY_AFTER)

    def check_body_size(self, _: ProxyRequest, size: int) -> None:
        """No body is read."""

    def release(self, _: ProxyRequest) -> None:
        """Nothing is reserved."""

    def reject(self, request: ProxyRequest, error: ProxyError) -> None:
        now = self._reactor.seconds()
        request_id = request_id_of(request, new_request_id)
        headers = [
            (b"x-request-id", request_id.encode("ascii")),
            (b"openai-processing-ms", b"0"),
            (b"x-gemproxy-attempts", b"0"),
        ]
        request.channel.persistent = False
        probe = _PROBES.get(request.path) if request.method in READING else None
        if probe is not None:
            write_whole(request, probe[0], lines(headers), probe[1], now)
            return
        # The log limits warnings to a few a minute and counts the rest.
        self._log.warn("request turned away in maintenance", request_id=request_id, status=503)
        dialect = self._dialects.of(request.uri, request.values)
        answer = dialect.answer(error, request_id)
        if dialect.id_header:
            headers.append((dialect.id_header, request_id.encode("ascii")))
        headers += answer.headers
        write_whole(request, answer.status, lines(headers), answer.body, now)
