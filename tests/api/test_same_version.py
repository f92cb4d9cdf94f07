"""What is another content is another version, whatever made it another (FHIR R4 resource.html#Meta, http.html#cread):
who has it is not told 304, is told of it by the feed, and finds what it had read in the history."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from interface.domain.views import IdentifierView, OrderView
from interface.flow import order_changes, people, review, specimens
from interface.flow.correction import NewValue
from interface.flow.order_changes import OrderChange
from interface.flow.orders import NewOrder, NewSpecimen, create_order
from interface.flow.people import NewPatient, PatientChange
from interface.render.fhir.parts import instant
from interface.settings import Preliminary
from tests.api.bench import Answer, Bench, Laboratory, serving
from tests.flow import laboratory as flow

PATIENT = NewPatient((IdentifierView("TEST", "P-1"),), "Muster", "Maria")
MEASURED = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)  # by a clock that is believed
TAKEN = MEASURED - timedelta(hours=5)


class Emr:
    """One that keeps what it read."""

    def __init__(self, bench: Bench, token: str, lab: flow.Laboratory) -> None:
        self._bench, self._token, self.lab = bench, token, lab
        self._kept: dict[str, Answer] = {}

    async def read(self, path: str) -> Any:
        """What it has after asking whether it has it."""
        kept = self._kept.get(path)
        known = {"If-None-Match": kept.headers["ETag"]} if kept is not None else {}
        answer = await self._bench.get(f"/fhir/{path}", self._token, headers=known)
        if answer.status == 200:
            self._kept[path] = answer
        else:
            assert answer.status == 304, answer.body
        return self._kept[path].json

    async def get(self, path: str) -> Any:
        answer = await self._bench.get(path, self._token)
        assert answer.status == 200, (path, answer.body)
        return answer.json

    async def end(self) -> int:
        position: int = (await self.get("/api/changes?after=now"))["next"]
        return position

    async def told(self, after: int) -> dict[str, str]:
        """The resources that changed since, with the version of each."""
        found = (await self.get(f"/api/changes?after={after}"))["changes"]
        return {f"{one['type']}/{one['id']}": one["version"] for one in found}

    async def history(self, path: str) -> list[Any]:
        """Newest first; each is what a vread gives."""
        past = [one["resource"] for one in (await self.get(f"/fhir/{path}/_history"))["entry"]]
        versions = [one["meta"]["versionId"] for one in past]
        assert len(versions) == len(set(versions))
        for version, one in zip(versions, past, strict=True):
            assert await self.get(f"/fhir/{path}/_history/{version}") == one
        return past


@asynccontextmanager
async def reading(url: str, preliminary: Preliminary = Preliminary.HIDDEN) -> AsyncIterator[Emr]:
    async with flow.laboratory(url) as lab, serving(lab.database, preliminary) as bench:
        token = await Laboratory(lab.database, lab.organization_id, "lab").client_token("system/*.rs")
        yield Emr(bench, token, lab)


async def ordered(lab: flow.Laboratory, *tests: str) -> tuple[OrderView, UUID]:
    """The order, and its specimen, of which nobody says when it was taken."""
    new = NewOrder((NewSpecimen(tests, "S1", received_at=datetime.now(UTC)),), patient=PATIENT)
    async with lab.database.transaction(lab.organization_id) as connection:
        order = await create_order(connection, lab.director, new)
    specimen_id = order.items[0].specimen_id
    assert specimen_id is not None
    return order, specimen_id


async def measured(lab: flow.Laboratory, value: str = "7.35") -> UUID:
    await lab.send(
        flow.message("O|1|S1", f"R|1|^^^WBC|{value}|10*3/uL||N||F||||{MEASURED:%Y%m%d%H%M%S}", control=value)
    )
    await lab.settle()
    [one] = await lab.results()
    return one.id


async def tell(lab: flow.Laboratory, specimen_id: UUID) -> None:
    async with lab.database.transaction(lab.organization_id) as connection:
        await specimens.collect(connection, lab.director, specimen_id, at=TAKEN, by="ward 3")


@pytest.mark.parametrize("preliminary", list(Preliminary))
async def test_who_has_a_result_reads_when_it_was_taken(recycled_founded_url: str, preliminary: Preliminary) -> None:
    async with reading(recycled_founded_url, preliminary) as emr:
        lab = emr.lab
        order, specimen = await ordered(lab, "WBC")
        result = await measured(lab)
        if preliminary is Preliminary.HIDDEN:
            await lab.release(result)
        observation, report = f"Observation/{result}", f"DiagnosticReport/{order.id}"
        first, reported, before = await emr.read(observation), await emr.read(report), await emr.end()
        assert first["effectiveDateTime"] == reported["effectiveDateTime"] == instant(MEASURED)
        await tell(lab, specimen)
        now, again = await emr.read(observation), await emr.read(report)
        assert now["effectiveDateTime"] == again["effectiveDateTime"] == instant(TAKEN)
        same = {"effectiveDateTime", "issued", "meta"}
        assert {name: now[name] for name in now.keys() - same} == {name: first[name] for name in first.keys() - same}
        told = await emr.told(before)
        assert (told[observation], told[report]) == (now["meta"]["versionId"], again["meta"]["versionId"])
        found = await emr.get(f"/fhir/Observation?_id={result}")
        assert [one["resource"] for one in found["entry"]] == [now]
        assert await emr.history(observation) == [now, first]
        reported.pop("presentedForm")  # what was printed has versions of its own
        assert (await emr.history(report))[:2] == [again, reported]


async def test_what_it_said_before_and_after_it_was_told_stays_when_it_is_corrected(recycled_founded_url: str) -> None:
    async with reading(recycled_founded_url) as emr:
        lab = emr.lab
        _, specimen = await ordered(lab, "WBC")
        result = await measured(lab)
        await lab.release(result)
        path, seen = f"Observation/{result}", []
        seen.append(await emr.read(path))
        await tell(lab, specimen)
        seen.append(await emr.read(path))
        async with lab.database.transaction(lab.organization_id) as connection:
            await review.correct(connection, lab.director, result, NewValue("7.53"), "was mistyped")
        seen.append(await emr.read(path))
        assert [one["status"] for one in seen] == ["final", "final", "corrected"]
        assert [one["effectiveDateTime"] == instant(MEASURED) for one in seen] == [True, False, False]
        assert await emr.history(path) == seen[::-1]
        assert len({one["meta"]["versionId"] for one in seen}) == 3
        staff = await lab.results()
        assert (staff[0].version, staff[0].value) == (3, "7.53"), "measured, released, corrected: no version of its own"


async def test_a_request_has_no_version_that_nobody_could_read(recycled_founded_url: str) -> None:
    """That the time of collection was told of its result says nothing else of what was ordered."""
    async with reading(recycled_founded_url) as emr:
        lab = emr.lab
        order, specimen = await ordered(lab, "WBC", "HGB")
        path, seen = f"ServiceRequest/{order.items[0].id}", []
        seen.append(await emr.read(path))
        await lab.release(await measured(lab))
        seen.append(await emr.read(path))
        await tell(lab, specimen)
        assert await emr.read(path) == seen[-1]
        async with lab.database.transaction(lab.organization_id) as connection:
            await order_changes.change(connection, lab.director, order.id, OrderChange(ward="7"))
        seen.append(await emr.read(path))
        assert await emr.history(path) == seen[::-1]


async def test_a_time_that_was_known_is_told_by_no_other_version(recycled_founded_url: str) -> None:
    """A receipt may say again what is known."""
    async with reading(recycled_founded_url) as emr:
        lab = emr.lab
        new = NewOrder((NewSpecimen(("WBC",), "S1", collected_at=TAKEN),), patient=PATIENT)
        async with lab.database.transaction(lab.organization_id) as connection:
            order = await create_order(connection, lab.director, new)
        result = await measured(lab)
        await lab.release(result)
        first, specimen = await emr.read(f"Observation/{result}"), order.items[0].specimen_id
        assert specimen is not None
        async with lab.database.transaction(lab.organization_id) as connection:
            await specimens.receive(connection, lab.director, specimen, collected_at=TAKEN)
        assert await emr.read(f"Observation/{result}") == first
        assert await emr.history(f"Observation/{result}") == [first]


async def test_a_request_is_active_until_its_result_is_released(recycled_founded_url: str) -> None:
    """What is preliminary may be taken back or be another value yet: it completes nothing (R4 request-status)."""
    async with reading(recycled_founded_url, Preliminary.VISIBLE) as emr:
        lab = emr.lab
        order, _ = await ordered(lab, "WBC")
        path = f"ServiceRequest/{order.items[0].id}"
        first = await emr.read(path)
        result = await measured(lab)
        assert (await emr.get(f"/fhir/Observation/{result}"))["status"] == "preliminary"
        assert await emr.get(f"/fhir/{path}") == first and first["status"] == "active"
        assert (await emr.get("/fhir/ServiceRequest?status=completed"))["total"] == 0
        before = await emr.end()
        await lab.release(result)
        now = await emr.read(path)
        assert now["status"] == "completed" and (await emr.told(before))[path] == now["meta"]["versionId"]
        assert [one["status"] for one in await emr.history(path)] == ["completed", "active"]


async def test_a_test_that_is_measured_on_another_tube_says_so(recycled_founded_url: str) -> None:
    async with reading(recycled_founded_url) as emr:
        lab = emr.lab
        order, specimen = await ordered(lab, "WBC", "HGB")
        item = next(one.id for one in order.items if one.test_code == "HGB")
        paths = (f"ServiceRequest/{item}", f"DiagnosticReport/{order.id}")
        for path in paths:
            await emr.read(path)
        before = await emr.end()
        async with lab.database.transaction(lab.organization_id) as connection:
            part = await specimens.aliquot(connection, lab.director, specimen, tests=("HGB",))
        for path in paths:
            now = await emr.read(path)
            assert {"reference": f"Specimen/{part.id}"} in now["specimen"], path
            assert (await emr.told(before))[path] == now["meta"]["versionId"]
        assert len(await emr.history(paths[0])) == 2


async def test_a_report_is_another_version_where_what_changed_began_before_what_it_had(
    recycled_founded_url: str,
) -> None:
    """A time of change is when its transaction began, and a report's is that of the latest of its rows."""
    async with reading(recycled_founded_url) as emr:
        lab = emr.lab
        order, specimen = await ordered(lab, "WBC", "HGB")
        result = await measured(lab)
        path = f"DiagnosticReport/{order.id}"
        async with lab.database.transaction(lab.organization_id) as connection:
            await connection.execute("select")
            await lab.release(result)
            await emr.read(path)
            await specimens.collect(connection, lab.director, specimen, at=TAKEN, by="ward 3")
            await specimens.aliquot(connection, lab.director, specimen, tests=("HGB",))
        now = await emr.read(path)
        assert now["effectiveDateTime"] == instant(TAKEN) and len(now["specimen"]) == 2


async def test_what_was_read_while_the_clock_was_ahead_stays_in_the_history(recycled_founded_url: str) -> None:
    """Nor is it lost where what began later was committed first: a time of change is when its transaction began."""
    async with reading(recycled_founded_url) as emr:
        lab = emr.lab
        order, _ = await ordered(lab, "WBC")
        result = await measured(lab)
        await lab.release(result)
        assert order.patient_id is not None
        paths = (f"Observation/{result}", f"Patient/{order.patient_id}")
        for table, column in (
            ("record_version", "updated_at"), ("result", "updated_at"), ("result_version", "created_at"),
            ("patient", "updated_at"),
        ):  # fmt: skip
            await lab.owner.execute(f"update lab.{table} set {column} = {column} + interval '1 day'")  # noqa: S608
        before = [await emr.read(path) for path in paths]
        async with lab.database.transaction(lab.organization_id) as connection:
            await review.correct(connection, lab.director, result, NewValue("7.53"), "was mistyped")
            await people.update_patient(connection, lab.director, order.patient_id, PatientChange(given="Mara"), 1)
        for path, was in zip(paths, before, strict=True):
            now = await emr.read(path)
            assert now["meta"]["versionId"] != was["meta"]["versionId"], path
            past = await emr.history(path)
            assert past[0] == now and was in past, path
