"""A question about recorded requests: of which time, whose, and how they ended."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import NamedTuple

import msgspec

from gemproxy.state.model import RecordRow

#: Numbers in a second: a record's number is the time of its end in microseconds.
MICROSECONDS = 1_000_000
#: Later than any record.
LAST = 2**62
#: The columns that a query can filter by value.
COLUMNS = ("client", "endpoint", "model", "key", "outcome")
SUCCESS = "success"
#: Outcomes that are no failure.
NO_FAILURE = (SUCCESS, "client_gone")


@dataclass(frozen=True)
class RecordQuery:
    """At most ``limit`` records with ``first <= number < end``, newest first.

    ``filters`` are allowed values by column, ``statuses`` ranges of the status, both ends included.
    A key is allowed if any attempt used it.
    """

    limit: int
    first: int = 0
    end: int = LAST
    filters: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    statuses: tuple[tuple[int, int], ...] = ()
    failed: bool = False

    @property
    def excludes_success(self) -> bool:
        """Whether no record of a success is asked for."""
        outcomes = self.filters.get("outcome", (SUCCESS,))
        statuses = self.statuses or ((200, 200),)
        return (
            self.failed
            or SUCCESS not in outcomes
            or not any(low <= 200 <= high for low, high in statuses)
        )

    @property
    def is_unfiltered(self) -> bool:
        """Whether all records of the time are asked for."""
        return not (self.filters or self.statuses or self.failed)

    @property
    def is_everything(self) -> bool:
        """Whether all records are asked for."""
        return self.is_unfiltered and self.first == 0 and self.end == LAST

    def admits(self, row: RecordRow, tried: Iterable[str] | None = None) -> bool:
        """Whether the record is asked for.

        ``tried`` are the keys of its attempts; without, they are read from its data.
        """
        return (
            self.first <= row.number < self.end
            and all(
                getattr(row, name) in values
                or (
                    name == "key"
                    and not set(values).isdisjoint(earlier_keys(row) if tried is None else tried)
                )
                for name, values in self.filters.items()
            )
            and not (self.failed and row.outcome in NO_FAILURE)
            and (not self.statuses or any(low <= row.status <= high for low, high in self.statuses))
        )


class FoundRecords(NamedTuple):
    """Records, newest first. ``rest`` is set if not all were looked at: ``end`` of what is left."""

    rows: Sequence[RecordRow]
    rest: int | None = None


class _Attempt(msgspec.Struct, frozen=True, array_like=True):
    """The beginning of an attempt in ``RecordRow.data``."""

    key: str | None


class _Attempts(msgspec.Struct, frozen=True, array_like=True):
    request: msgspec.Raw
    attempts: tuple[_Attempt, ...] = ()


_decode = msgspec.json.Decoder(_Attempts).decode


def earlier_keys(row: RecordRow) -> set[str]:
    """The keys that were tried before the last one; of damaged data none."""
    try:
        attempts = _decode(row.data).attempts
    except (ValueError, RecursionError):
        return set()
    return {each.key for each in attempts if each.key is not None and each.key != row.key}


def digest_of(request_id: str) -> int:
    """A number that finds the records of an id; few ids share one."""
    data = request_id.encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(data, digest_size=8).digest()) >> 2
