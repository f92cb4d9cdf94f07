"""Making many rows of a statement while others have their turns of the event loop: links and requests."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

from interface.store.rows import Columns, Rows

_IN_A_TURN: Final = 400  # rows; those of a batch at once would keep the loop from everybody for ten milliseconds


async def in_turns(of: Columns, columns: Mapping[str, Sequence[Any]], count: int) -> Rows:
    """`of.rows`, made a part at a time."""
    pieces: list[bytes] = []
    for at in range(0, count, _IN_A_TURN):
        some = {name: column[at : at + _IN_A_TURN] for name, column in columns.items()}
        pieces += of.rows(some, min(_IN_A_TURN, count - at))[1]
        await asyncio.sleep(0)
    return count, pieces
