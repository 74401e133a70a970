"""Whose something is that this program keeps for a client: a stored answer, an upload.

A name does not identify a client: names by position pass to the next token when the list changes.
So what is kept has a label, made from the token itself, and an :class:`Owner` knows its own labels.
A label holds a salt of its own and a digest keyed with it. Equal tokens have different labels, and
no table of digests made before helps to guess a token. What has the label of a token that is gone
belongs to nobody.
"""

from __future__ import annotations

import hmac
from hashlib import blake2s
from typing import Final

#: The kinds of clients.
ANONYMOUS: Final = "anonymous"
TOKEN: Final = "token"  # noqa: S105 - a word, no secret
ADMIN: Final = "admin"


class Owner:
    """A client as the owner of what is kept for it.

    ``digest`` is that of its token; ``salt``, 16 random bytes, is for new labels.
    """

    __slots__ = ("digest", "kind", "label")

    def __init__(self, kind: str, digest: bytes = b"", salt: bytes = b"") -> None:
        self.kind = kind
        self.digest = digest
        #: What marks new things as this client's.
        self.label = self._label(salt) if digest else kind

    def owns(self, label: str) -> bool:
        """Whether ``label`` is one of this client, also of an earlier run."""
        if label == self.label:
            return True
        kind, _, rest = label.partition(":")
        if kind != self.kind or not self.digest:
            return False
        try:
            salt = bytes.fromhex(rest.partition(":")[0])
        except ValueError:
            return False
        return 0 < len(salt) <= blake2s.MAX_KEY_SIZE and hmac.compare_digest(
            self._label(salt).encode(), label.encode()
        )

    def __repr__(self) -> str:
        return f"<Owner {self.kind}>"

    def _label(self, salt: bytes) -> str:
        keyed = blake2s(self.digest, key=salt).hexdigest()
        return f"{self.kind}:{salt.hex()}:{keyed}"


#: All clients without a token.
NOBODY: Final = Owner(ANONYMOUS)
