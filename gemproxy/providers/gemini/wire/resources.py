"""Names and lifetimes of Gemini's resources: files, caches, batches, stores, interactions.

Only keys of the project that made a resource can use it. Sources: ai.google.dev, "Files API",
"Context caching", "Batch API", "File search" and "Interactions API".
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final

import msgspec

_HOUR: Final = 3600.0
_DAY: Final = 24 * _HOUR
#: Seconds after which a resource expires if it does not say when.
_LIFETIMES: Final = {
    "files": 2 * _DAY,
    "cachedContents": _HOUR,
    "batches": 2 * _DAY,
    "operations": 2 * _DAY,
    "interactions": 55 * _DAY,
}
#: Of all others: they stay until they are deleted.
_LONGEST: Final = 400 * _DAY

_NAME: Final = re.compile(r"[A-Za-z]+(?:/[A-Za-z0-9][A-Za-z0-9._-]*){1,5}")
#: A fraction of a second may have nine digits.
_FRACTION: Final = re.compile(r"\.\d+")


class _Dates(msgspec.Struct, rename="camel"):
    name: str = ""
    #: Of a file.
    expiration_time: str = ""
    #: Of a cache.
    expire_time: str = ""


class _Wrapped(_Dates, rename="camel"):
    #: The answer to an upload has the file in it.
    file: _Dates | None = None


def owner_of(name: str) -> str | None:
    """The name of the resource that ``name`` is a part of, or ``name`` itself.

    A document belongs to the project of its store. ``None`` if it has not the form of such a name,
    as a ``gs://`` address; what is returned may be a part of a path.
    """
    if _NAME.fullmatch(name) is None:
        return None
    parts = name.split("/")
    return name if parts[0] == "models" else "/".join(parts[:2])


def expiry_of(name: str, body: bytes, now: float) -> float:
    """When a resource expires, in epoch seconds; ``body`` is a description by Gemini, or empty."""
    lifetime = _LIFETIMES.get("operations" if "/operations/" in name else name.partition("/")[0])
    default = now + (_LONGEST if lifetime is None else lifetime)
    try:
        dates: _Dates = msgspec.json.decode(body, type=_Wrapped)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return default
    if isinstance(dates, _Wrapped) and dates.file is not None:
        dates = dates.file
    expiry = dates.expiration_time or dates.expire_time
    try:
        moment = datetime.fromisoformat(_FRACTION.sub("", expiry)).timestamp()
    except (ValueError, OverflowError):
        return default
    return min(moment, now + _LONGEST)
