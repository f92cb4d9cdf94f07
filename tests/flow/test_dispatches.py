"""Who measures what, by the site's routes, and what people do about an analyzer's work."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from uuid import UUID

import pytest

from interface.domain.model import FollowUpKind
from interface.domain.permissions import Role, permissions
from interface.domain.routing import DispatchKind, DispatchState, Missing, NoWork, WhenDown
from interface.domain.views import Actor, ActorKind, IdentifierView
from interface.errors import ApiError, IllegalStep
from interface.flow import dispatches, follow_ups, specimens, worksheets
from interface.flow.context import register
from interface.flow.dispatch_watch import LinkSeen, look
from interface.flow.dispatches import RouteEntry
from interface.flow.order_book import Book
from interface.flow.orders import NewOrder, NewPatient, NewSpecimen, create_order
from interface.flow.problems import OrderError
from interface.store import dispatch_views
from interface.store.db import Connection
from interface.store.dispatch_views import DispatchFilter, DispatchView
from interface.store.ids import uuid7
from interface.store.worksheets import WorkFilter
from tests.flow.dispatching import NOW, another, ask, codes, downloading, owed, result, rows, say, tell, told
from tests.flow.laboratory import Laboratory, laboratory

MINE = (Missing("S-1", NoWork.NOT_FOR_THIS_ANALYZER),)


@pytest.fixture
async def lab(database_url: str) -> AsyncIterator[Laboratory]:
    async with laboratory(database_url, "sysmex_xn") as made:
        yield made


def person(lab: Laboratory, role: Role = Role.LABORATORY_DIRECTOR) -> Actor:
    return Actor(ActorKind.USER, uuid7(), role.value, lab.organization_id, permissions([role]))


async def route(lab: Laboratory, *entries: RouteEntry, test: str = "WBC") -> None:
    async with lab.database.transaction(lab.organization_id) as connection:
        await dispatches.set_routes(connection, person(lab), test, entries, "as the site has it")


async def is_down(lab: Laboratory, analyzer: str, down: bool = True) -> None:
    async with lab.database.transaction(lab.organization_id) as connection:
        await dispatches.set_down(connection, person(lab), analyzer, "broken", is_down=down)


async def views(lab: Laboratory, *, open_only: bool = True) -> list[DispatchView]:
    async with lab.database.organization(lab.organization_id) as connection:
        return (await dispatch_views.find(connection, DispatchFilter(open_only=open_only)))[::-1]


Change = Callable[[Connection, Actor, UUID, str], Awaitable[DispatchView]]


async def change(lab: Laboratory, what: Change, work: DispatchView, actor: Actor | None = None) -> DispatchView:
    async with lab.database.transaction(lab.organization_id) as connection:
        return await what(connection, actor or person(lab), work.id, "because")


# ---- routing


async def test_routed_work_is_its_analyzers_alone_and_the_next_ones_while_it_is_down(lab: Laboratory) -> None:
    other = await another(lab, "second")
    await route(lab, RouteEntry("bench"), RouteEntry("second"))
    await lab.order("S-1", "WBC", "HGB")
    assert told(await ask(other, "S-1"))["S-1"].keys() == {"HGB"}  # which has no route
    await is_down(lab, "bench")
    moved = await ask(other, "S-1")
    assert told(moved)["S-1"].keys() == {"WBC", "HGB"}
    await tell(other, moved)
    await is_down(lab, "bench", down=False)
    assert "WBC" not in told(await ask(lab, "S-1"))["S-1"]  # the other has it
    await is_down(lab, "second")
    assert told(await ask(lab, "S-1"))["S-1"].keys() == {"WBC", "HGB"}
    taken = [one for one in await views(lab) if one.analyzer == "second" and one.code == "WBC"]
    assert [(one.kind, one.state) for one in taken] == [("cancel", "queued")]


async def test_an_analyzer_that_is_down_may_ask_all_the_same(lab: Laboratory) -> None:
    await another(lab, "second")
    await route(lab, RouteEntry("bench"), RouteEntry("second"))
    await lab.order("S-1", "WBC")
    await is_down(lab, "bench")
    assert told(await ask(lab, "S-1"))["S-1"].keys() == {"WBC"}


async def test_pushed_work_goes_to_the_next_while_an_analyzer_is_down(lab: Laboratory) -> None:
    other = await another(lab, "second")
    await downloading(lab)
    await downloading(other)
    await route(lab, RouteEntry("bench", when_down=WhenDown.NEXT), RouteEntry("second"))
    await route(lab, RouteEntry("bench", when_down=WhenDown.WAIT), RouteEntry("second"), test="HGB")
    assert (await owed(lab), await owed(other)) == ([], [])
    await lab.order("S-1", "WBC", "HGB")
    assert codes(await owed(other)) == []
    assert codes(await owed(lab)) == [("S-1", ("WBC", "HGB"))]
    await is_down(lab, "bench")
    assert codes(await owed(other)) == [("S-1", ("WBC",))]
    assert codes(await owed(lab)) == [("S-1", ("HGB",))]


async def test_a_link_that_is_silent_for_too_long_is_down(lab: Laboratory) -> None:
    other = await another(lab, "second")
    await route(lab, RouteEntry("bench"), RouteEntry("second"))
    await lab.order("S-1", "WBC")
    strict = replace(lab.context, settings=replace(lab.context.settings, down_after_s=600))
    up = LinkSeen(other.context, True, NOW)
    now = await lab.owner.fetchval("select now()")
    for seen, has in (
        (LinkSeen(lab.context, False, None), False),  # nobody has said how long is too long
        (LinkSeen(strict, True, None), False),
        (LinkSeen(strict, False, now), False),
        (LinkSeen(strict, False, NOW), True),
    ):
        await look(lab.database, [seen, up], now)
        assert bool((await ask(other, "S-1")).works) is has


async def test_a_link_that_is_not_there_any_more_keeps_no_analyzer_up(lab: Laboratory) -> None:
    """It was cabled anew, and its link got another name: how the first one stood last says nothing any more."""
    other = await another(lab, "second")
    await route(lab, RouteEntry("bench"), RouteEntry("second"))
    await lab.order("S-1", "WBC")
    analyzer = await lab.owner.fetchval("select name from lab.analyzer where id = $1", lab.context.analyzer_id)
    settings = replace(lab.context.settings, id="bench-tcp", analyzer=analyzer, down_after_s=600)
    async with lab.database.transaction(lab.organization_id) as connection:
        link = await register(connection, lab.organization_id, settings, lab.context.driver)
    now = await lab.owner.fetchval("select now()")
    up = LinkSeen(other.context, True, NOW)
    await look(lab.database, [LinkSeen(lab.context, True, now), LinkSeen(link, False, now), up], now)
    assert not (await ask(other, "S-1")).works
    await lab.owner.execute("update lab.link_state set looked_at = looked_at - interval '6 minutes'")
    await look(lab.database, [LinkSeen(link, False, NOW), up], now)
    assert (await ask(other, "S-1")).works


async def test_what_was_refused_may_be_had_by_the_next(lab: Laboratory) -> None:
    other = await another(lab, "second")
    await downloading(other)
    await route(lab, RouteEntry("bench"), RouteEntry("second"))
    await lab.order("S-1", "WBC")
    assert await owed(other) == []
    book = await ask(lab, "S-1")
    await tell(lab, book)
    await say(lab, book, DispatchState.REFUSED, "no reagent")
    assert codes(await owed(other)) == [("S-1", ("WBC",))]


async def test_a_share_divides_specimens_and_a_code_map_with_two_codes_waits_for_the_routes_word(
    lab: Laboratory,
) -> None:
    other = await another(lab, "second")
    await lab.owner.execute(
        """insert into lab.code_map (id, organization_id, driver, code, test_id, origin)
           select gen_random_uuid(), organization_id, driver, 'WBC-2', test_id, origin from lab.code_map
            where driver = 'sysmex_xn' and code = 'WBC' and ended_at is null"""
    )
    await lab.order("S-0", "WBC")
    book = await ask(lab, "S-0")
    assert [(one.location, one.text) for one in book.problems] == [
        ("WBC", "several codes would measure it: WBC, WBC-2; the routing can say which")
    ]
    assert book.missing == (Missing("S-0", NoWork.NOT_FOR_THIS_ANALYZER),)
    both = ("WBC", "WBC-2")
    await route(lab, RouteEntry("bench", 1, codes=("WBC-2",)), RouteEntry("second", 1, codes=both))
    for at in range(1, 9):
        await lab.order(f"S-{at}", "WBC", patient_id=f"P-{at}")
    names = [f"S-{at}" for at in range(1, 9)]
    mine, theirs = told(await ask(lab, *names)), told(await ask(other, *names))
    assert sorted([*mine, *theirs]) == names
    assert all(list(work) == ["WBC-2"] for work in mine.values())
    assert all(list(work) == ["WBC", "WBC-2"] for work in theirs.values())


async def test_faults_of_routes_are_said_together(lab: Laboratory) -> None:
    entries = (RouteEntry("bench", -1), RouteEntry("bench", codes=(" ",)), RouteEntry("nobody"))
    with pytest.raises(OrderError) as raised:
        await route(lab, *entries, test="NONE")
    assert len(raised.value.problems) == 5
    with pytest.raises(ApiError, match="map:write"):
        async with lab.database.transaction(lab.organization_id) as connection:
            await dispatches.set_routes(connection, person(lab, Role.TECHNOLOGIST), "WBC", [], "x")
    await route(lab, RouteEntry("bench"))
    await route(lab)
    assert await lab.owner.fetchval("select count(*) from lab.route where ended_at is null") == 0
    steps = await lab.owner.fetch("select action from lab.audit_event where entity_kind = 'route' order by id")
    assert [row["action"] for row in steps] == ["set", "unset"]


async def test_an_analyzer_is_said_to_be_down_once(lab: Laboratory) -> None:
    with pytest.raises(OrderError, match="nobody has said"):
        await is_down(lab, "bench", down=False)
    await is_down(lab, "bench")
    with pytest.raises(OrderError, match="already"):
        await is_down(lab, "bench")
    with pytest.raises(OrderError, match="no analyzer"):
        await is_down(lab, "nobody")


# ---- people


async def test_what_was_refused_is_sent_again_as_new_work(lab: Laboratory) -> None:
    await downloading(lab)
    await lab.order("S-1", "WBC")
    book = Book(tuple(await owed(lab)))
    await tell(lab, book)
    await say(lab, book, DispatchState.REFUSED, "no reagent")
    [refused] = await views(lab)
    with pytest.raises(ApiError, match="dispatch:write"):
        await change(lab, dispatches.resend, refused, person(lab, Role.VIEWER))
    again = await change(lab, dispatches.resend, refused)
    assert (again.state, again.code) == ("queued", "WBC")
    assert int(again.work_id) > int(refused.work_id)
    assert [step.work_id for one in await owed(lab) for step in one.steps] == [again.work_id]
    with pytest.raises(IllegalStep, match="not told yet"):
        await change(lab, dispatches.resend, again)
    with pytest.raises(IllegalStep, match="has ended"):
        await change(lab, dispatches.resend, refused)
    [row] = await lab.owner.fetch("select * from lab.audit_event where action = 'resend'")
    assert (row["actor_name"], row["entity_id"], row["detail"]["reason"]) == (
        "laboratory_director", again.id, "because"
    )  # fmt: skip


async def test_what_a_person_cancels_is_off_for_this_analyzer_and_waits_for_another(lab: Laboratory) -> None:
    other = await another(lab, "second")
    await downloading(other)
    await route(lab, RouteEntry("bench"), RouteEntry("second"))
    await lab.order("S-1", "WBC")
    assert await owed(other) == []
    await tell(lab, await ask(lab, "S-1"))
    [work] = await views(lab)
    off = await change(lab, dispatches.cancel, work)
    assert (off.kind, off.state, off.barred, off.item_status) == ("cancel", "queued", True, "received")
    assert (await ask(lab, "S-1")).missing == MINE
    assert codes(await owed(other)) == [("S-1", ("WBC",))]
    [told_so] = await owed(lab)
    await tell(lab, Book((told_so,)))
    await say(lab, Book((told_so,)), DispatchState.REFUSED, "in process")  # it cannot be taken back
    [cannot] = [one for one in await views(lab) if one.analyzer == "bench"]
    assert (cannot.kind, cannot.state) == ("cancel", "refused")
    gone = await change(lab, dispatches.cancel, cannot)
    assert gone.state == "cancelled"
    with pytest.raises(IllegalStep, match="already"):
        await change(lab, dispatches.cancel, gone)
    back = await change(lab, dispatches.resend, gone)
    assert told(await ask(lab, "S-1")) == {"S-1": {"WBC": back.work_id}}


@pytest.mark.parametrize("broken", ["taken", "down"])
async def test_a_rerun_goes_to_another_where_a_person_says_that_its_analyzer_does_nothing(
    lab: Laboratory, broken: str
) -> None:
    """It is whose who measured it first, and if that one is broken nobody's: the result waited for it for ever."""
    other = await another(lab, "second")
    await downloading(other)
    await lab.order("S-1", "WBC")
    await tell(other, Book(tuple(await owed(other))))
    await tell(lab, await ask(lab, "S-1"))
    await result(lab, "S-1", "WBC")
    [view] = await lab.results()
    async with lab.database.transaction(lab.organization_id) as connection:
        await follow_ups.request(connection, lab.director, view.id, FollowUpKind.RERUN, reason="to be sure")
    await tell(lab, await ask(lab, "S-1"))
    off = await owed(other)
    assert [one.cancels for one in off] == [True]  # of the first run
    await tell(other, Book(tuple(off)))
    await say(other, Book(tuple(off)), DispatchState.ACCEPTED)
    assert (await ask(other, "S-1")).missing == MINE
    if broken == "taken":
        [work] = [one for one in await views(lab) if one.analyzer == "bench"]
        await change(lab, dispatches.cancel, work)
        assert [one.cancels for one in await owed(other)] == [False]
        assert (await ask(lab, "S-1")).missing == MINE
    else:
        await is_down(lab, "bench")
    book = await ask(other, "S-1")
    assert [step.kind for step in book.works[0].steps] == [DispatchKind.RERUN]
    await tell(other, book)
    await result(other, "S-1", "WBC", "5.2", control="C2")
    assert await lab.owner.fetchval("select state from lab.follow_up") == "done"


@pytest.mark.parametrize("asked", [True, False])
async def test_nor_does_it_wait_where_the_other_does_not_ask(lab: Laboratory, asked: bool) -> None:
    """That one is told of its work; what the broken one asks for, or has been told, is no matter."""
    other = await another(lab, "second")
    await downloading(other)
    await lab.order("S-1", "WBC")
    await result(lab, "S-1", "WBC")
    [view] = await lab.results()
    async with lab.database.transaction(lab.organization_id) as connection:
        await follow_ups.request(connection, lab.director, view.id, FollowUpKind.RERUN, reason="to be sure")
    assert await owed(other) == []
    if asked:
        await tell(lab, await ask(lab, "S-1"))
    await is_down(lab, "bench")
    await look(lab.database, [LinkSeen(other.context, True, None)], NOW)
    book = Book(tuple(await owed(other)))
    assert [step.kind for work in book.works for step in work.steps] == [DispatchKind.RERUN]
    await tell(other, book)
    await look(lab.database, [LinkSeen(other.context, True, None)], NOW)
    assert await lab.owner.fetchval("select count(*) from lab.work_due") == 0, "it has it"


async def test_what_has_come_or_waits_no_more_is_not_sent_again(lab: Laboratory) -> None:
    await lab.order("S-1", "WBC")
    await tell(lab, await ask(lab, "S-1"))
    [work] = await views(lab)
    await result(lab, "S-1", "WBC")
    with pytest.raises(IllegalStep, match=r"waits for no measurement|has come"):
        await change(lab, dispatches.resend, work)
    assert await rows(lab) == [("WBC", "resulted")]
    with pytest.raises(OrderError, match="no work"):
        await change(lab, dispatches.resend, replace(work, id=uuid7()))
    async with lab.database.transaction(lab.organization_id) as connection:
        assert await dispatches.find_id(connection, work.work_id) == work.id
        with pytest.raises(OrderError, match="no work"):
            await dispatches.find_id(connection, "999999")


async def test_a_test_that_goes_to_an_aliquot_is_told_on_that(lab: Laboratory) -> None:
    """Whoever has a worklist was told that it is off on the tube, and never that it waits on the aliquot."""
    await downloading(lab)
    order = await lab.order("S-1", "WBC", "HGB")
    await tell(lab, Book(tuple(await owed(lab))))
    tube = order.items[0].specimen_id
    assert tube is not None
    async with lab.database.transaction(lab.organization_id) as connection:
        await specimens.aliquot(connection, lab.director, tube, barcode="S-1-1", tests=("WBC",))
    off = await owed(lab)
    assert [(one.cancels, *codes([one])) for one in off] == [(True, ("S-1", ("WBC",)))], "the tube's first"
    await tell(lab, Book(tuple(off)))
    assert await owed(lab) == [], "until the analyzer has taken that"
    await say(lab, Book(tuple(off)), DispatchState.ACCEPTED)
    assert [(one.cancels, *codes([one])) for one in await owed(lab)] == [(False, ("S-1-1", ("WBC",)))]


async def test_so_it_is_where_the_tube_was_not_told_yet(lab: Laboratory) -> None:
    await downloading(lab)
    order = await lab.order("S-1", "WBC")
    assert codes(await owed(lab)) == [("S-1", ("WBC",))]  # and the line is busy
    tube = order.items[0].specimen_id
    assert tube is not None
    async with lab.database.transaction(lab.organization_id) as connection:
        await specimens.aliquot(connection, lab.director, tube, barcode="S-1-1", tests=("WBC",))
    assert codes(await owed(lab)) == [("S-1-1", ("WBC",))]


async def test_what_goes_back_from_a_worksheet_is_told(lab: Laboratory) -> None:
    """It was begun on the worksheet before its tube had come, when there was nothing to be told."""
    await downloading(lab)
    patient = NewPatient((IdentifierView("TEST", "P-1"),), "Muster")
    async with lab.database.transaction(lab.organization_id) as connection:
        order = await create_order(connection, lab.director, NewOrder((NewSpecimen(("WBC",), "S-1"),), patient=patient))
        wanted = WorkFilter(test_codes=("WBC",))
        sheet = await worksheets.build(connection, lab.director, wanted, expected=True)
    assert await owed(lab) == []
    tube = order.items[0].specimen_id
    assert tube is not None
    async with lab.database.transaction(lab.organization_id) as connection:
        await specimens.receive(connection, lab.director, tube)
        await worksheets.complete(connection, lab.director, sheet.id, unmeasured="the counter serves again")
    assert codes(await owed(lab)) == [("S-1", ("WBC",))]
