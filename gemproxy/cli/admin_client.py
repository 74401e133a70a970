"""A client of the admin API of a running daemon; its answers have the types of ``admin``.

Every failure becomes one line with the address and a hint.
"""

from __future__ import annotations

import difflib
import http.client
import socket
import ssl
from http import HTTPStatus
from math import isfinite
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from gemproxy.admin.answers import (
    BulkAnswer,
    HealthAnswer,
    KeyOperationAnswer,
    KeyTestAnswer,
    ReloadAnswer,
    WeightBody,
)
from gemproxy.admin.clients import ClientAnswer, ClientsAnswer, DeletedAnswer, TokenAnswer
from gemproxy.cli.admin_address import find_access
from gemproxy.cli.exits import Refused
from gemproxy.cli.tables import printable
from gemproxy.pool.quotas import QuotaStatus
from gemproxy.pool.status import KeyStatus
from gemproxy.telemetry.history import RequestExplanation, RequestRecord
from gemproxy.telemetry.usage_reports import Usage

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterable, Mapping

    from gemproxy.cli.admin_address import AdminAccess, AdminAddress

#: Longest wait for a connection and for each piece of an answer, in seconds.
TIMEOUT = 30.0

_T = TypeVar("_T")


class AdminError(Refused):
    """The daemon answered with an error; ``code`` and ``daemon_message`` are the envelope's."""

    def __init__(self, message: str, *, code: str | None = None, daemon_message: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.daemon_message = daemon_message


class KeysAnswer(msgspec.Struct, frozen=True):
    """The body of ``GET /admin/keys``."""

    keys: tuple[KeyStatus, ...]


class RequestsAnswer(msgspec.Struct, frozen=True):
    """The body of ``GET /admin/requests``: a page, and where the next one begins."""

    requests: tuple[RequestRecord, ...]
    next_cursor: str | None


class UsageRowAnswer(Usage, frozen=True):
    """One row: its dimensions, as far as they were asked for, and its usage."""

    client: str | None = None
    model: str | None = None
    project: str | None = None
    endpoint: str | None = None
    hour: str | None = None
    day: str | None = None
    month: str | None = None


class UsageAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """The body of ``GET /admin/usage``."""

    begin: str = msgspec.field(name="from")
    end: str = msgspec.field(name="to")
    by: tuple[str, ...]
    usage: tuple[UsageRowAnswer, ...]


class _Error(msgspec.Struct, frozen=True):
    message: str
    code: str | None = None


class _ErrorAnswer(msgspec.Struct, frozen=True):
    error: _Error


def connect(arguments: Namespace) -> AdminClient:
    """The client for ``--config`` and ``--url``; nothing is sent yet."""
    return AdminClient(find_access(arguments.config, arguments.url))


class AdminClient:
    """One method for each route. All raise :class:`Refused` with a message for the operator."""

    def __init__(self, access: AdminAccess, timeout: float = TIMEOUT) -> None:
        self.address = access.address
        self._access = access
        self._timeout = timeout

    def health(self) -> HealthAnswer:
        """The health report."""
        return self._ask("GET", "/admin/health", HealthAnswer)

    def keys(self) -> KeysAnswer:
        """Every live key."""
        return self._ask("GET", "/admin/keys", KeysAnswer)

    def change_key(self, name: str, action: str) -> KeyOperationAnswer:
        """``enable``, ``disable`` or ``reset`` a key, by its name or id."""
        return self._on_key("POST", name, action)

    def change_many(self, action: str, state: str | None, project: str | None) -> BulkAnswer:
        """``enable``, ``disable`` or ``reset`` the keys in ``state`` and of ``project``."""
        asked: dict[str, Any] = {"all": True}
        asked |= {} if state is None else {"state": state}
        asked |= {} if project is None else {"project": project}
        body = msgspec.json.encode(asked)
        return self._ask("POST", f"/admin/keys/{action}", BulkAnswer, body)

    def test_key(self, name: str) -> KeyTestAnswer:
        """Let the daemon ask Google about a key, by its name or id."""
        return self._asked_of_key("POST", name, "test", KeyTestAnswer)

    def set_weight(self, name: str, weight: int | None) -> KeyOperationAnswer:
        """Override the weight of a key; ``None`` returns to the file's weight."""
        return self._on_key("PUT", name, "weight", msgspec.json.encode(WeightBody(weight)))

    def clients(self) -> ClientsAnswer:
        """Every client."""
        return self._ask("GET", "/admin/clients", ClientsAnswer)

    def client(self, name: str) -> ClientAnswer:
        """One client."""
        return self._asked_of_client("GET", name, "", ClientAnswer)

    def add_client(self, settings: Mapping[str, Any]) -> TokenAnswer:
        """Make a client; ``settings`` has its name as well."""
        body = msgspec.json.encode(settings)
        return self._ask("POST", "/admin/clients", TokenAnswer, body)

    def change_client(self, name: str, settings: Mapping[str, Any]) -> ClientAnswer:
        """Change these settings of a client."""
        body = msgspec.json.encode(settings)
        return self._asked_of_client("PATCH", name, "", ClientAnswer, body)

    def rotate_client(self, name: str, grace: float) -> TokenAnswer:
        """Give a client another token; the old one stays valid for ``grace`` seconds."""
        # JSON would have null for what is no number.
        seconds = grace if isfinite(grace) else str(grace)
        body = msgspec.json.encode({"graceSeconds": seconds})
        return self._asked_of_client("POST", name, "/rotate", TokenAnswer, body)

    def delete_client(self, name: str) -> DeletedAnswer:
        """Delete a client."""
        return self._asked_of_client("DELETE", name, "", DeletedAnswer)

    def reload(self) -> ReloadAnswer:
        """Let the daemon read its files again.

        Mistakes in them are an :class:`AdminError` with code ``invalid_configuration``.
        """
        return self._ask("POST", "/admin/config/reload", ReloadAnswer)

    def requests(self, asked: Mapping[str, str]) -> RequestsAnswer:
        """Recorded requests, newest first; ``asked`` are the parameters of the query."""
        return self._ask("GET", f"/admin/requests?{urlencode(asked)}", RequestsAnswer)

    def usage(self, asked: Mapping[str, str]) -> UsageAnswer:
        """Usage; ``asked`` are the parameters of the query."""
        return self._ask("GET", f"/admin/usage?{urlencode(asked)}", UsageAnswer)

    def quotas(self, asked: Mapping[str, str]) -> tuple[QuotaStatus, ...]:
        """The known quotas; ``asked`` are the parameters of the query."""
        return self._ask("GET", f"/admin/quotas?{urlencode(asked)}", tuple[QuotaStatus, ...])

    def usage_csv(self, asked: Mapping[str, str]) -> str:
        """The same as CSV."""
        path = f"/admin/usage?{urlencode({**asked, 'format': 'csv'})}"
        return self._fetch("GET", path, None).decode()

    def explain(self, request_id: str) -> RequestExplanation:
        """One request with its decisions."""
        path = f"/admin/requests/{quote(request_id, safe='')}"
        try:
            return self._ask("GET", path, RequestExplanation)
        except AdminError as error:
            if error.code != "request_not_found":
                raise
            latest = self._ask("GET", "/admin/requests?limit=500", RequestsAnswer)
            known = (request.id for request in latest.requests)
            raise Refused(
                f"the daemon has no record of a request {_quoted(request_id)}"
                f"{_nearest(request_id, known)}"
            ) from None

    def _on_key(
        self, method: str, name: str, action: str, body: bytes | None = None
    ) -> KeyOperationAnswer:
        return self._asked_of_key(method, name, action, KeyOperationAnswer, body)

    def _asked_of_key(
        self, method: str, name: str, action: str, shape: type[_T], body: bytes | None = None
    ) -> _T:
        try:
            path = f"/admin/keys/{quote(name, safe='')}/{action}"
            return self._ask(method, path, shape, body)
        except AdminError as error:
            if error.code != "key_not_found":
                raise
            known = (key.name for key in self.keys().keys)
            raise Refused(
                f"no key has the id or name {_quoted(name)}{_nearest(name, known)}"
            ) from None

    def _asked_of_client(
        self, method: str, name: str, action: str, shape: type[_T], body: bytes | None = None
    ) -> _T:
        try:
            return self._ask(method, f"/admin/clients/{quote(name, safe='')}{action}", shape, body)
        except AdminError as error:
            if error.code != "client_not_found":
                raise
            known = (client.name for client in self.clients().clients)
            near = _nearest(name, known)
            raise Refused(f"no client has the name {_quoted(name)}{near}") from None

    def _ask(self, method: str, path: str, shape: type[_T], body: bytes | None = None) -> _T:
        return self._decoded(self._fetch(method, path, body), shape)

    def _fetch(self, method: str, path: str, body: bytes | None) -> bytes:
        connection = _connection(self.address, self._timeout)
        try:
            connection.request(method, path, body, self._headers(body))
            response = connection.getresponse()
            answer = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise Refused(self._why(error)) from None
        finally:
            connection.close()
        if response.status not in (HTTPStatus.OK, HTTPStatus.CREATED):
            raise self._refusal(response, answer)
        return answer

    def _headers(self, body: bytes | None) -> dict[str, Any]:
        headers: dict[str, Any] = {"Connection": "close"}
        if self._access.token is not None:
            headers["Authorization"] = f"Bearer {self._access.token.reveal()}".encode()
        if body is not None:
            headers["Content-Type"] = "application/json"
        return headers

    def _decoded(self, answer: bytes, shape: type[_T]) -> _T:
        try:
            return msgspec.json.decode(answer, type=shape)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise Refused(
                f"what answers at {self.address} is no gemproxy of this version: "
                f"{printable(str(error))}"
            ) from None

    def _refusal(self, response: http.client.HTTPResponse, answer: bytes) -> Refused:
        where, whose = self.address, f"the admin token of {self._access.file}"
        if self._access.token is None:
            whose = f"{self._access.file}, which has no admin token"
        if response.status == HTTPStatus.UNAUTHORIZED:
            return AdminError(
                f"the daemon at {where} refuses {whose}; was it started with this file?"
            )
        if response.status == HTTPStatus.TOO_MANY_REQUESTS:
            wait = printable(response.headers.get("Retry-After", "60"))
            return AdminError(
                f"the daemon at {where} refuses {whose}, and every wrong one from here for "
                f"another {wait} s: too many came"
            )
        try:
            error = msgspec.json.decode(answer, type=_ErrorAnswer).error
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return Refused(
                f"what answers at {where} is no admin API of gemproxy: status {response.status}"
            )
        words = printable(error.message)
        message = f"the daemon at {where} says: {words}"
        return AdminError(message, code=error.code, daemon_message=words)

    def _why(self, error: OSError | http.client.HTTPException) -> str:
        where = self.address
        match error:
            case ssl.SSLCertVerificationError():
                return f"the certificate at {where} is not trusted: {error.verify_message}"
            case ssl.SSLError():
                return f"no TLS with {where}: {error.reason or error}"
            case ConnectionRefusedError() | FileNotFoundError():
                return f"nothing listens at {where}; is the daemon running?"
            case TimeoutError():
                return f"{where} did not answer within {self._timeout:g} s"
            case ConnectionError() | http.client.HTTPException():
                kind = "speak TLS there" if where.tls else "speak plain HTTP there"
                return f"{where} ended the connection without an answer; does the daemon {kind}?"
        return f"cannot reach {where}: {error.strerror or error}"


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket, with TLS if there is a ``context``."""

    def __init__(self, path: str, timeout: float, context: ssl.SSLContext | None) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path
        self._context = context

    def connect(self) -> None:
        """See the base class."""
        plain = socket.socket(socket.AF_UNIX)
        # The base class closes it in every case.
        self.sock = plain
        plain.settimeout(self.timeout)
        plain.connect(self._path)
        if self._context is not None:
            self.sock = self._context.wrap_socket(plain)


def _connection(address: AdminAddress, timeout: float) -> http.client.HTTPConnection:
    context = _context(address) if address.tls else None
    if address.unix is not None:
        return _UnixConnection(address.unix, timeout, context)
    if context is None:
        return http.client.HTTPConnection(address.host, address.port, timeout=timeout)
    return http.client.HTTPSConnection(address.host, address.port, timeout=timeout, context=context)


def _context(address: AdminAddress) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=address.certificate)
    except (OSError, ssl.SSLError):
        raise Refused(f"{address.certificate}: expected certificates in PEM form") from None
    # The file holds the server's own certificate and need not hold its authority's.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if address.is_local and address.certificate is not None:
        # The certificate was compared as a whole; its name may be another host's.
        context.check_hostname = False
    elif address.certificate is not None:
        # The name is checked, so any authority may sign: a proxy in front has its own certificate.
        context.load_default_certs()
    return context


def _quoted(name: str) -> str:
    return f"'{printable(name)}'"


def _nearest(given: str, known: Iterable[str]) -> str:
    """`` (did you mean …?)`` with those of ``known`` that are similar to ``given``."""
    near = dict.fromkeys(known)
    found = [name for name in near if name.startswith(given)][:3] or difflib.get_close_matches(
        given, near
    )
    return f"; did you mean {' or '.join(map(printable, found))}?" if found else ""
