"""What a client can say at the ends of what can be written is refused in one sentence, and never fails inside."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import pytest

from interface.domain.model import ResultStatus
from interface.domain.permissions import Role
from tests.api.bench import Answer, Bench, Laboratory, found_laboratory
from tests.api.hooks_use import Hooked, hooked
from tests.api.pbrtqc_use import BY_HAND
from tests.api.qc_lots_use import WHY, in_use, lot, made, material, target
from tests.api.test_fhir_orders import EVA, FHIR, TUBE, bundle, entry, patient, request, specimen

EARLY, LATE = "0001-01-01T00:00:00+07:00", "9999-12-31T23:59:59-07:00"
FIELDS = "&".join(f"f{number}=x" for number in range(60))
Asked = tuple[str, str, dict[str, Any]]


class Known(NamedTuple):
    emr: Hooked
    token: str
    ids: dict[str, str]


@pytest.fixture
async def known(laboratory: Laboratory) -> AsyncIterator[Known]:
    """A laboratory with one of each; of a user who may do everything."""
    async with hooked(laboratory) as emr:
        token = await laboratory.user_token(*Role)
        bench, of = emr.bench, await laboratory.order()
        result_id = await laboratory.result(of, status=ResultStatus.PRELIMINARY)
        ids = {name: str(id) for name, id in of.items()} | {"result": str(result_id)}
        ids["lot"] = await made(bench, token, "qc-lots", lot(await made(bench, token, "qc-materials", material())))
        ids["target"] = await made(bench, token, "qc-targets", target(ids["lot"]))
        ids["use"] = await made(bench, token, "analyzer-lots", in_use())
        plan = await bench.ask("POST", "/api/pbrtqc", token, json=BY_HAND)
        assert plan.status == 201, plan.body
        intervals = (await bench.get("/api/intervals?test=HGB", token)).json["intervals"]
        yield Known(emr, token, ids | {"plan": plan.json["version"], "interval": intervals[0]["id"]})


async def ask(bench: Bench, known: Known, asked: Asked) -> Answer:
    method, path, options = asked
    if options.get("json", {}).get("lot") == "{lot}":
        options = {"json": options["json"] | {"lot": known.ids["lot"]}}
    token = known.emr.token if path.startswith("/fhir") else known.token
    return await bench.ask(method, path.format(**known.ids), token, **options)


def instants(at: str) -> list[Asked]:
    """Every door for an instant; no record that has it is made."""
    born = {"family": "Muster", "birth_at": at}
    timed = patient() | {"_birthDate": {"extension": [{"url": BIRTH_TIME, "valueDateTime": at}]}}
    orders = [bundle(entry(patient(), EVA), entry(specimen(), TUBE), entry(request(authoredOn=at)))]
    orders.append(bundle(entry(timed, EVA), entry(specimen(), TUBE), entry(request())))
    interval = {"test": "HGB", "text": "x", "use": "reference", "reason": "new", "source": "own"}
    hook = {
        "resourceType": "Subscription", "status": "requested", "reason": "test", "criteria": "Patient", "end": at,
        "channel": {"type": "rest-hook", "endpoint": "https://192.0.2.1/"},
    }  # fmt: skip
    return [
        ("POST", "/api/patients", {"json": born}),
        ("PATCH", "/api/patients/{patient}", {"json": {"birth_at": at, "version": 1}}),
        ("POST", "/api/orders", {"json": {"patient": born, "specimens": [{"tests": ["HGB"]}]}}),
        ("POST", "/api/orders", {
            "json": {"patient": {"family": "M"}, "ordered_at": at, "specimens": [{"tests": ["HGB"]}]}
        }),
        ("POST", "/api/specimens/{specimen}/collect", {"json": {"at": at}}),
        ("POST", "/api/specimens/{specimen}/receive", {"json": {"at": at}}),
        ("POST", "/api/alert-silences", {"json": {"begins_at": at, "ends_at": "2026-01-01T00:00:00Z", "reason": "x"}}),
        ("POST", "/api/alert-silences", {"json": {"ends_at": at, "reason": "x"}}),
        ("POST", "/api/analyzer-lots", {"json": in_use() | {"from": at}}),
        ("POST", "/api/analyzer-lots/{use}/end", {"json": WHY | {"at": at}}),
        ("POST", "/api/qc-targets", {"json": target("{lot}") | {"valid_from": at}}),
        ("POST", "/api/qc-targets", {"json": target("{lot}") | {"valid_to": at}}),
        ("POST", "/api/qc-targets/{target}/replace", {"json": WHY | {"sd": "0.4", "at": at}}),
        ("POST", "/api/qc-targets/{target}/end", {"json": WHY | {"at": at}}),
        ("POST", "/api/qc-targets/establish", {
            "json": WHY | {"lot": "{lot}", "analyzer": "hema", "test": "HGB", "since": at}
        }),
        ("POST", "/api/intervals", {"json": interval | {"valid_from": at}}),
        ("PATCH", "/api/intervals/{interval}", {"json": {"text": "y", "reason": "new", "at": at}}),
        ("POST", "/api/intervals/{interval}/end", {"json": {"reason": "wrong", "at": at}}),
        ("POST", "/api/qc-results", {
            "json": {"lot": "{lot}", "analyzer": "hema", "test": "HGB", "value": "12", "measured_at": at}
        }),
        ("POST", "/api/pbrtqc/{plan}/simulate", {"json": {"from": at, "to": at, "runs": 10}}),
        ("POST", "/api/pbrtqc/{plan}/validate", {"json": {"from": at, "to": at, "runs": 10}}),
        *[("POST", "/fhir", {"json": each, "headers": FHIR}) for each in orders],
        ("POST", "/fhir/Subscription", {"json": hook, "headers": FHIR}),
    ]  # fmt: skip


BIRTH_TIME = "http://hl7.org/fhir/StructureDefinition/patient-birthTime"
AGED = {"test": "HGB", "low": "1", "use": "both", "reason": "x", "source": "s"}
MUCH: list[Asked] = [
    *[("POST", "/api/results/{result}/rerun", {"json": {"version": 1, "comment": "again", "dilution": each}})
      for each in ("1E+999999", "1E-999999", "1e400", "9" * 150)],
    *[("PUT", "/api/qc-plans", {"json": {"rules": ["1-3s"], "allowable_error": each}})
      for each in ("1E+999999", "1E-999999", "1e400")],
    ("POST", "/api/qc-targets", {"json": target("{lot}") | {"mean": "1E+999999"}}),
    ("PATCH", "/api/patients/{patient}", {"json": {"family": "M"}, "headers": {"If-Match": f'W/"{"9" * 5000}"'}}),
    ("PUT", "/api/tests/HGB", {"json": {"molar_mass": "64458", "valence": 40_000, "reason": "x"}}),
    ("PUT", "/api/tests/HGB", {"json": {"decimals": 2**40, "reason": "x"}}),
    ("POST", "/api/intervals", {"json": AGED | {"age_low_h": 2**40}}),
    ("POST", "/api/intervals", {"json": AGED | {"age_high_d": 2**30}}),
    ("POST", "/api/intervals", {"json": AGED | {"age_low_h": -1}}),
    ("POST", "/fhir/Subscription", {
        "json": {
            "resourceType": "Subscription", "status": "requested", "reason": "test", "criteria": f"Patient?{FIELDS}",
            "channel": {"type": "rest-hook", "endpoint": "https://192.0.2.1/"},
        },
        "headers": FHIR,
    }),
    ("GET", "/fhir/$export", {"params": {"_typeFilter": f"Patient?{FIELDS}"}, "headers": {"Prefer": "respond-async"}}),
]  # fmt: skip
LISTS: list[Asked] = [
    ("GET", path, {})
    for path in (
        "/api/qc-results/analysis?until=0001-01-01", "/api/qc-results/analysis?since=9999-12-31",
        "/api/qc-results/analysis?until=9999-12-31", "/api/pbrtqc/{plan}/chart-data?to=0001-01-01",
        "/api/pbrtqc/{plan}/chart-data?from=9999-12-31T23:59:59-07:00",
        "/api/pbrtqc/{plan}/chart-data?to=0001-01-01T00:00:00%2B07:00",
        "/api/qc-targets?at=0001-01-01T00:00:00%2B07:00", "/api/statistics/workload?from=9999-12-31",
        "/api/patients?birth_date=9999-12-31", "/api/patients?birth_date=0001-01-01",
        "/api/qc-results?since=9999-12-31&until=9999-12-31", "/api/audit?since=0001-01-01T00:00:00%2B07:00",
    )
]  # fmt: skip


@pytest.mark.parametrize("at", [EARLY, LATE])
async def test_an_instant_that_utc_has_not_is_refused_wherever_it_is_said(known: Known, at: str) -> None:
    for asked in instants(at):
        answer = await ask(known.emr.bench, known, asked)
        assert 400 <= answer.status < 500, (asked, answer.status, answer.body)
        said = answer.json
        text = said["issue"][0]["diagnostics"] if asked[1].startswith("/fhir") else said["detail"]
        assert "is before the year 1 or after the year 9999" in text, (asked, text)


async def test_what_is_too_much_is_refused(known: Known) -> None:
    for asked in MUCH:
        answer = await ask(known.emr.bench, known, asked)
        assert 400 <= answer.status < 500, (asked, answer.status, answer.body)


async def test_lists_of_the_first_and_the_last_day_are_lists_or_refused(known: Known) -> None:
    for asked in LISTS:
        answer = await ask(known.emr.bench, known, asked)
        assert 200 <= answer.status < 500, (asked, answer.status, answer.body)


@pytest.mark.parametrize("day", ["0001-01-01", "9999-12-31"])
async def test_duplicates_of_who_was_born_at_an_end_of_time_are_looked_for(
    bench: Bench, laboratory: Laboratory, day: str
) -> None:
    token = await laboratory.user_token(Role.TECHNOLOGIST)
    answer = await bench.ask("POST", "/api/patients/duplicates", token, json={"family": "M", "birth_date": day})
    assert answer.status in (200, 422), answer.body


async def test_who_was_born_in_the_year_1_is_read_everywhere(database: Any, bench: Bench) -> None:
    """What some systems write where nobody knows the day; the driver stores the first day as minus infinity."""
    laboratory = await found_laboratory(database)
    token, client = await laboratory.user_token(Role.TECHNOLOGIST), await laboratory.client_token("system/*.rs")
    body = {"patient": {"family": "Muster", "birth_date": "0001-01-01"}, "specimens": [{"tests": ["HGB"]}]}
    answer = await bench.ask("POST", "/api/orders", token, json=body)
    assert answer.status == 201, answer.body
    id = answer.json["patient_id"]
    for path in (f"patients/{id}", f"patients/{id}/duplicates", f"orders/{answer.json['id']}", "patients"):
        read = await bench.get(f"/api/{path}", token)
        assert read.status == 200, (path, read.body)
    for path in (f"Patient/{id}", f"Patient/{id}/_history", "Patient?birthdate=0001-01-01", f"Patient/{id}/_history/1"):
        read = await bench.get(f"/fhir/{path}", client)
        assert read.status == 200 and b"0001-01-01" in read.body, (path, read.body)
