"""Which messages of a connection their sender knows to be taken: a resend told from what is said once more.

A sender that did not hear our reply sends the same bytes again. One that heard it goes on: with its next frame, or at
once with EOT (LIS01-A2: without a reply it waits for 15 s before that). What it sends after that is something new, and
of an analyzer without a clock the second measurement of a control may be the same bytes as the first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from uuid import UUID

from interface.store.journal import Journal, MessageRow

MOST_REMEMBERED = 256  # of a connection; the journal's notes have the others after half a second


class Taken:
    """One connection's."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._waiting: dict[bytes, UUID] = {}  # whose reply is on its way
        self._known: OrderedDict[bytes, None] = OrderedDict()

    def sealed(self, rows: Iterable[MessageRow]) -> None:
        """Messages were committed, and their reply is due."""
        self._waiting |= {row.digest: row.id for row in rows if row.digest is not None and row.state == "complete"}

    def went_on(self) -> None:
        """Their sender took the replies."""
        for digest, message_id in self._waiting.items():
            self._journal.taken(message_id)
            self._known[digest] = None
            self._known.move_to_end(digest)
        self._waiting.clear()
        while len(self._known) > MOST_REMEMBERED:
            self._known.popitem(last=False)

    def lost(self) -> None:
        """Nobody knows whether it took them."""
        for digest in self._waiting:
            self._known.pop(digest, None)
        self._waiting.clear()

    def again(self, digest: bytes | None) -> bool:
        """Whether these bytes came before and were taken."""
        return digest is not None and digest in self._known and digest not in self._waiting
