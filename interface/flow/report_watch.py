"""Versions of reports are made soon after what they tell has changed, and printed once in their own form, by a process
of its own.

Whoever reads a report before that makes its version then (`flow.reports`). Deciding and links go first: a round is
short and over when deciding begins, the next waits for several times as long as it took, and for a pause in deciding.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from time import monotonic
from uuid import UUID

import structlog

from interface.domain.report import StoredReport
from interface.domain.views import Audience
from interface.errors import StoreError
from interface.flow import reports
from interface.flow.printing import Printer, PrintError
from interface.settings import Preliminary, Settings
from interface.store import reports as rows
from interface.store.db import Database

WATCH_S = 1.0
REST = 4  # times as long as a round took
LONGEST_S = 30.0  # results that are being decided have gone first for long enough
MOST_ORDERS, MOST_FILES = 20, 20  # in a round, of one organization

MOST_UNPRINTED = 10_000  # of more, those that wait longest are printed when they are read

log = structlog.get_logger(__name__)


def emr_audience(settings: Settings) -> Audience:
    """What EMRs may see of this daemon (`[api] preliminary`), and reports tell."""
    visible = settings.api.preliminary is Preliminary.VISIBLE
    return Audience.EMR_PRELIMINARY if visible else Audience.EMR


async def look(
    database: Database,
    organization_id: UUID,
    audience: Audience,
    unprinted: deque[StoredReport],
    over: Callable[[], bool] = lambda: False,
) -> int:
    """One round: the orders that wait longest, then a few of the versions in `unprinted`, to which it adds those that
    it has made. How many orders and versions. Begins nothing more as soon as the round is `over`. Raises StoreError.

    A fault of ours with one keeps no other from its report: the order is put off, the version printed when it is read.
    """
    async with database.by_index(organization_id) as connection:
        due = await rows.due_orders(connection, MOST_ORDERS)
    looked_at = printed = 0
    for order_id in due:
        if over():
            return looked_at
        looked_at += 1
        try:
            async with database.by_index(organization_id) as connection:
                made = await reports.refresh(connection, order_id, audience)
            unprinted.extend([made] if made is not None else [])
        except StoreError:
            raise
        except Exception as error:
            log.error("report not made", action="report.make", order=str(order_id), exc_info=error)
            async with database.by_index(organization_id) as connection:
                await rows.put_off(connection, order_id)
    async with Printer() as printer:
        while printed < MOST_FILES and unprinted and not over():
            printed += 1
            report = unprinted.popleft()
            try:
                await reports.print_ahead(database, organization_id, report, printer)
            except PrintError as error:
                log.error("report not printed", action="report.print", report=str(report.id), error=str(error))
    return looked_at + printed


async def watch_reports(
    database: Database,
    organization_ids: Callable[[], Iterable[UUID]],
    audience: Audience,
    busy: Callable[[], bool] = lambda: False,
) -> None:
    """Look until cancelled; while `busy`, as when results are being decided, only now and then."""
    unprinted: defaultdict[UUID, deque[StoredReport]] = defaultdict(lambda: deque(maxlen=MOST_UNPRINTED))
    waited = True  # for long enough: the next round is made, whoever is busy
    while True:
        began = monotonic()
        over = _never if waited else busy
        for organization_id in organization_ids():
            try:
                await look(database, organization_id, audience, unprinted[organization_id], over)
            except StoreError as error:
                log.warning("reports not made", action="report.watch", error=error.slug)
            except Exception as error:  # nor one laboratory's the other laboratories
                log.error("reports not made", action="report.watch", exc_info=error)
        rest_s = max(WATCH_S, REST * (monotonic() - began))
        ended = monotonic()
        await asyncio.sleep(rest_s)
        while (waited := busy()) and monotonic() - ended < LONGEST_S:  # noqa: ASYNC110  it is asked, nobody is told
            await asyncio.sleep(WATCH_S)


def _never() -> bool:
    return False
