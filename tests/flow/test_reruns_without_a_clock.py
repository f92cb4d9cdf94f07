"""A rerun by an analyzer that says no time of measurement: its result is the run that was asked for, and a resend of
what came before is none. Its messages say nothing by which the one could be told from the other but when they came."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import pytest

from interface.domain.model import FollowUpKind, HoldReason, ResultStatus
from interface.domain.routing import DispatchState
from interface.flow import follow_ups
from interface.flow.replay import replay
from interface.store.ids import uuid7
from tests.flow.dispatching import ask, codes, say, tell
from tests.flow.laboratory import Laboratory, laboratory
from tests.flow.rulebook import put_in_force, sent
from tests.flow.test_outgoing import line, orders

FINAL, REGISTERED = ResultStatus.FINAL, ResultStatus.REGISTERED


@pytest.fixture
async def lab(database_url: str) -> AsyncIterator[Laboratory]:
    async with laboratory(database_url) as made:
        yield made


async def measured(lab: Laboratory, value: str, control: str) -> None:
    await lab.send(sent("S1", {"CREA": value}, control=control, at=""))
    await lab.settle()


async def asked(lab: Laboratory, *, told: bool) -> None:
    """A person wants the latest run of S1 measured again."""
    view = next(view for view in reversed(await lab.results()) if view.reportable)
    async with lab.database.transaction(lab.organization_id) as connection:
        await follow_ups.request(connection, lab.director, view.id, FollowUpKind.RERUN, reason="to be sure")
    if told:
        book = await ask(lab, "S1")
        await tell(lab, book)
        await say(lab, book, DispatchState.ACCEPTED)


async def first_run(lab: Laboratory, value: str = "1.0") -> None:
    await lab.order("S1", "CREA")
    await tell(lab, await ask(lab, "S1"))
    await measured(lab, value, "C1")


async def runs(lab: Laboratory) -> list[tuple[str, bool]]:
    return [(view.value, view.reportable) for view in await lab.results()]


async def state(lab: Laboratory) -> tuple[str, list[str], str]:
    """Of the item, its work, and the follow-ups that were asked for."""
    work = await lab.owner.fetch("select kind || ' ' || state as said from lab.dispatch order by work_id")
    item = await lab.owner.fetchval("select status from lab.order_item")
    led = await lab.owner.fetchval("select string_agg(state, ' ' order by id) from lab.follow_up")
    return str(item), [row["said"] for row in work], str(led)


@pytest.mark.parametrize("value", ["1.0", "1.1"])
async def test_the_result_of_a_rerun_ends_it_whatever_it_says(lab: Laboratory, value: str) -> None:
    await first_run(lab)
    await asked(lab, told=True)
    assert await state(lab) == ("in_progress", ["new resulted", "rerun accepted"], "sent")
    await measured(lab, value, "C2")
    assert await runs(lab) == [("1.0", False), (value, True)]
    assert await state(lab) == ("completed", ["new resulted", "rerun resulted"], "done")


async def test_its_result_ends_it_also_where_ids_go_on_after_those_of_a_clock_that_was_ahead(
    lab: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who takes links over goes on after what waits, up to a day ahead of its clock."""
    ahead = time.time_ns() // 1_000_000 + 12 * 3_600_000
    await first_run(lab)
    with monkeypatch.context() as then:
        then.setattr("interface.store.follow_ups.uuid7", lambda: uuid7(ahead))
        await asked(lab, told=True)
    await measured(lab, "1.1", "C2")
    assert await runs(lab) == [("1.0", False), ("1.1", True)]
    assert await state(lab) == ("completed", ["new resulted", "rerun resulted"], "done")


async def test_a_message_that_came_before_the_rerun_was_asked_for_is_none(lab: Laboratory) -> None:
    await first_run(lab)
    await lab.send(sent("S1", {"CREA": "1.0"}, control="C2", at=""))  # said again, and not decided yet
    await asked(lab, told=True)
    await lab.settle()
    assert await runs(lab) == [("1.0", True)]
    assert (await state(lab))[1:] == (["new resulted", "rerun accepted"], "sent")


@pytest.mark.parametrize("released", [False, True])
async def test_another_run_that_came_before_leaves_the_rerun_to_be_done(lab: Laboratory, *, released: bool) -> None:
    """It was measured and sent before anybody asked: who asked still waits, and the analyzer is still to do it."""
    await first_run(lab)
    if released:
        await lab.release((await lab.results())[0].id)
    await lab.send(sent("S1", {"CREA": "1.1"}, control="C2", at=""))
    await asked(lab, told=True)
    await lab.settle()
    assert await state(lab) == ("in_progress", ["new resulted", "rerun accepted"], "sent")
    assert codes((await ask(lab, "S1")).works) == [("S1", ("2160-0",))]
    await measured(lab, "1.2", "C3")
    assert (await state(lab))[1:] == (["new resulted", "rerun resulted"], "done")


async def test_a_rerun_that_was_not_told_yet_is_told_after_a_run_that_came_before(lab: Laboratory) -> None:
    """Its analyzer has a worklist and asks for nothing: it would never hear of the rerun."""
    await lab.order("S1", "CREA")
    async with line(lab, download=True) as at:
        await at.deliver()
        await measured(lab, "1.0", "C1")
        await lab.send(sent("S1", {"CREA": "1.1"}, control="C2", at=""))
        await asked(lab, told=False)
        await at.fail("busy")
        await lab.settle()
        assert await state(lab) == ("in_progress", ["new resulted", "rerun queued"], "sent")
        assert [test for _, test, _ in orders(await at.deliver())] == ["^^^2160-0"]


@pytest.mark.parametrize("value", ["1.0", "1.1"])
async def test_a_resend_of_the_rerun_is_no_third_run(lab: Laboratory, value: str) -> None:
    await first_run(lab)
    await asked(lab, told=True)
    for control in ("C2", "C3"):
        await measured(lab, value, control)
    assert await runs(lab) == [("1.0", False), (value, True)]


async def test_a_second_rerun_is_a_third_run(lab: Laboratory) -> None:
    await first_run(lab)
    for control in ("C2", "C3"):
        await asked(lab, told=True)
        await measured(lab, "1.0", control)
    assert await runs(lab) == [("1.0", False), ("1.0", False), ("1.0", True)]
    assert await state(lab) == ("completed", ["new resulted", "rerun resulted", "rerun resulted"], "done done")


async def test_a_released_result_stays_beside_its_rerun(lab: Laboratory) -> None:
    await first_run(lab)
    await lab.release((await lab.results())[0].id)
    await asked(lab, told=True)
    await measured(lab, "1.4", "C2")
    first, second = await lab.results()
    assert (first.status, first.value, first.pending, first.reportable) == (FINAL, "1.0", False, True)
    assert (second.value, second.held, second.reportable) == ("1.4", (HoldReason.ALREADY_REPORTED,), False)
    assert (await state(lab))[1:] == (["new resulted", "rerun resulted"], "done")


@pytest.mark.parametrize(
    ("value", "told", "status", "held"),
    [
        ("1.0", True, FINAL, ()),
        ("1.1", True, FINAL, ()),
        ("1.1", False, FINAL, ()),
        ("1.0", False, REGISTERED, (HoldReason.SAID_ANEW,)),
    ],
    ids=["the same", "another", "another, not told", "the same, not told"],
)
async def test_rules_release_a_rerun_unless_it_may_be_what_was_said_before(
    lab: Laboratory, value: str, told: bool, status: ResultStatus, held: tuple[HoldReason, ...]
) -> None:
    """An analyzer that was not told of the rerun may say its old result once more: a person sees which it is."""
    await first_run(lab)
    await put_in_force(lab)
    await asked(lab, told=told)
    await measured(lab, value, "C2")
    first, second = await lab.results()
    assert (first.status, first.held) == (REGISTERED, (HoldReason.RERUN,))
    assert (second.value, second.status, second.held, second.reportable) == (value, status, held, True)
    assert (await state(lab))[2] == "done"


async def test_another_order_items_rerun_moves_nothing(lab: Laboratory) -> None:
    await lab.order("S1", "CREA", "NA")
    await lab.send(sent("S1", {"CREA": "1.0", "NA": "140"}, at=""))
    await lab.settle()
    await asked(lab, told=True)  # sodium
    await lab.send(sent("S1", {"CREA": "1.0", "NA": "140"}, control="C2", at=""))
    await lab.settle()
    assert await runs(lab) == [("1.0", True), ("140", False), ("140", True)]


async def test_a_replay_decides_each_run_by_its_own_message(lab: Laboratory) -> None:
    await first_run(lab)
    await asked(lab, told=True)
    await measured(lab, "1.1", "C2")
    before = await runs(lab)
    for view in await lab.results():
        assert view.message_id is not None
        await replay(lab.database, lab.director, view.message_id, lab.contexts.get, dry_run=False)
    assert await runs(lab) == before


async def test_the_same_bytes_are_the_rerun_of_an_analyzer_that_was_told(lab: Laboratory) -> None:
    """Of an analyzer without any clock, whose sender went on after our reply to the first."""
    await first_run(lab)
    await asked(lab, told=True)
    await lab.owner.execute("update lab.message_key set taken = true")  # what is noted beside the journal
    await measured(lab, "1.0", "C1")
    assert await runs(lab) == [("1.0", False), ("1.0", True)]
    assert await state(lab) == ("completed", ["new resulted", "rerun resulted"], "done")
    await lab.owner.execute("update lab.message_key set taken = true")
    await measured(lab, "1.0", "C1")
    assert len(await runs(lab)) == 2
    assert [settled for _, settled in await lab.messages()] == ["released", "released", "duplicate"]


async def test_the_same_bytes_are_a_resend_of_an_analyzer_that_was_not_told(lab: Laboratory) -> None:
    await first_run(lab)
    await asked(lab, told=False)
    await lab.owner.execute("update lab.message_key set taken = true")
    await measured(lab, "1.0", "C1")
    assert await runs(lab) == [("1.0", True)]
