"""Authentication by tokens, in constant time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from secrets import token_bytes
from typing import TYPE_CHECKING

from gemproxy.core.client_registry import ClientRegistry, token_digest
from gemproxy.core.clients import Client, make_client
from gemproxy.core.errors import Forbidden, Unauthorized
from gemproxy.core.owner import ADMIN, NOBODY, TOKEN, Owner
from gemproxy.http.credentials import SEVERAL, bearer_token

if TYPE_CHECKING:
    from gemproxy.config.settings import AccessToken
    from gemproxy.secret import Secret


#: The number of unknown tokens that are remembered, by their digests.
_MOST_KNOWN = 1024
_MISSING = (
    "You didn't provide an API key. Send this proxy's access token in an Authorization header: "
    "Authorization: Bearer TOKEN. The headers x-api-key and x-goog-api-key are accepted as well."
)
_SEVERAL = "The request holds two different API keys. Send one only: this proxy's access token."
_WRONG = (
    "Incorrect API key provided. Use an access token of this proxy, not a Google or OpenAI key."
)


class TokenAuth:
    """Authenticates clients and the operator.

    ``anonymous`` admits clients without a token. As long as there are no tokens it also admits
    those with an unknown one, because SDKs always send one; a client whose unknown token is new is
    :attr:`unknown`. ``admin_open`` admits everybody to the admin API. ``registry`` has the clients
    that are not in ``tokens``.

    A token is found by its digest, so that the time of the look-up tells nothing about the token,
    and then compared in constant time. Of clients whose digest alone is known it is the SHA-256.
    """

    def __init__(
        self,
        tokens: Sequence[AccessToken],
        admin: Secret | None,
        *,
        anonymous: bool,
        admin_open: bool = False,
        registry: ClientRegistry | None = None,
    ) -> None:
        self._registry = registry or ClientRegistry(_new_salt, lambda: 0.0)
        self._by_digest = self._registry.by_digest
        #: Everybody without a token.
        self._anonymous = self._registry.anonymous
        #: A client without a valid token, whose token was not seen before: it may be a guess.
        self.unknown = replace(self._anonymous)
        self._has_tokens = bool(tokens)
        self._wrong: set[bytes] = set()
        #: Whether clients need no token.
        self.open = anonymous
        #: Whether the admin API asks for no token.
        self.admin_open = admin_open
        self._clients: dict[bytes, tuple[Secret, Client]] = {}
        defaults = self._registry.defaults
        for token in tokens:
            digest = token_digest(token.token.reveal().encode())
            settings = {**defaults, "debug": token.debug or bool(defaults.get("debug"))}
            owner = _owner(TOKEN, digest)
            client = make_client(token.name, None, settings, owner, self._registry.zone)
            self._clients[digest] = token.token, client
        for secret, client in self._registry.file_tokens():
            self._clients[client.owner.digest] = secret, client
        if admin is not None:
            digest = token_digest(admin.reveal().encode())
            client = Client("admin", debug=True, admin=True, owner=_owner(ADMIN, digest))
            self._clients[digest] = admin, client

    def client(self, token: bytes | None) -> Client:
        """Return the client of a token. Raises :class:`Unauthorized`.

        ``token`` is what :func:`~gemproxy.http.credentials.take_token` returns.
        """
        if token is None:
            if self.open:
                return self._anonymous
            raise Unauthorized(_MISSING)
        digest = token_digest(token)
        secret, client = self._clients.get(digest, (None, self._anonymous))
        if secret is not None and secret.matches(token):
            return client
        if token == SEVERAL:
            raise Unauthorized(_SEVERAL)
        if self._by_digest:
            # Equal digests are equal tokens, and who looks for a similar digest finds no token.
            found = self._by_digest.get(sha256(token).digest())
            if found is not None:
                return found
        if self.open and not self._has_tokens and not self._registry.any_known:
            return self._anonymous if self._is_known(digest) else self.unknown
        raise Unauthorized(_WRONG)

    def current(self, earlier: Client) -> Client:
        """The client as the present settings say. Raises :class:`Forbidden` if it has none."""
        if earlier.owner is NOBODY and self.open:
            return self._anonymous
        if earlier.source is not None:
            client = self._registry.current(earlier)
        else:
            _, client = self._clients.get(earlier.owner.digest, (None, None))
        if client is None or client.owner.kind != earlier.owner.kind:
            raise Forbidden(
                "The access token that began this upload is not valid any more.",
                reason="unknown_upload",
            )
        return client

    def _is_known(self, wrong: bytes) -> bool:
        """Whether the token of this digest was seen before. SDKs repeat their dummy token."""
        if wrong in self._wrong:
            return True
        if len(self._wrong) >= _MOST_KNOWN:
            self._wrong.clear()
        self._wrong.add(wrong)
        return False

    def operator(self, authorization: bytes | None) -> Client:
        """Return the operator of an ``Authorization`` header. Raises :class:`Unauthorized`."""
        if self.admin_open:
            return Client("anonymous", debug=True, admin=True)
        try:
            client = self.client(None if authorization is None else bearer_token(authorization))
        except Unauthorized:
            client = self._anonymous
        if not client.admin:
            raise Unauthorized(
                "The admin API asks for the admin token: Authorization: Bearer TOKEN."
            )
        return client


def has_bearer_token(authorization: bytes | None) -> bool:
    """Whether the header holds a bearer token, right or wrong."""
    return authorization is not None and bearer_token(authorization) is not None


def _owner(kind: str, digest: bytes) -> Owner:
    return Owner(kind, digest, _new_salt())


def _new_salt() -> bytes:
    return token_bytes(16)
