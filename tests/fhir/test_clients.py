"""FHIR clients that nobody here wrote read from the running server: they find the way by themselves."""

from __future__ import annotations

import asyncio
import json
import subprocess
from uuid import UUID

import pytest
from fhirclient import client as smart
from fhirclient.models.observation import Observation
from fhirclient.models.patient import Patient
from fhirpy import AsyncFHIRClient
from fhirpy.base.exceptions import ResourceNotFound

from interface.domain.views import Actor, ActorKind
from interface.flow import actors
from interface.flow.client_keys import ClientKeys
from interface.store.ids import uuid7
from tests.api.bench import Bench, Laboratory
from tests.api.conftest import bench as bench
from tests.api.conftest import laboratory as laboratory
from tests.api.signing import Signer, ec_key, public
from tests.fhir.validators import NODE, needs_node

UNKNOWN = "7d1c2f58-3c1f-4a87-9a52-0d2b7f6f0a11"


@pytest.fixture
async def results(laboratory: Laboratory) -> tuple[UUID, list[str]]:
    """A patient with three results; their ids in order."""
    order = await laboratory.order()
    return order["patient"], sorted([str(await laboratory.result(order, value)) for value in ("5.10", "5.2", "5.3")])


async def test_fhirpy_reads_searches_and_pages(
    bench: Bench, laboratory: Laboratory, results: tuple[UUID, list[str]]
) -> None:
    patient, ids = results
    token = await laboratory.client_token("system/*.rs")
    client = AsyncFHIRClient(f"{bench.url}/fhir", authorization=f"Bearer {token}")
    read = await client.reference("Patient", str(patient)).to_resource()
    assert (read.id, read["name"][0]["family"]) == (str(patient), "Muster")
    whole = await read.execute("$everything", method="post", data={"resourceType": "Parameters"})
    assert (
        sorted(one["resource"]["id"] for one in whole["entry"] if one["resource"]["resourceType"] == "Observation")
        == ids
    )
    assert (await read.execute("$everything", method="post"))["entry"] == whole["entry"]
    past = await read.execute("_history", method="get")
    assert [one["resource"] for one in past["entry"]] == [(await bench.get(f"/fhir/Patient/{patient}", token)).json]
    search = client.resources("Observation").search(patient=str(patient), code="718-7").sort("_lastUpdated").limit(2)
    assert [one.id for one in await search.fetch()] == ids[:2]
    assert [one.id async for one in search] == ids
    assert await client.resources("Observation").search(patient=str(patient)).count() == 3
    first = await client.resources("Observation").search(_id=ids[0]).include("Observation", "device").first()
    assert first is not None and (await first["device"].to_resource())["deviceName"][0]["name"] == "hema"
    with pytest.raises(ResourceNotFound):
        await client.reference("Patient", UNKNOWN).to_resource()


async def test_fhirclient_signs_in_by_smart_backend_services_and_reads(
    bench: Bench, laboratory: Laboratory, results: tuple[UUID, list[str]]
) -> None:
    patient, ids = results
    who = Actor(ActorKind.USER, uuid7(), "admin", laboratory.organization_id, frozenset({"client:write"}))
    keys = ClientKeys({"keys": [public(ec_key(), "ec")]})
    made = await actors.create_client(laboratory.database, who, f"s-{uuid7()}", ["system/*.rs"], keys)
    signer = Signer(made.client_id, f"{bench.url}/oauth/token")

    def use() -> tuple[str, list[str], str]:
        settings = {
            "app_id": made.client_id, "api_base": f"{bench.url}/fhir", "scope": "system/*.rs",
            "jwt_token": signer.sign(),
        }  # fmt: skip
        client = smart.FHIRClient(settings=settings)
        client.wants_patient = False  # no launch: the scope is as it stands
        assert not client.prepare(), "it has no token yet"
        client.server.authorize()
        assert client.ready
        read = Patient.read(str(patient), client.server)
        found = list(
            Observation.where({"patient": str(patient), "_sort": "_lastUpdated"}).perform_resources_iter(client.server)
        )
        return read.name[0].family, [one.id for one in found], found[0].valueQuantity.unit

    assert await asyncio.to_thread(use) == ("Muster", ids, "g/dL")


@needs_node
async def test_fhir_kit_client_finds_the_token_endpoint_reads_and_pages(
    bench: Bench, laboratory: Laboratory, results: tuple[UUID, list[str]]
) -> None:
    patient, ids = results
    token = await laboratory.client_token("system/*.rs")

    def use() -> subprocess.CompletedProcess[bytes]:
        command = ["node", "client.mjs", f"{bench.url}/fhir", token, str(patient)]
        return subprocess.run(command, cwd=NODE, capture_output=True, timeout=60, check=False)

    done = await asyncio.to_thread(use)
    assert done.returncode == 0, done.stderr.decode()
    said = json.loads(done.stdout)
    assert said.pop("token") in (f"{bench.url}/oauth/token", None)
    assert said.pop("everything").count("Observation") == 3
    assert said == {"patient": str(patient), "total": None, "ids": ids, "versions": 1, "missing": 404}
