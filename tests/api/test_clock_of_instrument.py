"""The time at which a result was measured, as an EMR reads it, where the instrument's clock was never set or lost its
battery: it is no time at which anything was so."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from interface.domain.views import IdentifierView
from interface.flow.orders import NewOrder, NewSpecimen, create_order
from interface.flow.people import NewPatient
from tests.api.bench import Laboratory, serving
from tests.flow import laboratory as flow


@pytest.mark.parametrize("clock", ["20000101000000", "20991231235900"])
async def test_what_no_clock_can_be_believed_of_is_of_no_time(recycled_founded_url: str, clock: str) -> None:
    async with flow.laboratory(recycled_founded_url) as lab, serving(lab.database) as bench:
        token = await Laboratory(lab.database, lab.organization_id, "lab").client_token("system/*.rs")
        patient = NewPatient((IdentifierView("TEST", "P-1"),), "Muster", "Maria")
        new = NewOrder((NewSpecimen(("WBC",), "S1", received_at=datetime.now(UTC)),), patient=patient)
        async with lab.database.transaction(lab.organization_id) as connection:
            order = await create_order(connection, lab.director, new)
        await lab.send(flow.message("O|1|S1", f"R|1|^^^WBC|7.35|10*3/uL||N||F||||{clock}"))
        await lab.settle()
        [one] = await lab.results()
        await lab.release(one.id)
        path = f"/fhir/Observation/{one.id}"
        read = (await bench.get(path, token)).json
        found = (await bench.get(f"/fhir/Observation?_id={one.id}", token)).json["entry"][0]["resource"]
        past = (await bench.get(f"{path}/_history", token)).json["entry"][0]["resource"]
        report = (await bench.get(f"/fhir/DiagnosticReport/{order.id}", token)).json
        assert read == found == past and "effectiveDateTime" not in read
        unknown = {"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "unknown"}
        assert report["_effectiveDateTime"] == {"extension": [unknown]} and "effectiveDateTime" not in report
        for query in ("Observation?date=lt2010", "Observation?date=gt2090", "DiagnosticReport?date=lt2010"):
            assert (await bench.get(f"/fhir/{query}", token)).json["total"] == 0, query
        for query in ("Observation?date:missing=true", "DiagnosticReport?date:missing=true"):
            assert (await bench.get(f"/fhir/{query}", token)).json["total"] == 1, query
