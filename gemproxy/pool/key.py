"""One API key with the operator's settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from gemproxy.secret import Secret

#: Stands for the model of a call that has none, as one about a file. Every key may serve it.
NO_MODEL = ""


@dataclass(frozen=True)
class Limits:
    """What one key may use; ``None`` is unlimited.

    ``rpm`` requests and ``tpm`` tokens in any 60 seconds, ``rpd`` requests in a day of
    America/Los_Angeles, as Google counts.
    """

    rpm: int | None = None
    tpm: int | None = None
    rpd: int | None = None


@dataclass(frozen=True)
class Key:
    """A key of the pool. Its ``id`` depends on the secret only: a renamed key has its history."""

    name: str
    secret: Secret
    project: str
    weight: int = 1
    #: First cooldown of this key's breaker in seconds; ``None`` takes the pool's.
    cooldown_seconds: float | None = None
    enabled: bool = True
    #: Upstream model names that this key may serve; empty is all.
    models: frozenset[str] = frozenset()
    limits: Limits = Limits()

    @property
    def id(self) -> str:
        """First 12 hex digits of the secret's SHA-256."""
        return self.secret.id

    @property
    def has_own_project(self) -> bool:
        """Whether its project is the default one, because the file names none."""
        return self.project == self.name


class Affinity(NamedTuple):
    """A request that only keys of ``project`` can serve, because it names ``resource``."""

    project: str
    resource: str
