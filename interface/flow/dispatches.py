"""What people do about the work of analyzers: see it, send it again, take it back; say which analyzer measures what.

API and CLI share it. What is cancelled here is off for this analyzer alone: the order item waits on, for another one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from interface.domain.permissions import Permission
from interface.domain.routing import ENDED, DispatchKind, DispatchState, WhenDown
from interface.domain.views import Actor
from interface.errors import IllegalStep
from interface.flow.actors import require
from interface.flow.problems import OrderError, reason_of, text_problems
from interface.store import audit, dispatch, dispatch_ends, dispatch_views, routes
from interface.store.db import Connection
from interface.store.dispatch import DispatchRow, NewDispatch
from interface.store.dispatch_views import (
    DispatchEventView,
    DispatchFilter,
    DispatchView,
    NewRoute,
    RouteView,
)

MOST_ROUTES = 20  # of one test
MOST_SHARE = 1000


@dataclass(frozen=True, slots=True)
class RouteEntry:
    """An analyzer, by its name, that measures a test. `codes`: to order it by, where its code map has several."""

    analyzer: str
    share: int = 0
    when_down: WhenDown = WhenDown.NEXT
    codes: tuple[str, ...] = ()


async def find_id(connection: Connection, name: str) -> UUID:
    """Of a dispatch by its id or work id. Raises OrderError `missing`."""
    try:
        filter = DispatchFilter(ids=(UUID(name),))
    except ValueError:
        number = int(name) if name.isascii() and name.isdigit() and len(name) < 19 else 0
        filter = DispatchFilter(work_ids=(number,))
    found = await dispatch_views.find(connection, filter)
    if not found:
        raise OrderError(["there is no work of this id"], missing=True)
    return found[0].id


async def show(connection: Connection, dispatch_id: UUID) -> tuple[DispatchView, list[DispatchEventView]]:
    """One piece of work and everything that happened to it. Raises OrderError `missing`."""
    return await _view(connection, dispatch_id), await dispatch_views.events(connection, dispatch_id)


async def resend(connection: Connection, actor: Actor, dispatch_id: UUID, reason: str) -> DispatchView:
    """Tell it to the analyzer again, by another work id (what is to be taken back goes by its own); an analyzer that is
    not told of its work gets it when it asks. Also what was cancelled here before.

    Raises IllegalStep when its result has come or its order item waits no more; OrderError; ApiError 403, 422.
    """
    require(actor, Permission.DISPATCH_WRITE)
    said, now = reason_of(reason), datetime.now(UTC)
    before = await _row(connection, dispatch_id)
    cancels = before.kind is DispatchKind.CANCEL and before.state not in ENDED
    if not cancels and not await dispatch.still_open(connection, [before.order_item_id]):
        raise IllegalStep("its order item waits for no measurement any more")
    [row] = await dispatch.lock(connection, [dispatch_id])
    _may_resend(row)
    if cancels:
        again = row.id
        await dispatch.set_state(connection, actor, [again], DispatchState.QUEUED, now, reason=said, unsent=True)
    else:
        again = await _anew(connection, actor, row, said, now)
    detail = {"work": str(row.work_id), "reason": said}
    await audit.record(connection, actor, "resend", "dispatch", again, detail)
    return await _view(connection, again)


def _may_resend(row: DispatchRow) -> None:
    if row.state is DispatchState.RESULTED:
        raise IllegalStep("its result has come; ask for another run of that")
    if row.state is DispatchState.CANCELLED and not row.barred:
        raise IllegalStep("it has ended; the analyzer gets what is still to be measured as new work")
    if row.state is DispatchState.QUEUED and row.sent_at is None:
        raise IllegalStep("the analyzer was not told yet; it waits to be")


async def _anew(connection: Connection, actor: Actor, row: DispatchRow, reason: str, now: datetime) -> UUID:
    """The same work by another work id. Its first kind is that of what it follows from."""
    await dispatch.unbar(connection, row.order_item_id, row.analyzer_id)
    if row.state not in ENDED:
        await dispatch.set_state(connection, actor, [row.id], DispatchState.CANCELLED, now, reason=reason)
    kind = DispatchKind.DILUTION if row.dilution is not None else DispatchKind.NEW
    if row.follow_up_id is not None and row.dilution is None:
        kind = DispatchKind.RERUN
    new = NewDispatch(row.order_item_id, row.specimen_id, kind, row.code, row.specimen_told, row.follow_up_id,
                      row.dilution)  # fmt: skip
    [made] = await dispatch.add(connection, actor.organization_id, row.analyzer_id, [new])
    await dispatch.add_events(connection, actor, [made.id], reason=reason)
    return made.id


async def cancel(connection: Connection, actor: Actor, dispatch_id: UUID, reason: str) -> DispatchView:
    """This analyzer is not to measure it: it is told so where it knows of it, and gets it no more; the order item waits
    for another. Of what was to be taken back already: nobody tries that any more.

    Raises IllegalStep when it has ended; OrderError `missing`; ApiError 403, 422.
    """
    require(actor, Permission.DISPATCH_WRITE)
    said, now = reason_of(reason), datetime.now(UTC)
    found = await dispatch.lock(connection, [dispatch_id])
    if not found:
        raise OrderError(["there is no work of this id"], missing=True)
    [row] = found
    if row.state in ENDED:
        raise IllegalStep(f"it is {row.state} already")
    if row.kind is DispatchKind.CANCEL:
        await dispatch.set_state(connection, actor, [row.id], DispatchState.CANCELLED, now, reason=said)
    else:
        await dispatch.bar(connection, row.id)
        await dispatch_ends.take_back(connection, actor, [row.id], said, now)
        await dispatch.make_due(connection, [row.order_item_id], row.analyzer_id)
    await audit.record(connection, actor, "cancel", "dispatch", row.id, {"work": str(row.work_id), "reason": said})
    return await _view(connection, row.id)


# ---- routing --------------------------------------------------------------------------------------------------------


async def set_routes(
    connection: Connection, actor: Actor, test: str, entries: Sequence[RouteEntry], reason: str,
    specimen_type: str = "",
) -> list[RouteView]:  # fmt: skip
    """Which analyzers measure a test, in order of preference; none: all that can are offered it. `specimen_type` "":
    where a type has no routes of its own. Returns the test's routes. Raises OrderError with every fault; ApiError."""
    require(actor, Permission.MAP_WRITE)
    said = reason_of(reason)
    problems = [*_entry_problems(entries), *text_problems("specimen type", specimen_type)]
    test_id = await dispatch_views.find_test(connection, test)
    if test_id is None:
        problems.append("there is no test of this code")
    known = await dispatch_views.find_analyzers(connection, [one.analyzer for one in entries])
    problems += [f"there is no analyzer {one.analyzer}" for one in entries if one.analyzer not in known]
    if problems or test_id is None:
        raise OrderError(problems)
    new = [NewRoute(known[one.analyzer], one.share, one.when_down, one.codes) for one in entries]
    await dispatch_views.replace_routes(connection, actor, test_id, specimen_type, new, said)
    detail = {"test": test, "specimen_type": specimen_type, "reason": said,
              "analyzers": " ".join(one.analyzer for one in entries)}  # fmt: skip
    await audit.record(connection, actor, "set" if entries else "unset", "route", test_id, detail)
    return await dispatch_views.find_routes(connection, [test])


def _entry_problems(entries: Sequence[RouteEntry]) -> list[str]:
    problems = []
    names = [one.analyzer for one in entries]
    if len(names) != len(set(names)):
        problems.append("an analyzer is named twice")
    if len(entries) > MOST_ROUTES:
        problems.append(f"a test has at most {MOST_ROUTES} routes")
    if any(not 0 <= one.share <= MOST_SHARE for one in entries):
        problems.append(f"a share is a number from 0 to {MOST_SHARE}")
    if any(not code.strip() or len(code) > 100 for one in entries for code in one.codes):
        problems.append("a code is empty or longer than 100 characters")
    return problems


async def set_down(connection: Connection, actor: Actor, analyzer: str, reason: str, *, is_down: bool) -> None:
    """Say that an analyzer measures nothing, or that it measures again. Its routed work goes to the next meanwhile.

    Raises OrderError (also when it is so already), ApiError 403, 422.
    """
    require(actor, Permission.DISPATCH_WRITE)
    said = reason_of(reason)
    known = await dispatch_views.find_analyzers(connection, [analyzer])
    if analyzer not in known:
        raise OrderError(["there is no analyzer of this name"], missing=True)
    change = dispatch_views.set_down if is_down else dispatch_views.set_up
    if not await change(connection, actor, known[analyzer], said):
        raise OrderError(["it is said to be down already" if is_down else "nobody has said that it is down"],
                         conflict=True)  # fmt: skip
    if is_down:
        await routes.offer_elsewhere(connection)
    await audit.record(connection, actor, "down" if is_down else "up", "analyzer", known[analyzer], {"reason": said})


# ---- parts ----------------------------------------------------------------------------------------------------------


async def _row(connection: Connection, dispatch_id: UUID) -> DispatchRow:
    found = await dispatch.by_ids(connection, [dispatch_id])
    if not found:
        raise OrderError(["there is no work of this id"], missing=True)
    return found[0]


async def _view(connection: Connection, dispatch_id: UUID) -> DispatchView:
    found = await dispatch_views.find(connection, DispatchFilter(ids=(dispatch_id,)))
    if not found:
        raise OrderError(["there is no work of this id"], missing=True)
    return found[0]
