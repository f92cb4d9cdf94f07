"""Of several runs that say something else a person decides, unless a rerun was asked for and this is it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from interface.domain.model import FollowUpKind, HoldReason, ResultStatus
from interface.domain.specimens import RejectReason
from interface.domain.views import ResultView
from interface.flow import follow_ups, review, specimens
from interface.flow.correction import NewValue
from interface.store.review import Policy, set_policy
from tests.flow.laboratory import Laboratory, laboratory
from tests.flow.rulebook import put_in_force, sent

FIRST, LATER, LATEST, EARLIER = "20260102030000", "20260102030100", "20260102033000", "20260102020000"
RERUN, PRELIMINARY, FINAL = HoldReason.RERUN, ResultStatus.PRELIMINARY, ResultStatus.FINAL


@pytest.fixture
async def lab(database_url: str) -> AsyncIterator[Laboratory]:
    async with laboratory(database_url) as made:
        await put_in_force(made)
        yield made


async def by_value(lab: Laboratory) -> dict[str, ResultView]:
    await lab.settle()
    return {str(one.value): one for one in await lab.results()}


async def state(lab: Laboratory) -> str:
    return str(await lab.owner.fetchval("select string_agg(state, ' ') from lab.follow_up"))


async def test_a_run_that_came_before_the_rerun_was_asked_for_is_not_that_rerun(lab: Laboratory) -> None:
    """Both are journalled before anything is decided: nobody can have asked for the second."""
    await lab.order("S1", "CREA")
    await lab.send(sent("S1", {"CREA": "9.0"}, at=FIRST))
    await lab.send(sent("S1", {"CREA": "1.0"}, control="C2", at=LATER))
    found = await by_value(lab)
    assert (found["9.0"].held, found["1.0"].status, found["1.0"].reportable) == ((RERUN,), PRELIMINARY, True)
    assert await state(lab) == "requested"

    await lab.send(sent("S1", {"CREA": "7.9"}, control="C3", at=LATEST))
    found = await by_value(lab)
    assert (found["7.9"].status, found["7.9"].reportable, found["1.0"].status) == (FINAL, True, PRELIMINARY)
    assert await state(lab) == "done"


async def test_a_run_that_was_measured_before_the_one_it_would_repeat_is_not_its_rerun(lab: Laboratory) -> None:
    await lab.order("S1", "CREA")
    await lab.send(sent("S1", {"CREA": "9.0"}, at=FIRST))
    await lab.settle()
    await lab.send(sent("S1", {"CREA": "1.0"}, control="C2", at=EARLIER))
    found = await by_value(lab)
    assert (found["9.0"].held, found["1.0"].status) == ((RERUN,), PRELIMINARY)
    assert await state(lab) == "requested"


async def test_what_came_before_a_person_asked_does_not_answer_though_it_says_the_same(lab: Laboratory) -> None:
    """A person doubts the value: that it was measured so twice before does not settle it."""
    await lab.order("S1", "K")
    await lab.send(sent("S1", {"K": "6.9"}, at=FIRST))
    first = (await by_value(lab))["6.9"]
    await lab.send(sent("S1", {"K": "4.1"}, control="C2", at=LATER))
    async with lab.database.transaction(lab.organization_id) as connection:
        await follow_ups.request(connection, lab.director, first.id, FollowUpKind.RERUN, reason="clot")
    assert (await by_value(lab))["4.1"].status is PRELIMINARY
    assert await state(lab) == "requested"

    await lab.send(sent("S1", {"K": "4.2"}, control="C3", at=LATEST))
    assert (await by_value(lab))["4.2"].status is FINAL
    assert await state(lab) == "done"


async def test_without_a_time_what_came_before_the_rerun_was_asked_for_is_no_answer_either(lab: Laboratory) -> None:
    """It has the key of the first, of which it is a version; no rule releases that one meanwhile."""
    await lab.order("S1", "CREA")
    await lab.send(sent("S1", {"CREA": "9.0"}, at=""))
    await lab.send(sent("S1", {"CREA": "1.0"}, control="C2", at=""))
    found = await by_value(lab)
    assert (found["1.0"].status, await state(lab)) == (PRELIMINARY, "requested")


@pytest.mark.parametrize("doubt", ["another patient", "cut"])
async def test_a_run_in_doubt_disputes_another_value(lab: Laboratory, doubt: str) -> None:
    await lab.order("S1", "K")
    first = sent("S1", {"K": "5.9"}, patient="P-1" if doubt == "cut" else "P-2")
    await lab.send(first[:-1] if doubt == "cut" else first)
    await lab.settle()
    await lab.send(sent("S1", {"K": "4.1"}, patient="", control="C2", at=LATEST))
    found = await by_value(lab)
    held = HoldReason.INCOMPLETE_TRANSMISSION if doubt == "cut" else HoldReason.PATIENT_MISMATCH
    assert (found["5.9"].held, found["5.9"].reportable) == ((held,), False)
    assert (found["4.1"].status, found["4.1"].reportable) == (PRELIMINARY, True)


async def test_a_run_in_doubt_that_says_the_same_disputes_nothing(lab: Laboratory) -> None:
    await lab.order("S1", "K")
    await lab.send(sent("S1", {"K": "4.1"}, patient="P-2"))
    await lab.settle()
    await lab.send(sent("S1", {"K": "4.1"}, control="C2", at=LATEST))
    await lab.settle()
    assert sorted(one.status for one in await lab.results()) == [FINAL, ResultStatus.REGISTERED]


async def test_after_a_person_asked_for_a_run_in_doubt_again_that_rerun_is_released(lab: Laboratory) -> None:
    await lab.order("S1", "K")
    await lab.send(sent("S1", {"K": "5.9"}, patient="P-2"))
    first = (await by_value(lab))["5.9"]
    async with lab.database.transaction(lab.organization_id) as connection:
        await follow_ups.request(connection, lab.director, first.id, FollowUpKind.RERUN, reason="whose is it")
    await lab.send(sent("S1", {"K": "4.1"}, control="C2", at=LATEST))
    assert (await by_value(lab))["4.1"].status is FINAL
    assert await state(lab) == "done"


async def test_a_rerun_that_a_rule_asked_for_does_not_settle_a_run_in_doubt(lab: Laboratory) -> None:
    await lab.order("S1", "CREA")
    await lab.send(sent("S1", {"CREA": "5.9"}, patient="P-2", at=EARLIER))
    await lab.send(sent("S1", {"CREA": "9.0"}, control="C2", at=FIRST))
    await lab.settle()
    await lab.send(sent("S1", {"CREA": "1.0"}, control="C3", at=LATEST))
    found = await by_value(lab)
    assert (found["1.0"].status, found["1.0"].reportable, await state(lab)) == (PRELIMINARY, True, "done")


async def test_a_failed_run_disputes_nothing(lab: Laboratory) -> None:
    await lab.order("S1", "K")
    await lab.send(sent("S1", {"K": "-----"}, patient="P-2"))
    await lab.settle()
    await lab.send(sent("S1", {"K": "4.1"}, control="C2", at=LATEST))
    assert (await by_value(lab))["4.1"].status is FINAL


async def test_after_a_person_has_corrected_what_waited_for_its_rerun_no_run_is_that_rerun(lab: Laboratory) -> None:
    """The rules released it as what was asked for, in the place of the value that a person had entered."""
    await lab.order("S1", "K")
    await lab.send(sent("S1", {"K": "6.9"}, at=FIRST))
    first = (await by_value(lab))["6.9"]
    async with lab.database.transaction(lab.organization_id) as connection:
        await review.rerun(connection, lab.director, first.id, "clot")
        await review.correct(connection, lab.director, first.id, NewValue("5.1"), "measured on the gas analyzer")
    await lab.send(sent("S1", {"K": "4.2"}, control="C2", at=LATER))
    found = await by_value(lab)
    assert (found["4.2"].status, found["5.1"].status) == (PRELIMINARY, PRELIMINARY)
    assert await state(lab) == "cancelled"


async def test_what_is_reported_is_done_again_once_a_person_has_decided_about_the_run_to_be_repeated(
    lab: Laboratory,
) -> None:
    """Its rerun is awaited by nobody, and the value that is reported stands: nothing of its order is still to come."""
    await lab.order("S1", "NA")
    for control, value, at in (("C1", "140", FIRST), ("C2", "150", LATER)):
        await lab.send(sent("S1", {"NA": value}, control=control, at=at))
        await lab.settle()
    [other] = [view for view in await lab.results() if view.value == "150"]
    async with lab.database.transaction(lab.organization_id) as connection:
        await set_policy(connection, lab.organization_id, Policy("", True, None))
        await review.rerun(connection, lab.director, other.id, "odd")
    status = "select status from lab.order_item"
    assert await lab.owner.fetchval(status) == "in_progress"
    async with lab.database.transaction(lab.organization_id) as connection:
        await review.verify(connection, lab.director, other.id, "as it is", accept_hold=True)
    assert (await lab.owner.fetchval(status), await state(lab)) == ("verified", "cancelled")
    async with lab.database.transaction(lab.organization_id) as connection:
        await review.reject(connection, lab.director, other.id, "no")
    assert await lab.owner.fetchval(status) == "verified"


async def test_what_is_reported_is_no_rejected_test_where_its_specimen_is_unfit_for_the_rerun(lab: Laboratory) -> None:
    """The hospital was told that the test is cancelled, whose result it has; and nobody that it stands."""
    order = await lab.order("S1", "NA")
    await lab.send(sent("S1", {"NA": "140"}, at=FIRST))
    await lab.settle()
    [one] = await lab.results()
    async with lab.database.transaction(lab.organization_id) as connection:
        await review.rerun(connection, lab.director, one.id, "odd")
        [specimen] = {item.specimen_id for item in order.items if item.specimen_id}
        done = await specimens.reject(connection, lab.director, specimen, RejectReason.CLOTTED, recollect=True)
    assert (done.rejected, done.released) == ((), ("NA",))
    items = await lab.owner.fetch("select status from lab.order_item order by id")
    assert [row["status"] for row in items] == ["verified", "requested"], "it is measured again on the next"
    assert await state(lab) == "cancelled"
