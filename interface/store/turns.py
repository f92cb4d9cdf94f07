"""Making many rows of a statement while others have their turns of the event loop: links and requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Final, TypeVar

_IN_A_TURN: Final = 400  # rows; those of a batch at once would keep the loop from everybody for ten milliseconds
_Row = TypeVar("_Row")


async def in_turns(rows: Sequence[_Row]) -> AsyncIterator[Sequence[_Row]]:
    """The rows a part at a time, with a turn of the others after each."""
    for at in range(0, len(rows), _IN_A_TURN):
        yield rows[at : at + _IN_A_TURN]
        await asyncio.sleep(0)
