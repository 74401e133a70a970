"""The clients of ``clients.yaml`` and those that were made at run time.

Theory of operation. A client of the file is read-only here; a reload replaces all of them. A client
that an operator made through the admin API is a row of the state (:class:`ClientRow`). A row is
never removed by itself: a deleted client leaves a row without token, so that no older state that is
found later can bring its token back, and so that it stays known that clients were made.

The registry holds the SHA-256 of tokens and never a token. :attr:`ClientRegistry.by_digest` finds a
client in one look-up. After a rotation the former tokens find the same client with an earlier
expiry. Times are epoch seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, tzinfo
from hashlib import blake2s
from operator import attrgetter
from typing import Final, Protocol

from gemproxy.core.clients import (
    ANONYMOUS,
    Client,
    ClientSettings,
    ClientValue,
    Expiry,
    make_client,
)
from gemproxy.core.errors import Conflict, Fault, NotFound
from gemproxy.core.owner import NOBODY, TOKEN, Owner
from gemproxy.secret import Secret

FILE: Final = "file"
API: Final = "api"
#: Clients that can be made at run time.
MAX_CLIENTS: Final = 10_000
#: Deleted clients that are remembered.
MAX_DELETED: Final = 10_000
#: Former tokens of a client that may be valid at a time.
_MOST_FORMER: Final = 16
_NAME_OF_MADE: Final = "'{}' is the name of a client that was made at run time"


@dataclass(frozen=True)
class FileClient:
    """One client of the file. ``digest`` is the SHA-256 of its token, which may be unknown."""

    name: str
    settings: ClientSettings
    digest: bytes = field(repr=False)
    token: Secret | None = None
    #: Its name in the file, for a mistake that is found later.
    place: Fault = field(default=Fault("clients.yaml", 0, "", ""), compare=False)


class NamedToken(Protocol):
    """An access token of ``proxy.yaml``, with the place of its name."""

    @property
    def name(self) -> str:
        """Under which its usage is counted."""

    @property
    def place(self) -> Fault:
        """Where it is in the file."""


@dataclass(frozen=True)
class ClientsFile:
    """``clients.yaml``: its clients, and what holds where one says nothing."""

    path: str
    clients: tuple[FileClient, ...] = ()
    defaults: ClientSettings = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FormerToken:
    """The SHA-256 of a token before a rotation, in hex digits, and until when it is valid."""

    digest: str
    until: float


@dataclass(frozen=True, slots=True)
class ClientRow:
    """A client that was made at run time, as the state has it.

    ``id`` are 32 random hex digits, which a client made later under the same name does not have.
    ``digest`` is the SHA-256 of the token in hex digits, empty if the client was deleted.
    """

    name: str
    id: str
    created: float
    changed: float
    digest: str
    former: tuple[FormerToken, ...] = ()
    settings: Mapping[str, ClientValue] = field(default_factory=dict)

    @property
    def is_deleted(self) -> bool:
        """Whether the client was deleted."""
        return not self.digest


class ClientRegistry:
    """See the module. ``new_salt`` gives 16 random bytes, ``wall`` epoch time."""

    def __init__(self, new_salt: Callable[[], bytes], wall: Callable[[], float]) -> None:
        self._new_salt = new_salt
        self._wall = wall
        #: Names of access tokens, under which usage is counted as well.
        self.token_names: frozenset[str] = frozenset()
        #: Where the days of dates are.
        self.zone: tzinfo = UTC
        #: ``clients.yaml``, if there is one.
        self.file: ClientsFile | None = None
        self._of_file: dict[str, Client] = {}
        self._rows: dict[str, ClientRow] = {}
        self._made: dict[str, Client] = {}
        #: SHA-256 of a token -> its client, of both sources. Changed in place.
        self.by_digest: dict[bytes, Client] = {}
        #: Everybody without a token.
        self.anonymous = ANONYMOUS

    # -- what there is ---------------------------------------------------------------------------

    @property
    def defaults(self) -> ClientSettings:
        """What holds for a client that says nothing else."""
        return {} if self.file is None else self.file.defaults

    @property
    def were_made(self) -> bool:
        """Whether a client was ever made at run time."""
        return bool(self._rows)

    @property
    def any_known(self) -> bool:
        """Whether there is a client in the file, or was ever made."""
        return bool(self._rows or self._of_file)

    def clients(self) -> list[Client]:
        """All clients: those of the file in its order, then the others by name."""
        return [*self._of_file.values(), *(self._made[name] for name in sorted(self._made))]

    @property
    def count(self) -> int:
        """How many clients there are."""
        return len(self._of_file) + len(self._made)

    def file_tokens(self) -> Iterator[tuple[Secret, Client]]:
        """The tokens of the file that are known themselves, with their clients.

        The digest of such a client's owner is the :func:`token_digest` of its token.
        """
        for each in _clients_in(self.file):
            if each.token is not None:
                yield each.token, self._of_file[each.name]

    def client(self, name: str) -> Client:
        """The client of this name. Raises :class:`NotFound`."""
        found = self._of_file.get(name) or self._made.get(name)
        if found is None:
            raise _unknown()
        return found

    def current(self, earlier: Client) -> Client | None:
        """The client as it is now; ``None`` if it was deleted, or is another one of that name."""
        name = earlier.name or ""
        found = self._of_file.get(name) or self._made.get(name)
        if found is None or found.owner.digest != earlier.owner.digest:
            return None
        return found

    def rows(self) -> tuple[ClientRow, ...]:
        """The state of the clients that were made at run time."""
        return tuple(self._rows.values())

    def row(self, name: str) -> ClientRow | None:
        """The row of a client that was made at run time, also of a deleted one."""
        return self._rows.get(name)

    # -- the file and the state ------------------------------------------------------------------

    def conflicts(
        self, file: ClientsFile | None, tokens: Iterable[NamedToken] = ()
    ) -> Iterator[Fault]:
        """The mistakes of ``file`` and ``tokens``: clients that were made at run time already."""
        for token in tokens:
            if token.name in self._made:
                yield _conflict(token.place, _NAME_OF_MADE.format(token.name))
        for each in _clients_in(file):
            twin = self.by_digest.get(each.digest)
            if each.name in self._made:
                yield _conflict(each.place, _NAME_OF_MADE.format(each.name))
            elif twin is not None and twin.source == API:
                why = f"has the token of the client '{twin.name}', which was made at run time"
                yield _conflict(each.place, why)

    def configure(
        self, file: ClientsFile | None, zone: tzinfo, token_names: Iterable[str] = ()
    ) -> None:
        """Replace the clients of the file. ``zone`` is that of dates.

        ``token_names`` are those of access tokens, under which usage is counted as well.
        """
        before = self.zone, self.defaults
        earlier = _clients_in(self.file)
        known_files = {each.name: each for each in earlier}
        clients = self._of_file
        self.file, self.zone, self.token_names = file, zone, frozenset(token_names)
        # Nothing expires for those who need no token.
        settings = {**self.defaults, "expires": None}
        self.anonymous = make_client(None, None, settings, NOBODY, zone)
        for each in earlier:
            known = self.by_digest.get(each.digest)
            if known is not None and known.source == FILE:
                del self.by_digest[each.digest]
        self._of_file = {}
        is_same = before == (zone, self.defaults)
        for each in _clients_in(file):
            # Thousands of clients take a tenth of a second, and few of them have changed.
            kept = is_same and known_files.get(each.name) == each
            client = clients[each.name] if kept else self._client_of_file(each)
            self._of_file[each.name] = client
            self.by_digest.setdefault(each.digest, client)
        # Thousands of clients take a second, and nearly no reload concerns them.
        if not is_same:
            for row in self._rows.values():
                self._enter(row)

    def restore(self, rows: Iterable[ClientRow]) -> None:
        """Take the rows of a state, but for clients that have a row by now."""
        for row in rows:
            if row.name not in self._rows:
                self._rows[row.name] = row
                self._enter(row)

    # -- what an operator changes ----------------------------------------------------------------

    def make(self, name: str, settings: ClientSettings, digest: str, identity: str) -> Client:
        """Make a client. Raises :class:`Conflict`."""
        self._require_not_of_file(name)
        if name in self.token_names:
            raise Conflict(
                f"'{name}' is the name of an access token of proxy.yaml; choose another name.",
                param="name",
                reason="client_of_file",
            )
        if name in self._made:
            raise Conflict(
                f"A client with the name '{name}' exists; change or rotate it, or choose another"
                " name.",
                param="name",
                reason="client_exists",
            )
        if len(self._made) >= MAX_CLIENTS:
            raise Conflict(f"There are {MAX_CLIENTS} clients already.", reason="too_many_clients")
        now = self._wall()
        self.put(ClientRow(name, identity, now, now, digest, settings=dict(settings)))
        return self._made[name]

    def change(self, name: str, settings: ClientSettings) -> Client:
        """Replace the settings of a client. Raises :class:`Conflict` and :class:`NotFound`."""
        row = self.changeable(name)
        self.put(replace(row, settings=dict(settings), changed=self._wall()))
        return self._made[name]

    def rotate(self, name: str, digest: str, grace: float) -> Client:
        """Give a client another token; its former ones are valid for at most ``grace`` seconds.

        Raises :class:`Conflict` and :class:`NotFound`.
        """
        row, now = self.changeable(name), self._wall()
        until = now + grace
        former = [
            FormerToken(each.digest, min(each.until, until))
            for each in (*row.former, FormerToken(row.digest, until))
        ]
        valid = tuple(each for each in former if each.until > now)[-_MOST_FORMER:]
        self.put(replace(row, digest=digest, former=valid, changed=now))
        return self._made[name]

    def delete(self, name: str) -> None:
        """Revoke the tokens of a client. Raises :class:`Conflict` and :class:`NotFound`."""
        row = self.changeable(name)
        self.put(ClientRow(name, row.id, row.created, self._wall(), ""))
        if len(self._rows) - len(self._made) > MAX_DELETED:
            deleted = (each for each in self._rows.values() if each.is_deleted)
            del self._rows[min(deleted, key=attrgetter("changed")).name]

    def changeable(self, name: str) -> ClientRow:
        """The row of a client that can be changed. Raises :class:`Conflict`, :class:`NotFound`."""
        self._require_not_of_file(name)
        if name not in self._made:
            raise _unknown()
        return self._rows[name]

    def put(self, row: ClientRow) -> None:
        """Set the row of a client, in a change or in its undoing."""
        self._leave(row.name)
        self._rows[row.name] = row
        self._enter(row)

    def _require_not_of_file(self, name: str) -> None:
        if name in self._of_file and self.file is not None:
            raise Conflict(
                f"The client '{name}' is one of {self.file.path}; change it there.",
                param="name",
                reason="client_of_file",
            )

    # -- tokens ----------------------------------------------------------------------------------

    def _leave(self, name: str) -> None:
        row = self._rows.get(name)
        self._made.pop(name, None)
        if row is not None:
            for digest in _digests(row):
                self.by_digest.pop(digest, None)

    def _enter(self, row: ClientRow) -> None:
        if row.is_deleted:
            return
        owner = Owner(TOKEN, bytes.fromhex(row.id), self._new_salt())
        client = self._made[row.name] = self._client(row.name, API, row.settings, owner)
        for former in row.former:
            self.by_digest[bytes.fromhex(former.digest)] = _until(client, former.until)
        self.by_digest[bytes.fromhex(row.digest)] = client

    def _client_of_file(self, client: FileClient) -> Client:
        digest = client.digest
        if client.token is not None:
            # As for an access token, so that it may move from one file to the other.
            digest = token_digest(client.token.reveal().encode())
        owner = Owner(TOKEN, digest, self._new_salt())
        return self._client(client.name, FILE, client.settings, owner)

    def _client(self, name: str, source: str, settings: ClientSettings, owner: Owner) -> Client:
        return make_client(name, source, {**self.defaults, **settings}, owner, self.zone)


def token_digest(token: bytes) -> bytes:
    """The digest by which a token that is known itself is found."""
    # As strong as SHA-256, and faster, because hashlib implements it without OpenSSL.
    return blake2s(token).digest()


def _clients_in(file: ClientsFile | None) -> tuple[FileClient, ...]:
    return file.clients if file is not None else ()


def _digests(row: ClientRow) -> Iterator[bytes]:
    if not row.is_deleted:
        yield bytes.fromhex(row.digest)
    for former in row.former:
        yield bytes.fromhex(former.digest)


def _until(client: Client, until: float) -> Client:
    """The client of a former token."""
    if client.expires is not None and client.expires.at <= until:
        return client
    return replace(client, expires=Expiry("rotated", until))


def _conflict(place: Fault, why: str) -> Fault:
    return replace(place, message=f"{why} (`gemproxy clients revoke` removes that)")


def _unknown() -> NotFound:
    return NotFound("No client has this name.", reason="client_not_found")
