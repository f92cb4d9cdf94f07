"""Laboratories that were at work on every day, for tests whose clock is set."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import datetime

from interface.store.retention import DAY, day_of


async def every_day(_connection: object, _organizations: object, now: datetime) -> AsyncGenerator[datetime, None]:
    """In the place of `store.retention.lived_days`."""
    for number in range(10 * 366):
        yield day_of(now) - DAY * number
