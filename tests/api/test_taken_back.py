"""A result that an EMR saw while it was preliminary and that is held or rejected now: in every answer, and to hooks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import pytest

from interface.domain.model import ResultStatus
from interface.flow import review
from interface.settings import Preliminary
from tests.api.bench import Laboratory
from tests.api.hooks_use import Hooked, hooked
from tests.api.test_visibility import seen_by
from tests.flow import laboratory as flow

BOTH = pytest.mark.parametrize("preliminary", list(Preliminary))


@asynccontextmanager
async def following(url: str, preliminary: Preliminary) -> AsyncIterator[tuple[flow.Laboratory, Hooked]]:
    """An EMR that asks to be told of results and of reports."""
    async with flow.laboratory(url) as lab:
        async with hooked(Laboratory(lab.database, lab.organization_id, "lab"), preliminary) as emr:
            await lab.order("S1", "WBC", "HGB")
            await emr.subscribe("Observation?code=WBC,HGB")
            await emr.subscribe("DiagnosticReport")
            await emr.told()
            emr.receiver.got.clear()
            yield lab, emr


async def send(lab: flow.Laboratory, value: str) -> None:
    record = f"R|1|^^^WBC|{value}|10*3/uL||N||F||||20260102030000"
    await lab.send(flow.message("O|1|S1", record, control=value))
    await lab.settle()


def put(emr: Hooked) -> dict[str, Any]:
    """What was PUT since the last call: each type once."""
    found = {body["resourceType"]: body for *_, body in emr.receiver.got}
    assert len(found) == len(emr.receiver.got)
    emr.receiver.got.clear()
    return found


async def reject(lab: flow.Laboratory, id: UUID) -> None:
    async with lab.database.transaction(lab.organization_id) as connection:
        await review.reject(connection, lab.director, id, "7.35 is clotted")


async def test_a_hook_gets_it_once_without_its_value_and_its_report(recycled_founded_url: str) -> None:
    async with following(recycled_founded_url, Preliminary.VISIBLE) as (lab, emr):
        await send(lab, "7.35")
        await emr.told()
        first = put(emr)
        assert first["Observation"]["valueQuantity"]["value"] == 7.35
        assert first["DiagnosticReport"]["status"] == "preliminary"
        [one] = await lab.results()
        await reject(lab, one.id)
        await emr.told()
        gone = put(emr)
        observation, report = gone["Observation"], gone["DiagnosticReport"]
        assert observation["id"] == report["result"][0]["reference"].removeprefix("Observation/") == str(one.id)
        assert observation["status"] == "cancelled" and report["status"] == "registered"
        assert observation["dataAbsentReason"]["coding"][0]["code"] == "not-performed"
        assert observation["meta"]["versionId"] != first["Observation"]["meta"]["versionId"]
        assert report["meta"]["lastUpdated"] > first["DiagnosticReport"]["meta"]["lastUpdated"]
        assert "7.35" not in str(gone) and "clotted" not in str(gone)
        assert observation == (await emr.bench.get(f"/fhir/Observation/{one.id}", emr.token)).json
        await emr.told()
        assert put(emr) == {}


@BOTH
async def test_no_answer_says_what_is_held_in_its_place(recycled_founded_url: str, preliminary: Preliminary) -> None:
    async with following(recycled_founded_url, preliminary) as (lab, emr):
        await send(lab, "7.35")
        await emr.told()
        emr.receiver.got.clear()
        rows = await lab.owner.fetch("select id from lab.lab_order union all select id from lab.specimen")
        [one] = await lab.results()
        ids = [one.id, *(row["id"] for row in rows)]
        before = await seen_by(emr.bench, emr.token, ids)
        await send(lab, "-9.87")
        [staff] = await lab.results()
        assert (staff.status, staff.value, bool(staff.held)) == (ResultStatus.REGISTERED, "-9.87", True)
        versions = await lab.owner.fetch("select id from lab.result_version order by version")
        ids += [row["id"] for row in versions]
        after = await seen_by(emr.bench, emr.token, ids)
        await emr.told()
        told = put(emr)
        assert "-9.87" not in str((after, told))
        if preliminary is Preliminary.HIDDEN:
            assert told == {} and {path: after[path] for path in before} == before
            return
        assert (told["Observation"]["status"], told["DiagnosticReport"]["status"]) == ("registered", "registered")
        assert told["Observation"]["dataAbsentReason"]["coding"][0]["code"] == "temp-unknown"
        for query in ("value-quantity=lt0", "value-quantity=gt0", "value-quantity:missing=false", "status=preliminary"):
            assert (await emr.bench.get(f"/fhir/Observation?{query}", emr.token)).json["total"] == 0, query
        found = (await emr.bench.get("/fhir/Observation?status=registered", emr.token)).json
        assert [entry["resource"] for entry in found["entry"]] == [told["Observation"]]
        shown = (await emr.bench.get(f"/api/results/{one.id}", emr.token)).json["result"]
        assert (shown["status"], shown["value"], shown["held"], shown["note"]) == ("registered", "", [], "")


async def test_its_history_has_both_versions_and_its_provenance_the_first(recycled_founded_url: str) -> None:
    async with following(recycled_founded_url, Preliminary.VISIBLE) as (lab, emr):
        await send(lab, "7.35")
        await send(lab, "-9.87")
        [one] = await lab.results()
        versions = [row["id"] for row in await lab.owner.fetch("select id from lab.result_version order by version")]
        past = (await emr.bench.get(f"/fhir/Observation/{one.id}/_history", emr.token)).json["entry"]
        assert [entry["resource"]["meta"]["versionId"] for entry in past] == [str(id) for id in reversed(versions)]
        assert [entry["resource"]["status"] for entry in past] == ["registered", "preliminary"]
        for id in versions:
            assert (await emr.bench.get(f"/fhir/Observation/{one.id}/_history/{id}", emr.token)).status == 200
        traced = (await emr.bench.get(f"/fhir/Provenance?target=Observation/{one.id}", emr.token)).json["entry"]
        assert [entry["resource"]["id"] for entry in traced] == [str(versions[0])]


@BOTH
async def test_what_is_hidden_tells_no_report_nor_rings(recycled_founded_url: str, preliminary: Preliminary) -> None:
    """A report's readers heard of each preliminary result, and so that there was one, where none may be seen."""
    async with following(recycled_founded_url, preliminary) as (lab, emr):
        await emr.subscribe("DiagnosticReport", channel={"payload": ""})
        start = (await emr.bench.get("/api/changes?after=now", emr.token)).json["next"]
        await send(lab, "7.35")
        [one] = await lab.results()
        await reject(lab, one.id)
        await emr.told()
        changes = (await emr.bench.get(f"/api/changes?after={start}", emr.token)).json["changes"]
        told = {(change["type"], change["id"]) for change in changes}
        if preliminary is Preliminary.HIDDEN:
            assert (told, emr.receiver.got) == (set(), [])
        else:
            assert told == {("Observation", str(one.id)), ("DiagnosticReport", str(one.order_id))}
            assert sorted({path.split("/")[-2] for path in emr.receiver.paths if path.startswith("PUT")}) == [
                "DiagnosticReport", "Observation",
            ]  # fmt: skip
            assert emr.receiver.paths.count("POST /hook") == 1


async def test_what_was_measured_again_is_reported_without_the_run_that_was_taken_back(
    recycled_founded_url: str,
) -> None:
    async with following(recycled_founded_url, Preliminary.VISIBLE) as (lab, emr):
        await send(lab, "7.35")
        [one] = await lab.results()
        await reject(lab, one.id)
        wbc, hgb = "R|1|^^^WBC|7.40|10*3/uL||N||F||||20260102040000", "R|2|^^^HGB|13.1|g/dL||N||F||||20260102040000"
        await lab.send(flow.message("O|1|S1", wbc, hgb))
        await lab.settle()
        for other in await lab.results():
            if other.id != one.id:
                await lab.release(other.id)
        report = (await emr.bench.get(f"/fhir/DiagnosticReport/{one.order_id}", emr.token)).json
        assert (report["status"], len(report["result"])) == ("final", 3)
        found = (await emr.bench.get("/fhir/DiagnosticReport?status=final", emr.token)).json
        assert found["total"] == 1
