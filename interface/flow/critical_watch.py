"""How many critical results nobody has confirmed to know, and how late that is: a metric, read from the tasks."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from uuid import UUID

import structlog

from interface import telemetry
from interface.errors import StoreError
from interface.store import criticals
from interface.store.db import Database

WATCH_S = 30.0

log = structlog.get_logger(__name__)


async def count_criticals(database: Database, organization_ids: Iterable[UUID]) -> Counter[int]:
    """Tasks that wait, of all these organizations, by how many of their times have passed; the metric says the same.

    Raises StoreError, and then the metric stays as it was.
    """
    counted: Counter[int] = Counter()
    for organization_id in organization_ids:
        async with database.organization(organization_id) as connection:
            counted.update(await criticals.levels(connection))
    telemetry.set_criticals(counted)
    return counted


async def watch_criticals(database: Database, organization_ids: Callable[[], Iterable[UUID]]) -> None:
    """Count until cancelled, and say in the log when some are overdue."""
    overdue = 0
    while True:
        try:
            counted = await count_criticals(database, organization_ids())
        except StoreError as error:
            log.warning("critical results not counted", action="criticals.count", error=error.slug)
        except Exception as error:  # the metric would stay as it was, until the next start
            log.error("critical results not counted", action="criticals.count", exc_info=error)
        else:
            late = sum(tasks for level, tasks in counted.items() if level)
            if late > overdue:
                log.warning("critical results are overdue", action="criticals.overdue", tasks=late)
            overdue = late
        await asyncio.sleep(WATCH_S)
