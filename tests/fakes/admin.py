"""The admin API on a site of its own, with a real pool and everything else in memory."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

from fakes.pools import date
from fakes.wire import Answer, request
from twisted.internet.address import IPv4Address
from twisted.internet.testing import StringTransport

from gemproxy.admin.api import AdminAPI, AdminParts
from gemproxy.admin.auth_gate import AdminAuthGate, AdminDependencies
from gemproxy.admin.clients import ClientParts, ClientRoutes
from gemproxy.admin.health import ServiceStatus
from gemproxy.api.openai.errors import OPENAI
from gemproxy.clock import wall_clock
from gemproxy.config.changes import KeyUpdate, SettingsChange
from gemproxy.config.settings import AccessToken
from gemproxy.core.client_registry import ClientRegistry
from gemproxy.core.context import Attempt, RequestContext
from gemproxy.core.events import RequestListener
from gemproxy.core.interfaces import StoreStatus
from gemproxy.core.limits import ClientLimits
from gemproxy.http.auth import TokenAuth
from gemproxy.http.origins import OriginGuard, OriginSettings
from gemproxy.http.routed_site import routed_site
from gemproxy.http.site import ProxySite
from gemproxy.pool.key import Key
from gemproxy.pool.models import ModelBreakers
from gemproxy.pool.outcome import Charge, Outcome, Verdict
from gemproxy.pool.pool import KeyPool, PoolSettings, Reason, SkippedKey
from gemproxy.pricing.prices import PriceList
from gemproxy.secret import Secret
from gemproxy.service.client_use import ClientUse
from gemproxy.service.reload import Reloaded, ReloadStatus
from gemproxy.state.kinds import RECORDS
from gemproxy.state.model import MetricsRow, RecordRow, UsageRow
from gemproxy.state.record_query import FoundRecords
from gemproxy.state.usage_query import selected, summed
from gemproxy.telemetry.history import RequestHistory
from gemproxy.telemetry.records import RequestRecords, StoredRecords
from gemproxy.telemetry.scrubbing import Scrubber
from gemproxy.telemetry.usage import UsageLedger
from gemproxy.telemetry.usage_reports import UsageReports
from gemproxy.translate.shared.usage import TokenUsage

#: 2026-11-22 20:00 in UTC.
NOON = 1_795_377_600.0
TOKEN = "token-of-the-operator-0123"
CLIENT_TOKEN = "token-of-a-client-0123"
KEPT = StoreStatus("sqlite", NOON - 2)
LOADED = ReloadStatus(loaded_at=NOON - 3600)
CHANGES = SettingsChange(
    keys_added=("delta",),
    keys_updated=(KeyUpdate("beta", ("weight",)),),
    settings=("retry.maxAttempts", "proxy.port"),
    restart_required=("proxy.port",),
)


def context(request_id: str = "req_1") -> RequestContext:
    """A request that one key refused and another served, ten seconds ago."""
    began = NOON - 10
    busy = Outcome(
        Verdict.QUOTA_MINUTE,
        429,
        "per_minute",
        "You exceeded your current quota. Please retry in 40s.",
        retry_after=40.0,
        google_status="RESOURCE_EXHAUSTED",
        quota_id="GenerateRequestsPerMinutePerProjectPerModel-FreeTier",
    )
    rests = [
        SkippedKey("alpha", Reason.COOLING_DOWN, date(NOON + 30)),
        SkippedKey("gamma", Reason.DISABLED),
    ]
    attempts = [
        Attempt("1", "alpha", began, busy, 0.1015, Charge.KEY),
        Attempt(
            "2", "beta", began, Outcome(Verdict.SUCCESS, 200), 0.6, Charge.KEY, skipped_keys=rests
        ),
    ]
    return RequestContext(
        request_id,
        "/v1/chat/completions",
        began,
        model="gemini-3.8-flash",
        attempts=attempts,
        outcome="success",
        first_byte=began + 0.7002,
        usage=TokenUsage(input=12, output=34),
    )


class Told(RequestListener):
    """The telemetry, in memory."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, int, str]] = []

    def request_ended(self, context: Any, status: int, seconds: float) -> None:
        self.requests.append((context.id, context.route, status, context.outcome))


def key(name: str, **options: Any) -> Key:
    options.setdefault("project", name)
    return Key(name, Secret(made_up_secret(name)), **options)


def made_up_secret(name: str) -> str:
    """The secret of a key; its name is no part of it, which would be masked where it is long."""
    digest = hashlib.sha256(name.encode()).hexdigest()[:10]
    return f"test-key-{digest}-0123456789abcdef"


class AdminStage:
    """``keys`` are the pool's; ``clock`` may be the reactor, for a real socket."""

    def __init__(
        self, clock: Any, *keys: Key, admin_open: bool = False, pool: KeyPool | None = None
    ) -> None:
        self.clock = clock
        self.keys = keys or (key("alpha", weight=2), key("beta"), key("gamma"))
        self.pool = pool or KeyPool(self.keys, PoolSettings())
        self.models = ModelBreakers(failure_threshold=1)
        self.history = RequestHistory()
        self.history.request_ended(context(), 200, 0.8125)
        self.usage = UsageLedger(PriceList(), {})
        self.stored_usage: list[UsageRow] = []
        self.stored_records: list[RecordRow] = []
        self.service = ServiceStatus(
            version="1.2.3",
            started_at=NOON - 3600,
            draining=False,
            in_flight=7,
            region_refused=False,
            persistence=KEPT,
            config=LOADED,
        )
        self.told = Told()
        #: What Google says of a key when it is tested; it accepts the others.
        self.google: dict[str, Outcome] = {}
        self.audited: list[Any] = []
        self.clients = ClientRegistry(lambda: bytes(16), wall_clock(clock))
        #: What was written to the disk, and whether that succeeds.
        self.saved: list[Any] = []
        self.can_save = True
        self.client_changes = 0
        self.refused = 0
        self.pauses = 0
        self.rows: tuple[MetricsRow, ...] = ()
        self.metrics = b"gemproxy_config_generation 1.0\n"
        self.accepted: list[str] = []
        self.scrubber = Scrubber([Secret(TOKEN), *[key.secret for key in self.keys]])
        self.reports = UsageReports(self.usage, self._read_usage, wall_clock(clock), self._pause)
        self.admin = AdminAPI(self._gate(admin_open), self._parts())
        self.site = routed_site(
            clock,
            self.admin.rows(),
            None,
            self.admin,
            OPENAI,
            OriginGuard(OriginSettings(admin_open=admin_open)),
        )

    def _gate(self, admin_open: bool) -> AdminAuthGate:
        auth = TokenAuth(
            [AccessToken("app", Secret(CLIENT_TOKEN))],
            Secret(TOKEN),
            anonymous=True,
            admin_open=admin_open,
        )
        dependencies = AdminDependencies(
            self.told,
            OPENAI,
            self.scrubber.scrub_bytes,
            lambda: "req_fresh",
            self._pause,
            self._refuse,
        )
        return AdminAuthGate(self.clock, auth, dependencies)

    def _parts(self) -> AdminParts:
        return AdminParts(
            pool=self.pool,
            models=self.models,
            records=RequestRecords(self.history, StoredRecords(self._at_once, self)),
            usage=self.reports,
            service=lambda: self.service,
            render_metrics=self._render_metrics,
            reload=self._reload,
            audit=self.audited.append,
            test_key=self._test_key,
            minute_rows=lambda: self.rows,
            clients=ClientRoutes(
                ClientParts(
                    registry=self.clients,
                    save=self._save,
                    changed=self._count_change,
                    audit=self.audited.append,
                    usage=self.reports,
                    used=ClientUse(
                        ClientLimits(),
                        self.usage,
                        self.reports,
                        self.clock.seconds,
                        wall_clock(self.clock),
                        self._pause,
                    ).used,
                    last_seen=self.usage.last_seen.at,
                    wall=wall_clock(self.clock),
                    pause=self._pause,
                    scrub=self.scrubber.scrub,
                )
            ),
            seconds=self.clock.seconds,
            pause=self._pause,
            wall=wall_clock(self.clock),
        )

    async def _save(self) -> bool:
        self.saved.append(self.clients.rows())
        return self.can_save

    def _count_change(self) -> None:
        self.client_changes += 1

    async def _at_once(self, operation, *arguments):
        return operation(*arguments)

    def search(self, query):
        """The stored records that are asked for."""
        rows = sorted(filter(query.admits, self.stored_records), reverse=True, key=RECORDS.order)
        return FoundRecords(rows[: query.limit])

    def find(self, digest):
        """The stored records of an id."""
        return [row for row in self.stored_records if row.digest == digest]

    async def _read_usage(self, query, present):
        return summed(query, selected(query, [*present, *self.stored_usage]))

    async def _test_key(self, tested: Key) -> Outcome:
        return self.google.get(tested.name, Outcome(Verdict.SUCCESS, 200))

    def _refuse(self) -> None:
        self.refused += 1

    async def _render_metrics(self, accept: str) -> tuple[str, bytes]:
        self.accepted.append(accept)
        return "text/plain; version=0.0.4; charset=utf-8", self.metrics

    async def _pause(self) -> None:
        self.pauses += 1

    async def _reload(self) -> Reloaded:
        return await self.reload()

    async def reload(self) -> Reloaded:
        """Replace it for another end."""
        self.set(config=replace(LOADED, generation=2))
        return Reloaded(CHANGES, 2, NOON)

    def set(self, **changes: Any) -> None:
        """Let the daemon say something else of itself."""
        self.service = replace(self.service, **changes)

    # -- what happens to keys --------------------------------------------------------------------

    def let(self, name: str, verdict: Verdict, **more: Any) -> None:
        """The key ``name`` serves a request that ends so."""
        now = self.clock.seconds()
        lease = self.pool.acquire_again(self.pool.status(name, now).id, "m", now)
        self.pool.record(lease, Outcome(verdict, **more), now)

    def break_key(self, name: str) -> None:
        """The key ``name`` is refused by Google, so its breaker opens."""
        self.let(name, Verdict.KEY, status=400, reason="invalid", message="API key not valid.")

    def status(self, name: str) -> Any:
        return self.pool.status(name, self.clock.seconds())

    # -- a client in memory ----------------------------------------------------------------------

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | dict[str, Any] | None = None,
        *,
        token: str | None = TOKEN,
        address: str = "192.0.2.1",
        **headers: str,
    ) -> Answer:
        """One request on a connection of its own."""
        if token is not None:
            headers.setdefault("authorization", f"Bearer {token}")
        connection = self.connect(address)
        connection.channel.dataReceived(request(method, path, body, **headers))
        return connection.answer()

    def connect(self, address: str = "192.0.2.1") -> Connection:
        return Connection(self.site, address)


class Connection:
    """A client's connection, on a transport in memory."""

    def __init__(self, site: ProxySite, address: str) -> None:
        self.transport = StringTransport(peerAddress=IPv4Address("TCP", address, 40000))
        self.transport.loseWriteConnection = lambda: None
        self.channel = site.buildProtocol(None)
        self.channel.makeConnection(self.transport)

    @property
    def is_answered(self) -> bool:
        return bool(self.transport.value())

    def answer(self) -> Answer:
        """What was written, which must be one whole answer."""
        head, end, body = self.transport.value().partition(b"\r\n\r\n")
        assert end, "no answer yet"
        lines = head.decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines[1:])
        }
        return Answer(int(lines[0].split(" ")[1]), head, headers, body)


def all_of(answer: Answer) -> str:
    """Everything that a client sees, for a search."""
    return answer.head.decode("latin-1") + answer.body.decode()
