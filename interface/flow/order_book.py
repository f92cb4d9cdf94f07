"""The order book: what each analyzer is to measure, by whatever dialect it is told, and what it made of it.

Everything works in the caller's transaction. An analyzer asks (`work_for`) or is told (`owed`); what is then sent is
recorded before it leaves (`record_sent`), and what comes back after (`answered`). Asked again, an analyzer gets the
same work by the same ids for as long as it is to be done.

Locks are taken in one order: order items (shared, see `store.dispatch`), then dispatches, both by id.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

import structlog

from interface.domain.barcodes import barcode_of, control_like
from interface.domain.model import ItemStatus, ObservedPatient, Problem
from interface.domain.routing import (
    ALERTS,
    ENDED,
    Codes,
    DispatchKind,
    DispatchState,
    Missing,
    NoWork,
    Query,
    Route,
    WorkStep,
    by_state,
    choose_codes,
    may_measure,
    outcome,
    waits,
    why_none,
)
from interface.domain.states import SPECIMEN_STATUS, SpecimenStatus
from interface.driver import law as driver_law
from interface.driver.dialogue import Ordered, Work, ordered_code
from interface.errors import StoreUnavailable
from interface.flow.context import LinkContext
from interface.flow.menus import Menu, menu_at_hand, menu_of
from interface.flow.message import storable
from interface.flow.speech import Sent
from interface.store import dispatch as store
from interface.store import dispatch_ends
from interface.store.db import Connection, Database
from interface.store.dispatch import BookItem, BookSpecimen, DispatchRow, NewDispatch
from interface.store.dispatch_at_once import Arrived, Taking, Telling, Told, Waiting, desk_of
from interface.store.dispatch_ends import Unconfirmed
from interface.store.dispatch_specimens import waiting_specimens
from interface.store.ids import uuid7

log = structlog.get_logger(__name__)

MOST_SPECIMENS = 500  # in the answer to a query for all, for a range or a rack
MOST_DUE = 500  # items at a time of an analyzer that is told of its work
MOST_OWED = 50  # specimens at a time
MOST_WORDS = 1000  # characters of an analyzer's, kept with each piece of its work


@dataclass(frozen=True, slots=True)
class BookWork:
    """Work on one specimen, `steps[i]` of it being `work.tests[i]`. Either all of it is to be done or none any more."""

    work: Work
    steps: tuple[WorkStep, ...]

    @property
    def dispatches(self) -> tuple[UUID, ...]:
        return tuple(step.dispatch_id for step in self.steps)

    @property
    def cancels(self) -> bool:
        return any(step.kind is DispatchKind.CANCEL for step in self.steps)


@dataclass(frozen=True, slots=True)
class Book:
    """The answer to a query. `problems`: tests that the analyzer measures and that could not be ordered from it, by
    their codes; `stale`: that orders may be missing, in words, else ""; `more`: there is more than this."""

    works: tuple[BookWork, ...] = ()
    missing: tuple[Missing, ...] = ()
    problems: tuple[Problem, ...] = ()
    stale: str = ""
    more: bool = False


async def work_for(
    connection: Connection, link: LinkContext, query: Query, now: datetime, *, renew: bool = False
) -> Book:
    """What the analyzer of a link is to do on the specimens that it asks about, and why there is nothing to do.

    `renew`: what it was told before goes by new work ids, and the old ones end; for dialects that take an id once.
    """
    await store.plan_once(connection)
    asked = _barcodes(link, query.specimen_ids) | {one: one for one in query.barcodes}
    found = _found(link, asked, await store.by_barcode(connection, set(asked.values())), now)
    wanted = {told: one for told, one in found.items() if isinstance(one, BookSpecimen)}
    more = False
    if query.open_ended or query.places:
        others, more = await _open_ended(connection, link, query, now)
        wanted |= {one.barcode: one for one in others if one.barcode not in wanted}
    offer = await _offer(connection, link, wanted, now, renew=renew)
    stale = await staleness(connection, link.settings.orders_stale_after_s, now)
    return Book(tuple(offer.works), _missing(list(asked), found, offer), tuple(offer.problems), stale, more)


def _missing(asked: Sequence[str], found: Mapping[str, BookSpecimen | NoWork], offer: _Offer) -> tuple[Missing, ...]:
    """In the order in which they were asked for."""
    without = {told: one for told, one in found.items() if isinstance(one, NoWork)} | offer.without
    return tuple(Missing(told, without[told]) for told in asked if told in without)


@dataclass(frozen=True, slots=True)
class Draft:
    """The answer to a query of which nothing is written yet. `rows`: all its work by id; `new`: what is not there."""

    book: Book
    rows: Mapping[UUID, DispatchRow]
    new: Collection[UUID]


async def draft(database: Database, link: LinkContext, specimen_ids: Sequence[str], now: datetime) -> Draft | None:
    """As `work_for`, of what needs nothing but that its work is told (`tell_at_once`); None where more is to be
    changed, or more is to be told than is told at once. Raises StoreError."""
    asked = _barcodes(link, specimen_ids)
    desk = desk_of(database, link.organization_id)
    specimens, items = await desk.look(set(asked.values()))
    found = _found(link, asked, specimens, now)
    wanted = {told: one for told, one in found.items() if isinstance(one, BookSpecimen)}
    offer = _Offer()
    rows: dict[tuple[UUID, str], DispatchRow] = {}
    new: list[DispatchRow] = []
    if wanted:
        planner = _Planner.at_hand(link, list(wanted.values()), items, now)
        if planner is None:
            async with database.at_once(link.organization_id) as connection:
                planner = await _Planner.read(connection, link, list(wanted.values()), now, items)
        to_do = [one for told, specimen in wanted.items() for one in planner.plan(told, specimen, offer)]
        rows, old, missing = _choose(link, to_do, planner.open, renew=False)
        if old or any(one.alone and planner.has_other(one.item.id) for one in to_do):
            return None
        new = _made(link, missing, await desk.work_ids(len(missing)), now)
        rows |= {(row.order_item_id, row.code): row for row in new}
        _fill(offer, link, wanted, to_do, rows)
    stale = ""
    if link.settings.orders_stale_after_s:
        async with database.at_once(link.organization_id) as connection:
            stale = await staleness(connection, link.settings.orders_stale_after_s, now)
    book = Book(tuple(offer.works), _missing(list(asked), found, offer), tuple(offer.problems), stale)
    return Draft(book, {row.id: row for row in rows.values()}, {row.id for row in new})


async def tell_at_once(
    database: Database, link: LinkContext, draft: Draft, said: Sequence[Sent], query: Arrived | Waiting, now: datetime
) -> bool:
    """Commit the messages that answer a query, what they tell of a draft, and that the query is answered. What is not
    told is not made.

    False: nothing is written, for something has changed since the draft was made. Raises StoreError.
    """
    told = tuple(
        Told(
            one.id,
            one.data,
            tuple(draft.rows[each] for each in one.dispatches if each in draft.new),
            tuple(each for each in one.dispatches if each not in draft.new),
        )
        for one in said
    )
    items = frozenset(draft.rows[each].order_item_id for one in said for each in one.dispatches)
    telling = Telling(link.actor, link.analyzer_id, told, items, query, now)
    return await desk_of(database, link.organization_id).tell(telling)


async def record_sent(
    connection: Connection, link: LinkContext, sending_id: UUID, dispatches: Sequence[UUID], data: bytes,
    query_id: UUID | None, now: datetime,
) -> None:  # fmt: skip
    """Record a message to the analyzer before it leaves, and that it tells of these pieces of work.

    The same sending may be recorded once more. `query_id`: the message it answers; without work it says that there is
    none. Raises StoreUnavailable where some of it is not to be done since a moment: it must not be said.
    """
    told = await store.tell(connection, link.actor, link.link_id, sending_id, dispatches, data, query_id, now)
    if told < len(set(dispatches)):
        raise StoreUnavailable("work ended in the moment in which it was to be told")


async def answered(
    connection: Connection, link: LinkContext, dispatches: Sequence[UUID], state: DispatchState | None, answer: str,
    now: datetime,
) -> None:  # fmt: skip
    """What the analyzer said of work that it was told, or that it could not be told (FAILED, or QUEUED to try again).

    None: its words alone are kept. What has ended meanwhile stays ended. `answer` holds no patient data.
    """
    answer = storable(answer, MOST_WORDS)
    refused: list[UUID] = []
    together: dict[DispatchState, list[UUID]] = {}
    for row in await store.lock(connection, dispatches):
        new = outcome(row.kind, row.state, state)
        together.setdefault(new, []).append(row.id)
        if new in ALERTS and new is not row.state:
            log.warning("an analyzer does not do its work", action=f"dispatch.{new}", link=link.name,
                        work_id=str(row.work_id), kind=row.kind.value)  # fmt: skip
            refused.append(row.order_item_id)
    for new, ids in together.items():
        await store.set_state(connection, link.actor, ids, new, now, answer=answer)
    if refused:
        await store.make_due(connection, refused, link.analyzer_id)


async def taken_at_once(
    database: Database, link: LinkContext, sent: Sent, answer: str, arrived: Arrived | None, now: datetime
) -> bool:
    """The analyzer has taken all that a message told it: `answered` as one statement, which keeps `arrived`, by which
    it says so. False: nothing is written, for some of it is something else by now. Raises StoreError."""
    taking = Taking(link.actor, sent.id, frozenset(sent.dispatches), storable(answer, MOST_WORDS), arrived, now)
    return await desk_of(database, link.organization_id).take(taking)


async def not_delivered(
    connection: Connection, link: LinkContext, dispatches: Sequence[UUID], reason: str, limit: int | None, now: datetime
) -> tuple[UUID, ...]:
    """The analyzer could not be told after all; the work is queued again, and goes by the same sending. At the
    `limit`th attempt it has failed, which is an alert; None: this was no attempt. Returns what has failed."""
    failed = await dispatch_ends.not_delivered(connection, link.actor, dispatches, reason, limit, now)
    if failed:
        log.warning("an analyzer could not be told its work", action="dispatch.failed", link=link.name,
                    works=len(failed))  # fmt: skip
    return failed


async def unconfirmed(connection: Connection, link: LinkContext) -> list[Unconfirmed]:
    """The messages of a link to be sent again as they are: see `store.dispatch_ends`."""
    return await dispatch_ends.unconfirmed(connection, link.actor, link.link_id)


async def waiting(connection: Connection, link: LinkContext) -> bool:
    """Whether `owed` or `unconfirmed` may have something; cheap."""
    return await store.is_waiting(connection, link.analyzer_id, link.link_id)


async def of_sending(connection: Connection, sending_id: UUID) -> tuple[UUID, ...]:
    """The work that a message told of, for who answers to the message."""
    return await store.of_sending(connection, sending_id)


async def owed(connection: Connection, link: LinkContext, now: datetime, *, most: int = MOST_DUE) -> list[BookWork]:
    """What the analyzer of a link is to be told without asking, the most urgent first, then the oldest; by a link that
    does not `download`, only what is to be taken back.

    Nothing is changed by it but that work is queued: what is not sent is owed again. `most`: items at a time.
    """
    if link.settings.download:
        if due := await store.take_due(connection, link.analyzer_id, most):
            specimens = await store.by_id(connection, await store.specimens_of(connection, due))
            fit = {one.barcode: one for one in specimens if by_state(one.state) is None and _recent(link, one, now)}
            for problem in (await _offer(connection, link, fit, now)).problems:  # no query shows it
                log.warning("a test cannot be ordered", action="dispatch.not_ordered", link=link.name,
                            test=problem.location, problem=problem.text)  # fmt: skip
    rows = await store.queued(connection, link.analyzer_id, most, everything=link.settings.download)
    if not rows:
        return []
    known = {one.id: one for one in await store.by_id(connection, {row.specimen_id for row in rows})}
    together: dict[tuple[UUID, str, bool], list[DispatchRow]] = {}
    for row in rows:
        together.setdefault((row.specimen_id, row.specimen_told, row.kind is DispatchKind.CANCEL), []).append(row)
    works = [_book_work(link, told, known[specimen_id], group) for (specimen_id, told, _), group in together.items()]
    works.sort(key=lambda one: (not one.cancels, store.URGENCY.index(one.work.priority)))
    return works[:MOST_OWED]


async def taken_back(connection: Connection, link: LinkContext, work: BookWork, now: datetime) -> BookWork | None:
    """What of a cancellation the analyzer is to be told: not by a code that it has for another test as well (a profile,
    or one of whose results several are ordered). That work has ended; None where it is all of it."""
    kept = await dispatch_ends.ordered_for_others(connection, work.dispatches)
    why = "its code is ordered for another test"
    await store.set_state(connection, link.actor, sorted(kept), DispatchState.CANCELLED, now, why=why)
    told = [at for at, step in enumerate(work.steps) if step.dispatch_id not in kept]
    tests = tuple(work.work.tests[at] for at in told)
    return BookWork(replace(work.work, tests=tests), tuple(work.steps[at] for at in told)) if told else None


async def staleness(connection: Connection, after_s: float, now: datetime) -> str:
    """That orders may be missing, in words for whoever reads an analyzer's screen: no link of the hospital has said
    anything for `after_s`. "" where one has, where there is none, and where 0 says that nobody minds."""
    heard = await store.hospital_heard(connection) if after_s else None
    if heard is None or (now - heard).total_seconds() <= after_s:
        return ""
    return f"orders may be missing: nothing from the hospital since {heard:%Y-%m-%d %H:%M} UTC"


# ---- which specimen -------------------------------------------------------------------------------------------------


def _barcodes(link: LinkContext, ids: Iterable[str]) -> dict[str, str]:
    """By the id as an analyzer asks: the barcode, by the link's rules."""
    return {one: barcode_of(one, link.settings.barcode) for one in ids}


def _found(
    link: LinkContext, asked: Mapping[str, str], specimens: Iterable[BookSpecimen], now: datetime
) -> dict[str, BookSpecimen | NoWork]:
    """By the id as it was asked: the specimen, or why it cannot be measured. `specimens`: all with such a barcode."""
    carrying: dict[str, list[BookSpecimen]] = {}
    for one in specimens:
        carrying.setdefault(one.barcode, []).append(one)
    return {told: _chosen(link, told, carrying.get(barcode, ()), now) for told, barcode in asked.items()}


def _chosen(link: LinkContext, told: str, carrying: Sequence[BookSpecimen], now: datetime) -> BookSpecimen | NoWork:
    """As `domain.matching` finds the specimen of a result: what is offered is what its result will be filed under."""
    if control_like(told, link.settings.control_ids):
        return NoWork.UNKNOWN_SPECIMEN
    recent = [one for one in carrying if _recent(link, one, now)]
    available = [one for one in recent if SPECIMEN_STATUS[one.state] is SpecimenStatus.AVAILABLE]
    if len(available) > 1 or not recent:
        return NoWork.UNKNOWN_SPECIMEN  # which of them it is, nobody knows
    one = available[0] if available else recent[-1]
    return by_state(one.state) or one


def _recent(link: LinkContext, one: BookSpecimen, now: datetime) -> bool:
    """Whether a result is filed under it; what is older may be another tube by now."""
    days = link.settings.specimen_window_days
    return not days or now - max(filter(None, (one.received_at, one.created_at))) <= timedelta(days=days)


async def _open_ended(
    connection: Connection, link: LinkContext, query: Query, now: datetime
) -> tuple[list[BookSpecimen], bool]:
    """The specimens that wait for one of the analyzer's tests, of those that are asked for; and whether there are more
    of them than are told at a time."""
    days = link.settings.specimen_window_days
    rows = await store.code_map(connection, link.driver.id, link.link_id)
    tests = {UUID(row.span.target.test) for row in rows.values() if row.span.target.test}
    rules = link.settings.barcode
    ranges = [(barcode_of(first, rules), barcode_of(last, rules)) for first, last in query.ranges]
    ids = await waiting_specimens(
        connection,
        link.analyzer_id,
        tests,
        MOST_SPECIMENS + 1,
        ranges=ranges,
        racks=query.racks,
        places=query.places,
        all_=query.all_,
        since=now - timedelta(days=days) if days else None,
    )
    found = {one.id: one for one in await store.by_id(connection, ids[:MOST_SPECIMENS])}
    return [found[one] for one in ids if one in found], len(ids) > MOST_SPECIMENS


# ---- which work -----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Offer:
    works: list[BookWork] = field(default_factory=list)
    without: dict[str, NoWork] = field(default_factory=dict)  # by the id as it is told
    problems: list[Problem] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """That an item is to be measured by the analyzer, with these codes."""

    told: str
    item: BookItem
    codes: tuple[str, ...]
    alone: bool  # one analyzer is to have it

    @property
    def kind(self) -> DispatchKind:
        return DispatchKind(self.item.again.kind.value) if self.item.again else DispatchKind.NEW


async def _offer(
    connection: Connection, link: LinkContext, specimens: Mapping[str, BookSpecimen], now: datetime, *,
    renew: bool = False,
) -> _Offer:  # fmt: skip
    """Offer the analyzer all that it is to measure on these specimens, each by the id it is told of it."""
    offer = _Offer()
    if not specimens:
        return offer
    planner = await _Planner.read(connection, link, list(specimens.values()), now)
    wanted = [one for told, specimen in specimens.items() for one in planner.plan(told, specimen, offer)]
    if planner.open:  # what is all new is looked at when it is made
        still = await store.still_open(connection, {one.item.id for one in wanted}) if wanted else set()
        wanted = [one for one in wanted if one.item.id in still]
    rows = await _rows(connection, link, wanted, planner.open, now, renew=renew)
    taken = [one.item.id for one in wanted if one.alone and planner.has_other(one.item.id)]
    await dispatch_ends.withdraw(connection, link.actor, taken, "given to another analyzer", but=link.analyzer_id)
    _fill(offer, link, specimens, wanted, rows)
    return offer


def _fill(
    offer: _Offer, link: LinkContext, specimens: Mapping[str, BookSpecimen], wanted: Iterable[_Wanted],
    rows: Mapping[tuple[UUID, str], DispatchRow],
) -> None:  # fmt: skip
    """The works of an offer, from the rows by item and code."""
    mine: dict[str, list[DispatchRow]] = {}
    for one in wanted:
        places = [(one.item.id, code) for code in one.codes]
        mine.setdefault(one.told, []).extend(rows[place] for place in places if place in rows)
    for told, specimen in specimens.items():
        if mine.get(told):
            offer.works.append(_book_work(link, told, specimen, mine[told]))
        else:
            offer.without.setdefault(told, NoWork.CANCELLED)  # what there was is gone since a moment


@dataclass(slots=True)
class _Planner:
    """What is known of the specimens that one answer is about."""

    link: LinkContext
    items: Mapping[UUID, Sequence[BookItem]]
    menu: Menu
    open: Mapping[UUID, Sequence[DispatchRow]]
    routes: Mapping[tuple[UUID, str], Sequence[Route]]
    down: Collection[UUID]

    @classmethod
    def at_hand(
        cls, link: LinkContext, specimens: Sequence[BookSpecimen], items: Mapping[UUID, Sequence[BookItem]],
        now: datetime,
    ) -> _Planner | None:  # fmt: skip
        """What `read` would give, where it would read nothing more."""
        known = menu_at_hand(link, specimens[0].map_changes, now)
        if known is None or specimens[0].routed:
            return None
        if any(item.told or item.again for one in specimens for item in items.get(one.id, ()) if _waits(item)):
            return None
        return cls(link, items, known, {}, {}, ())

    @classmethod
    async def read(
        cls, connection: Connection, link: LinkContext, specimens: Sequence[BookSpecimen], now: datetime,
        items: Mapping[UUID, Sequence[BookItem]] | None = None,
    ) -> _Planner:  # fmt: skip
        """`items`: by specimen, where they are known."""
        if items is None:
            items = await store.items_of(connection, {one.id for one in specimens})
        waiting = [item for one in specimens for item in items.get(one.id, ()) if _waits(item)]
        tests = {item.test_id for item in waiting}
        routes = await store.routes_of(connection, tests) if specimens[0].routed else {}
        told = {item.id for item in waiting if item.told}
        return cls(
            link,
            items,
            await menu_of(connection, link, specimens[0].map_changes, now),
            await store.open_of(connection, told) if told else {},
            routes,
            await store.down(connection) if routes or any(item.again for item in waiting) else set(),
        )

    def plan(self, told: str, specimen: BookSpecimen, offer: _Offer) -> list[_Wanted]:
        """What the analyzer is to measure on one specimen; where that is nothing, the offer says why."""
        possible = self.menu.of(specimen.type) if self._takes(specimen.type) else {}
        wanted: list[_Wanted] = []
        mine: list[tuple[ItemStatus, bool]] = []
        for item in self.items.get(specimen.id, ()):
            routes = self.routes.get((item.test_id, specimen.type)) or self.routes.get((item.test_id, ""), ())
            codes = self._codes(possible.get(str(item.test_id), {}), routes)
            if not codes.measured:
                continue
            to_do = _waits(item)
            mine.append((item.status, to_do))
            if not to_do or not self._has(item, routes, specimen):
                continue
            if codes.problem:
                offer.problems.append(Problem(item.test, codes.problem))
            else:
                wanted.append(_Wanted(told, item, codes.codes, bool(routes)))
        if not wanted:
            offer.without[told] = why_none(mine, len(self.items.get(specimen.id, ())) - len(mine))
        return wanted

    def has_other(self, item_id: UUID) -> bool:
        """Whether another analyzer has the item, or may think so."""
        rows = self.open.get(item_id, ())
        return any(row.analyzer_id != self.link.analyzer_id and row.state not in ENDED for row in rows)

    def _takes(self, specimen_type: str) -> bool:
        """Whether the dialect has a word for the type: another word would be another's fluid."""
        dialect = self.link.driver.answer
        return dialect is None or dialect.specimen_types is None or specimen_type in dialect.specimen_types

    def _codes(self, possible: Mapping[str, tuple[bool, bool]], routes: Iterable[Route]) -> Codes:
        dialect, law = self.link.driver.answer, self.link.driver.law
        own = next((route for route in routes if route.analyzer_id == self.link.analyzer_id), None)
        marked = own.codes if own else ()
        if law is not None:
            return choose_codes(possible, marked, lambda code: driver_law.ordered_code(code, law))
        if dialect is not None:
            return choose_codes(possible, marked, lambda code: ordered_code(dialect, code))
        return choose_codes(possible, marked)

    def _has(self, item: BookItem, routes: Sequence[Route], specimen: BookSpecimen) -> bool:
        rows = self.open.get(item.id, ())
        if any(row.barred and row.analyzer_id == self.link.analyzer_id for row in rows):
            return False
        told = {
            row.analyzer_id for row in rows
            if row.kind is not DispatchKind.CANCEL and row.state not in ENDED | ALERTS
        }  # fmt: skip
        not_there = {row.analyzer_id for row in rows if row.barred or row.state in ALERTS}
        only = item.again.analyzer_id if item.again else None
        if only != self.link.analyzer_id and only in {*self.down, *(row.analyzer_id for row in rows if row.barred)}:
            only = None  # else nobody would measure it again
        return may_measure(self.link.analyzer_id, routes, specimen.id, {*self.down, *not_there}, told, only)


def _waits(item: BookItem) -> bool:
    return waits(item.status, item.measured, item.again is not None)


async def _rows(
    connection: Connection, link: LinkContext, wanted: Sequence[_Wanted],
    open_: Mapping[UUID, Sequence[DispatchRow]], now: datetime, *, renew: bool,
) -> dict[tuple[UUID, str], DispatchRow]:  # fmt: skip
    """The dispatches of what is wanted, by item and code: those there are, and new ones for the rest."""
    found, old, new = _choose(link, wanted, open_, renew=renew)
    if old:
        gone = [row.id for row in await store.lock(connection, old) if row.state not in ENDED]
        reason = "told anew by another work id"
        await store.set_state(connection, link.actor, gone, DispatchState.CANCELLED, now, reason=reason)
    if new:
        made = await store.add(connection, link.organization_id, link.analyzer_id, new)
        found |= {(row.order_item_id, row.code): row for row in made}
    return found


def _choose(
    link: LinkContext, wanted: Sequence[_Wanted], open_: Mapping[UUID, Sequence[DispatchRow]], *, renew: bool
) -> tuple[dict[tuple[UUID, str], DispatchRow], list[UUID], list[NewDispatch]]:
    """The dispatches there are of what is wanted, by item and code; those that end; those that are to be made."""
    found: dict[tuple[UUID, str], DispatchRow] = {}
    old: list[UUID] = []
    new: list[NewDispatch] = []
    for one in wanted:
        rows = open_.get(one.item.id, ())
        mine = {row.code: row for row in rows if row.analyzer_id == link.analyzer_id and row.state not in ENDED}
        for code in one.codes:
            row = mine.pop(code, None)
            if row is not None and row.kind is not DispatchKind.CANCEL and not (renew and row.sent_at):
                found[one.item.id, code] = row
                continue
            if row is not None:
                old.append(row.id)
            again = one.item.again
            new.append(NewDispatch(one.item.id, one.item.specimen_id, one.kind, code, one.told,
                                   again.id if again else None, again.dilution if again else None))  # fmt: skip
        old += [row.id for row in mine.values()]  # by a code that it is not ordered by any more
    return found, old, new


def _made(link: LinkContext, new: Sequence[NewDispatch], work_ids: Iterable[int], now: datetime) -> list[DispatchRow]:
    """Work as it will be once it is told."""
    return [
        DispatchRow(
            uuid7(), one.order_item_id, one.specimen_id, link.analyzer_id, link.link_id, work_id, one.kind, one.code,
            DispatchState.SENT, "", "", one.follow_up_id, one.dilution, one.specimen_told, 0, None, now, False, now,
        )
        for one, work_id in zip(sorted(new, key=lambda each: (each.order_item_id, each.code)), work_ids, strict=True)
    ]  # fmt: skip


def _book_work(link: LinkContext, told: str, specimen: BookSpecimen, rows: Sequence[DispatchRow]) -> BookWork:
    zone = ZoneInfo(link.settings.timezone)
    patient = ObservedPatient(
        specimen.patient_id,
        "^".join(filter(None, (specimen.family, specimen.given))),
        specimen.birth_date,
        specimen.sex,
    )
    work = Work(
        told,
        tuple(Ordered(row.code, str(row.work_id)) for row in rows),
        patient,
        specimen.priority,
        specimen.type,
        specimen.collected_at.astimezone(zone) if specimen.collected_at else None,
        specimen.order_number,
    )
    steps = tuple(WorkStep(row.id, str(row.work_id), row.kind, row.code, row.dilution) for row in rows)
    return BookWork(work, steps)
