"""Versions of a report: one whenever what an EMR may see has changed, none that tells what it may not, none altered."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pypdfium2
import pytest

from interface.domain.model import HoldReason
from interface.domain.permissions import Role
from interface.domain.report import Language, OrderReport, Paper
from interface.domain.specimens import RejectReason
from interface.domain.views import Actor, Audience, OrderView
from interface.errors import ApiError
from interface.flow import people, reports, review, specimens
from interface.flow.correction import NewValue
from interface.flow.order_changes import cancel
from interface.flow.orders import NewSpecimen
from interface.flow.placing import Batch, PlacedTube, PlacerNumber, Placing, place
from interface.render import report_json
from interface.store import changes, lab, lab_changes
from interface.store import reports as rows
from interface.store.db import Connection, Database
from interface.store.evidence import find_provenance
from interface.store.lab import released_before
from interface.store.review import Policy, set_policy
from tests.conftest import Organization
from tests.qc_records import add_judged, add_lot, add_target
from tests.records import Laboratory, found, order, patient, user

EMR, EARLY = Audience.EMR, Audience.EMR_PRELIMINARY


@pytest.fixture
async def laboratory(database: Database, organization: Organization) -> Laboratory:
    return await found(database, organization.id)


@asynccontextmanager
async def transaction(laboratory: Laboratory) -> AsyncIterator[Connection]:
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        yield connection


async def contents(laboratory: Laboratory, order_id: UUID, audience: Audience = EMR) -> list[OrderReport]:
    """Of every version, as the audience finds them now."""
    async with transaction(laboratory) as connection:
        try:
            found = await reports.versions(connection, order_id, audience)
        except ApiError as error:
            assert error.status == 404
            return []
        return [await reports.content_of(connection, one) for one in found]


async def due(laboratory: Laboratory, order_id: UUID) -> bool:
    async with transaction(laboratory) as connection:
        return bool(
            await connection.fetchval("select exists (select from lab.report_due where order_id = $1)", order_id)
        )


async def done(laboratory: Laboratory, step: Callable[..., Awaitable[Any]], *arguments: Any, **more: Any) -> Any:
    async with transaction(laboratory) as connection:
        return await step(connection, laboratory.technologist, *arguments, **more)


async def told(laboratory: Laboratory) -> set[tuple[int, UUID]]:
    """The reports of which EMRs are told, each time with its place in the feed."""
    async with transaction(laboratory) as connection:
        await changes.seal(connection, laboratory.organization_id)
        found = await changes.resources(connection, "DiagnosticReport", 0, 1_000_000, changes.RELEASED)
    return {(one.position, one.id) for one in found}


async def released(laboratory: Laboratory, value: str = "13.50") -> tuple[OrderView, UUID]:
    """An order with one result that is released and reported."""
    placed = await laboratory.order()
    result_id = await laboratory.result(placed, value)
    await done(laboratory, review.release, result_id)
    assert len(await contents(laboratory, placed.id)) == 1
    return placed, result_id


async def test_nothing_is_reported_before_something_is_released(laboratory: Laboratory) -> None:
    placed = await laboratory.order()
    result_id = await laboratory.result(placed, "13.50")
    assert await contents(laboratory, placed.id) == []
    await done(laboratory, review.release, result_id, comment="seen")
    [report] = await contents(laboratory, placed.id)
    [line] = report.lines
    assert (report.version, report.status, line.value, line.unit) == (1, "final", "13.50", "g/dL")
    assert line.comments == ("seen",) and line.made_at is not None and report.replaces_at is None
    assert report.header.laboratory and report.number == placed.number and report.person is not None
    assert [tube.barcode for tube in report.tubes] == [placed.items[0].barcode]
    assert len(await contents(laboratory, placed.id)) == 1, "what is read again is the same version"


async def test_a_correction_is_a_version_with_what_it_was_and_the_original_stays(laboratory: Laboratory) -> None:
    placed, result_id = await released(laboratory)
    async with transaction(laboratory) as connection:
        first = await reports.pdf_of(connection, placed.id, EMR)
    await done(laboratory, review.correct, result_id, NewValue("9.10"), "wrong tube")
    original, report = await contents(laboratory, placed.id)
    assert (report.version, report.status, report.lines[0].value) == (2, "corrected", "9.10")
    assert [(one.value, one.unit, one.status) for one in report.lines[0].before] == [("13.50", "g/dL", "final")]
    assert report.replaces_at == original.issued_at and original.lines[0].value == "13.50"
    async with transaction(laboratory) as connection:
        assert await reports.pdf_of(connection, placed.id, EMR, version=1) == first
        corrected = await reports.pdf_of(connection, placed.id, EMR)
    assert corrected.report.version == 2 and corrected.hash != first.hash
    text = pypdfium2.PdfDocument(corrected.body)[0].get_textpage().get_text_range()
    assert "9.10" in text and "13.50 g/dL" in text and "CORRECTED" in text


async def test_what_was_withdrawn_is_told_without_a_value_but_for_what_was_reported(laboratory: Laboratory) -> None:
    placed, result_id = await released(laboratory)
    await done(laboratory, review.retract, result_id, "another patient's tube")
    _, report = await contents(laboratory, placed.id)
    [line] = report.lines
    assert line.withdrawn and (line.value, line.number) == ("", None) and line.made_at is not None
    assert [one.value for one in line.before] == ["13.50"] and not report.empty


async def test_a_test_whose_result_was_withdrawn_is_still_to_come_or_never_will(laboratory: Laboratory) -> None:
    """`results are still to come` stood above, and no word said that this one is, or that it was cancelled since."""
    placed, result_id = await released(laboratory)
    await done(laboratory, review.retract, result_id, "another patient's tube")
    *_, report = await contents(laboratory, placed.id)
    assert [(one.test, one.status) for one in report.open] == [("HGB", "requested")]
    await done(laboratory, cancel, placed.id, "the tube is another patient's", in_progress=True)
    *_, report = await contents(laboratory, placed.id)
    assert [(one.status, one.reason) for one in report.open] == [("cancelled", "the tube is another patient's")]
    assert [line.withdrawn for line in report.lines] == [True]


@pytest.mark.parametrize("audience", [EMR, EARLY])
async def test_what_is_held_or_waits_is_in_no_version(laboratory: Laboratory, audience: Audience) -> None:
    placed, result_id = await released(laboratory)
    await laboratory.change(result_id, "77.70")
    await laboratory.result(placed, "88.80", held=(HoldReason.QUESTIONABLE,))
    [report] = await contents(laboratory, placed.id, audience)
    assert [line.value for line in report.lines] == ["13.50"]
    other = await laboratory.order()
    await laboratory.result(other, "99.90", held=(HoldReason.QUESTIONABLE,))
    assert await contents(laboratory, other.id, audience) == []
    assert await contents(laboratory, other.id, Audience.STAFF) == [], "a report is what was reported"


async def test_no_control_is_in_a_report(laboratory: Laboratory) -> None:
    lot = await add_lot(laboratory)
    aim = await add_target(laboratory, "4711/low")
    await add_judged(laboratory, lot, aim, ["3.07"], datetime.now(UTC), timedelta(minutes=5))
    placed, _ = await released(laboratory)
    [report] = await contents(laboratory, placed.id)
    assert b"3.07" not in report_json.dumps(report) and [line.value for line in report.lines] == ["13.50"]


async def test_what_is_preliminary_is_seen_only_where_that_is_shown(laboratory: Laboratory) -> None:
    placed = await laboratory.order()
    result_id = await laboratory.result(placed, "12.20")
    [early] = await contents(laboratory, placed.id, EARLY)
    assert (early.status, early.lines[0].status) == ("preliminary", "preliminary")
    assert await contents(laboratory, placed.id) == []
    async with transaction(laboratory) as connection:
        [hidden] = await reports.versions(connection, placed.id, EARLY)
        assert await rows.find_version(connection, hidden.id, EMR) is None
        assert await reports.binary_of(connection, hidden.id, EMR) is None
        assert await reports.attached(connection, [placed.id], EMR) == {}
    await done(laboratory, review.release, result_id)
    assert [one.version for one in await contents(laboratory, placed.id)] == [2]
    assert [one.version for one in await contents(laboratory, placed.id, EARLY)] == [1, 2]


async def test_versions_are_for_ever(laboratory: Laboratory) -> None:
    placed, _ = await released(laboratory)
    async with transaction(laboratory) as connection:
        await reports.pdf_of(connection, placed.id, EMR)
    for change in (
        "update lab.report set body = ''", "delete from lab.report",
        "update lab.report_file set body = ''", "delete from lab.report_file",
    ):  # fmt: skip
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with transaction(laboratory) as connection:
                await connection.execute(change)


# What an EMR sees of an order changes: whoever does it, by whatever way, the report is due and the next one differs.
async def _rename(laboratory: Laboratory, placed: OrderView, _: UUID) -> None:
    assert placed.patient_id is not None
    await done(laboratory, people.update_patient, placed.patient_id, people.PatientChange(family="Master"), 1)


async def _number(laboratory: Laboratory, placed: OrderView, _: UUID) -> None:
    async with transaction(laboratory) as connection:
        await connection.execute(
            "update lab.patient_identifier set value = 'new' where patient_id = $1", placed.patient_id
        )


async def _move(laboratory: Laboratory, placed: OrderView, _: UUID) -> None:
    async with transaction(laboratory) as connection:
        await connection.execute("update lab.lab_order set ward = 'ICU' where id = $1", placed.id)


async def _collect(laboratory: Laboratory, placed: OrderView, _: UUID) -> None:
    async with transaction(laboratory) as connection:
        await connection.execute(
            "update lab.specimen set collected_at = now() - interval '2 hours' where id = $1",
            placed.items[0].specimen_id,
        )


async def _add(laboratory: Laboratory, placed: OrderView, _: UUID) -> None:
    async with transaction(laboratory) as connection:
        await connection.execute(
            """insert into lab.order_item (organization_id, id, order_id, test_id, specimen_id)
               select organization_id, gen_random_uuid(), order_id, $2, specimen_id from lab.order_item
               where order_id = $1""",
            placed.id,
            laboratory.tests["WBC"],
        )


async def _comment(laboratory: Laboratory, _: OrderView, result_id: UUID) -> None:
    await done(laboratory, review.comment, result_id, "lipaemic")


@pytest.mark.parametrize("change", [_rename, _number, _move, _collect, _add, _comment])
async def test_every_change_that_an_emr_sees_is_a_version(
    laboratory: Laboratory, change: Callable[[Laboratory, OrderView, UUID], Awaitable[None]]
) -> None:
    placed, result_id = await released(laboratory)
    assert not await due(laboratory, placed.id)
    await change(laboratory, placed, result_id)
    async with transaction(laboratory) as connection:
        assert await reports.attached(connection, [placed.id], EMR) == {}, "what is old is not offered as current"
    assert await due(laboratory, placed.id)
    first, second = await contents(laboratory, placed.id)
    assert first.content != second.content and not await due(laboratory, placed.id)


async def test_who_ordered_on_a_tube_that_was_there_finds_their_own_number_on_the_report(
    laboratory: Laboratory,
) -> None:
    placed = await laboratory.order(order(placer_number="P-1"))
    await done(laboratory, review.release, await laboratory.result(placed))
    [report] = await contents(laboratory, placed.id)
    assert report.placer_number == "P-1" and placed.patient_id is not None
    batch = Batch(laboratory.technologist, placed.patient_id)
    tube = PlacedTube(NewSpecimen((), placed.items[0].barcode))
    for number, group in (("A-2", ""), ("A-3", "G-1"), ("A-4", "P-1")):
        async with transaction(laboratory) as connection:
            await lab_changes.lock_orders(connection, laboratory.organization_id)
            asked = Placing(PlacerNumber(number, "urn:x"), ("WBC",), (tube,), PlacerNumber(group, "urn:x"))
            await place(connection, batch, asked)
    *_, report = await contents(laboratory, placed.id)
    assert report.placer_number == "P-1, A-2, A-3"


async def test_who_orders_what_is_reported_already_finds_their_own_number_on_the_report(laboratory: Laboratory) -> None:
    """Nothing else is changed by it: no version was made, whoever asked."""
    placed = await laboratory.order(order(placer_number="P-1"))
    await done(laboratory, review.release, await laboratory.result(placed))
    await contents(laboratory, placed.id)
    assert placed.patient_id is not None
    for number in ("A-2", "A-2"):  # said again it is no news
        async with transaction(laboratory) as connection:
            await lab_changes.lock_orders(connection, laboratory.organization_id)
            asked = Placing(
                PlacerNumber(number, "urn:x"), ("HGB",), (PlacedTube(NewSpecimen((), placed.items[0].barcode)),)
            )
            await place(connection, Batch(laboratory.technologist, placed.patient_id), asked)
        first, second = await contents(laboratory, placed.id)
        assert (first.placer_number, second.placer_number) == ("P-1", "P-1, A-2")


async def test_a_specimen_that_was_rejected_is_reported_without_a_result(laboratory: Laboratory) -> None:
    placed = await laboratory.order()
    await done(
        laboratory, specimens.reject, placed.items[0].specimen_id, RejectReason.HAEMOLYSED, "please send another"
    )
    assert await due(laboratory, placed.id)
    [report] = await contents(laboratory, placed.id)
    assert report.tubes[0].rejected and [one.status for one in report.open] == ["rejected"]


async def test_a_person_that_was_merged_is_named_as_who_it_is(laboratory: Laboratory) -> None:
    placed, _ = await released(laboratory)
    async with transaction(laboratory) as connection:
        survivor = await people.create_patient(
            connection, laboratory.technologist, replace(patient(), family="Survivor")
        )
    await done(laboratory, people.merge, placed.patient_id, survivor.id, "one person", accept_differences=True)
    *_, report = await contents(laboratory, placed.id)
    assert report.person is not None and report.person.family == "Survivor"


async def test_earlier_results_of_the_person_are_shown_and_none_that_an_emr_may_not_see(laboratory: Laboratory) -> None:
    first, _ = await released(laboratory, "11.10")
    placer = replace(order(), patient=replace(patient(), identifiers=(await _identifier(laboratory, first),)))
    held, second = await laboratory.order(placer), await laboratory.order(placer)
    await laboratory.result(held, "66.60", held=(HoldReason.QUESTIONABLE,))
    preliminary = await laboratory.result(held, "55.50")
    result_id = await laboratory.result(second, "12.20")
    await done(laboratory, review.release, result_id)
    [report] = await contents(laboratory, second.id)
    assert [(one.value, str(one.number)) for one in report.lines[0].earlier] == [("11.10", "11.10")]
    await done(laboratory, review.release, preliminary)
    assert len(await contents(laboratory, second.id)) == 1, "another order's results make no version of this one"


@pytest.mark.parametrize(("kind", "minutes"), [("CSF", None), ("SER", 120), ("SER", None)])
async def test_what_was_measured_in_another_fluid_or_so_long_after_a_load_is_no_earlier_result(
    laboratory: Laboratory, kind: str, minutes: int | None
) -> None:
    """A liquor's glucose stood as *Previous* beside that of the blood, and that at 120 min beside the fasting one."""
    first, _ = await released(laboratory, "2.90")
    placer = replace(order(), patient=replace(patient(), identifiers=(await _identifier(laboratory, first),)))
    second = await laboratory.order(placer)
    async with transaction(laboratory) as connection:
        await connection.execute("update lab.specimen set type = 'SER'")
        told = "update lab.specimen set type = $2, time_point_min = $3 where id = $1"
        await connection.execute(told, first.items[0].specimen_id, kind, minutes)
    await done(laboratory, review.release, await laboratory.result(second, "5.10"))
    [report] = await contents(laboratory, second.id)
    alike = (kind, minutes) == ("SER", None)
    assert [one.value for one in report.lines[0].earlier] == (["2.90"] if alike else [])


async def merged_before(laboratory: Laboratory, one: OrderView, other: OrderView) -> None:
    """Two records of patients are one person's, since longer than a change is looked for when a result is released."""
    await done(laboratory, people.merge, one.patient_id, other.patient_id, "registered twice")
    async with transaction(laboratory) as connection:
        await connection.execute("update lab.patient set updated_at = updated_at - interval '2 minutes'")


async def test_what_was_another_persons_is_in_no_report_once_their_merge_is_taken_back(laboratory: Laboratory) -> None:
    theirs, _ = await released(laboratory, "6.10")
    placed = await laboratory.order()
    await merged_before(laboratory, theirs, placed)
    result_id = await laboratory.result(placed, "13.50")
    await done(laboratory, review.release, result_id)
    [report] = await contents(laboratory, placed.id)
    assert [one.value for one in report.lines[0].earlier] == ["6.10"]
    before = await told(laboratory)
    await done(laboratory, people.unmerge, theirs.patient_id, "two people after all")
    assert {id for _, id in await told(laboratory) - before} == {placed.id}, (
        "an EMR keeps the document that it was given"
    )
    first, report = await contents(laboratory, placed.id)
    assert [one.value for one in first.lines[0].earlier] == ["6.10"], "what was given out is kept"
    assert (report.version, report.lines[0].earlier) == (2, ())
    assert len(await contents(laboratory, placed.id)) == 2


async def test_nor_in_one_of_what_is_preliminary(laboratory: Laboratory) -> None:
    theirs, _ = await released(laboratory, "6.10")
    placed = await laboratory.order()
    await merged_before(laboratory, theirs, placed)
    result_id = await laboratory.result(placed, "13.50")
    async with transaction(laboratory) as connection:
        await connection.execute("update lab.result set status = 'preliminary' where id = $1", result_id)
    [report] = await contents(laboratory, placed.id, EARLY)
    assert [one.value for one in report.lines[0].earlier] == ["6.10"]
    await done(laboratory, people.unmerge, theirs.patient_id, "two people after all")
    _, report = await contents(laboratory, placed.id, EARLY)
    assert (report.version, report.lines[0].earlier) == (2, ())


async def test_a_correction_while_a_version_is_made_is_told_by_the_next(
    laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    placed, result_id = await released(laboratory, "13.50")
    await done(laboratory, review.comment, result_id, "lipaemic")
    used = "interface.store.reports.released_before"

    async def corrected_meanwhile(*arguments: Any) -> Any:
        monkeypatch.setattr(used, released_before)
        await done(laboratory, review.correct, result_id, NewValue("9.10"), "wrong tube")
        return await released_before(*arguments)

    monkeypatch.setattr(used, corrected_meanwhile)
    made = [report.lines[0] for report in await contents(laboratory, placed.id)]
    assert [(line.value, len(line.before)) for line in made] == [("13.50", 0), ("13.50", 1)]
    line = (await contents(laboratory, placed.id))[-1].lines[0]
    assert (line.value, len(line.before)) == ("9.10", 2)


async def _identifier(laboratory: Laboratory, of: OrderView) -> Any:
    from interface.store.patients import get_patient

    assert of.patient_id is not None
    async with transaction(laboratory) as connection:
        view = await get_patient(connection, of.patient_id)
    assert view is not None
    return view.identifiers[0]


async def two_people(laboratory: Laboratory) -> dict[str, Actor]:
    """Who have to verify each result, by name."""
    names = {}
    async with transaction(laboratory) as connection:
        await set_policy(connection, laboratory.organization_id, Policy("", True, None))
        for name in ("Ayu", "Budi"):
            actor = user(laboratory.organization_id, Role.TECHNOLOGIST, name)
            names[name] = actor
            await connection.execute(
                "insert into lab.app_user (id, organization_id, username, full_name, password_hash)"
                " values ($1, $2, $3, $4, '')",
                actor.id, laboratory.organization_id, name, f"{name} Putri",
            )  # fmt: skip
    return names


async def test_who_checked_and_who_released_are_both_named(laboratory: Laboratory) -> None:
    placed = await laboratory.order()
    result_id = await laboratory.result(placed)
    names = await two_people(laboratory)
    async with transaction(laboratory) as connection:
        await review.verify(connection, names["Ayu"], result_id)
        await review.verify(connection, names["Budi"], result_id)
    who = ("Budi Putri", "Ayu Putri", False)

    async def named() -> tuple[str, str, bool]:
        [line] = (await contents(laboratory, placed.id))[-1].lines
        return line.released_by, line.verified_by, line.by_rules

    assert await named() == who
    for name in ("Ayu", "Budi"):  # who says something of it has neither checked nor released it
        async with transaction(laboratory) as connection:
            await review.comment(connection, names[name], result_id, f"said by {name}")
        assert await named() == who
    # What two people changed since, one of them commented on in between.
    await laboratory.change(result_id, "14.1", version=5)
    async with transaction(laboratory) as connection:
        await review.accept_change(connection, names["Budi"], result_id)
        await review.comment(connection, names["Budi"], result_id, "and again")
        await review.accept_change(connection, names["Ayu"], result_id)
    assert await named() == ("Ayu Putri", "Budi Putri", False)


async def test_so_does_the_provenance_of_each_version(laboratory: Laboratory) -> None:
    """Over FHIR nobody but the second had seen a result that two people have to verify."""
    result_id = await laboratory.result(await laboratory.order())
    names = await two_people(laboratory)

    async def agents() -> tuple[str, str]:
        async with transaction(laboratory) as connection:
            shown = await lab.get_result(connection, result_id, EMR)
            assert shown is not None
            [one] = await find_provenance(connection, [shown.version_id], EMR)
        return one.verifier, one.actor

    async with transaction(laboratory) as connection:
        await review.verify(connection, names["Ayu"], result_id)
        await review.verify(connection, names["Budi"], result_id)
    assert await agents() == ("Ayu", "Budi")
    async with transaction(laboratory) as connection:
        await review.comment(connection, names["Ayu"], result_id, "haemolysed")
    assert await agents() == ("", "Ayu"), "who has only said something of it"
    await laboratory.change(result_id, "14.1", version=5)
    async with transaction(laboratory) as connection:
        await review.accept_change(connection, names["Budi"], result_id)
        await review.accept_change(connection, names["Ayu"], result_id)
    assert await agents() == ("Budi", "Ayu")


async def test_of_readers_at_once_one_makes_the_version(laboratory: Laboratory) -> None:
    placed = await laboratory.order()
    result_id = await laboratory.result(placed)
    await done(laboratory, review.release, result_id)

    async def read() -> tuple[int, bytes]:
        async with transaction(laboratory) as connection:
            made = await reports.pdf_of(connection, placed.id, EMR)
        return made.report.version, made.hash

    assert len(set(await asyncio.gather(*(read() for _ in range(4))))) == 1
    assert len(await contents(laboratory, placed.id)) == 1


async def test_a_file_is_made_once_and_told_to_who_lists_reports(laboratory: Laboratory) -> None:
    placed, _ = await released(laboratory)
    async with transaction(laboratory) as connection:
        before = await reports.attached(connection, [placed.id], EMR)
        assert (before[placed.id].hash, before[placed.id].size) == (None, None), "nothing is printed for a list"
        made = await reports.pdf_of(connection, placed.id, EMR)
        after = (await reports.attached(connection, [placed.id], Audience.STAFF))[placed.id]
        assert (after.hash, after.size, after.report) == (made.hash, made.size, made.report)
        assert hashlib.sha1(made.body, usedforsecurity=False).digest() == made.hash and made.size == len(made.body)
        other = await reports.pdf_of(connection, placed.id, EMR, paper=Paper.LETTER, language=Language.INDONESIAN)
        assert other.hash != made.hash and other.report == made.report
        assert await reports.binary_of(connection, made.report.id, EMR) == made
        files = await connection.fetchval("select count(*) from lab.report_file where report_id = $1", made.report.id)
    assert files == 2


async def test_reports_look_as_the_laboratory_says_and_old_ones_as_it_said(laboratory: Laboratory) -> None:
    placed, result_id = await released(laboratory)
    change = reports.SettingsChange(
        address="Jl. Sudirman  45", director="dr. S.", zone="Asia/Jakarta", language=Language.INDONESIAN,
        paper=Paper.LETTER,
    )  # fmt: skip
    await done(laboratory, reports.change_settings, change)
    [old] = await contents(laboratory, placed.id)
    assert old.header.address == "", "a new director is no reason to issue every report again"
    await done(laboratory, review.comment, result_id, "lipaemic")
    _, new = await contents(laboratory, placed.id)
    assert (new.header.address, new.header.director, new.header.zone) == ("Jl. Sudirman 45", "dr. S.", "Asia/Jakarta")
    async with transaction(laboratory) as connection:
        made = await reports.pdf_of(connection, placed.id, EMR)
        assert (made.paper, made.language) == (Paper.LETTER, Language.INDONESIAN)
        first = await reports.pdf_of(connection, placed.id, EMR, version=1)
        assert (first.paper, first.language) == (Paper.A4, Language.ENGLISH)
        assert (
            await connection.fetchval(
                "select detail ->> 'address' from lab.audit_event where entity_kind = 'report_setting'"
            )
            == " \N{RIGHTWARDS ARROW} Jl. Sudirman 45"
        )
    for wrong in (reports.SettingsChange(zone="Mars"), reports.SettingsChange(director="x" * 500),
                  reports.SettingsChange(version=0)):  # fmt: skip
        with pytest.raises(ApiError):
            await done(laboratory, reports.change_settings, wrong)


async def test_an_order_that_is_not_there_has_no_report(laboratory: Laboratory) -> None:
    placed, _ = await released(laboratory)
    for wanted, version in ((UUID(int=1), None), (placed.id, 2), (placed.id, 0)):
        with pytest.raises(ApiError) as caught:
            async with transaction(laboratory) as connection:
                await reports.pdf_of(connection, wanted, EMR, version=version)
        assert caught.value.status == 404


async def test_a_correction_told_beside_a_preliminary_is_told_when_preliminary_is_shown_no_more(
    laboratory: Laboratory,
) -> None:
    placed = await laboratory.order()
    result_id = await laboratory.result(placed, "13.50")
    await done(laboratory, review.release, result_id)
    await contents(laboratory, placed.id, EARLY)  # [api] preliminary = "visible"; version 1
    await done(laboratory, review.correct, result_id, NewValue("9.10"), "wrong tube")
    await laboratory.result(placed, "5.0")  # preliminary, beside it
    assert [one.preliminary for one in await contents(laboratory, placed.id, EARLY)] == [False, True]
    async with transaction(laboratory) as connection:  # the daemon starts again with preliminary = "hidden"
        assert await reports.attached(connection, [placed.id], EMR) == {}
        now = await reports.version_of(connection, placed.id, EMR)
        content = await reports.content_of(connection, now)
        [one] = (await reports.attached(connection, [placed.id], EMR)).values()
    assert [line.value for line in content.lines] == ["9.10"]
    assert one.report.version == now.version
