"""Patients over REST, and what an EMR sees of a merge."""

from __future__ import annotations

from typing import Any

import pytest

from interface.domain.model import HoldReason, ResultStatus
from interface.domain.permissions import Role
from interface.store.db import Database
from tests.api.bench import Answer, Bench, Laboratory, found_laboratory

EVA: dict[str, Any] = {
    "identifiers": [{"authority": "urn:hospital", "value": "4711", "type": "MR"}],
    "family": "Müller",
    "given": "Eva Maria",
    "sex": "female",
    "birth_at": "2026-01-02T01:30:00+07:00",
}


@pytest.fixture
async def token(laboratory: Laboratory) -> str:
    return await laboratory.user_token(Role.TECHNOLOGIST)


async def add(bench: Bench, token: str, **changed: Any) -> Any:
    made = await bench.ask("POST", "/api/patients", token, json=EVA | changed)
    assert made.status == 201, made.body
    return made.json


async def patch(bench: Bench, token: str, of: Any, tag: str = "", **change: Any) -> Answer:
    headers = {"If-Match": tag} if tag else {}
    return await bench.ask("PATCH", f"/api/patients/{of['id']}", token, json=change, headers=headers)


async def test_a_patient_is_found_as_somebody_types(bench: Bench, token: str) -> None:
    eva = await add(bench, token)
    assert (eva["birth_date"], eva["birth_at"]) == ("2026-01-02", "2026-01-01T18:30:00Z")
    for query in (
        "name=mar%20muell", "name=MULLER", "family=Mül&given=eva", "identifier=4711", "birth_date=2026-01-02",
        "sex=female&active=true",
    ):  # fmt: skip
        found = (await bench.get(f"/api/patients?{query}", token)).json["patients"]
        assert [one["id"] for one in found] == [eva["id"]], query
    for query in ("name=ller", "family=eva", "birth_date=2026-01-01", "active=false", "name=%25"):
        assert (await bench.get(f"/api/patients?{query}", token)).json["patients"] == [], query
    for query in ("sex=both", "birth_date=1.1.2026", "active=yes"):
        assert (await bench.get(f"/api/patients?{query}", token)).status == 400, query


async def test_a_change_says_what_it_was_made_from(bench: Bench, token: str) -> None:
    eva = await add(bench, token)
    assert (await patch(bench, token, eva, family="Meier")).status == 428
    changed = await patch(bench, token, eva, 'W/"1"', family="Meier", birth_at=None)
    assert (changed.json["family"], changed.json["version"], changed.json["birth_at"]) == ("Meier", 2, None)
    assert changed.json["birth_date"] == "2026-01-02"
    assert (await patch(bench, token, eva, family="Late", version=1)).status == 409
    assert (await patch(bench, token, eva, version=2, birth_date="2030-01-01")).status == 422
    assert (await patch(bench, token, eva, version=2, nickname="E")).status == 422
    assert (await patch(bench, token, eva, version=2, active=False)).json["active"] is False


async def test_identifiers_are_added_ended_and_remembered(bench: Bench, laboratory: Laboratory, token: str) -> None:
    eva = await add(bench, token)
    path = f"/api/patients/{eva['id']}"
    card = {"authority": "urn:card", "value": "C1"}
    assert len((await bench.ask("POST", f"{path}/identifiers", token, json=card)).json["identifiers"]) == 2
    assert (await bench.ask("POST", f"{path}/identifiers/end", token, json=card)).status == 422
    ended = await bench.ask("POST", f"{path}/identifiers/end", token, json=card | {"reason": "lost"})
    assert [each["value"] for each in ended.json["identifiers"]] == ["4711"]
    assert [each["value"] for each in (await bench.get(path, token)).json["former_identifiers"]] == ["C1"]
    emr = await laboratory.client_token("system/*.cruds")
    assert "former_identifiers" not in (await bench.get(path, emr)).json
    assert (await bench.ask("POST", f"{path}/identifiers", emr, json=card)).status == 200


async def test_a_merge_is_seen_by_staff_and_emr_and_taken_back(
    bench: Bench, laboratory: Laboratory, token: str
) -> None:
    survivor, prior = await laboratory.order("B-1", mrn="M-1"), await laboratory.order("B-2", mrn="M-2")
    results = [await laboratory.result(of) for of in (survivor, prior)]
    held = await laboratory.result(prior, status=ResultStatus.REGISTERED, held=(HoldReason.DELTA,))
    emr = await laboratory.client_token("system/*.rs")
    path = f"/api/patients/{prior['patient']}"

    async def seen() -> list[Answer]:
        return [
            await bench.get(f"/fhir/Patient/{prior['patient']}", emr),
            await bench.get(f"/fhir/Patient/{survivor['patient']}", emr),
            await bench.get(f"/fhir/Observation?patient={survivor['patient']}", emr),
            await bench.get(f"/fhir/Observation?patient={prior['patient']}", emr),
        ]

    before = [answer.json for answer in await seen()]
    body = {"into": str(survivor["patient"]), "reason": "registered twice"}
    assert (await bench.ask("POST", f"{path}/merge", emr, json=body)).status == 403
    merged = await bench.ask("POST", f"{path}/merge", token, json=body)
    assert (merged.json["id"], merged.json["replaces"]) == (str(survivor["patient"]), [str(prior["patient"])])
    pointing = await bench.get(path, token)
    assert (pointing.status, pointing.json["merged_into"]) == (200, str(survivor["patient"]))
    one, other, together, alone = [answer.json for answer in await seen()]
    reference = {"reference": f"Patient/{survivor['patient']}"}
    assert (one["active"], one["link"]) == (False, [{"other": reference, "type": "replaced-by"}])
    assert (other["active"], other["link"][0]["type"]) == (True, "replaces")
    assert {entry["resource"]["id"] for entry in together["entry"]} == set(map(str, results))
    assert {entry["resource"]["id"] for entry in alone["entry"]} == {str(results[1])}
    staff = await bench.get(f"/api/results?patient_id={survivor['patient']}", token)
    assert {row["id"] for row in staff.json["results"]} == {*map(str, results), str(held)}
    back = await bench.ask("POST", f"{path}/unmerge", token, json={"reason": "two people"})
    assert (back.json["merged_into"], back.json["look_again"]) == (None, [])
    for was, answer in zip(before, await seen(), strict=True):
        if was["resourceType"] == "Patient":
            assert {**answer.json, "meta": was["meta"]} == was
        else:
            assert [entry["resource"] for entry in answer.json["entry"]] == [
                entry["resource"] for entry in was["entry"]
            ]


async def test_everything_of_a_survivor_has_the_record_that_its_results_are_of(
    bench: Bench, laboratory: Laboratory, token: str
) -> None:
    prior, survivor = await laboratory.order("B-2", mrn="M-2"), await laboratory.order("B-1", mrn="M-1")
    results = [await laboratory.result(of) for of in (survivor, prior)]
    body = {"into": str(survivor["patient"]), "reason": "registered twice"}
    assert (await bench.ask("POST", f"/api/patients/{prior['patient']}/merge", token, json=body)).status == 200
    emr = await laboratory.client_token("system/*.rs")
    answer = await bench.get(f"/fhir/Patient/{survivor['patient']}/$everything", emr)
    found = [entry["resource"] for entry in answer.json["entry"]]
    there = {f"{one['resourceType']}/{one['id']}" for one in found}
    assert found[0]["id"] == str(survivor["patient"]), "first the patient"
    assert {f"Observation/{id}" for id in results} <= there
    named = {one["subject"]["reference"] for one in found if "subject" in one}
    assert named == {f"Patient/{of['patient']}" for of in (survivor, prior)} and named <= there


async def test_who_may_be_the_same_is_told_before_and_after(bench: Bench, token: str) -> None:
    eva = await add(bench, token)
    typed = {"family": "Mueller", "given": "Eva", "sex": "female", "birth_date": "2026-02-01"}
    before = await bench.ask("POST", "/api/patients/duplicates", token, json=typed)
    [likely] = before.json["duplicates"]
    assert (likely["patient"]["id"], likely["reasons"][1]) == (
        eva["id"], "birth date with day and month exchanged",
    )  # fmt: skip
    second = await add(bench, token, **typed | {"identifiers": [], "birth_at": None})
    [found] = (await bench.get(f"/api/patients/{second['id']}/duplicates", token)).json["duplicates"]
    assert found["patient"]["id"] == eva["id"]


async def test_another_laboratorys_patient_is_not_there(bench: Bench, database: Database, token: str) -> None:
    mine = await add(bench, token)
    stranger = await (await found_laboratory(database)).user_token(Role.LABORATORY_DIRECTOR)
    theirs = await add(bench, stranger)
    for prior, survivor in ((mine, theirs), (theirs, mine)):
        body = {"into": survivor["id"], "reason": "the same"}
        assert (await bench.ask("POST", f"/api/patients/{prior['id']}/merge", token, json=body)).status == 404
    assert (await patch(bench, token, theirs, version=1, family="Mine")).status == 404
    assert (await bench.get(f"/api/patients/{theirs['id']}/duplicates", token)).status == 404
    assert (await bench.get("/api/patients?name=mull", token)).json["patients"] == [mine]
