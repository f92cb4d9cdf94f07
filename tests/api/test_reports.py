"""Reports over REST: the PDF and its content, versions, conditional reads, settings; nothing that is held."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import UUID, uuid4

import pytest

from interface.domain.model import HoldReason, ResultStatus
from interface.domain.permissions import Role
from interface.store.db import Database
from tests.api.bench import Bench, Laboratory, found_laboratory, serving

READ = "system/DiagnosticReport.rs"


@dataclass(frozen=True, slots=True)
class Case:
    bench: Bench
    laboratory: Laboratory
    order: dict[str, UUID]
    staff: str  # tokens
    client: str

    @property
    def path(self) -> str:
        return f"/api/reports/orders/{self.order['order']}"


@pytest.fixture
async def case(database: Database) -> AsyncIterator[Case]:
    laboratory = await found_laboratory(database)
    order = await laboratory.order(number="N-1")
    await laboratory.result(order, "13.50")
    await laboratory.result(order, "66.60", ResultStatus.PRELIMINARY, (HoldReason.QUESTIONABLE,))
    async with serving(database) as bench:
        staff = await laboratory.user_token(Role.LABORATORY_DIRECTOR)
        yield Case(bench, laboratory, order, staff, await laboratory.client_token(READ))


async def test_a_report_is_a_pdf_that_is_asked_about_again_for_nothing(case: Case) -> None:
    first = await case.bench.get(case.path, case.client)
    assert first.status == 200 and first.body.startswith(b"%PDF-")
    assert first.headers["Content-Type"] == "application/pdf"
    assert first.headers["Cache-Control"] == "private, no-cache"
    assert f'filename="report-{case.order["order"]}-1.pdf"' in first.headers["Content-Disposition"]
    known = {"If-None-Match": first.headers["ETag"]}
    again = await case.bench.get(case.path, case.staff, headers=known)
    assert (again.status, again.body) == (304, b"")
    assert (await case.bench.get(f"{case.path}?version=1", case.client)).body == first.body
    other = await case.bench.get(f"{case.path}?paper=letter&language=id", case.client, headers=known)
    assert other.status == 200 and other.headers["ETag"] != first.headers["ETag"]


async def test_its_content_is_json_where_that_is_asked_for(case: Case) -> None:
    for token in (case.staff, case.client):
        answer = await case.bench.get(case.path, token, headers={"Accept": "application/json"})
        report, content = answer.json["report"], answer.json["content"]
        assert (report["version"], content["number"], content["status"]) == (1, "N-1", "final")
        assert [line["value"] for line in content["lines"]] == ["13.50"]
        assert b"66.6" not in answer.body, "staff too print what was reported"
    listed = (await case.bench.get(f"{case.path}/versions", case.client)).json["versions"]
    assert listed == [report]
    for accept, status in (("application/pdf, application/json;q=0.5", 200), ("text/html, */*;q=0.1", 200),
                           ("image/png", 406), ("application/pdf;q=0", 406)):  # fmt: skip
        other = await case.bench.get(case.path, case.client, headers={"Accept": accept})
        media = "application/pdf" if status == 200 else "application/problem+json"
        assert (other.status, other.headers["Content-Type"].partition(";")[0]) == (status, media), accept


async def test_reading_is_audited_with_whose_data_left(case: Case) -> None:
    await case.bench.get(case.path, case.client)
    await case.bench.writer.flush()
    [printed] = await case.laboratory.audit("print")
    [told] = await case.laboratory.audit("disclose")
    assert printed["entity_kind"] == "report" and told["entity_id"] == case.order["patient"]


async def test_what_the_trail_refers_to_is_read_as_the_report_that_was_printed(case: Case) -> None:
    printed = await case.bench.get(case.path, case.client)
    await case.bench.get(f"{case.path}/versions", case.client)
    await case.bench.writer.flush()
    auditor = await case.laboratory.client_token("system/AuditEvent.rs", "system/DiagnosticReport.r", "system/Binary.r")
    events = [one["resource"] for one in (await case.bench.get("/fhir/AuditEvent", auditor)).json["entry"]]
    told = [one["entity"][0]["what"] for one in events if one["entity"][0]["description"] == "report"]
    assert len(told) == 2
    for what in told:
        assert (await case.bench.get(f"/fhir/{what['reference']}", auditor)).body == printed.body, what


async def test_who_may_not_read_results_gets_none(case: Case) -> None:
    wrong = await case.laboratory.client_token("system/Patient.rs")
    auditor = await case.laboratory.user_token(Role.AUDITOR)
    for token, status in ((wrong, 403), (auditor, 403), ("", 401)):
        for path in (case.path, f"{case.path}/versions"):
            assert (await case.bench.get(path, token)).status == status
    for path in (f"/api/reports/orders/{uuid4()}", "/api/reports/orders/x", f"{case.path}?version=2"):
        assert (await case.bench.get(path, case.client)).status == 404
    for query in ("version=x", "paper=a3", "language=de", "patient=1"):
        assert (await case.bench.get(f"{case.path}?{query}", case.client)).status == 400


async def test_another_laboratory_finds_nothing(case: Case) -> None:
    other = await found_laboratory(case.laboratory.database)
    for token in (await other.client_token(READ), await other.user_token(Role.LABORATORY_DIRECTOR)):
        answer = await case.bench.get(case.path, token)
        unknown = await case.bench.get(f"/api/reports/orders/{uuid4()}", token)
        assert (answer.status, answer.json) == (404, unknown.json)


async def test_how_reports_look_is_set_by_who_may(case: Case) -> None:
    path = "/api/reports/settings"
    assert (await case.bench.get(path, case.staff)).json["paper"] == "a4"
    change = {"address": "Jl. Sudirman 45", "paper": "letter", "version": 0}
    answer = await case.bench.ask("PUT", path, case.staff, json=change)
    assert answer.status == 200 and answer.json["version"] == 1
    assert (answer.json["address"], answer.json["paper"], answer.json["director"]) == ("Jl. Sudirman 45", "letter", "")
    assert (await case.bench.ask("PUT", path, case.staff, json=change)).status == 409
    for wrong in ({"paper": "a3"}, {"zone": "Mars"}, {"colour": "red"}):
        assert (await case.bench.ask("PUT", path, case.staff, json=wrong)).status == 422
    viewer = await case.laboratory.user_token(Role.VIEWER)
    assert (await case.bench.ask("PUT", path, viewer, json=change)).status == 403
    assert (await case.bench.ask("PUT", path, case.client, json=change)).status == 403
