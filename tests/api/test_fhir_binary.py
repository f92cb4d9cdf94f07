"""The PDF of a report over FHIR: what a DiagnosticReport says of it is so, and nobody has it who may not read that."""

from __future__ import annotations

import hashlib
from base64 import b64decode
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import pytest

from interface.domain.model import HoldReason, ResultStatus
from interface.domain.permissions import Role
from interface.domain.views import Audience
from interface.flow import report_watch
from interface.store.db import Database
from tests.api.bench import Bench, Laboratory, found_laboratory, serving

BOTH = ("system/DiagnosticReport.rs", "system/Binary.r")


@dataclass(frozen=True, slots=True)
class Case:
    bench: Bench
    laboratory: Laboratory
    order: dict[str, UUID]
    token: str

    async def form(self) -> dict[str, Any]:
        answer = await self.bench.get(f"/fhir/DiagnosticReport/{self.order['order']}", self.token)
        [form] = answer.json["presentedForm"]
        found: dict[str, Any] = form
        return found


@pytest.fixture
async def case(database: Database) -> AsyncIterator[Case]:
    laboratory = await found_laboratory(database)
    order = await laboratory.order(number="N-1")
    await laboratory.result(order, "13.50")
    async with serving(database) as bench:
        yield Case(bench, laboratory, order, await laboratory.client_token(*BOTH))


async def test_a_report_says_where_its_pdf_is_and_what_it_is(case: Case) -> None:
    before = await case.form()
    assert before == {
        "contentType": "application/pdf", "url": f"Binary/{case.order['order']}", "title": "Laboratory report N-1"
    }  # fmt: skip
    first = await case.bench.get(f"/fhir/{before['url']}", case.token)
    assert first.headers["Content-Type"] == "application/pdf" and first.body.startswith(b"%PDF-")
    form = await case.form()
    assert (form["size"], form["language"]) == (len(first.body), "en") and form["creation"]
    assert b64decode(form["hash"]) == hashlib.sha1(first.body, usedforsecurity=False).digest()
    again = await case.bench.get(f"/fhir/{form['url']}", case.token)
    assert again.body == first.body and form["url"] != before["url"]
    assert again.headers["X-Security-Context"] == f"DiagnosticReport/{case.order['order']}"
    known = {"If-None-Match": again.headers["ETag"]}
    assert (await case.bench.get(f"/fhir/{form['url']}", case.token, headers=known)).status == 304


async def test_what_is_hidden_changes_nothing_of_what_is_said_of_the_pdf(case: Case) -> None:
    """A released result has a change that waits, another is not released: the report that an EMR sees is the same."""
    await case.bench.get(f"/fhir/{(await case.form())['url']}", case.token)
    before = await case.form()
    assert before["hash"]
    async with case.laboratory.database.transaction(case.laboratory.organization_id) as connection:
        await connection.execute("update lab.result set pending_version_id = version_id")
    assert await case.form() == before
    await case.laboratory.result(case.order, "9.10", ResultStatus.PRELIMINARY)
    assert await case.form() == before
    await case.laboratory.result(case.order, "8.20")
    assert await case.form() != before, "what an EMR sees is another matter"


async def test_without_being_read_it_is_made_by_itself(case: Case) -> None:
    await report_watch.look(case.laboratory.database, case.laboratory.organization_id, Audience.EMR, deque())
    form = await case.form()
    assert form["hash"] and form["size"] and form["url"] != f"Binary/{case.order['order']}"


async def test_in_fhirs_own_form_it_is_a_resource(case: Case) -> None:
    raw = await case.bench.get(f"/fhir/{(await case.form())['url']}", case.token)
    url = f"/fhir/{(await case.form())['url']}"
    for asked in ({"headers": {"Accept": "application/fhir+json"}}, {"params": {"_format": "json"}}):
        answer = await case.bench.get(url, case.token, **asked)
        assert answer.headers["Content-Type"] == "application/fhir+json; charset=utf-8"
        assert (answer.json["resourceType"], answer.json["contentType"]) == ("Binary", "application/pdf")
        assert b64decode(answer.json["data"]) == raw.body and url.endswith(answer.json["id"])
        assert answer.json["securityContext"] == {"reference": f"DiagnosticReport/{case.order['order']}"}
    assert (await case.bench.get(url, case.token, headers={"Accept": "image/png"})).status == 406


async def test_who_may_not_read_the_report_has_no_pdf(case: Case) -> None:
    url = f"/fhir/{(await case.form())['url']}"
    for scopes in (("system/Binary.r",), ("system/DiagnosticReport.rs",), ("system/Observation.rs",)):
        assert (await case.bench.get(url, await case.laboratory.client_token(*scopes))).status == 403
    narrowed = await case.laboratory.client_token(f"system/DiagnosticReport.rs?patient={uuid4()}", "system/Binary.r")
    assert (await case.bench.get(url, narrowed)).status == 404
    other = await found_laboratory(case.laboratory.database)
    unknown = await case.bench.get(f"/fhir/Binary/{uuid4()}", case.token)
    for token in (await other.client_token(*BOTH), await other.user_token(Role.LABORATORY_DIRECTOR)):
        answer = await case.bench.get(url, token)
        assert (answer.status, answer.json) == (404, unknown.json)
    await case.bench.writer.flush()
    assert [row["detail"]["found"] for row in await case.laboratory.audit("read") if row["entity_kind"] == "Binary"]


async def test_what_is_not_released_has_none(case: Case) -> None:
    for status, held in ((ResultStatus.PRELIMINARY, ()), (ResultStatus.FINAL, (HoldReason.QUESTIONABLE,))):
        order = await case.laboratory.order()
        await case.laboratory.result(order, "66.60", status, held)
        answer = await case.bench.get(f"/fhir/DiagnosticReport/{order['order']}", case.token)
        assert "presentedForm" not in answer.json
        assert (await case.bench.get(f"/fhir/Binary/{order['order']}", case.token)).status == 404
