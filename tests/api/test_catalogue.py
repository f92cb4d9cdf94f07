"""The laboratory's own tests, panels, specimen types, intervals and providers over REST."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from interface.domain.permissions import Role
from interface.store.catalogues import read_catalogue
from interface.store.db import Database
from tests.api.bench import Answer, Bench, Laboratory, found_laboratory


@pytest.fixture
async def token(laboratory: Laboratory) -> str:
    return await laboratory.user_token(Role.LABORATORY_DIRECTOR)


async def put(bench: Bench, token: str, path: str, **body: Any) -> Answer:
    return await bench.ask("PUT", f"/api/{path}", token, json={"reason": "as we do it"} | body)


async def post(bench: Bench, token: str, path: str, **body: Any) -> Answer:
    return await bench.ask("POST", f"/api/{path}", token, json={"reason": "as we do it"} | body)


# ---- tests and panels ------------------------------------------------------------------------------------------------


async def test_a_test_is_added_changed_ordered_and_taken_out_of_use(
    bench: Bench, laboratory: Laboratory, token: str
) -> None:
    made = await put(bench, token, "tests/OURS", name="Our own", unit="mg/dL", decimals=1, specimen_types=["SER"])
    assert made.status == 200, made.body
    assert {name: made.json[name] for name in ("code", "unit", "decimals", "kind", "source", "version")} == {
        "code": "OURS", "unit": "mg/dL", "decimals": 1, "kind": "numeric", "source": "site", "version": 1,
    }  # fmt: skip
    changed = await put(bench, token, "tests/OURS", unit="mmol/L", decimals=None, molar_mass="180.16", version=1)
    assert (changed.json["version"], changed.json["unit"], changed.json["decimals"]) == (2, "mmol/L", None)
    assert changed.json["substance"]["molar_mass"] == 180.16
    unknown = await put(bench, token, "tests/OURS", molar_mass=None)
    assert unknown.json["substance"]["molar_mass"] is None
    assert (await put(bench, token, "tests/OURS", name="Ours", version=1)).status == 409
    order = {"patient": {"family": "M"}, "specimens": [{"tests": ["OURS"]}]}
    assert (await bench.ask("POST", "/api/orders", token, json=order)).status == 201
    assert (await post(bench, token, "tests/OURS/deactivate")).json["active"] is False
    assert (await bench.ask("POST", "/api/orders", token, json=order)).status == 422
    assert [row["code"] for row in (await bench.get("/api/tests?active=false", token)).json["tests"]] == ["OURS"]
    shown = await bench.get("/api/tests/OURS", token)
    assert shown.json["test"]["active"] is False
    updates = [row["detail"] for row in await laboratory.audit("update")]
    assert {"unit": "mg/dL → mmol/L", "reason": "as we do it"}.items() <= updates[0].items()
    assert updates[-1]["active"] == "True → False"


async def test_a_test_with_results_keeps_its_unit_and_kind(bench: Bench, laboratory: Laboratory, token: str) -> None:
    assert (await put(bench, token, "tests/HGB", unit="g/L")).json["unit"] == "g/L", "no result yet"
    await put(bench, token, "tests/HGB", unit="g/dL")
    await laboratory.result(await laboratory.order())
    for change in ({"unit": "g/L"}, {"kind": "text"}):
        refused = await put(bench, token, "tests/HGB", **change)
        assert refused.status == 409
        assert f"HGB has results: its {next(iter(change))} cannot change" in refused.json["detail"]
    assert (await put(bench, token, "tests/HGB", name="Hb", decimals=2, unit="g/dL")).json["name"] == "Hb"


@pytest.mark.parametrize(
    ("path", "body", "status", "says"),
    [
        ("tests/NEW", {}, 422, "a test needs a name; a test with numbers needs a unit"),
        ("tests/NEW", {"name": "N", "unit": "furlong"}, 422, "'furlong' is not understood"),
        ("tests/NEW", {"name": "N", "unit": "1", "decimals": 11}, 422, "decimals are from 0 to 10"),
        ("tests/NEW", {"name": "N", "unit": "1", "loinc": "718-8"}, 422, "is not a LOINC code"),
        ("tests/NEW", {"name": "N", "unit": "1", "kind": "image"}, 422, "the kind of a test is one of"),
        ("tests/NEW", {"name": "N", "unit": "1", "specimen_types": ["X"]}, 422, "there is no specimen type 'X'"),
        ("tests/NEW", {"name": "N", "unit": "1", "molar_mass": 1.5}, 422, "molar_mass is not a number written as text"),
        ("tests/NEW", {"name": "N", "unit": "1", "molar_mass": "-1"}, 422, "a molar mass is above 0"),
        ("tests/NEW", {"name": "N", "unit": "1", "reason": " "}, 422, "this needs a reason"),
        ("tests/N W", {"name": "N", "unit": "1"}, 422, "a code is of letters, digits"),
        ("tests/NEW", {"name": "N", "unit": "1", "version": 3}, 409, "there is none of this code"),
        ("tests/CBC", {"name": "N", "unit": "1"}, 409, "there is a panel CBC"),
        ("panels/HGB", {"name": "N", "tests": ["WBC"]}, 409, "there is a test HGB"),
        ("panels/NEW", {"name": "N", "tests": ["HGB", "NOPE", "HGB"]}, 422, "'NOPE'; a panel has each test once"),
        ("panels/NEW", {"name": "N"}, 422, "a panel needs a test"),
        ("specimen-types/NEW", {}, 422, "a specimen type needs a name"),
    ],
)
async def test_what_cannot_be_is_refused_with_its_faults(
    bench: Bench, token: str, path: str, body: dict[str, Any], status: int, says: str
) -> None:
    answer = await put(bench, token, path, **body)
    assert answer.status == status, answer.body
    assert says in answer.json["detail"]


async def test_a_panel_is_added_changed_and_taken_out_of_use(bench: Bench, token: str) -> None:
    made = await put(bench, token, "panels/OURS", name="Ours", tests=["WBC", "HGB"])
    assert made.json["tests"] == ["WBC", "HGB"]
    changed = await put(bench, token, "panels/OURS", tests=["HGB"], version=1)
    assert (changed.json["name"], changed.json["tests"], changed.json["version"]) == ("Ours", ["HGB"], 2)
    order = {"patient": {"family": "M"}, "specimens": [{"tests": ["OURS"]}]}
    assert (await bench.ask("POST", "/api/orders", token, json=order)).status == 201
    assert (await post(bench, token, "panels/OURS/deactivate")).json["active"] is False
    assert (await bench.ask("POST", "/api/orders", token, json=order)).status == 422
    for path in ("panels/NOPE/deactivate", "tests/NOPE/deactivate"):
        assert (await post(bench, token, path)).status == 404
    assert [row["code"] for row in (await bench.get("/api/panels?code=OURS", token)).json["panels"]] == ["OURS"]
    await put(bench, token, "specimen-types/OURS", name="Our own")
    types = (await bench.get("/api/specimen-types?active=true", token)).json["specimen_types"]
    assert {"code": "OURS", "name": "Our own", "source": "site", "active": True} in types


# ---- intervals -------------------------------------------------------------------------------------------------------

OURS = {"test": "CRP", "low": "0.0", "high": "4.95", "source": "our own study", "priority": 5}


async def test_a_change_of_an_interval_ends_it_and_adds_another(
    bench: Bench, laboratory: Laboratory, token: str
) -> None:
    made = await post(bench, token, "intervals", **OURS)
    assert made.status == 201, made.body
    assert b'"low":0.0,"high":4.95' in made.body, "exact"
    first = made.json["id"]
    path = f"/api/intervals/{first}"
    at = (datetime.now(UTC) - timedelta(minutes=1)).isoformat()
    changed = await bench.ask("PATCH", path, token, json={"high": "5.5", "at": at, "reason": "a new reagent"})
    assert changed.status == 200, changed.body
    assert (changed.json["high"], changed.json["low"], changed.json["source"]) == (5.5, 0.0, "our own study")
    intervals = (await bench.get("/api/tests/CRP", token)).json["intervals"]
    [old] = [one for one in intervals if one["id"] == first]
    assert (old["high"], old["valid_to"]) == (4.95, changed.json["valid_from"]), "what decided a result is there"
    listed = (await bench.get("/api/intervals?test=CRP", token)).json["intervals"]
    assert first not in {one["id"] for one in listed}
    again = await bench.ask("PATCH", path, token, json={"high": "6", "reason": "too late"})
    assert again.status == 409
    same = {"high": "5.5", "reason": "the same"}
    assert (await bench.ask("PATCH", f"/api/intervals/{changed.json['id']}", token, json=same)).status == 422
    [event] = [row for row in await laboratory.audit("update") if row["entity_kind"] == "interval"]
    assert {"high": "4.95 → 5.5", "code": "CRP", "reason": "a new reagent"}.items() <= event["detail"].items()
    wrong = await post(bench, token, f"intervals/{changed.json['id']}/end", never=True)
    assert wrong.json["valid_to"].startswith("1900-01-01")
    after = await post(bench, token, "intervals", **OURS)
    assert after.json["valid_from"] == old["valid_to"], "it follows what has ended, not what was wrong"
    async with laboratory.database.organization(laboratory.organization_id) as connection:
        catalogue = await read_catalogue(connection, laboratory.organization_id, "generic_lis2", None)
    kept = {interval.id for group in catalogue.intervals.values() for interval in group}
    assert first in kept


async def test_a_limit_is_changed_to_the_same_number_with_another_digit(bench: Bench, token: str) -> None:
    """Reports print limits as they are written."""
    made = await post(bench, token, "intervals", **OURS)
    path = f"/api/intervals/{made.json['id']}"
    changed = await bench.ask("PATCH", path, token, json={"high": "4.950", "reason": "as the method resolves"})
    assert changed.status == 200 and b'"high":4.950' in changed.body


@pytest.mark.parametrize(
    ("change", "status", "says"),
    [
        ({"source": ""}, 422, "needs a source"),
        ({"method": "x" * 5000}, 422, "the method is longer than"),
        ({"low": 0.5}, 422, "low is not a number written as text"),
        ({"low": "NaN"}, 422, "low is not a finite number"),
        ({"low": None, "high": None}, 422, "it says nothing"),
        ({"low": "9"}, 422, "the lower limit is above the upper"),
        ({"critical_high": "4"}, 422, "the upper limit is above the upper critical"),
        ({"critical_low": "2"}, 422, "the lower critical limit is above the lower"),
        ({"age_low_d": 30, "age_high_d": 30}, 422, "the upper age is not above the lower"),
        ({"unit": "mmol/L"}, 422, "cannot be compared with a result in mg/L"),
        ({"unit": "furlong"}, 422, "'furlong' cannot be compared"),
        ({"specimen_type": "X"}, 422, "there is no specimen type 'X'"),
        ({"test": "NOPE"}, 404, "there is no test NOPE"),
        ({"sex": "both"}, 422, "sex is none of"),
        ({"priority": 5, "age_low_d": 0}, 409, "is for the same people"),
    ],
)
async def test_an_interval_that_cannot_be_is_refused(
    bench: Bench, token: str, change: dict[str, Any], status: int, says: str
) -> None:
    if status == 409:
        assert (await post(bench, token, "intervals", **OURS)).status == 201
    answer = await post(bench, token, "intervals", **(OURS | change))
    assert answer.status == status, answer.body
    assert says in answer.json["detail"]


async def test_who_may_change_the_catalogue_and_whose(
    bench: Bench, database: Database, laboratory: Laboratory, token: str
) -> None:
    other = await found_laboratory(database)
    theirs = await other.user_token(Role.LABORATORY_DIRECTOR)
    made = await post(bench, token, "intervals", **OURS)
    assert (await post(bench, theirs, f"intervals/{made.json['id']}/end")).status == 404
    assert (await put(bench, theirs, "tests/OURS", name="Theirs", unit="1")).status == 200
    assert (await bench.get("/api/tests/OURS", token)).status == 404
    technologist = await laboratory.user_token(Role.TECHNOLOGIST)
    assert (await put(bench, technologist, "tests/HGB", name="H")).status == 403
    assert (await bench.get("/api/tests/HGB", technologist)).status == 200
    emr = await laboratory.client_token("system/*.cruds")
    assert (await bench.get("/api/tests", emr)).status == 403


# ---- providers -------------------------------------------------------------------------------------------------------


async def test_a_provider_is_added_found_changed_and_never_twice(bench: Bench, token: str) -> None:
    number = {"authority": "urn:doctors", "value": "123", "type": "DN"}
    made = await bench.ask(
        "POST", "/api/providers", token, json={"family": "Arzt", "given": "Ida", "identifiers": [number]}
    )
    assert made.status == 201, made.body
    path = made.headers["Location"]
    for query in ("identifier=123", "identifier=123&authority=urn:doctors", "name=arz", "name=IDA", "active=true"):
        assert (await bench.get(f"/api/providers?{query}", token)).json["providers"] == [made.json], query
    for query in ("identifier=123&authority=urn:x", "name=rzt", "active=false"):
        assert (await bench.get(f"/api/providers?{query}", token)).json["providers"] == [], query
    again = {"family": "Other", "identifiers": [number]}
    assert (await bench.ask("POST", "/api/providers", token, json=again)).status == 409
    assert (await bench.ask("POST", "/api/providers", token, json={})).status == 422
    change = {"role": "surgeon", "active": False, "identifiers": [{"value": "9"}]}
    assert (await bench.ask("PATCH", path, token, json=change)).status == 428
    changed = await bench.ask("PATCH", path, token, json=change, headers={"If-Match": 'W/"1"'})
    assert (changed.json["role"], changed.json["active"], changed.json["version"]) == ("surgeon", False, 2)
    assert [each["value"] for each in changed.json["identifiers"]] == ["9"]
    assert (await bench.ask("PATCH", path, token, json=change | {"version": 1})).status == 409
    assert (await bench.ask("POST", "/api/providers", token, json=again)).status == 201, "the number has ended"
    assert (await bench.get(path, token)).json == changed.json
