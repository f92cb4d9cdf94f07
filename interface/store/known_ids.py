"""Ids that come again as text, read once: of the tests in every message, of the specimen in every result of one."""

from __future__ import annotations

from uuid import UUID

from interface.store.ids import read_id

_KNOWN: dict[str, UUID] = {}
_MOST_KNOWN = 4096


def known_id(text: str) -> UUID:
    """An id as it is written. Raises ValueError for what is none."""
    known = _KNOWN.get(text)
    if known is None:
        if len(_KNOWN) >= _MOST_KNOWN:
            _KNOWN.clear()
        known = _KNOWN[text] = read_id(text)
    return known
