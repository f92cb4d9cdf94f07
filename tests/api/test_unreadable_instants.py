"""An instant that nothing can read as UTC is refused where it is said; one that was stored before does no harm."""

from __future__ import annotations

import runpy
from typing import Any

import asyncpg
import pytest

from interface.domain.permissions import Role
from interface.settings import packaged
from interface.store.ids import uuid7
from tests.api.bench import Bench, Laboratory, serving
from tests.api.test_fhir_orders import EVA, FHIR, TUBE, bundle, entry, patient, request, specimen
from tests.cluster import owner_of
from tests.flow.laboratory import COLLECTED, message
from tests.flow.laboratory import laboratory as at_work

EARLY, LATE, OLD = "0001-01-01T00:00:00+07:00", "9999-12-31T23:59:59-07:00", "0001-01-01T00:00:00Z"
WBC = "R|1|^^^WBC|7.35|10*3/uL||N||F||||20260102030000"
STORED = """
update lab.specimen set version = 2, collected_at = '0001-01-01 00:00+07', received_at = '0001-01-01 00:00+07'
 where barcode = 'S1';
update lab.lab_order set version = 2, ordered_at = '0001-01-01 00:00+07';
update lab.patient set version = 2, birth_at = '0001-01-01 00:00+07';
"""
# Of what a laboratory reads every day.
LISTS = ("/fhir/Specimen", "/fhir/Observation", "/fhir/ServiceRequest", "/fhir/DiagnosticReport", "/fhir/Patient")


async def lists_are_read(bench: Bench, laboratory: Laboratory, clerk: str) -> None:
    client = await laboratory.client_token("system/*.rs")
    asked = [(path, client) for path in LISTS] + [("/api/changes", client)]
    asked += [(f"/api/{name}", clerk) for name in ("specimens", "orders", "patients", "results", "orders/worklist")]
    for path, token in asked:
        answer = await bench.get(path, token)
        assert answer.status == 200, (path, answer.body)


@pytest.mark.parametrize("at", [EARLY, LATE, OLD])
async def test_a_specimens_time_that_is_none_is_refused_and_everything_else_goes_on(
    bench: Bench, laboratory: Laboratory, at: str
) -> None:
    clerk, client = await laboratory.user_token(Role.TECHNOLOGIST), await laboratory.client_token("system/*.cruds")
    for changed in ({"collection": {"collectedDateTime": at}}, {"receivedTime": at}):
        sent = bundle(entry(patient(), EVA), entry(specimen(**changed), TUBE), entry(request()))
        answer = await bench.ask("POST", "/fhir", client, json=sent, headers=FHIR)
        assert answer.status == 422, (changed, answer.body)
        alone = request(contained=[specimen(id="s", **changed)], specimen=[{"reference": "#s"}])
        answer = await bench.ask("POST", "/fhir/ServiceRequest", client, json=alone, headers=FHIR)
        assert 400 <= answer.status < 500, (changed, answer.body)
    for name in ("collected_at", "received_at"):
        one = {"tests": ["HGB"], name: at}
        body = {"patient": {"family": "Muster"}, "specimens": [one]}
        answer = await bench.ask("POST", "/api/orders", clerk, json=body)
        assert answer.status == 422 and name in answer.json["detail"], answer.body
    of = await laboratory.order()
    for step, name in (("collect", "at"), ("receive", "at"), ("receive", "collected_at")):
        answer = await bench.ask("POST", f"/api/specimens/{of['specimen']}/{step}", clerk, json={name: at})
        assert answer.status == 422, (step, answer.body)
    await lists_are_read(bench, laboratory, clerk)


async def _as_owner(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(owner_of(url))
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def test_what_was_stored_before_is_read_after_the_upgrade_and_its_messages_are_decided(
    recycled_founded_url: str,
) -> None:
    migration: dict[str, Any] = runpy.run_path(str(packaged("migrations") / "versions" / "0050_readable_instants.py"))
    async with at_work(recycled_founded_url) as lab, serving(lab.database) as bench:
        made, _ = await lab.order("S1", "WBC"), await lab.order("S2", "WBC", patient_id="P-2")
        await _as_owner(recycled_founded_url, STORED, migration["READABLE"])
        for barcode in ("S1", "S2"):
            await lab.send(message(f"O|1|{barcode}", WBC, control=f"C-{barcode}"))
        await lab.settle()
        assert [settled for _, settled in await lab.messages()] == ["released", "released"]
        assert len(await lab.results()) == 2
        found = Laboratory(lab.database, lab.organization_id, lab.context.settings.organization, uuid7())
        await lists_are_read(bench, found, await found.user_token(Role.TECHNOLOGIST))
        said = await lab.owner.fetch("select barcode, collected_at, received_at from lab.specimen order by barcode")
        assert [tuple(row) for row in said] == [("S1", None, None), ("S2", COLLECTED, COLLECTED)]
        client = await found.client_token("system/*.rs")
        for path in (
            f"Specimen/{made.items[0].specimen_id}", f"Patient/{made.patient_id}", f"ServiceRequest/{made.items[0].id}"
        ):  # fmt: skip
            for version in ("", "/_history"):
                answer = await bench.get(f"/fhir/{path}{version}", client)
                assert answer.status == 200, (path + version, answer.body)
