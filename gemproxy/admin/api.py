"""The admin API: it shows and changes the state of the running daemon.

The token is checked before the table of routes is searched. Klein's router would answer earlier,
with a redirect, a 404 or a 405.

A key is named by its id or its name, percent-encoded if necessary (``team%2Fone``). Every change is
an audit event. The files of the dashboard, which hold no data, need no token.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Protocol
from urllib.parse import unquote

import msgspec

from gemproxy.admin import answers
from gemproxy.admin.auth_gate import AdminAuthGate, Page
from gemproxy.admin.clients import ClientRoutes
from gemproxy.admin.dashboard import Dashboard
from gemproxy.admin.health import ServiceStatus, diagnose
from gemproxy.admin.key_changes import (
    BULK_WORDS,
    KeySelection,
    change_many,
    decode_selection,
    selected,
    selection,
)
from gemproxy.admin.requests import record_query
from gemproxy.admin.revisions import Revisions
from gemproxy.admin.series import LastHour
from gemproxy.admin.usage import answer_usage, moment_of, text_values
from gemproxy.api.base import Route
from gemproxy.api.content_type import check_content_type
from gemproxy.config.changes import SettingsChange
from gemproxy.core.audit import Actor, AuditEvent, Value
from gemproxy.core.errors import (
    ConfigError,
    InvalidRequest,
    NotFound,
    ProxyError,
)
from gemproxy.http.coroutine_runner import CoroutineRunner
from gemproxy.http.lifecycle import check_size, not_allowed, unknown_url
from gemproxy.http.routes import READING, Row
from gemproxy.pool.key import Key
from gemproxy.pool.models import ModelBreakers
from gemproxy.pool.outcome import Outcome, Verdict
from gemproxy.pool.pool import KeyPool, KeyStatus, UnknownKey
from gemproxy.state.model import MetricsRow
from gemproxy.telemetry.records import RequestRecords
from gemproxy.telemetry.usage_reports import UsageReports

if TYPE_CHECKING:
    from gemproxy.http.site import ProxyRequest

#: Bytes; no route needs a larger body, but those of clients, which may have many patterns.
MAX_BODY_BYTES = 4096
_CLIENT_BYTES = 16 * 1024
_CLIENTS = "/admin/clients"
#: The route in log and metrics for a path without a row.
UNKNOWN = "/admin/*"

#: Keys that are encoded in one turn of the reactor; takes one to two milliseconds.
_KEYS_AT_ONCE = 50
#: The same for quotas.
_QUOTAS_AT_ONCE = 200
_QUOTA_FILTERS = ("project", "model", "dimension", "source")
#: Clients that are encoded in one turn of the reactor.
_CLIENTS_AT_ONCE = 50
_CREATED = 201
#: Rows that are summed in one turn of the reactor; takes about one millisecond.
_ROWS_AT_ONCE = 1000
#: Requests that are encoded and scrubbed in one turn.
_REQUESTS_AT_ONCE = 25
_PIECE_BYTES = 64 * 1024
_KEYS_LIMIT = re.compile(rb"[0-9]{1,6}")
_MOST_KEYS = 999_999
#: Keys that an answer names, of those that were changed.
_NAMES_SHOWN = 20


class Reloaded(Protocol):
    """A successful reload."""

    @property
    def changes(self) -> SettingsChange:
        """The changes that were found."""

    @property
    def generation(self) -> int:
        """The generation of the configuration now in force."""

    @property
    def at(self) -> float:
        """Epoch seconds."""


@dataclass(frozen=True)
class AdminParts:
    """What the admin API shows and changes, each as a value or a callable.

    ``records`` searches requests, ``usage`` answers questions about usage. ``service`` returns the
    status of the parts other than the pool. ``render_metrics`` gets the header ``Accept`` and
    returns content type and body. ``reload`` raises
    :class:`~gemproxy.core.errors.ConfigError` if nothing was applied. ``audit`` is called for every
    change. ``test_key`` asks Google about a key. ``minute_rows`` returns the metrics of the last
    hour, ``clients`` serves the routes of clients. ``seconds`` returns monotonic time, ``wall``
    epoch time (by default the same). ``pause`` lets other requests run in the middle of long work.
    """

    pool: KeyPool
    models: ModelBreakers
    records: RequestRecords
    usage: UsageReports
    service: Callable[[], ServiceStatus]
    render_metrics: Callable[[str], Awaitable[tuple[str, bytes]]]
    reload: Callable[[], Awaitable[Reloaded]]
    audit: Callable[[AuditEvent], None]
    test_key: Callable[[Key], Awaitable[Outcome]]
    minute_rows: Callable[[], Sequence[MetricsRow]]
    clients: ClientRoutes
    seconds: Callable[[], float]
    pause: Callable[[], Awaitable[None]]
    #: Epoch time; ``None``: use ``seconds``.
    wall: Callable[[], float] | None = None


@dataclass(frozen=True)
class AdminRequest:
    """One authenticated request. ``value`` is the path's parameter, decoded."""

    http: ProxyRequest
    actor: Actor
    value: str
    body: bytes


class AdminAPI:
    """See the module. Serves every request that it gets; ``gate`` authenticates them before."""

    def __init__(self, gate: AdminAuthGate, parts: AdminParts) -> None:
        self.gate = gate
        self._parts = parts
        self._wall = parts.wall or parts.seconds
        self._dashboard = Dashboard()
        #: The time of the start distinguishes one process from the next.
        process = f"{int(self._wall() * 1000):x}"
        self._key_revisions, self._client_revisions = Revisions(process), Revisions(process)

    # -- the table of routes ---------------------------------------------------------------------

    def rows(self) -> Iterator[Row]:
        """Yield the rows of the API and of the dashboard."""
        for path in self._dashboard.paths:
            route = Route(path, READING, self.gate.dialect, whole=False)
            yield Row(route, self._check_document, self._serve_document)
        for template, method, act in (
            ("/admin/health", b"GET", self._health),
            ("/admin/keys", b"GET", self._keys),
            ("/admin/keys/enable", b"POST", self._enable_many),
            ("/admin/keys/disable", b"POST", self._disable_many),
            ("/admin/keys/reset", b"POST", self._reset_many),
            ("/admin/keys/{keyId}/test", b"POST", self._test),
            ("/admin/keys/{keyId}/enable", b"POST", self._enable),
            ("/admin/keys/{keyId}/disable", b"POST", self._disable),
            ("/admin/keys/{keyId}/reset", b"POST", self._reset),
            ("/admin/keys/{keyId}/weight", b"PUT", self._set_weight),
            ("/admin/metrics", b"GET", self._metrics),
            ("/admin/metrics/series", b"GET", self._series),
            ("/admin/config/reload", b"POST", self._reload),
            ("/admin/clients", b"GET", self._clients),
            ("/admin/clients", b"POST", self._make_client),
            ("/admin/clients/{name}", b"GET", self._client),
            ("/admin/clients/{name}", b"PATCH", self._change_client),
            ("/admin/clients/{name}", b"DELETE", self._delete_client),
            ("/admin/clients/{name}/rotate", b"POST", self._rotate_client),
            ("/admin/usage", b"GET", self._usage),
            ("/admin/quotas", b"GET", self._quotas),
            ("/admin/requests", b"GET", self._requests),
            ("/admin/requests/{requestId}", b"GET", self._explain),
        ):
            methods = READING if method == b"GET" else (method,)
            route = Route(template, methods, self.gate.dialect, whole=False)
            yield Row(route, self.check_head, partial(self._serve, act))

    def check_head(self, request: ProxyRequest, route: Route) -> None:
        """Authenticate, then check the method."""
        self._authenticate(request, route.template)
        if request.method not in route.methods:
            allow = tuple(each.decode("ascii") for each in route.methods)
            raise not_allowed(request, allow)
        check_size(request, request.length or 0)

    def check_unknown(self, request: ProxyRequest) -> None:
        """See :class:`~gemproxy.http.routed_site.AdminGate`: authenticate first."""
        self._authenticate(request, UNKNOWN)
        raise unknown_url(request)

    def reject(self, request: ProxyRequest, error: ProxyError) -> None:
        """See :class:`~gemproxy.http.routed_site.AdminGate`."""
        self.gate.reject(request, error)

    def _authenticate(self, request: ProxyRequest, template: str) -> None:
        is_client = template.startswith(_CLIENTS)
        request.max_body_bytes = _CLIENT_BYTES if is_client else MAX_BODY_BYTES
        self.gate.authenticate(request, template)

    def _check_document(self, request: ProxyRequest, route: Route) -> None:
        """Admit everybody to the dashboard's files."""
        if request.method in route.methods:
            request.max_body_bytes = MAX_BODY_BYTES
            check_size(request, request.length or 0)
        else:
            self.check_head(request, route)

    def _serve(self, act: _Action, request: ProxyRequest) -> CoroutineRunner:
        async def answer(actor: Actor) -> Page:
            return await act(AdminRequest(request, actor, request.parameter, request.body()))

        return self.gate.handle(request, answer)

    def _serve_document(self, request: ProxyRequest) -> None:
        path = unquote(request.path.decode("ascii"))
        document = self._dashboard.find(path, admin_open=self.gate.auth.admin_open)
        self.gate.serve_static(request, path, document)

    # -- what is shown ---------------------------------------------------------------------------

    async def _health(self, _: AdminRequest) -> Page:
        parts, now = self._parts, self._parts.seconds()
        service, counts = parts.service(), parts.pool.counts(now)
        unavailable = parts.models.unavailable(now)
        diagnosis = diagnose(
            service,
            counts,
            unavailable,
            can_serve=parts.pool.can_serve(now),
            cooling=parts.pool.cooling(now),
        )
        return _page(answers.health(service, counts, unavailable, diagnosis, now, self._wall()))

    async def _keys(self, request: AdminRequest) -> Page:
        given = text_values(request.http.args or {})
        if "since" in given:
            return await self._keys_since(given)
        wanted, limit = _wanted_keys(request.http)
        statuses = self._parts.pool.each_status(self._parts.seconds())
        pieces = []
        while limit > 0 and (some := list(islice(statuses, _KEYS_AT_ONCE))):
            shown = list(filter(wanted.admits, some))[:limit]
            limit -= len(shown)
            if shown:
                pieces.append(msgspec.json.encode(shown)[1:-1])
            await self._parts.pause()
        return Page(_joined(b'{"keys":[', pieces, b"]}"))

    async def _keys_since(self, given: Mapping[str, str]) -> Page:
        """The keys that have changed since a version."""
        for name in ("state", "project", "limit"):
            if name in given:
                raise InvalidRequest(f"{name}: not together with since.", param=name)
        statuses = self._parts.pool.each_status(self._parts.seconds())
        rows = ((status.id, status) for status in statuses)
        return await self._changes("keys", self._key_revisions, given["since"], rows)

    async def _changes(
        self,
        name: str,
        revisions: Revisions,
        version: str,
        rows: Iterator[tuple[str, msgspec.Struct]],
    ) -> Page:
        """The rows, which have identities, that have changed since a version."""
        present: list[str] = []
        while some := list(islice(rows, _KEYS_AT_ONCE)):
            for identity, row in some:
                revisions.note(identity, msgspec.json.encode(row))
                present.append(identity)
            await self._parts.pause()
        found = revisions.since(version, present)
        start = b'{"version":"%b","complete":%b,"%b":[' % (
            found.version.encode(),
            b"true" if found.complete else b"false",
            name.encode(),
        )
        groups = [
            b",".join(found.rows[place : place + _KEYS_AT_ONCE])
            for place in range(0, len(found.rows), _KEYS_AT_ONCE)
        ]
        return Page(_joined(start, groups, b"]}"))

    async def _metrics(self, request: AdminRequest) -> Page:
        accept = request.http.requestHeaders.getRawHeaders("accept") or []
        content_type, body = await self._parts.render_metrics(", ".join(accept))
        return Page(tuple(_lines(body)), content_type.encode("ascii"))

    async def _series(self, request: AdminRequest) -> Page:
        now, usage = self._wall(), self._parts.usage
        since = moment_of(text_values(request.http.args or {}), "since", usage.now())
        hour = LastHour(now, 0.0 if since is None else since[0].timestamp())
        rows = iter(self._parts.minute_rows())
        while some := list(islice(rows, _ROWS_AT_ONCE)):
            hour.add(some)
            await self._parts.pause()
        return _page(answers.series(hour.minutes, now))

    async def _usage(self, request: AdminRequest) -> Page:
        query = request.http.args or {}
        accept = request.http.header(b"accept") or b""
        return await answer_usage(self._parts.usage, query, accept.decode("latin-1"))

    async def _quotas(self, request: AdminRequest) -> Page:
        wanted = _wanted_quotas(request.http)
        quotas = self._parts.pool.each_quota(self._parts.seconds())
        pieces = []
        while some := list(islice(quotas, _QUOTAS_AT_ONCE)):
            shown = [
                quota
                for quota in some
                if all(getattr(quota, name) == value for name, value in wanted.items())
            ]
            if shown:
                pieces.append(msgspec.json.encode(shown)[1:-1])
            await self._parts.pause()
        return Page(_joined(b"[", pieces, b"]"))

    async def _requests(self, request: AdminRequest) -> Page:
        query = record_query(request.http.args or {}, self._parts.usage)
        found = await self._parts.records.search(query)
        end = b'],"next_cursor":%b}' % msgspec.json.encode(found.next_cursor)
        return Page(_array(b'{"requests":[', found.requests, _REQUESTS_AT_ONCE, end))

    async def _explain(self, request: AdminRequest) -> Page:
        found = await self._parts.records.find(request.value)
        if found is None:
            raise NotFound(
                "No request with this id is recorded: it may be too old, or was not kept.",
                reason="request_not_found",
            )
        return _page(found)

    async def _clients(self, request: AdminRequest) -> Page:
        given = text_values(request.http.args or {})
        shown = (await self._parts.clients.all()).clients
        if "since" in given:
            rows = ((client.name, client) for client in shown)
            return await self._changes("clients", self._client_revisions, given["since"], rows)
        return Page(_array(b'{"clients":[', iter(shown), _CLIENTS_AT_ONCE, b"]}"))

    async def _client(self, request: AdminRequest) -> Page:
        return _page(await self._parts.clients.one(request.value))

    # -- what is changed -------------------------------------------------------------------------

    async def _make_client(self, request: AdminRequest) -> Page:
        check_content_type(request.http)
        made = await self._parts.clients.make(request.body, request.actor)
        return _page(made)._replace(status=_CREATED, shows_token=True)

    async def _change_client(self, request: AdminRequest) -> Page:
        check_content_type(request.http)
        changes = self._parts.clients.change(request.value, request.body, request.actor)
        return _page(await changes)

    async def _rotate_client(self, request: AdminRequest) -> Page:
        if request.body:
            check_content_type(request.http)
        rotated = self._parts.clients.rotate(request.value, request.body, request.actor)
        return _page(await rotated)._replace(shows_token=True)

    async def _delete_client(self, request: AdminRequest) -> Page:
        return _page(await self._parts.clients.delete(request.value, request.actor))

    async def _enable(self, request: AdminRequest) -> Page:
        return self._change(request, "key.enable", self._parts.pool.enable)

    async def _disable(self, request: AdminRequest) -> Page:
        return self._change(request, "key.disable", self._parts.pool.disable)

    async def _reset(self, request: AdminRequest) -> Page:
        return self._change(request, "key.reset", self._parts.pool.reset)

    async def _enable_many(self, request: AdminRequest) -> Page:
        return await self._change_many(request, "enable")

    async def _disable_many(self, request: AdminRequest) -> Page:
        return await self._change_many(request, "disable")

    async def _reset_many(self, request: AdminRequest) -> Page:
        return await self._change_many(request, "reset")

    async def _change_many(self, request: AdminRequest, action: str) -> Page:
        """Change every key that the body selects; one audit event for all of them."""
        parts = self._parts
        check_content_type(request.http)
        wanted = decode_selection(request.body)
        keys = await selected(parts.pool, wanted, parts.seconds(), parts.pause)
        await change_many(parts.pool, action, [key.id for key in keys], parts.pause)
        names = tuple(key.name for key in keys[:_NAMES_SHOWN])
        parts.audit(
            AuditEvent(
                at=self._wall(),
                actor=request.actor,
                action=f"keys.{action}",
                target="keys",
                target_id=None,
                before=wanted.words,
                after={"keys": len(keys), "names": names},
            )
        )
        number = "1 key is" if len(keys) == 1 else f"{len(keys)} keys are"
        words = BULK_WORDS[action].format(keys=number)
        return _page(answers.BulkAnswer(True, words, len(keys), names))

    async def _test(self, request: AdminRequest) -> Page:
        """Ask Google about a key. A rejection has the same effect as for a client's request."""
        parts = self._parts
        before = self._status(request.value, parts.seconds())
        key, began = parts.pool.key(before.id), parts.seconds()
        outcome = await parts.test_key(key)
        now = parts.seconds()
        recorded = outcome.verdict is Verdict.KEY and parts.pool.reject(key.id, outcome, now)
        if recorded:
            after = self._status(key.id, now)
            self._record(request.actor, "key.test", before, after)
        return _page(answers.key_test(before, outcome, now - began, recorded=recorded))

    async def _set_weight(self, request: AdminRequest) -> Page:
        pool = self._parts.pool
        check_content_type(request.http)
        weight = answers.decode_weight(request.body)
        return self._change(request, "key.weight", lambda key: pool.set_weight(key, weight))

    async def _reload(self, request: AdminRequest) -> Page:
        before = self._parts.service().config.generation
        try:
            reloaded = await self._parts.reload()
        except ConfigError as error:
            raise InvalidRequest(
                f"The configuration has mistakes and was not applied:\n{error}",
                reason="invalid_configuration",
            ) from None
        self._record_reload(request.actor, before, reloaded)
        return _page(answers.reload(reloaded.changes, reloaded.at))

    def _change(self, request: AdminRequest, action: str, act: Callable[[str], None]) -> Page:
        """Change a key with ``act``, audit the change, and answer with the key's new state."""
        now = self._parts.seconds()
        before = self._status(request.value, now)
        act(before.id)
        after = self._status(before.id, now)
        self._record(request.actor, action, before, after)
        return _page(answers.key_operation(_WORDS[action].format(key=after), after))

    def _status(self, id_or_name: str, now: float) -> KeyStatus:
        try:
            return self._parts.pool.status(id_or_name, now)
        except UnknownKey:
            raise NotFound("No key has this id or name.", reason="key_not_found") from None

    def _record(self, actor: Actor, action: str, before: KeyStatus, after: KeyStatus) -> None:
        values = _AUDITED[action]
        self._parts.audit(
            AuditEvent(
                at=self._wall(),
                actor=actor,
                action=action,
                target=after.name,
                target_id=after.id,
                before=values(before),
                after=values(after),
            )
        )

    def _record_reload(self, actor: Actor, before: int, reloaded: Reloaded) -> None:
        changes = reloaded.changes
        self._parts.audit(
            AuditEvent(
                at=reloaded.at,
                actor=actor,
                action="config.reload",
                target="configuration",
                target_id=None,
                before={"generation": before},
                after={
                    "generation": reloaded.generation,
                    "keys_added": changes.keys_added,
                    "keys_removed": changes.keys_removed,
                    "keys_updated": tuple(update.name for update in changes.keys_updated),
                    "settings": changes.settings,
                    "restart_required": changes.restart_required,
                    **_changed_clients(changes),
                },
            )
        )


#: The message of each action for the operator.
_WORDS = {
    "key.enable": "The key {key.name} is enabled.",
    "key.disable": "The key {key.name} is disabled until it is enabled again.",
    "key.reset": "The breaker of the key {key.name} is closed and its cooldowns are forgotten.",
    "key.weight": "The key {key.name} weighs {key.weight}.",
}


def _changed_clients(changes: SettingsChange) -> dict[str, Value]:
    """The names of clients, if any has changed."""
    named = {
        "clients_added": changes.clients_added,
        "clients_removed": changes.clients_removed,
        "clients_updated": changes.clients_updated,
    }
    return {word: names for word, names in named.items() if names}


def _reset_values(status: KeyStatus) -> dict[str, Value]:
    return {
        "status": status.status,
        "needs_attention": status.needs_attention,
        "cooldowns": tuple(cooldown.model for cooldown in status.cooldowns),
        "denied_models": status.denied_models,
    }


#: The values that each action changes, for its audit event.
_AUDITED: Mapping[str, Callable[[KeyStatus], Mapping[str, Value]]] = {
    "key.enable": lambda key: {"enabled": key.enabled, "status": key.status},
    "key.disable": lambda key: {"enabled": key.enabled, "status": key.status},
    "key.reset": _reset_values,
    "key.weight": lambda key: {"weight": key.weight},
    "key.test": lambda key: {"status": key.status, "needs_attention": key.needs_attention},
}

_Action = Callable[[AdminRequest], Awaitable[Page]]


def _wanted_keys(request: ProxyRequest) -> tuple[KeySelection, int]:
    """The selection in the query, and the maximum number of keys."""
    given = {name: values[-1] for name, values in (request.args or {}).items()}
    limit = given.get(b"limit", b"%d" % _MOST_KEYS)
    if not _KEYS_LIMIT.fullmatch(limit) or int(limit) < 1:
        raise InvalidRequest(
            f"limit: expected a whole number from 1 to {_MOST_KEYS}.", param="limit"
        )
    state, project = (given.get(name) for name in (b"state", b"project"))
    wanted = selection(
        None if state is None else state.decode("utf-8", "replace"),
        None if project is None else project.decode("utf-8", "replace"),
    )
    return wanted, int(limit)


def _wanted_quotas(request: ProxyRequest) -> dict[str, str]:
    """The values in the query that fields of a quota must have."""
    given = text_values(request.args or {})
    for name in given:
        if name not in _QUOTA_FILTERS:
            raise InvalidRequest(f"{name[:100]}: unknown parameter.", param=name[:100])
    return given


def _page(answer: msgspec.Struct) -> Page:
    return Page((msgspec.json.encode(answer),))


def _array(
    start: bytes, rows: Iterator[msgspec.Struct], at_once: int, end: bytes
) -> Iterator[bytes]:
    """An answer with one array in pieces, each of which is made when it is needed."""
    comma = b""
    yield start
    while some := list(islice(rows, at_once)):
        yield comma + msgspec.json.encode(some)[1:-1]
        comma = b","
    yield end


def _joined(start: bytes, pieces: list[bytes], end: bytes) -> tuple[bytes, ...]:
    """The parts of one JSON array, from several pieces."""
    return (start, *pieces[:1], *[b"," + piece for piece in pieces[1:]], end)


def _lines(text: bytes) -> Iterator[bytes]:
    """``text`` in pieces of whole lines, so that no secret is split: none has a line break."""
    start = 0
    while start < len(text):
        end = text.find(b"\n", start + _PIECE_BYTES) + 1 or len(text)
        yield text[start:end]
        start = end
