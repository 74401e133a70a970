"""The token that a client sends to this program, in the four ways of the three dialects.

``Authorization: Bearer``, ``x-api-key``, ``x-goog-api-key`` and ``?key=`` are accepted on every
path of the public API. They are taken out of the head before anything else reads it, so that no
endpoint can pass them on.
"""

from __future__ import annotations

from typing import Final

from gemproxy.api.query import pairs_of
from gemproxy.http.http1 import RequestHead

#: What :func:`take_token` returns for two different tokens. No token is empty.
SEVERAL: Final = b""

#: Parameters of a query that hold a credential, here or at Google.
_PARAMETERS: Final = frozenset({b"key", b"access_token", b"$key", b"$access_token"})


def take_token(head: RequestHead) -> bytes | None:
    """Remove all credentials from the values of the headers and return the token.

    Returns ``None`` if there is none, and :data:`SEVERAL` if there are two that differ.
    """
    take = head.values.pop
    authorization = take(b"authorization", None)
    by_anthropic, by_google = take(b"x-api-key", None), take(b"x-goog-api-key", None)
    token = None if authorization is None else bearer_token(authorization)
    if by_anthropic is None and by_google is None and head.target == head.path:
        return token  # Nearly every request.
    tokens = {token or b"", (by_anthropic or b"").strip(), (by_google or b"").strip()}
    for name, value, _ in pairs_of(head.target.partition(b"?")[2]):
        if name == b"key":
            tokens.add(value)
    tokens.discard(b"")
    if len(tokens) > 1:
        return SEVERAL
    return tokens.pop() if tokens else None


def bearer_token(authorization: bytes) -> bytes | None:
    """Return the token of an ``Authorization`` header, ``None`` if it holds none."""
    scheme, _, token = authorization.strip().partition(b" ")
    return token.strip() or None if scheme.lower() == b"bearer" else None


def without_credentials(query: bytes) -> bytes:
    """Return ``query`` without the parameters that hold a credential."""
    return b"&".join(pair.written for pair in pairs_of(query) if pair.name not in _PARAMETERS)
