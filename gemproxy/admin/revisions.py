"""Answer a viewer who asks again and again with the rows that have changed since the last answer.

:class:`Revisions` remembers the encoded form of each row and the revision at which it changed.
Revisions count up from 0 while the process lives; a version is the process and a revision. Whoever
asks looks at all rows, in several turns of the reactor, and notes each (:meth:`Revisions.note`).
Then :meth:`Revisions.since` selects the answer in one turn: everything that anybody has noted after
the version that the viewer has. So two viewers that look at the same time miss nothing. A change of
the set of rows, or of their order, sends all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Changes(NamedTuple):
    """The encoded rows that a viewer lacks, in order; ``complete``: all rows that there are."""

    version: str
    complete: bool
    rows: Sequence[bytes]


class Revisions:
    """See the module. ``process`` distinguishes this process from others at the same address."""

    def __init__(self, process: str) -> None:
        self._process = process
        self._latest = 0
        #: The revision of the latest change of the set of rows or of their order.
        self._rearranged = 0
        self._rows: dict[str, tuple[int, bytes]] = {}

    def note(self, identity: str, row: bytes) -> None:
        """Note the present form of a row."""
        known = self._rows.get(identity)
        if known is None or known[1] != row:
            self._latest += 1
            self._rows[identity] = (self._latest, row)

    def since(self, version: str, present: Sequence[str]) -> Changes:
        """What has changed since ``version``; ``present`` are the identities of all rows.

        Each of ``present`` has been noted. A version of another process is as good as none.
        """
        if [*self._rows] != [*present]:
            self._latest += 1
            self._rearranged = self._latest
            # A row may be missing: an earlier question of another viewer found it removed.
            self._rows = {name: self._rows[name] for name in present if name in self._rows}
        process, _, number = version.rpartition(".")
        known = int(number) if process == self._process and number.isdecimal() else -1
        complete = not self._rearranged <= known <= self._latest
        rows = [row for revision, row in self._rows.values() if complete or revision > known]
        return Changes(f"{self._process}.{self._latest}", complete, rows)
