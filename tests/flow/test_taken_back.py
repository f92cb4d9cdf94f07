"""An EMR that saw a result while it was preliminary is told when it is held or rejected; one that sees none is not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from uuid import UUID

import pytest

from interface.domain.model import FollowUpKind, ResultStatus
from interface.domain.specimens import RejectReason
from interface.domain.views import Audience, IdentifierView, ResultView
from interface.flow import follow_ups, reports, review, specimens
from interface.flow.correction import NewValue
from interface.flow.orders import NewOrder, NewSpecimen, create_order
from interface.flow.people import NewPatient
from interface.store import changes
from interface.store.lab import OrderFilter, find_reports, result_history
from tests.flow.controls import REJECT, bench
from tests.flow.laboratory import COLLECTED, Laboratory, laboratory
from tests.flow.rulebook import sent

Step = Callable[[Laboratory, ResultView], Awaitable[object]]
EARLY, LATE = Audience.EMR_PRELIMINARY, Audience.EMR


@pytest.fixture
async def lab(database_url: str) -> AsyncIterator[Laboratory]:
    async with laboratory(database_url) as made:
        yield made


async def end_of_feed(lab: Laboratory) -> int:
    async with lab.database.transaction(lab.organization_id) as connection:
        await changes.seal(connection, lab.organization_id)
        return await changes.last_position(connection)


async def told(lab: Laboratory, after: int, audience: Audience = EARLY) -> set[tuple[str, UUID]]:
    kinds = changes.PRELIMINARY if audience is EARLY else changes.RELEASED
    until = await end_of_feed(lab)
    async with lab.database.organization(lab.organization_id) as connection:
        found = await changes.all_resources(connection, changes.FOLLOWED, after, until, kinds)
    return {(one.type, one.id) for one in found}


async def send(lab: Laboratory, control: str, value: str, barcode: str = "S-1") -> None:
    await lab.send(sent(barcode, {"K": value}, control=control))
    await lab.settle()


async def preliminary(lab: Laboratory) -> ResultView:
    await lab.order("S-1", "K")
    await send(lab, "C1", "4.4")
    [one] = await lab.results(EARLY)
    assert (one.status, one.value) == (ResultStatus.PRELIMINARY, "4.4")
    return one


async def rejected(lab: Laboratory, one: ResultView) -> None:
    async with lab.database.transaction(lab.organization_id) as connection:
        await review.reject(connection, lab.director, one.id, "4.4 is clotted")


async def held(lab: Laboratory, one: ResultView) -> None:
    async with lab.database.transaction(lab.organization_id) as connection:
        await review.hold(connection, lab.director, one.id, "4.4 is odd")


async def measured_again(lab: Laboratory, one: ResultView) -> None:
    async with lab.database.transaction(lab.organization_id) as connection:
        await review.rerun(connection, lab.director, one.id, "4.4 is odd")


async def specimen_rejected(lab: Laboratory, one: ResultView) -> None:
    assert one.specimen_id is not None
    async with lab.database.transaction(lab.organization_id) as connection:
        await specimens.reject(connection, lab.director, one.specimen_id, RejectReason.HAEMOLYSED)


async def held_by_its_new_version(lab: Laboratory, one: ResultView) -> None:
    await send(lab, "C2", "-4.5")


TAKEN_BACK = {
    rejected: ResultStatus.CANCELLED, held: ResultStatus.REGISTERED, measured_again: ResultStatus.REGISTERED,
    specimen_rejected: ResultStatus.CANCELLED, held_by_its_new_version: ResultStatus.REGISTERED,
}  # fmt: skip


@pytest.mark.parametrize(("step", "status"), TAKEN_BACK.items())
async def test_who_saw_it_is_told_that_it_is_gone_and_nothing_of_what_it_was(
    lab: Laboratory, step: Step, status: ResultStatus
) -> None:
    one = await preliminary(lab)
    before = await end_of_feed(lab)
    await step(lab, one)
    [staff] = await lab.results()
    assert (staff.status, staff.version) == (status, 2)
    assert {("Observation", one.id), ("DiagnosticReport", one.order_id)} <= await told(lab, before)
    [now] = await lab.results(EARLY)
    assert (now.id, now.status, now.version) == (one.id, status, 2)
    nothing = ("", None, None, (), "", "", (), (), "")
    assert nothing == (
        now.value, now.number, now.comparator, now.flags, now.raw_value, now.raw_flags, now.comments, now.held, now.note
    )  # fmt: skip
    assert "4." not in repr(now)


@pytest.mark.parametrize("step", [step for step in TAKEN_BACK if step is not specimen_rejected])
async def test_who_sees_nothing_preliminary_is_told_of_nothing(lab: Laboratory, step: Step) -> None:
    one = await preliminary(lab)
    before = await end_of_feed(lab)
    await step(lab, one)
    assert await told(lab, before, LATE) == set()
    assert await lab.results(LATE) == []


async def test_what_was_held_from_the_first_is_seen_by_nobody_when_it_is_rejected(lab: Laboratory) -> None:
    await lab.order("S-1", "K")
    await send(lab, "C1", "-4.5")
    [one] = await lab.results()
    before = await end_of_feed(lab)
    await held(lab, one)
    await rejected(lab, one)
    assert await told(lab, before) == set()
    assert await lab.results(EARLY) == []


async def test_each_further_reason_to_hold_it_is_told_of_nobody(lab: Laboratory) -> None:
    one = await preliminary(lab)
    await measured_again(lab, one)
    before = await end_of_feed(lab)
    await held(lab, one)
    assert await told(lab, before) == set()


async def test_that_what_was_taken_back_is_rejected_and_held_again_is_told_each_time(lab: Laboratory) -> None:
    one = await preliminary(lab)
    await held(lab, one)
    both = {("Observation", one.id), ("DiagnosticReport", one.order_id)}
    before = await end_of_feed(lab)
    await rejected(lab, one)
    assert [now.status for now in await lab.results(EARLY)] == [ResultStatus.CANCELLED]
    assert both <= await told(lab, before)
    before = await end_of_feed(lab)
    await send(lab, "C2", "-4.5")
    assert [now.status for now in await lab.results(EARLY)] == [ResultStatus.REGISTERED]
    assert both <= await told(lab, before) and await told(lab, before, LATE) == set()


@pytest.mark.parametrize("audience", [EARLY, LATE])
async def test_when_what_was_taken_back_was_collected_is_told(lab: Laboratory, audience: Audience) -> None:
    """What was released and retracted is seen as such by every EMR."""
    patient = NewPatient((IdentifierView("TEST", "P-1"),), "Muster", "Maria")
    new = NewOrder((NewSpecimen(("K",), "S-1", received_at=datetime.now(UTC)),), patient=patient)
    async with lab.database.transaction(lab.organization_id) as connection:
        await create_order(connection, lab.director, new)
    await send(lab, "C1", "4.4")
    [one] = await lab.results()
    assert one.specimen_id is not None and one.collected_at is None
    if audience is EARLY:
        await held(lab, one)
    else:
        await lab.release(one.id)
        async with lab.database.transaction(lab.organization_id) as connection:
            await review.retract(connection, lab.director, one.id, "of another person")
    before = await end_of_feed(lab)
    async with lab.database.transaction(lab.organization_id) as connection:
        await specimens.collect(connection, lab.director, one.specimen_id, at=COLLECTED)
    [now] = await lab.results(audience)
    assert now.collected_at == COLLECTED and now.updated_at > one.updated_at
    assert {("Observation", one.id), ("DiagnosticReport", one.order_id)} <= await told(lab, before, audience)


async def test_a_report_without_a_run_whose_next_is_held_is_another(lab: Laboratory) -> None:
    """Nothing of the next run is seen: that the first is reported no more is all that says so."""
    one = await preliminary(lab)
    stamps, before = [], await end_of_feed(lab)
    for control, value in (("", ""), ("C2", "-4.5")):
        if value:
            await lab.send(sent("S-1", {"K": value}, control=control, at="20260102040000"))
            await lab.settle()
        async with lab.database.organization(lab.organization_id) as connection:
            [early] = await find_reports(connection, OrderFilter(), EARLY)
            [late] = await find_reports(connection, OrderFilter(), LATE)
        stamps.append((len(early.results), early.updated_at, late.updated_at))
    assert [now.reportable for now in await lab.results()] == [False, True]
    assert [count for count, _, _ in stamps] == [1, 0] and stamps[0][1] < stamps[1][1] and stamps[0][2] == stamps[1][2]
    assert ("DiagnosticReport", one.order_id) in await told(lab, before) and await told(lab, before, LATE) == set()


async def test_what_comes_back_is_told_with_its_report(lab: Laboratory) -> None:
    """A person's own preliminary version as well: the report's readers heard of the analyzer's alone."""
    one = await preliminary(lab)
    await held_by_its_new_version(lab, one)
    before = await end_of_feed(lab)
    async with lab.database.transaction(lab.organization_id) as connection:
        await review.correct(connection, lab.director, one.id, NewValue("4.6"), "read again")
    assert {("Observation", one.id), ("DiagnosticReport", one.order_id)} <= await told(lab, before)
    [now] = await lab.results(EARLY)
    assert (now.status, now.value) == (ResultStatus.PRELIMINARY, "4.6")


async def test_its_past_has_what_was_seen_and_that_it_was_taken_back(lab: Laboratory) -> None:
    one = await preliminary(lab)
    await held(lab, one)
    async with lab.database.transaction(lab.organization_id) as connection:
        await review.release(connection, lab.director, one.id, "seen", accept_hold=True)
        await review.correct(connection, lab.director, one.id, NewValue("4.7"), "diluted")
    async with lab.database.organization(lab.organization_id) as connection:
        early = await result_history(connection, one.id, EARLY)
        late = await result_history(connection, one.id, LATE)
    assert [(view.status.value, view.value) for view in early] == [
        ("preliminary", "4.4"), ("registered", ""), ("final", "4.4"), ("corrected", "4.7")
    ]  # fmt: skip
    assert [view.status.value for view in late] == ["final", "corrected"]


async def test_a_change_that_was_rejected_after_the_release_is_none_of_it(lab: Laboratory) -> None:
    one = await preliminary(lab)
    await lab.release(one.id)
    await send(lab, "C2", "-4.5")  # a change that waits
    async with lab.database.transaction(lab.organization_id) as connection:
        await review.reject_change(connection, lab.director, one.id, "no")
        await review.comment(connection, lab.director, one.id, "stands")
    async with lab.database.organization(lab.organization_id) as connection:
        past = await result_history(connection, one.id, EARLY)
    assert [view.status.value for view in past] == ["preliminary", "final", "amended"]


async def test_what_quality_control_holds_and_frees_is_told(lab: Laboratory) -> None:
    at = await bench(lab, rules="")
    await lab.order("S-1", "K")
    await at.control(300, test="K")
    await at.send("S-1", 290, K="4.4")
    [one] = await lab.results(EARLY)
    both = {("Observation", one.id), ("DiagnosticReport", one.order_id)}
    before = await end_of_feed(lab)
    await at.control(200, REJECT, test="K")
    [staff], [now] = await lab.results(), await lab.results(EARLY)
    assert (bool(staff.held), now.status, now.value) == (True, ResultStatus.REGISTERED, "")
    assert both <= await told(lab, before)
    before = await end_of_feed(lab)
    await at.control(100, test="K")
    await at.act(test="K")
    [now] = await lab.results(EARLY)
    assert (now.status, now.value) == (ResultStatus.PRELIMINARY, "4.4")
    assert both <= await told(lab, before)


async def test_results_of_several_orders_in_one_batch_are_told_each_with_its_report(lab: Laboratory) -> None:
    for barcode in ("S-1", "S-2"):
        await lab.order(barcode, "K", "NA")
        await lab.send(sent(barcode, {"K": "4.4", "NA": "140"}, control=barcode))
    await lab.settle()
    before = await end_of_feed(lab)
    for barcode in ("S-1", "S-2"):  # of each order one is held, and one has another value
        await lab.send(sent(barcode, {"K": "-4.5", "NA": "141"}, control=f"{barcode} again"))
    await lab.settle()
    seen = {(one.test_code, one.status.value, one.value) for one in await lab.results(EARLY)}
    assert seen == {("K", "registered", ""), ("NA", "preliminary", "141")}
    expected = {("Observation", one.id) for one in await lab.results()}
    assert expected | {("DiagnosticReport", one.order_id) for one in await lab.results()} == await told(lab, before)


async def test_a_rules_rerun_is_told_as_a_persons(lab: Laboratory) -> None:
    one = await preliminary(lab)
    before = await end_of_feed(lab)
    async with lab.database.transaction(lab.organization_id) as connection:
        await follow_ups.request(connection, lab.context.actor, one.id, FollowUpKind.RERUN, rule="again", reason="low")
    assert ("Observation", one.id) in await told(lab, before)


@pytest.mark.parametrize("step", [rejected, held])
async def test_its_report_is_printed_anew_without_it(lab: Laboratory, step: Step) -> None:
    one = await preliminary(lab)
    assert one.order_id is not None
    printed = []
    for _ in range(2):
        async with lab.database.organization(lab.organization_id) as connection:
            report = await reports.current(connection, one.order_id, EARLY)
            assert report is not None
            content = await reports.content_of(connection, report)
        printed.append((report.version, report.status, [line.value for line in content.lines]))
        if len(printed) == 1:
            await step(lab, one)
    assert printed == [(1, "preliminary", ["4.4"]), (2, "registered", [])]


async def test_of_two_runs_the_one_that_is_reported_again_is_told_with_its_report(lab: Laboratory) -> None:
    """Its version stays the same: it is another run's that was rejected, or was chosen before."""
    one = await preliminary(lab)
    before = await end_of_feed(lab)
    await lab.send(sent("S-1", {"K": "4.9"}, control="C2", at="20260102033000"))
    await lab.settle()
    first, second = await lab.results()
    assert (first.id, first.reportable, second.reportable) == (one.id, False, True)
    assert ("DiagnosticReport", one.order_id) in await told(lab, before)
    before = await end_of_feed(lab)
    await rejected(lab, second)
    assert {("Observation", first.id), ("Observation", second.id)} <= await told(lab, before)
    assert [(view.status.value, view.value) for view in await lab.results(EARLY)] == [
        ("preliminary", "4.4"), ("cancelled", "")
    ]  # fmt: skip
    before = await end_of_feed(lab)
    await lab.release(first.id)
    assert {kind for kind, _ in await told(lab, before, LATE)} == {"Observation", "DiagnosticReport", "ServiceRequest"}
