"""Authentication by tokens, in constant time."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2s
from secrets import token_bytes
from typing import TYPE_CHECKING

from gemproxy.core.clients import ANONYMOUS, Client
from gemproxy.core.errors import Forbidden, Unauthorized
from gemproxy.core.owner import ADMIN, NOBODY, TOKEN, Owner
from gemproxy.http.credentials import SEVERAL, bearer_token

if TYPE_CHECKING:
    from gemproxy.config.settings import AccessToken
    from gemproxy.secret import Secret


#: A client without a valid token, whose token was not seen before: it may be a guess.
UNKNOWN_CLIENT = Client()
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

    ``anonymous`` admits clients without a token, or with an unknown one, because SDKs always send
    one; a client whose unknown token is new is :data:`UNKNOWN_CLIENT`. ``admin_open`` admits
    everybody to the admin API.

    A token is found by its digest, so that the time of the look-up tells nothing about the token,
    and then compared in constant time.
    """

    def __init__(
        self,
        tokens: Sequence[AccessToken],
        admin: Secret | None,
        *,
        anonymous: bool,
        admin_open: bool = False,
    ) -> None:
        self._wrong: set[bytes] = set()
        #: Whether clients need no token.
        self.open = anonymous
        #: Whether the admin API asks for no token.
        self.admin_open = admin_open
        self._clients: dict[bytes, tuple[Secret, Client]] = {}
        for token in tokens:
            digest = _digest(token.token.reveal().encode())
            client = Client(token.name, token.debug, owner=_owner(TOKEN, digest))
            self._clients[digest] = token.token, client
        if admin is not None:
            digest = _digest(admin.reveal().encode())
            client = Client("admin", debug=True, admin=True, owner=_owner(ADMIN, digest))
            self._clients[digest] = admin, client

    def client(self, token: bytes | None) -> Client:
        """Return the client of a token. Raises :class:`Unauthorized`.

        ``token`` is what :func:`~gemproxy.http.credentials.take_token` returns.
        """
        if token is None:
            if self.open:
                return ANONYMOUS
            raise Unauthorized(_MISSING)
        digest = _digest(token)
        secret, client = self._clients.get(digest, (None, ANONYMOUS))
        if secret is not None and secret.matches(token):
            return client
        if token == SEVERAL:
            raise Unauthorized(_SEVERAL)
        if self.open:
            return ANONYMOUS if self._is_known(digest) else UNKNOWN_CLIENT
        raise Unauthorized(_WRONG)

    def current(self, earlier: Client) -> Client:
        """The client as the present settings say. Raises :class:`Forbidden` if it has none."""
        if earlier.owner is NOBODY and self.open:
            return ANONYMOUS
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
            client = ANONYMOUS
        if not client.admin:
            raise Unauthorized(
                "The admin API asks for the admin token: Authorization: Bearer TOKEN."
            )
        return client


def has_bearer_token(authorization: bytes | None) -> bool:
    """Whether the header holds a bearer token, right or wrong."""
    return authorization is not None and bearer_token(authorization) is not None


def _owner(kind: str, digest: bytes) -> Owner:
    return Owner(kind, digest, token_bytes(16))


def _digest(token: bytes) -> bytes:
    # As strong as SHA-256, and faster, because hashlib implements it without OpenSSL.
    return blake2s(token).digest()
