"""The daemon on sockets that systemd has handed over: maintenance mode if it cannot start.

With socket activation, systemd starts the process again for the next client. If the process exits
because of a bad file, a few clients are enough to reach systemd's start limit, and then systemd
closes the socket. So the process stays. While the files cannot be used it answers 503
(:mod:`gemproxy.http.maintenance`), watches the files, and starts the daemon as soon as they are
valid. It does not touch the state before that.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredLock, maybeDeferred, succeed
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamServerEndpoint
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.protocols.haproxy import proxyEndpoint

from gemproxy.api.offered_dialects import DIALECTS
from gemproxy.config import endpoints
from gemproxy.config.credentials import KnownSecrets
from gemproxy.config.loading import locate_files, read_sections
from gemproxy.config.reading import FileReader
from gemproxy.config.settings import ProxySettings, Settings
from gemproxy.core.errors import ConfigError, StartRefused
from gemproxy.http.maintenance import maintenance_site
from gemproxy.service.config_files import FILES_OF_A_START, ConfigFiles
from gemproxy.service.daemon import Daemon
from gemproxy.service.endpoints import with_tls
from gemproxy.service.handed_over import HandedOver, HandedOverEndpoint, arguments
from gemproxy.service.lifetimes import GracefulExit
from gemproxy.service.notifying import SystemdNotifier
from gemproxy.service.periodic import PeriodicService
from gemproxy.service.reload import LOOK_SECONDS, Watch
from gemproxy.service.threads import in_thread
from gemproxy.telemetry.logs import LoggedServices, LogSink

#: Seconds between two attempts to start, if the reason is outside the files.
_RETRY_SECONDS = 5.0
#: Seconds that a stop waits for the requests of connections that are open.
_LAST_REQUESTS_SECONDS = 1.0
#: Mistakes that get a log line each; the log takes twenty lines a minute of one event.
_OWN_LINES = 15
#: The other mistakes share log lines: how many in a line, and how many lines at most.
_IN_A_LINE = 50
_MORE_LINES = 10
#: Characters; ``systemctl status`` shows one line.
_LONGEST_STATUS = 1500


class StartFiles:
    """The files as a start needs them; the arguments are the options. All of it blocks.

    :meth:`fingerprint` differs when anything does that may make a start succeed.
    """

    def __init__(
        self,
        config: str | None,
        keys: str | None,
        environ: Mapping[str, str],
        clients: str | None = None,
    ) -> None:
        self._options = (config, keys)
        self._clients = clients
        self._environ = environ
        self._watched: tuple[object, ConfigFiles] | None = None

    def read(self) -> tuple[Settings, ConfigFiles, bytes]:
        """Settings, where they come from, and the fingerprint of that from before.

        Raises :class:`ConfigError`.
        """
        paths = locate_files(*self._options, self._environ)
        files = ConfigFiles(*paths, self._environ, clients=self._clients)
        seen = files.fingerprint()
        return files.read(), files, seen

    def fingerprint(self) -> bytes:
        """The fingerprint of the files, which may be missing."""
        try:
            paths = locate_files(*self._options, self._environ)
        except ConfigError:
            return b""
        if self._watched is None or self._watched[0] != paths:
            files = ConfigFiles(*paths, self._environ, FILES_OF_A_START, clients=self._clients)
            self._watched = paths, files
        return self._watched[1].fingerprint()

    def proxy(self) -> ProxySettings:
        """The section ``proxy``, with the default for each mistaken setting."""
        try:
            path, _ = locate_files(*self._options, self._environ)
        except ConfigError:
            return ProxySettings()
        sections = read_sections(FileReader(path, self._environ), KnownSecrets())
        proxy: ProxySettings = sections["proxy"]
        return proxy


class Activation(Service):
    """Run the daemon of ``files`` on the sockets ``handed`` over, or maintenance mode."""

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        handed: HandedOver,
        files: StartFiles,
        sink: LogSink,
        environ: Mapping[str, str],
    ) -> None:
        self._reactor = reactor
        self._handed = handed
        self._files = files
        self._sink = sink
        self._environ = environ
        self._daemon: Daemon | None = None
        self._maintenance: _Maintenance | None = None

    def in_log(self) -> LoggedServices:
        """What ``makeService`` returns."""
        services = LoggedServices(self._sink)
        self.setServiceParent(services)
        return services

    def startService(self) -> None:
        """Start the daemon, or maintenance."""
        super().startService()
        # The daemon listens on duplicates. If these stayed open, nobody would accept from them.
        self._reactor.addSystemEventTrigger("before", "shutdown", self._handed.close)
        seen = self._files.fingerprint()
        try:
            self._begin(*self._files.read())
        except (ConfigError, StartRefused) as reason:
            self._maintenance = _Maintenance(
                self._reactor, self._handed, self._files, self._environ, self._begin
            )
            self._maintenance.begin(reason, seen)

    def stopService(self) -> Deferred[Any]:
        """Fires when the daemon has stopped."""
        super().stopService()
        if self._daemon is not None:
            return maybeDeferred(self._daemon.parts.stopService)
        if self._maintenance is not None:
            return self._maintenance.end()
        return succeed(None)

    def _begin(self, settings: Settings, files: ConfigFiles, seen: bytes) -> None:
        """Start the daemon. Raises :class:`ConfigError` and :class:`StartRefused`."""
        daemon = Daemon(self._reactor, settings, files, seen, handed=self._handed, sink=self._sink)
        try:
            daemon.parts.privilegedStartService()
            daemon.parts.startService()
        except BaseException:
            daemon.abandon()
            raise
        self._daemon = daemon
        self._warn_of_unnamed(settings.proxy)

    def _warn_of_unnamed(self, proxy: ProxySettings) -> None:
        """Warn of sockets that no endpoint names: their clients would wait for ever."""
        named = {
            id(found)
            for description in (proxy.endpoint, proxy.admin_endpoint)
            if (found := named_socket(self._handed, description)) is not None
        }
        for name, each in self._handed.each():
            if id(each) not in named:
                self._log.warn(
                    "systemd has handed over a socket that neither proxy.endpoint nor"
                    " proxy.adminEndpoint names: nobody answers there",
                    socket=name,
                )


class _Maintenance:
    """Answers 503 until ``begin_daemon`` succeeds."""

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        handed: HandedOver,
        files: StartFiles,
        environ: Mapping[str, str],
        begin_daemon: Callable[[Settings, ConfigFiles, bytes], None],
    ) -> None:
        self._reactor = reactor
        self._handed = handed
        self._files = files
        self._begin_daemon = begin_daemon
        self._site = maintenance_site(reactor, DIALECTS)
        self._ports: list[IListeningPort] = []
        self._logged: tuple[str, ...] = ()
        self._retry_at = float("inf")
        self._running = True
        self._lock = DeferredLock()
        self._notifier = SystemdNotifier(
            reactor, environ, status=self._status, drain_seconds=lambda: 0.0
        )
        self._exit = GracefulExit(reactor)
        self._looks = PeriodicService(reactor, LOOK_SECONDS, self._look, "watching the files")

    def begin(self, reason: ConfigError | StartRefused, seen: bytes) -> None:
        """Listen, watch the files, log the reason; ``seen`` is the fingerprint that was tried."""
        self._watch = Watch(seen)
        self._log.error(
            "maintenance mode: the daemon cannot start and every request gets 503;"
            " a corrected file is taken by itself"
        )
        self._exit.startService()
        signal.signal(signal.SIGHUP, self._hung_up)
        self._failed(reason, self._files.proxy())
        self._notifier.startService()
        self._looks.startService()
        # Requests are answered only once the reactor runs.
        self._reactor.callWhenRunning(self._notifier.ready)

    def end(self) -> Deferred[Any]:
        """Stop, after the last answer is sent.

        A connection that was accepted a moment ago has its request still on the way.
        """
        self._stand_back()
        if not self._site.channels:
            return self._site.close()
        return deferLater(self._reactor, _LAST_REQUESTS_SECONDS, self._site.close)

    def _stand_back(self) -> None:
        self._running = False
        self._looks.stopService()
        self._notifier.stopService()
        self._close_ports()

    # -- another try -----------------------------------------------------------------------------

    async def _look(self) -> None:
        seen = await self._in_thread(self._files.fingerprint)
        if self._lock.locked or not self._running:
            return
        if self._watch.is_due(seen) or self._reactor.seconds() >= self._retry_at:
            await self._try(seen)

    def _hung_up(self, _number: int, _frame: object) -> None:
        """Signal handler: only schedule the work."""
        self._reactor.callFromThread(self._try_by_signal)

    def _try_by_signal(self) -> None:
        if self._running and not self._lock.waiting:
            Deferred.fromCoroutine(self._try_asked())

    async def _try_asked(self) -> None:
        self._logged = ()  # The operator asked again, so log the mistakes again.
        self._notifier.reloading()
        with suppress(Exception):
            await self._try(await self._in_thread(self._files.fingerprint))
        if self._running:
            self._notifier.ready()

    async def _try(self, seen: bytes) -> None:
        await self._lock.run(lambda: Deferred.fromCoroutine(self._try_once(seen)))

    async def _try_once(self, seen: bytes) -> None:
        self._watch.trying(seen)
        try:
            found = await self._in_thread(self._files.read)
            if self._running:
                self._begin_daemon(*found)
        except (ConfigError, StartRefused) as reason:
            proxy = await self._in_thread(self._files.proxy)
            if self._running:
                self._failed(reason, proxy)
        except Exception:  # noqa: BLE001 - a defect must not end what answers
            self._retry_at = self._reactor.seconds() + _RETRY_SECONDS
            self._log.failure("the daemon failed to start in the place of maintenance")
        else:
            if self._running:
                self._log.info("maintenance mode is over: the daemon serves")
                self._stand_back()

    def _failed(self, reason: ConfigError | StartRefused, proxy: ProxySettings) -> None:
        if isinstance(reason, ConfigError):
            mistakes = tuple(fault.told() for fault in reason.faults)
            self._retry_at = float("inf")
        else:
            mistakes = (reason.reason,)
            self._retry_at = self._reactor.seconds() + _RETRY_SECONDS
        if mistakes != self._logged:
            self._logged = mistakes
            self._log_mistakes(mistakes)
        self._listen(proxy)

    # -- answering -------------------------------------------------------------------------------

    def _listen(self, proxy: ProxySettings) -> None:
        """Listen on each socket, with TLS if it is configured.

        Without a usable certificate the sockets answer in plain text, which a TLS client cannot
        read.
        """
        before, self._ports = self._ports, []
        public = named_socket(self._handed, proxy.endpoint)
        admin = named_socket(self._handed, proxy.admin_endpoint)
        for name, each in self._handed.each():
            factory: IProtocolFactory = self._site
            endpoint: IStreamServerEndpoint = HandedOverEndpoint(self._reactor, each)
            if each is not admin:
                with suppress(ConfigError):
                    factory = with_tls(self._site, proxy)
            described = proxy.endpoint if each is public else None
            if described is not None and described.startswith("haproxy:"):
                endpoint = proxyEndpoint(endpoint)
            endpoint.listen(factory).addCallbacks(
                self._ports.append,
                lambda failure, name=name: self._log.failure(
                    "cannot answer on the socket {name}", failure, name=name
                ),
            )
        # Close only now, so that no client waits without a listener.
        for port in before:
            port.stopListening()

    def _close_ports(self) -> None:
        ports, self._ports = self._ports, []
        for port in ports:
            port.stopListening()

    # -- telling ---------------------------------------------------------------------------------

    def _log_mistakes(self, mistakes: Sequence[str]) -> None:
        for line in mistakes[:_OWN_LINES]:
            self._log.error("this keeps the daemon from starting", mistake=line)
        rest = mistakes[_OWN_LINES:]
        for begin in range(0, min(len(rest), _IN_A_LINE * _MORE_LINES), _IN_A_LINE):
            self._log.error(
                "these keep the daemon from starting as well",
                mistakes=rest[begin : begin + _IN_A_LINE],
            )
        untold = len(rest) - _IN_A_LINE * _MORE_LINES
        if untold > 0:
            self._log.error("there are more mistakes than the log lists", count=untold)

    def _status(self) -> str:
        number = len(self._logged)
        line = f"Maintenance: {number} {'mistake' if number == 1 else 'mistakes'}"
        for done, mistake in enumerate(self._logged):
            if len(line) + len(mistake) > _LONGEST_STATUS:
                return f"{line}; and {number - done} more in the log"
            line += f"; {mistake}"
        return line

    def _in_thread(self, work: Callable[[], Any]) -> Deferred[Any]:
        return in_thread(self._reactor, work)


def named_socket(handed: HandedOver, description: str | None) -> Any:
    """Which of the sockets an endpoint's description names; ``None`` for none."""
    parts = endpoints.split_description(description or "")
    if parts[0] == "haproxy":
        del parts[0]
    if parts[:1] != ["systemd"]:
        return None
    try:
        return handed.find(arguments(parts))
    except ValueError:
        return None
