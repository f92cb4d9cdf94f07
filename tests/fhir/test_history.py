"""What was once served is served again under its version, and nothing else is: over the life of orders and results."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote
from uuid import UUID

import pytest

from interface.domain.model import Priority
from interface.domain.specimens import RejectReason
from interface.domain.views import IdentifierView
from interface.flow import order_changes, people, practitioners, review, specimens
from interface.flow.correction import NewValue
from interface.flow.order_changes import OrderChange
from interface.flow.orders import NewPractitioner
from interface.flow.people import NewPatient, PatientChange
from interface.flow.practitioners import ProviderChange
from interface.store.db import Connection
from tests.api.bench import Bench, Laboratory, serving
from tests.flow import laboratory as flow

KEPT = ("Patient", "Observation", "DiagnosticReport", "ServiceRequest", "Specimen", "Practitioner", "Provenance")
WBC, HGB = "R|1|^^^WBC|7.35|10*3/uL||N||F||||20260102030000", "R|2|^^^HGB|9.1|g/dL||L||F||||20260102030000"


def without_form(resource: dict[str, Any]) -> dict[str, Any]:
    """What was printed of a report has versions of its own, and is made after the report has changed."""
    return {name: value for name, value in resource.items() if name != "presentedForm"}


@dataclass(slots=True)
class Emr:
    """A client that keeps every version it was ever served: by address, newest last."""

    bench: Bench
    token: str
    seen: dict[str, dict[str, Any]] = field(default_factory=dict)

    async def look(self) -> None:
        for kind in KEPT:
            page = await self.bench.get(f"/fhir/{kind}?_count=200", self.token)
            assert page.status == 200, page.body
            for resource in (without_form(entry["resource"]) for entry in page.json.get("entry", [])):
                versions = self.seen.setdefault(f"{kind}/{resource['id']}", {})
                version = resource["meta"]["versionId"]
                assert versions.get(version, resource) == resource, f"{kind}/{version} was another once"
                versions[version] = resource

    async def history(self, url: str) -> list[dict[str, Any]]:
        answer = await self.bench.get(f"/fhir/{url}/_history", self.token)
        assert answer.status == 200, answer.body
        assert answer.json["total"] == len(answer.json["entry"])
        return [without_form(entry["resource"]) for entry in answer.json["entry"]]


@dataclass(slots=True)
class World:
    lab: flow.Laboratory
    emr: Emr

    async def do(self, step: Callable[[Connection], Awaitable[Any]]) -> Any:
        """One transaction, after which the EMR looks at everything."""
        async with self.lab.database.transaction(self.lab.organization_id) as connection:
            made = await step(connection)
        await self.emr.look()
        return made

    async def measured(self, *records: str, control: str) -> None:
        """What an analyzer sends is no version of any record: results must not pay for the history of orders."""
        kept = await self.lab.owner.fetchval("select count(*) from lab.record_version")
        await self.lab.send(flow.message(*records, control=control))
        await self.lab.settle()
        assert await self.lab.owner.fetchval("select count(*) from lab.record_version") == kept
        await self.emr.look()


@pytest.fixture
async def world(recycled_founded_url: str) -> AsyncIterator[World]:
    async with flow.laboratory(recycled_founded_url) as lab, serving(lab.database) as bench:
        token = await Laboratory(lab.database, lab.organization_id, "lab").client_token("system/*.rs")
        yield World(lab, Emr(bench, token))


async def _people(world: World, patient: UUID) -> None:
    who = world.lab.director
    await world.do(lambda at: people.update_patient(at, who, patient, PatientChange(given="Mia"), 1))
    other = IdentifierView("St. Anna", "7", "PI")
    await world.do(lambda at: people.add_identifier(at, who, patient, other))
    await world.do(lambda at: people.end_identifier(at, who, patient, "St. Anna", "7", "wrong"))
    twin = await world.do(
        lambda at: people.create_patient(at, who, NewPatient((IdentifierView("TEST", "P-9"),), "Muster", "Mia"))
    )
    await world.do(lambda at: people.merge(at, who, twin.id, patient, "the same", accept_differences=True))
    await world.do(lambda at: people.unmerge(at, who, twin.id, "not the same"))


async def _results(world: World) -> UUID:
    """Of one result: released, a change refused, one accepted, commented, corrected, and at last retracted."""
    who, lab = world.lab.director, world.lab
    await world.measured("O|1|S1", WBC, HGB, control="M1")
    first, second = await lab.results()
    await world.do(lambda at: review.hold(at, who, second.id, "look"))
    await world.do(lambda at: review.release(at, who, first.id))
    await world.measured("O|1|S1", WBC.replace("7.35", "1.35"), control="M2")
    await world.do(lambda at: review.reject_change(at, who, first.id))
    await world.measured("O|1|S1", WBC.replace("7.35", "8.35"), control="M3")
    await world.do(lambda at: review.accept_change(at, who, first.id))
    await world.do(lambda at: review.comment(at, who, first.id, "seen"))
    await world.do(lambda at: review.correct(at, who, first.id, NewValue("8.5"), "typed"))
    if (await lab.results())[0].pending:
        await world.do(lambda at: review.accept_change(at, who, first.id))
    await world.do(lambda at: review.release(at, who, second.id, "seen", accept_hold=True))
    await world.do(lambda at: review.retract(at, who, second.id, "wrong tube"))
    return first.id


async def test_every_version_that_was_served_is_served_again(world: World) -> None:
    who, lab = world.lab.director, world.lab
    order = await lab.order("S1", "WBC", "HGB", "PLT")
    await world.emr.look()
    assert order.patient_id is not None
    await _people(world, order.patient_id)
    asks = NewPractitioner("4711", "House", "Gregory")
    facts = OrderChange(priority=Priority.STAT, clinical_history="anaemia?", ward="3B", requester=asks)
    changed = await world.do(lambda at: order_changes.change(at, who, order.id, facts))
    provider = changed.requester.id
    await world.do(
        lambda at: practitioners.update_provider(at, who, provider, ProviderChange(role="Head", family="Haus"), 1)
    )
    first = await _results(world)
    items = {item.test_code: item.id for item in order.items}
    await world.do(lambda at: order_changes.add(at, who, order.id, ["RBC"], specimen_id=order.items[0].specimen_id))
    cancelled = [items["PLT"]]
    await world.do(
        lambda at: order_changes.cancel(at, who, order.id, "not wanted", item_ids=cancelled, in_progress=True)
    )
    await lab.order("S2", "WBC", patient_id="P-2")
    await world.emr.look()
    async with lab.database.organization(lab.organization_id) as connection:
        tube = await connection.fetchval("select id from lab.specimen where barcode = 'S2'")
    await world.do(lambda at: specimens.reject(at, who, tube, RejectReason.CLOTTED, "see there"))

    for url, versions in world.emr.seen.items():
        told = {one["meta"]["versionId"]: one for one in await world.emr.history(url)}
        assert list(told) == list(reversed(versions)), url
        for version, resource in versions.items():
            assert told[version] == resource, f"{url}/_history/{version}"
            again = await world.emr.bench.get(f"/fhir/{url}/_history/{version}", world.emr.token)
            assert (again.status, without_form(again.json)) == (200, resource), url
            assert again.headers["ETag"] == f'W/"{version}"'
    values = [one["valueQuantity"]["value"] for one in await world.emr.history(f"Observation/{first}")]
    assert values == [8.5, 8.35, 8.35, 7.35], "what was refused, or waited, is no version"
    assert len(world.emr.seen[f"Patient/{order.patient_id}"]) == 6
    await _pages_and_strangers(world, f"Patient/{order.patient_id}", first)


async def _pages_and_strangers(world: World, url: str, result_id: UUID) -> None:
    bench, token = world.emr.bench, world.emr.token
    whole = [one["meta"]["versionId"] for one in await world.emr.history(url)]
    paged: list[str] = []
    following: str | None = f"/fhir/{url}/_history?_count=4"
    while following:
        page = (await bench.get(following, token)).json
        paged += [one["resource"]["meta"]["versionId"] for one in page["entry"]]
        following = next((one["url"] for one in page["link"] if one["relation"] == "next"), None)
    assert paged == whole
    since = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    assert (await bench.get(f"/fhir/{url}/_history?_since={since}", token)).json["total"] == 0
    await _asked_for(world, url)
    for path in (f"{url}/_history/0", f"Patient/{UUID(int=1)}/_history", f"Observation/{UUID(int=1)}/_history/1"):
        assert (await bench.get(f"/fhir/{path}", token)).status == 404, path
    narrow = await Laboratory(world.lab.database, world.lab.organization_id, "lab").client_token(
        f"system/Observation.rs?patient=Patient/{UUID(int=1)}"
    )
    assert (await bench.get(f"/fhir/Observation/{result_id}/_history", narrow)).status == 404
    assert (await bench.get(f"/fhir/{url}/_history", narrow)).status == 403
    with_tag = {"If-None-Match": f'W/"{whole[0]}"'}
    assert (await bench.get(f"/fhir/{url}/_history/{whole[0]}", token, headers=with_tag)).status == 304


async def _asked_for(world: World, url: str) -> None:
    """`_at`: what was current then; and what is not known or not said once."""
    bench, token, path = world.emr.bench, world.emr.token, f"/fhir/{url}/_history"
    versions = await world.emr.history(url)
    ids, at = [one["meta"]["versionId"] for one in versions], [one["meta"]["lastUpdated"] for one in versions]

    async def told(query: str) -> list[str]:
        answer = await bench.get(f"{path}?{query}", token)
        assert answer.status == 200, answer.body
        assert f"?{query}" in unquote(answer.json["link"][0]["url"])
        return [one["resource"]["meta"]["versionId"] for one in answer.json.get("entry", [])]

    assert await told(f"_at={at[1]}") == [ids[1]]
    assert await told(f"_at={at[1][:4]}") == ids
    assert await told("_at=1999-12-31") == []
    assert await told("_at=2100") == [ids[0]]
    assert await told(f"_since={at[1]}") == ids[:2]
    assert await told(f"_since={at[1]}&_at={at[2]}") == []
    assert (await told("_count=0"), await told("_count=2")) == ([], ids[:2])
    strict = {"Prefer": "handling=strict"}
    for query, lenient in (("_at=gt2026", 400), ("_at=then", 400), ("_since=lt2026", 400), ("_count=-1", 400),
                           ("_at=2026&_at=2027", 400), ("_list=1", 200), ("code=1", 200)):  # fmt: skip
        assert (await bench.get(f"{path}?{query}", token)).status == lenient, query
        refused = await bench.get(f"{path}?{query}", token, headers=strict)
        assert (refused.status, refused.json["resourceType"]) == (400, "OperationOutcome"), query
    assert (await bench.get(f"{path}?_format=json&_pretty=true&_count=1", token, headers=strict)).status == 200
