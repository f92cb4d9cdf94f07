"""Everything the server says in FHIR, for every kind of result, is taken by five validators nobody here wrote."""

from __future__ import annotations

from collections import Counter
from typing import Any
from uuid import UUID

import orjson

from interface.domain.permissions import Role
from interface.settings import Preliminary
from interface.store.db import Database
from tests.api.bench import Bench, Laboratory, found_laboratory, serving
from tests.api.hooks_use import hooked
from tests.fhir.matrix import KINDS, around, released_of_every_kind
from tests.fhir.validators import NAMES, judge, needs_node

TYPES = (
    "Patient", "Observation", "DiagnosticReport", "ServiceRequest", "Specimen", "Practitioner", "Organization",
    "Device", "Provenance", "AuditEvent",
)  # fmt: skip


async def _everything(bench: Bench, token: str, type: str) -> list[tuple[str, bytes]]:
    """Every resource of a type, some as their own read says them, and the Bundle that they came in."""
    page = await bench.get(f"/fhir/{type}?_count=200", token)
    assert page.status == 200, page.body
    found = [(f"Bundle of {type}", page.body)]
    for number, entry in enumerate(page.json["entry"]):
        body = orjson.dumps(entry["resource"])
        if number % 10 == 0:
            read = await bench.get(f"/fhir/{type}/{entry['resource']['id']}", token)
            assert (read.status, read.json) == (200, entry["resource"]), read.body
            body = read.body
        found.append((type, body))
    return found


async def _of_one(bench: Bench, token: str, result_id: UUID) -> list[tuple[str, bytes]]:
    """What is said of one patient at once, of the past of each type, and the printed report as a resource."""
    result = (await bench.get(f"/fhir/Observation/{result_id}", token)).json
    patient = result["subject"]["reference"]
    paths = [f"{patient}/$everything", f"{patient}/_history", f"Observation/{result_id}/_history"]
    for type in TYPES[2:]:
        page = (await bench.get(f"/fhir/{type}?_count=1", token)).json
        paths.append(f"{type}/{page['entry'][0]['resource']['id']}/_history")
    reports = (await bench.get(f"/fhir/DiagnosticReport?result=Observation/{result_id}", token)).json
    [form] = reports["entry"][0]["resource"]["presentedForm"]
    printed = form["url"].removeprefix("Binary/")
    paths += [f"Binary/{printed}/_history", f"Binary?_id={printed}"]
    found = []
    for path in (*paths, form["url"]):
        answer = await bench.get(f"/fhir/{path}", token, headers={"Accept": "application/fhir+json"})
        assert answer.status == 200, answer.body
        found.append(
            (
                f"{answer.json['resourceType']} {path.rpartition('/')[2].partition('=')[0] if path in paths else ''}",
                answer.body,
            )
        )
    return found


async def _subscriptions(laboratory: Laboratory) -> list[tuple[str, bytes]]:
    """One in each state it can be in, with all that it may say and with as little, and the Bundle of them."""
    async with hooked(laboratory) as emr:
        full = {"header": ["Authorization: Bearer s3cret"]}
        made = [
            await emr.subscribe(channel=full, end="2099-01-01T00:00:00Z"),
            await emr.subscribe(channel={"payload": ""}),
        ]
        for one in made:
            found = (await emr.bench.get(f"/fhir/Subscription/{one['id']}", emr.token)).json
            assert found["status"] == "active"
        emr.receiver.answers = [503, 503]
        await emr.released("1")
        await emr.told()
        off = {**emr.wish(), "id": made[1]["id"], "status": "off"}
        assert (await emr.bench.ask("PUT", f"/fhir/Subscription/{made[1]['id']}", emr.token, json=off)).status == 200
        bundle = await emr.bench.get("/fhir/Subscription", emr.token)
        resources = [entry["resource"] for entry in bundle.json["entry"]]
        assert {one["status"] for one in resources} == {"error", "off"}
        bodies = [orjson.dumps(one) for one in (*made, *resources)]
        assert (await emr.bench.ask("DELETE", f"/fhir/Subscription/{made[1]['id']}", emr.token)).status == 204
        pasts = [await emr.bench.get(f"/fhir/Subscription/{one['id']}/_history", emr.token) for one in made]
        assert [len(past.json["entry"]) for past in pasts] == [2, 4], "the second was deleted at last"
    said = [("Bundle of Subscription", bundle.body), *(("Subscription", body) for body in bodies)]
    return said + [("Bundle _history", past.body) for past in pasts]


@needs_node
async def test_all_that_is_said_is_valid_for_every_kind_of_result(database: Database) -> None:
    laboratory = await found_laboratory(database)
    results = await released_of_every_kind(laboratory)
    await around(laboratory)
    names = {str(id): name for name, id in results.items()}
    said: list[tuple[str, bytes]] = []
    async with serving(database, Preliminary.VISIBLE) as bench:
        token = await laboratory.user_token(Role.ADMINISTRATOR)
        for type in TYPES:
            await bench.writer.flush()
            said += await _everything(bench, token, type)
        said += await _of_one(bench, token, results["corrected"])
        said += await _subscriptions(laboratory)
        said.append(("CapabilityStatement", (await bench.get("/fhir/metadata")).body))
        for path in ("Patient/x", "Observation?date=x", "Nothing"):
            said.append(("OperationOutcome", (await bench.get(f"/fhir/{path}", token)).body))
    verdicts = judge([body for _, body in said])
    faults = [
        f"{what} {name}: {one} {body[:1500].decode()}"
        for (what, body), verdict in zip(said, verdicts, strict=True)
        for name in NAMES
        for one in verdict[name]
    ]
    assert not faults, "\n".join(faults[:20])
    resources: dict[str, list[Any]] = {}
    for what, body in said:
        resources.setdefault(what, []).append(orjson.loads(body))
    shown = {names[one["id"]]: one for one in resources["Observation"]}
    assert set(shown) == set(KINDS)
    _print(shown, Counter(what for what, _ in said))


def _print(shown: dict[str, Any], counted: Counter[str]) -> None:
    print("\nkind of result                 status            value               " + " ".join(NAMES))
    for name, one in shown.items():
        value = next((key for key in one if key.startswith("value")), "dataAbsentReason")
        print(f"{name:30} {one['status']:17} {value:19} " + " ".join("ok".ljust(len(by)) for by in NAMES))
    print("\n" + "\n".join(f"{what:30} {number:4} valid by all {len(NAMES)}" for what, number in counted.items()))
