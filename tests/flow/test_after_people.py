"""What comes for a result after a person has decided about it: nothing that undoes the decision."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from interface.domain.model import HoldReason, ResultStatus
from interface.domain.review import ReviewError
from interface.domain.specimens import RejectReason
from interface.domain.views import Audience, IdentifierView, ResultView
from interface.flow import review
from interface.flow.correction import NewValue
from interface.flow.entry import Entry, enter
from interface.flow.people import add_identifier
from interface.flow.replay import replay
from interface.flow.review_many import many
from interface.flow.review_policy import set_policy
from interface.flow.specimens import aliquot, reject
from interface.store.db import Connection
from interface.store.ids import uuid7
from interface.store.lab_changes import lock_orders
from interface.store.review import Policy, QueueFilter, waiting
from tests.flow.laboratory import Laboratory, laboratory
from tests.flow.rulebook import RULES, put_in_force, sent
from tests.flow.test_two_links import waits_for_a_lock

FINAL, PRELIMINARY, REGISTERED = ResultStatus.FINAL, ResultStatus.PRELIMINARY, ResultStatus.REGISTERED
OFF = RULES.replace('autoverification = "on"', 'autoverification = "off"')
GAP = ("NA", "CL", "HCO3", "AGAP")


async def only(lab: Laboratory, test: str) -> ResultView:
    [found] = [view for view in await lab.results() if view.test_code == test]
    return found


async def decide(lab: Laboratory, step: Callable[[Connection], Awaitable[object]]) -> None:
    async with lab.database.transaction(lab.organization_id) as connection:
        await step(connection)


@pytest.mark.parametrize("replayed", [False, True], ids=["sent again", "replayed"])
@pytest.mark.parametrize("step", ["hold", "correct", "reject"])
async def test_what_a_person_held_corrected_or_rejected_is_not_released_by_its_resend(
    database_url: str, step: str, replayed: bool
) -> None:
    async with laboratory(database_url) as lab:
        await lab.order("S1", "NA")
        await lab.send(sent("S1", {"NA": "140"}))
        await lab.settle()
        result, director = await only(lab, "NA"), lab.director
        steps: dict[str, Callable[[Connection], Awaitable[object]]] = {
            "hold": lambda connection: review.hold(connection, director, result.id, "looks wrong"),
            "correct": lambda connection: review.correct(
                connection, director, result.id, NewValue("150"), "was diluted"
            ),
            "reject": lambda connection: review.reject(connection, director, result.id, "clotted"),
        }
        await decide(lab, steps[step])
        await put_in_force(lab)
        if replayed:
            assert result.message_id is not None
            await replay(lab.database, director, result.message_id, lab.contexts.get, dry_run=False)
        else:
            await lab.send(sent("S1", {"NA": "140"}, control="C2"))
            await lab.settle()
        after = await only(lab, "NA")
        gone = replayed and step == "reject"  # a replay leaves what was rejected alone
        assert (after.status, after.held) == (
            (ResultStatus.CANCELLED, ()) if gone else (REGISTERED, (HoldReason.PERSON,))
        )  # fmt: skip
        assert after.version == (2 if gone or step == "hold" else 3)  # the same again says nothing new of what is held
        assert [(one.status, one.value) for one in await lab.results(Audience.EMR_PRELIMINARY)] == [(after.status, "")]


async def test_a_new_value_of_a_result_that_a_person_holds_stays_held(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        await put_in_force(lab, OFF)
        await lab.order("S1", "NA")
        await lab.send(sent("S1", {"NA": "140"}))
        await lab.settle()
        result = await only(lab, "NA")
        await decide(lab, lambda connection: review.hold(connection, lab.director, result.id, "looks wrong"))
        await lab.send(sent("S1", {"NA": "141"}, control="C2"))
        await lab.settle()
        after = await only(lab, "NA")
        assert (after.value, after.status, after.held) == ("141", REGISTERED, (HoldReason.PERSON,))


@pytest.mark.parametrize("value", ["140", "141"])
async def test_what_comes_after_a_retraction_waits_and_whoever_has_the_result_still_sees_it(
    database_url: str, value: str
) -> None:
    async with laboratory(database_url) as lab:
        await put_in_force(lab)
        await lab.order("S1", "NA")
        await lab.send(sent("S1", {"NA": "140"}))
        await lab.settle()
        result = await only(lab, "NA")
        assert result.status is FINAL
        await decide(lab, lambda connection: review.retract(connection, lab.director, result.id, "another tube"))
        for control in ("C2", "C3"):
            await lab.send(sent("S1", {"NA": value}, control=control))
            await lab.settle()
        retracted, after = await lab.results()
        assert (retracted.id, retracted.status) == (result.id, ResultStatus.ENTERED_IN_ERROR)
        assert (after.value, after.status, after.held) == (value, REGISTERED, (HoldReason.PERSON,))
        [seen] = await lab.results(Audience.EMR)
        assert (seen.id, seen.status, seen.value) == (result.id, ResultStatus.ENTERED_IN_ERROR, "")


async def test_a_calculated_result_that_a_person_rejected_comes_back_only_for_a_person(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        await put_in_force(lab, OFF)
        await lab.order("S1", *GAP)
        await lab.send(sent("S1", {"NA": "140", "CL": "100", "HCO3": "24"}))
        await lab.settle()
        gap = await only(lab, "AGAP")
        await decide(lab, lambda connection: review.reject(connection, lab.director, gap.id, "which bicarbonate?"))
        assert (await only(lab, "AGAP")).status is ResultStatus.CANCELLED
        await lab.send(sent("S1", {"NA": "142"}, control="C2"))
        await lab.settle()
        assert await lab.messages() == [("complete", "released"), ("complete", "held")]
        after = await only(lab, "AGAP")
        assert (after.value, after.status, after.held, after.version) == ("18.0", REGISTERED, (HoldReason.PERSON,), 3)
        await put_in_force(lab)  # and by what comes later it is still a person's
        await lab.send(sent("S1", {"NA": "144"}, control="C3"))
        await lab.settle()
        after = await only(lab, "AGAP")
        assert (after.value, after.held) == ("20.0", (HoldReason.PERSON,))


async def test_a_calculated_result_that_a_person_retracted_stays_retracted_and_a_new_one_waits(
    database_url: str,
) -> None:
    async with laboratory(database_url) as lab:
        await put_in_force(lab)
        await lab.order("S1", *GAP)
        await lab.send(sent("S1", {"NA": "140", "CL": "100", "HCO3": "24"}))
        await lab.settle()
        gap, sodium = await only(lab, "AGAP"), await only(lab, "NA")
        assert gap.status is FINAL
        await decide(lab, lambda connection: review.retract(connection, lab.director, gap.id, "which bicarbonate?"))
        assert (await only(lab, "AGAP")).status is ResultStatus.ENTERED_IN_ERROR
        await decide(
            lab,
            lambda connection: review.correct(
                connection, lab.director, sodium.id, NewValue("150"), "was diluted"
            ),
        )  # fmt: skip
        gaps = [(view.status, view.value) for view in await lab.results() if view.test_code == "AGAP"]
        assert gaps == [(ResultStatus.ENTERED_IN_ERROR, "16.0"), (REGISTERED, "26.0")]


async def test_where_the_reported_run_is_rejected_another_waits_in_its_place(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        await lab.order("S1", "NA")
        await lab.send(sent("S1", {"NA": "140"}))
        await lab.send(sent("S1", {"NA": "150"}, control="C2", at="20260102040000"))
        await lab.settle()
        first, second = await lab.results()
        assert (first.reportable, second.reportable) == (False, True)
        await decide(lab, lambda connection: review.reject(connection, lab.director, second.id, "air bubble"))
        async with lab.database.organization(lab.organization_id) as connection:
            assert [one.result.id for one in await waiting(connection, QueueFilter())] == [first.id]
        assert await lab.owner.fetchval("select count(*) from lab.audit_event where action = 'report'") == 1


async def test_a_tube_and_its_aliquot_decided_together_have_one_calculated_result_and_it_is_the_last(
    database_url: str,
) -> None:
    async with laboratory(database_url) as lab:
        await put_in_force(lab, OFF)
        order = await lab.order("S1", *GAP)
        tube = order.items[0].specimen_id
        assert tube is not None
        await decide(lab, lambda connection: aliquot(connection, lab.director, tube, barcode="S1-1"))
        await lab.send(sent("S1", {"NA": "140", "CL": "100", "HCO3": "24"}))
        await lab.send(sent("S1-1", {"NA": "150"}, control="C2", at="20260102040000"))
        await lab.settle()
        gap = await only(lab, "AGAP")
        assert (gap.value, gap.version) == ("26.0", 2)


async def test_what_is_calculated_of_a_tube_and_its_aliquot_released_together_is_calculated_once(
    database_url: str,
) -> None:
    async with laboratory(database_url) as lab:
        order = await lab.order("S1", *GAP)
        tube = order.items[0].specimen_id
        assert tube is not None
        await decide(lab, lambda connection: aliquot(connection, lab.director, tube, barcode="S1-1"))
        await lab.send(sent("S1", {"NA": "140", "CL": "100"}))
        await lab.send(sent("S1-1", {"HCO3": "24"}, control="C2"))
        await lab.settle()
        await put_in_force(lab)
        results = [(view.id, None) for view in await lab.results()]
        await decide(
            lab,
            lambda connection: many(
                connection, lab.director, results,
                lambda result_id, seen: review.release(connection, lab.director, result_id, "", seen, follow=False),
            ),
        )  # fmt: skip
        gap = await only(lab, "AGAP")
        assert (gap.value, gap.status) == ("16.0", FINAL)


@pytest.mark.parametrize("released", [False, True], ids=["rejected", "retracted"])
@pytest.mark.parametrize("value", ["140", "141"])
async def test_what_a_person_took_back_may_be_entered_anew(database_url: str, released: bool, value: str) -> None:
    async with laboratory(database_url) as lab:
        item = (await lab.order("S1", "NA")).items[0].id
        director = lab.director

        async def entered(text: str) -> ResultView:
            async with lab.database.transaction(lab.organization_id) as connection:
                return (await enter(connection, director, [Entry(item, text)]))[0]

        first = await entered("140")
        if released:
            await lab.release(first.id)
            await decide(lab, lambda connection: review.retract(connection, director, first.id, "another tube"))
        else:
            await decide(lab, lambda connection: review.reject(connection, director, first.id, "another tube"))
        again = await entered(value)
        assert (again.value, again.status, again.held) == (value, PRELIMINARY, ())
        assert (again.id == first.id) is not released
        seen = [(view.id, view.status) for view in await lab.results(Audience.EMR)]
        assert seen == ([(first.id, ResultStatus.ENTERED_IN_ERROR)] if released else [])


async def test_no_rule_releases_what_one_person_typed_where_two_verify(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        await put_in_force(lab)
        vera, otto = lab.director, replace(lab.director, name="otto")
        for barcode, two, status in (("S1", False, FINAL), ("S2", True, PRELIMINARY)):
            item = (await lab.order(barcode, "NA")).items[0].id
            async with lab.database.transaction(lab.organization_id) as connection:
                await set_policy(connection, vera, Policy("NA", two, None))
                [one] = await enter(connection, vera, [Entry(item, "140")])
            assert (one.status, one.held) == (status, ())
        await decide(lab, lambda connection: review.verify(connection, vera, one.id))
        with pytest.raises(ReviewError, match="another person must release it"):
            await decide(lab, lambda connection: review.release(connection, vera, one.id))
        await decide(lab, lambda connection: review.release(connection, otto, one.id))
        assert [view.status for view in await lab.results(Audience.EMR)] == [FINAL, FINAL]


async def test_no_rule_releases_what_was_critical_and_is_not_any_more(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        await put_in_force(lab)
        await lab.order("S1", "K")
        await lab.send(sent("S1", {"K": "7.5"}))
        await lab.settle()
        assert (await only(lab, "K")).held == (HoldReason.RULE,)
        await lab.send(sent("S1", {"K": "4.5"}, control="C2"))
        await lab.settle()
        after = await only(lab, "K")
        assert (after.value, after.held, after.version) == ("4.5", (HoldReason.SAID_ANEW,), 2)


async def test_who_rejects_an_aliquot_waits_for_its_tube_with_nothing_locked_that_deciding_needs(
    database_url: str,
) -> None:
    async with laboratory(database_url) as lab:
        order = await lab.order("S1", "NA")
        tube = order.items[0].specimen_id
        assert tube is not None
        await decide(lab, lambda connection: aliquot(connection, lab.director, tube, barcode="S1-1"))
        await lab.send(sent("S1-1", {"NA": "140"}))
        await lab.settle()
        part = await lab.owner.fetchval("select id from lab.specimen where barcode = 'S1-1'")
        async with lab.database.transaction(lab.organization_id) as deciding:  # which locks the tube, then its parts
            await deciding.execute("select from lab.specimen where id = $1 for update", tube)
            rejecting = asyncio.create_task(
                decide(lab, lambda connection: reject(connection, lab.director, part, RejectReason.CLOTTED))
            )
            await waits_for_a_lock(lab)
            await deciding.execute("select from lab.specimen where id = $1 for update nowait", part)
        await rejecting
        assert (await only(lab, "NA")).status is ResultStatus.CANCELLED


async def test_who_gives_a_patient_an_identifier_waits_for_who_orders_with_nothing_locked(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        patient_id = (await lab.order("S1", "NA")).patient_id
        assert patient_id is not None
        more = IdentifierView("OTHER", "7")
        async with lab.database.transaction(lab.organization_id) as ordering:  # an order's row locks its patient's
            await lock_orders(ordering, lab.organization_id)
            adding = asyncio.create_task(
                decide(lab, lambda connection: add_identifier(connection, lab.director, patient_id, more))
            )
            await waits_for_a_lock(lab)
            await ordering.execute("select from lab.patient where id = $1 for update nowait", patient_id)
        await adding


async def test_a_correction_that_waits_for_another_person_is_not_undone_by_a_replay(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        await lab.order("S1", "NA")
        await lab.send(sent("S1", {"NA": "140"}))
        await lab.settle()
        result = await only(lab, "NA")
        assert result.message_id is not None
        await lab.release(result.id)
        await decide(lab, lambda connection: set_policy(connection, lab.director, Policy("NA", True, None)))
        correct = review.correct
        await decide(lab, lambda at: correct(at, lab.director, result.id, NewValue("150"), "was diluted"))
        done = await replay(lab.database, lab.director, result.message_id, lab.contexts.get, dry_run=False)
        assert not done.changes
        other = replace(lab.director, id=uuid7(), name="other")
        await decide(lab, lambda at: review.accept_change(at, other, result.id, "seen", accept_hold=True))
        after = await only(lab, "NA")
        assert (after.status, after.value) == (ResultStatus.CORRECTED, "150")
