"""Charts and reports of quality control over HTTP: their forms, who may read them, what a browser may keep."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import pytest

from interface.api import qc_charts
from interface.domain.permissions import Role
from tests.api.bench import Answer, Bench, Laboratory

CHART, HEMA = "/api/qc/charts/HGB", {"analyzer": "hema"}


@pytest.fixture
async def token(laboratory: Laboratory) -> str:
    await laboratory.user(Role.ADMINISTRATOR)
    return await laboratory.user_token(Role.VIEWER)


async def get(bench: Bench, token: str, path: str = CHART, accept: str = "", **said: Any) -> Answer:
    headers = {"Accept": accept} if accept else {}
    return await bench.get(path, token, params=HEMA | said, headers=headers)


async def test_a_chart_is_had_as_picture_or_data_by_ending_or_accept(bench: Bench, token: str) -> None:
    for path, accept, media in (
        (f"{CHART}.svg", "", "image/svg+xml"), (f"{CHART}.png", "", "image/png"), (CHART, "", "application/json"),
        (CHART, "image/png", "image/png"), (CHART, "text/html, image/svg+xml;q=0.9, */*;q=0.1", "image/svg+xml"),
        (CHART, "image/*", "image/svg+xml"), (CHART, "image/png;q=0, application/json", "application/json"),
    ):  # fmt: skip
        answer = await get(bench, token, path, accept)
        assert (answer.status, answer.headers["Content-Type"].split(";")[0]) == (200, media), (path, accept)
        assert answer.headers["Cache-Control"] == "private, no-cache"
    picture = await get(bench, token, f"{CHART}.svg", width=500, together="true", zone="Asia/Jakarta")
    root = ElementTree.fromstring(picture.body)  # noqa: S314 - our own
    assert root.attrib["width"] == "500" and b"Asia/Jakarta" in picture.body
    data = (await get(bench, token)).json
    assert (data["chart"]["test"], data["chart"]["points"], data["chart"]["state"]) == ("HGB", [], "unknown")
    assert (await get(bench, token, accept="text/html")).status == 406
    assert (await get(bench, token, accept="image/png;q=x")).status == 400


async def test_what_a_browser_has_already_is_not_sent_again(bench: Bench, token: str) -> None:
    first = await get(bench, token, f"{CHART}.svg")
    headers = {"If-None-Match": first.headers["ETag"]}
    again = await bench.get(f"{CHART}.svg", token, params=HEMA, headers=headers)
    assert (again.status, again.body, again.headers["ETag"]) == (304, b"", first.headers["ETag"])
    other = await bench.get(f"{CHART}.svg", token, params=HEMA | {"days": "3"}, headers=headers)
    assert other.status == 200 and other.headers["ETag"] != first.headers["ETag"]


async def test_a_report_is_a_pdf_and_is_not_kept(bench: Bench, token: str) -> None:
    for path, paper in (("/api/qc/reports/2026-02.pdf", "letter"), ("/api/qc/reports/2026-02", "a4")):
        answer = await bench.get(path, token, params={"paper": paper})
        assert (answer.status, answer.headers["Content-Type"]) == (200, "application/pdf")
        assert answer.body.startswith(b"%PDF-") and answer.headers["Cache-Control"] == "no-store"
        assert "quality-control-2026-02.pdf" in answer.headers["Content-Disposition"]


async def test_what_is_wrong_is_said(bench: Bench, token: str) -> None:
    for status, path, said in (
        (400, CHART, {"analyzer": ""}), (404, CHART, {"analyzer": "none"}), (404, "/api/qc/charts/NONE", {}),
        (400, CHART, {"width": "20"}), (422, CHART, {"zone": "Mars"}), (422, CHART, {"days": "100000"}),
        (400, CHART, {"from": "yesterday"}), (422, CHART, {"from": "2026-02-02", "to": "2026-02-01"}),
        (400, CHART, {"colour": "red"}),
    ):  # fmt: skip
        answer = await get(bench, token, path, **said)
        assert answer.status == status, (path, said, answer.body)
        assert answer.headers["Content-Type"].startswith("application/problem+json")
    assert (await bench.get("/api/qc/reports/2026-13.pdf", token)).status == 422
    assert (await bench.get("/api/qc/reports/2026-12.pdf", token, params={"paper": "a5"})).status == 400


async def test_only_who_may_read_quality_control_sees_it(bench: Bench, laboratory: Laboratory) -> None:
    await laboratory.user(Role.ADMINISTRATOR)
    phlebotomist = await laboratory.user_token(Role.PHLEBOTOMIST)
    client = await laboratory.client_token("system/*.rs")
    for path in (CHART, f"{CHART}.svg", f"{CHART}.png", "/api/qc/reports/2026-02", "/api/qc/reports/2026-02.pdf"):
        said = {} if "reports" in path else HEMA
        assert (await bench.get(path, params=said)).status == 401
        for token in (phlebotomist, client):
            assert (await bench.get(path, token, params=said)).status == 403


async def test_a_large_report_is_printed_by_a_process_of_its_own(
    bench: Bench, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = await bench.get("/api/qc/reports/2026-02.pdf", token)
    monkeypatch.setattr(qc_charts, "MOST_HERE", -1)
    apart = await bench.get("/api/qc/reports/2026-02.pdf", token)
    assert apart.status == 200 and apart.body.startswith(b"%PDF-")
    assert abs(len(apart.body) - len(here.body)) < 100, "they differ by when they were printed"
