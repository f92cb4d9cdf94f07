"""Workload, turn-around and quality control over REST: JSON, CSV, PDF, for staff only."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from interface.domain.permissions import Role
from interface.store.db import Database
from tests.api.bench import Bench, Laboratory, found_laboratory, serving


@pytest.fixture
async def laboratory(database: Database) -> Laboratory:
    made = await found_laboratory(database)
    async with database.transaction(made.organization_id) as connection:
        await connection.execute("update lab.test set department = '=cmd|calc' where code = 'HGB'")
    result_id = await made.result(await made.order(), "13.50")
    async with database.transaction(made.organization_id) as connection:
        await connection.execute("update lab.result set released_at = now() where id = $1", result_id)
    return made


@pytest.fixture
async def bench(database: Database) -> AsyncIterator[Bench]:
    async with serving(database) as made:
        yield made


async def test_each_report_has_each_form(laboratory: Laboratory, bench: Bench) -> None:
    token = await laboratory.user_token(Role.VIEWER)
    for path in (
        "/api/reports/workload?by=test",
        "/api/reports/turnaround?by=department",
        "/api/reports/qc?month=2026-11",
    ):
        data = await bench.get(path, token)
        assert data.status == 200 and data.json["laboratory"] == "Test Laboratory"
        table = await bench.get(f"{path}&form=csv", token)
        assert table.headers["Content-Type"] == "text/csv; charset=utf-8" and table.body.count(b"\n") >= 1
        for paper in ("a4", "letter"):
            pages = await bench.get(f"{path}&form=pdf&paper={paper}", token)
            assert pages.body.startswith(b"%PDF-") and pages.headers["Content-Type"] == "application/pdf"
    row = (await bench.get("/api/reports/workload", token)).json["rows"][0]
    assert (row["key"], row["results"]) == ("=cmd|calc", 1)
    table = await bench.get("/api/reports/workload?form=csv", token)
    assert b"\n'=cmd|calc,1," in table.body, "no spreadsheet takes it for a formula"


_JSON, _CSV, _PDF = "application/json", "text/csv", "application/pdf"


@pytest.mark.parametrize(
    ("accept", "form", "answered"),
    [
        (None, "", _JSON), ("*/*", "", _JSON), ("text/csv", "", _CSV), ("application/pdf", "", _PDF),
        ("text/*;q=0.5, application/pdf;q=0.9", "", _PDF), ("text/html, */*;q=0.8", "", _JSON),
        ("application/json;q=0, */*", "", _CSV), ("application/pdf", "csv", _CSV), ("text/html", "pdf", _PDF),
        ("text/html", "", 406), ("text/csv;q=0", "", 406), ("text/csv;q=much", "", 400),
    ],
)  # fmt: skip
async def test_a_report_is_in_the_form_that_is_accepted(
    laboratory: Laboratory, bench: Bench, accept: str | None, form: str, answered: str | int
) -> None:
    token = await laboratory.user_token(Role.VIEWER)
    for path in ("workload", "turnaround", "qc?month=2026-11"):
        url = f"/api/reports/{path}{'&' if '?' in path else '?'}form={form}"
        answer = await bench.get(url, token, headers={"Accept": accept} if accept else {})
        if isinstance(answered, int):
            assert answer.status == answered, path
            assert answer.headers["Content-Type"].startswith("application/problem+json"), path
        else:
            assert answer.status == 200, answer.body
            assert answer.headers["Content-Type"].partition(";")[0] == answered, path


@pytest.mark.parametrize("path", ["workload", "turnaround"])
async def test_days_of_any_year_are_a_report_or_a_refusal(laboratory: Laboratory, bench: Bench, path: str) -> None:
    token = await laboratory.user_token(Role.VIEWER)
    for days in ("from=1969-12-01&to=1970-01-10", "from=1900-01-01", "to=2999-12-31&from=2999-12-31"):
        data = await bench.get(f"/api/reports/{path}?{days}", token)
        assert data.status == 200, days
    for days in ("from=0001-01-01", "to=0001-01-02", "from=9999-12-31", "from=9999-12-30&to=9999-12-31"):
        for zone in ("Asia/Tokyo", "America/New_York", "UTC"):
            assert (await bench.get(f"/api/reports/{path}?{days}&zone={zone}", token)).status == 422, days


@pytest.mark.parametrize("month", ["0001-01", "1969-12", "9999-12"])
async def test_a_month_of_any_year_is_a_report_or_a_refusal(laboratory: Laboratory, bench: Bench, month: str) -> None:
    token = await laboratory.user_token(Role.VIEWER)
    assert (await bench.get(f"/api/reports/qc?month={month}", token)).status in (200, 400, 422)


async def test_targets_are_set_by_who_may(laboratory: Laboratory, bench: Bench) -> None:
    path, director = "/api/reports/turnaround/targets", await laboratory.user_token(Role.LABORATORY_DIRECTOR)
    new = {"targets": [{"stage": "received-released", "minutes": 60, "priority": "stat"}]}
    assert (await bench.ask("PUT", path, director, json=new)).json["targets"][0]["minutes"] == 60
    assert (await bench.get(path, director)).json["targets"][0]["priority"] == "stat"
    for wrong in ({}, {"targets": [{"stage": "x", "minutes": 1}]}, {"targets": [{"stage": "received-released"}]}):
        assert (await bench.ask("PUT", path, director, json=wrong)).status == 422
    viewer = await laboratory.user_token(Role.VIEWER)
    assert (await bench.ask("PUT", path, viewer, json=new)).status == 403


async def test_the_laboratorys_own_numbers_are_for_its_staff(laboratory: Laboratory, bench: Bench) -> None:
    client, token = await laboratory.client_token("system/*.cruds"), await laboratory.user_token(Role.VIEWER)
    collector = await laboratory.user_token(Role.PHLEBOTOMIST)  # the first user is an administrator too
    for path in ("workload", "turnaround", "turnaround/targets", "qc?month=2026-11"):
        for whose, status in ((client, 403), (collector, 403), ("", 401)):
            assert (await bench.get(f"/api/reports/{path}", whose)).status == status
    for query in ("from=2026-02-02&to=2026-02-01", "from=2020-01-01&to=2026-02-01", "zone=Mars"):
        assert (await bench.get(f"/api/reports/workload?{query}", token)).status == 422
    for query in ("by=patient", "form=xls", "from=x", "patient=1"):
        assert (await bench.get(f"/api/reports/turnaround?{query}", token)).status == 400
