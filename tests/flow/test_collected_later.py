"""What was measured before anybody said when its specimen was taken is of the time of collection once that is told."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import pytest

from interface.domain.model import HoldReason, ResultStatus, Sex
from interface.domain.review import ReviewError
from interface.domain.views import Audience, IdentifierView
from interface.errors import IllegalStep
from interface.flow import reports, review, specimens
from interface.flow.feed import Feed
from interface.flow.orders import NewOrder, NewSpecimen, create_order
from interface.flow.people import NewPatient
from interface.flow.problems import OrderError
from interface.store import changes
from interface.store.db import Connection
from tests.flow.laboratory import Laboratory, laboratory
from tests.flow.rulebook import put_in_force, sent

PATIENT = NewPatient((IdentifierView("TEST", "P-1"),), "Muster", "Maria", date(1980, 5, 1), Sex.FEMALE)


async def ordered(lab: Laboratory, barcode: str, at: datetime | None) -> tuple[UUID, UUID]:
    """The order, and its specimen."""
    new = NewOrder((NewSpecimen(("CREA",), barcode, type="SER", collected_at=at, received_at=at),), patient=PATIENT)
    async with lab.database.transaction(lab.organization_id) as connection:
        order = await create_order(connection, lab.director, new)
    specimen_id = order.items[0].specimen_id
    assert specimen_id is not None
    return order.id, specimen_id


async def measured(lab: Laboratory, barcode: str, value: str) -> UUID:
    records = [one.replace("|P-1|", "||") for one in sent(barcode, {"CREA": value})]
    await lab.send(records)
    await lab.settle()
    [found] = [one for one in await lab.results() if one.barcode == barcode]
    return found.id


async def told(lab: Laboratory, specimen_id: UUID, at: datetime) -> None:
    async with lab.database.transaction(lab.organization_id) as connection:
        await specimens.collect(connection, lab.director, specimen_id, at=at, by="ward 3")


async def end(lab: Laboratory) -> int:
    await Feed(lab.database).look(lab.organization_id)
    async with lab.database.organization(lab.organization_id) as connection:
        return await changes.last_position(connection)


async def earlier(lab: Laboratory, order_id: UUID) -> list[tuple[datetime, str]]:
    """What the order's report says that the patient had before."""
    async with lab.database.transaction(lab.organization_id) as connection:
        report = await reports.content_of(connection, await reports.version_of(connection, order_id, Audience.EMR))
    return [(one.at, one.value) for line in report.lines for one in line.earlier]


async def test_who_has_a_result_is_told_when_it_was_taken(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        taken = datetime.now(UTC) - timedelta(hours=6)
        _, specimen = await ordered(lab, "S-1", None)
        result = await measured(lab, "S-1", "1.20")
        await lab.release(result)
        before, [was] = await end(lab), await lab.results(Audience.EMR)
        await told(lab, specimen, taken)
        after, [now] = await end(lab), await lab.results(Audience.EMR)
        assert (was.collected_at, now.collected_at) == (None, taken)
        assert now.updated_at > was.updated_at
        async with lab.database.organization(lab.organization_id) as connection:
            for kind in ("Observation", "DiagnosticReport", "Specimen"):
                assert await changes.resources(connection, kind, before, after, changes.RELEASED), kind


async def test_of_what_nobody_may_see_nothing_is_told(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        _, specimen = await ordered(lab, "S-1", None)
        await measured(lab, "S-1", "1.20")
        before = await end(lab)
        await told(lab, specimen, datetime.now(UTC) - timedelta(hours=6))
        after = await end(lab)
        async with lab.database.organization(lab.organization_id) as connection:
            assert await changes.resources(connection, "Observation", before, after, changes.RELEASED) == []


async def test_results_of_a_patient_stand_in_the_order_in_which_they_were_taken(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        now = datetime.now(UTC)
        first, specimen = await ordered(lab, "S-1", None)
        second, _ = await ordered(lab, "S-2", now - timedelta(hours=2))
        await lab.release(await measured(lab, "S-2", "2.40"))
        await lab.release(await measured(lab, "S-1", "1.20"))
        taken = now - timedelta(hours=6)
        await told(lab, specimen, taken)
        assert await earlier(lab, first) == []
        assert await earlier(lab, second) == [(taken, "1.20")]


async def test_the_delta_is_between_what_was_taken_before_and_after(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        await put_in_force(lab)
        now = datetime.now(UTC)
        _, early = await ordered(lab, "S-1", None)
        await measured(lab, "S-1", "1.20")
        await told(lab, early, now - timedelta(hours=6))
        await ordered(lab, "S-2", now - timedelta(hours=2))
        await measured(lab, "S-2", "2.40")
        [last] = [one for one in await lab.results() if one.barcode == "S-2"]
        assert (last.flags, last.held) == (("H", "U"), (HoldReason.DELTA,)), "twice what was taken four hours before"


async def test_what_was_measured_before_the_collection_that_is_told_only_now_is_held(database_url: str) -> None:
    """As it would have been, had the ward told in time: it is of a tube that carried the barcode before."""
    async with laboratory(database_url) as lab:
        now = datetime.now(UTC)
        _, waits = await ordered(lab, "S-1", None)
        _, out = await ordered(lab, "S-2", None)
        _, since = await ordered(lab, "S-3", None)
        for barcode, measured_at in (("S-1", 9), ("S-2", 9), ("S-3", 1)):
            at = f"{now - timedelta(hours=measured_at):%Y%m%d%H%M%S}"
            records = sent(barcode, {"CREA": "1.20"}, control=barcode, at=at)
            await lab.send([one.replace("|P-1|", "||") for one in records])
        await lab.settle()
        first, second, third = await lab.results()
        await lab.release(second.id)
        await lab.owner.execute("update lab.specimen set received_at = now()")
        for specimen in (waits, out, since):
            await told(lab, specimen, now - timedelta(hours=5))
        first, second, third = await lab.results()
        assert (first.status, first.held) == (ResultStatus.REGISTERED, (HoldReason.BEFORE_SPECIMEN,))
        assert (third.status, third.held) == (ResultStatus.PRELIMINARY, ())
        async with lab.database.transaction(lab.organization_id) as connection:
            rows = await find_changes(connection, second.id)
        assert (second.status, rows) == (ResultStatus.FINAL, [["before_specimen", "changed_after_release"]])
        with pytest.raises(ReviewError, match="before_specimen"):
            await lab.release(first.id)
        async with lab.database.transaction(lab.organization_id) as connection:  # whoever knows better lets it stand
            await review.reject_change(connection, lab.director, second.id, "the ward's clock was wrong")
        assert (await lab.results())[1].status is ResultStatus.FINAL


async def find_changes(connection: Connection, result_id: UUID) -> list[list[str]]:
    """What holds the change that waits."""
    found = await connection.fetch(
        "select v.held from lab.result r join lab.result_version v on v.id = r.pending_version_id where r.id = $1",
        result_id,
    )
    return [sorted(row["held"]) for row in found]


async def test_so_it_is_where_the_collection_is_told_with_the_receipt(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        now = datetime.now(UTC)
        _, specimen = await ordered(lab, "S-1", None)
        at = f"{now - timedelta(hours=9):%Y%m%d%H%M%S}"
        await lab.send([one.replace("|P-1|", "||") for one in sent("S-1", {"CREA": "1.20"}, at=at)])
        await lab.settle()
        async with lab.database.transaction(lab.organization_id) as connection:
            await specimens.receive(connection, lab.director, specimen, collected_at=now - timedelta(hours=5))
        [one] = await lab.results()
        assert (one.status, one.held) == (ResultStatus.REGISTERED, (HoldReason.BEFORE_SPECIMEN,))


async def test_what_was_measured_is_never_said_to_be_taken_now(database_url: str) -> None:
    """Nobody said when: a result that was released became one of a time after its release, and no limit of two hours
    held it; what had been measured before that was held, of whoever's tube it was."""
    async with laboratory(database_url) as lab:
        _, specimen = await ordered(lab, "S-1", None)
        result = await measured(lab, "S-1", "1.20")
        await lab.release(result)
        with pytest.raises(OrderError, match="say when it was taken"):
            async with lab.database.transaction(lab.organization_id) as connection:
                await specimens.collect(connection, lab.director, specimen)
        [now] = await lab.results(Audience.EMR)
        assert (now.collected_at, now.version) == (None, 2)
        taken = datetime.now(UTC) - timedelta(minutes=5)
        await told(lab, specimen, taken)
        assert [one.collected_at for one in await lab.results(Audience.EMR)] == [taken]


async def test_a_time_of_collection_that_is_wrong_is_put_right(database_url: str) -> None:
    """A day that was mistyped stood for good, in delta checks, in reports and at EMRs: nobody could change it."""
    async with laboratory(database_url) as lab:
        now = datetime.now(UTC)
        order, specimen = await ordered(lab, "S-1", now - timedelta(days=30))
        await ordered(lab, "S-2", now - timedelta(days=3))
        async with lab.database.transaction(lab.organization_id) as connection:
            part = await specimens.aliquot(connection, lab.director, specimen)
        for barcode, value in ((part.barcode, "1.20"), ("S-2", "2.40")):
            await lab.release(await measured(lab, barcode, value))
        before, taken = await end(lab), now - timedelta(hours=6)
        await lab.owner.execute("update lab.specimen set received_at = now()")
        await retimed(lab, specimen, taken)
        assert [one.collected_at for one in await lab.results(Audience.EMR) if one.barcode == part.barcode] == [taken]
        assert [value for _, value in await earlier(lab, order)] == ["2.40"]
        after = await end(lab)
        async with lab.database.organization(lab.organization_id) as connection:
            for kind in ("Observation", "Specimen"):
                assert await changes.resources(connection, kind, before, after, changes.RELEASED), kind
        told = await lab.owner.fetch("select reason from lab.specimen_event where action = 'retime'")
        assert [row["reason"].endswith("UTC: the month was mistyped") for row in told] == [True, True]


async def test_what_was_measured_before_it_waits_for_a_person(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        now = datetime.now(UTC)
        _, specimen = await ordered(lab, "S-1", now - timedelta(days=2))
        at = f"{now - timedelta(hours=9):%Y%m%d%H%M%S}"
        await lab.send([one.replace("|P-1|", "||") for one in sent("S-1", {"CREA": "1.20"}, at=at)])
        await lab.settle()
        await lab.owner.execute("update lab.specimen set received_at = now()")
        await retimed(lab, specimen, now - timedelta(hours=5))
        [one] = await lab.results()
        assert (one.status, one.held) == (ResultStatus.REGISTERED, (HoldReason.BEFORE_SPECIMEN,))


async def test_there_is_a_reason_and_a_time_that_may_be(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        now = datetime.now(UTC)
        _, specimen = await ordered(lab, "S-1", now - timedelta(days=2))
        _, nobody_knows = await ordered(lab, "S-2", None)
        async with lab.database.transaction(lab.organization_id) as connection:
            part = await specimens.aliquot(connection, lab.director, specimen)
        for one, at, reason, text in (
            (specimen, now - timedelta(days=3), " ", "needs a reason"),
            (specimen, now - timedelta(days=1), "mistyped", "received before it was collected"),
            (specimen, now + timedelta(days=1), "mistyped", "the time of collection"),
            (nobody_knows, now - timedelta(days=3), "mistyped", "no time of its collection"),
            (part.id, now - timedelta(days=3), "mistyped", "parted from another"),
        ):
            with pytest.raises((OrderError, IllegalStep), match=text):
                await retimed(lab, one, at, reason)


async def retimed(lab: Laboratory, specimen_id: UUID, at: datetime, reason: str = "the month was mistyped") -> None:
    async with lab.database.transaction(lab.organization_id) as connection:
        await specimens.retime(connection, lab.director, specimen_id, at=at, reason=reason)


async def test_so_is_that_of_an_aliquot_that_was_told_of_it_alone(database_url: str) -> None:
    """Nobody knew when its tube was taken: the aliquot's time was not to be put right by either."""
    async with laboratory(database_url) as lab:
        now = datetime.now(UTC)
        _, specimen = await ordered(lab, "S-1", None)
        async with lab.database.transaction(lab.organization_id) as connection:
            await specimens.receive(connection, lab.director, specimen)
            part = await specimens.aliquot(connection, lab.director, specimen)
        await told(lab, part.id, now - timedelta(days=30))
        await retimed(lab, part.id, taken := now - timedelta(hours=6))
        async with lab.database.transaction(lab.organization_id) as connection:
            assert (await specimens.view(connection, part.id)).collected_at == taken
