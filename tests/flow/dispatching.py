"""A laboratory's analyzers at the order book: they ask, are told, answer and send results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

from interface.domain.routing import DispatchState, Query
from interface.domain.views import OrderView
from interface.flow import order_book, order_changes
from interface.flow.context import LinkContext, register
from interface.flow.intake import LinkIntake
from interface.flow.order_book import Book, BookWork
from interface.settings import LinkRole
from interface.store.ids import uuid7
from interface.store.worklists import set_worklists
from tests.flow.laboratory import Laboratory

NOW = datetime(2026, 1, 2, 8, tzinfo=UTC)


async def ask(lab: Laboratory, *ids: str, now: datetime = NOW) -> Book:
    async with lab.database.transaction(lab.organization_id) as connection:
        return await order_book.work_for(connection, lab.context, Query(ids), now)


async def tell(lab: Laboratory, book: Book, sending: UUID | None = None) -> None:
    async with lab.database.transaction(lab.organization_id) as connection:
        told = [one for work in book.works for one in work.dispatches]
        await order_book.record_sent(connection, lab.context, sending or uuid7(), told, b"H|\\^&\r", None, NOW)


async def say(lab: Laboratory, book: Book, state: DispatchState | None, words: str = "") -> None:
    async with lab.database.transaction(lab.organization_id) as connection:
        told = [one for work in book.works for one in work.dispatches]
        await order_book.answered(connection, lab.context, told, state, words, NOW)


async def downloading(lab: Laboratory) -> None:
    """Its analyzer is told of its work without asking, as the configuration has it."""
    lab.context = replace(lab.context, settings=replace(lab.context.settings, download=True))
    await begin(lab, lab.context)


async def begin(lab: Laboratory, link: LinkContext) -> None:
    """Have the analyzer of a link told of its work, and those that are."""
    async with lab.database.transaction(lab.organization_id) as connection:
        told = await connection.fetch("select id from lab.analyzer where worklist")
        await set_worklists(connection, lab.organization_id, {link.analyzer_id, *(row["id"] for row in told)})


async def owed(lab: Laboratory, now: datetime = NOW) -> list[BookWork]:
    async with lab.database.transaction(lab.organization_id) as connection:
        return await order_book.owed(connection, lab.context, now)


def codes(works: Sequence[BookWork]) -> list[tuple[str, tuple[str, ...]]]:
    return [(one.work.specimen_id, tuple(step.code for step in one.steps)) for one in works]


async def rows(lab: Laboratory) -> list[tuple[str, str]]:
    found = await lab.owner.fetch("select code, state from lab.dispatch order by work_id")
    return [(row["code"], row["state"]) for row in found]


def told(book: Book) -> dict[str, dict[str, str]]:
    """By specimen: the work ids by code."""
    return {one.work.specimen_id: {test.code: test.item_id for test in one.work.tests} for one in book.works}


async def result(lab: Laboratory, specimen: str, code: str, value: str = "5.1", control: str = "C1") -> None:
    """As a Sysmex XN sends it (drivers/sysmex_xn/vectors)."""
    header = f"H|\\^&|{control}||    XN-550^00-24^90001^^^^TEST9001||||||||E1394-97"
    order = f"O|1||^^{specimen:>22}^B|^^^^{code}|||||||N||||||||||||||F"
    unit, at = {"WBC": "10*3/uL", "HGB": "g/dL"}[code], "20260102080000"
    await lab.send([header, "P|1", order, f"R|1|^^^^{code}^1|{value}|{unit}||N||F||||{at}", "L|1|N"])
    await lab.settle()


async def cancel(lab: Laboratory, order: OrderView, *tests: str) -> None:
    items = [item.id for item in order.items if item.test_code in tests]
    async with lab.database.transaction(lab.organization_id) as connection:
        await order_changes.cancel(connection, lab.director, order.id, "not needed", item_ids=items)


async def another(lab: Laboratory, name: str, role: LinkRole = LinkRole.ANALYZER) -> Laboratory:
    """The same laboratory at another analyzer of the same kind."""
    settings = replace(lab.context.settings, id=name, role=role)
    async with lab.database.transaction(lab.organization_id) as connection:
        context = await register(connection, lab.organization_id, settings, lab.context.driver)
    lab.contexts[context.link_id] = context
    return replace(lab, context=context, intake=LinkIntake(context, lab.journal))
