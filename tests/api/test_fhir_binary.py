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
    for known, status in (
        ({"If-None-Match": again.headers["ETag"]}, 304), ({"If-Modified-Since": again.headers["Last-Modified"]}, 200),
        ({"If-Modified-Since": "Thu, 01 Jan 2026 00:00:00 GMT"}, 200),
        ({"If-None-Match": '"x"', "If-Modified-Since": again.headers["Last-Modified"]}, 200),
    ):  # fmt: skip
        assert (await case.bench.get(f"/fhir/{form['url']}", case.token, headers=known)).status == status, known


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


async def test_who_has_the_report_is_told_of_a_pdf_that_says_something_else(case: Case) -> None:
    """The patient's name, a specimen that is unfit: they are in no other element of a DiagnosticReport."""
    lab, path = case.laboratory, f"/fhir/DiagnosticReport/{case.order['order']}"

    async def look() -> None:
        await report_watch.look(lab.database, lab.organization_id, Audience.EMR, deque())

    async def end() -> int:
        found: int = (await case.bench.get("/api/changes?after=now", case.token)).json["next"]
        return found

    await look()
    for change in ("patient set family = 'Moster', version = version + 1", "specimen set state = 'rejected', status ="
                   " 'unsatisfactory', reject_code = 'clotted', version = version + 1"):  # fmt: skip
        seen, before = await case.bench.get(path, case.token), await end()
        async with lab.database.transaction(lab.organization_id) as connection:
            table = change.partition(" ")[0]
            await connection.execute(f"update lab.{change} where id = $1", case.order[table])
        await look()
        again = await case.bench.get(path, case.token, headers={"If-None-Match": seen.headers["ETag"]})
        assert again.status == 200 and again.json["presentedForm"] != seen.json["presentedForm"], change
        assert again.json["meta"]["lastUpdated"] > seen.json["meta"]["lastUpdated"]
        told = (await case.bench.get(f"/api/changes?after={before}", case.token)).json["changes"]
        assert [(one["type"], one["version"]) for one in told] == [
            ("DiagnosticReport", again.json["meta"]["versionId"])
        ]
        await look()
        assert (await case.bench.get(path, case.token)).json == again.json, "it comes to rest"


async def test_so_is_who_has_one_of_before_a_clock_was_put_back(case: Case) -> None:
    lab, path = case.laboratory, f"/fhir/DiagnosticReport/{case.order['order']}"

    async def look() -> None:
        await report_watch.look(lab.database, lab.organization_id, Audience.EMR, deque())

    async with lab.database.transaction(lab.organization_id) as connection:
        await connection.execute("update lab.result set updated_at = now() + interval '1 hour'")
    await look()
    seen = await case.bench.get(path, case.token)
    before = (await case.bench.get("/api/changes?after=now", case.token)).json["next"]
    async with lab.database.transaction(lab.organization_id) as connection:
        await connection.execute("update lab.patient set family = 'Moster', version = version + 1")
    for _ in range(2):  # it comes to rest
        await look()
        again = await case.bench.get(path, case.token, headers={"If-None-Match": seen.headers["ETag"]})
        told = (await case.bench.get(f"/api/changes?after={before}", case.token)).json["changes"]
        assert (again.status, [one["type"] for one in told]) == (200, ["DiagnosticReport"])
        assert again.json["meta"]["lastUpdated"] > seen.json["meta"]["lastUpdated"]


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
    fhir = {"Accept": "application/fhir+json"}
    plain = await case.bench.get(url, case.token, params={"_format": "application/pdf"}, headers=fhir)
    assert (plain.status, plain.body) == (200, raw.body)


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


async def test_a_report_is_served_as_it_was_printed_each_time(case: Case) -> None:
    order = f"Binary/{case.order['order']}"
    first = await case.bench.get(f"/fhir/{order}", case.token)
    await case.laboratory.result(case.order, "8.20")
    second = await case.bench.get(f"/fhir/{order}", case.token)
    assert first.body != second.body
    past = (await case.bench.get(f"/fhir/{order}/_history", case.token)).json
    entries = past["entry"]
    assert (past["type"], past["total"], [one["response"]["etag"] for one in entries]) == (
        "history", 2, ['W/"2"', 'W/"1"']
    )  # fmt: skip
    assert [one["request"] for one in entries] == [
        {"method": "PUT", "url": order}, {"method": "POST", "url": "Binary"}
    ]  # fmt: skip
    assert [b64decode(one["resource"]["data"]) for one in entries] == [second.body, first.body]
    for version, body in (("1", first.body), ("2", second.body)):
        raw = await case.bench.get(f"/fhir/{order}/_history/{version}", case.token)
        assert (raw.headers["Content-Type"], raw.body) == ("application/pdf", body)
        fhir = {"Accept": "application/fhir+json"}
        resource = await case.bench.get(f"/fhir/{order}/_history/{version}", case.token, headers=fhir)
        assert resource.json["meta"]["versionId"] == version and b64decode(resource.json["data"]) == body
    paged = (await case.bench.get(f"/fhir/{order}/_history?_count=1", case.token)).json
    [following] = [one["url"] for one in paged["link"] if one["relation"] == "next"]
    assert [one["resource"] for one in (await case.bench.get(following, case.token)).json["entry"]] == [
        entries[1]["resource"]
    ]
    # a version by its own id is that version and no other
    own = f"/fhir/{(await case.form())['url']}"
    [only] = (await case.bench.get(f"{own}/_history", case.token)).json["entry"]
    assert only["resource"]["meta"]["versionId"] == "2" and b64decode(only["resource"]["data"]) == second.body
    assert (await case.bench.get(f"{own}/_history/1", case.token)).status == 404


async def test_they_are_found_by_id_and_not_listed_without(case: Case) -> None:
    await case.bench.get(f"/fhir/Binary/{case.order['order']}", case.token)
    version, order = (await case.form())["url"].removeprefix("Binary/"), str(case.order["order"])
    token = await case.laboratory.client_token("system/DiagnosticReport.rs", "system/Binary.rs")
    found = await case.bench.get(f"/fhir/Binary?_id={version},{uuid4()},x,{order}", token)
    assert (found.json["type"], found.json["total"]) == ("searchset", 2)
    assert [one["resource"]["id"] for one in found.json["entry"]] == [version, order]
    read = await case.bench.get(f"/fhir/Binary/{version}", token, headers={"Accept": "application/fhir+json"})
    assert found.json["entry"][0]["resource"] == read.json
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    posted = await case.bench.ask("POST", "/fhir/Binary/_search", token, data=f"_id={version}", headers=form)
    assert [one["resource"] for one in posted.json["entry"]] == [read.json]
    page = (await case.bench.get(f"/fhir/Binary?_id={version},{order}&_count=1", token)).json
    [following] = [one["url"] for one in page["link"] if one["relation"] == "next"]
    assert set(following.partition("?")[2].partition("=")[0].split("&")) == {"_cursor"}
    rest = (await case.bench.get(following, token)).json
    assert [one["resource"]["id"] for one in (*page["entry"], *rest["entry"])] == [version, order]
    assert [one["relation"] for one in rest["link"]] == ["self"]
    for query, total in ((f"_id={version}&_id={order}", 0), (f"_id={version}&_count=0", 1),
                         (f"_id={version}&_lastUpdated=gt2999", 0)):  # fmt: skip
        counted = (await case.bench.get(f"/fhir/Binary?{query}", token)).json
        assert (counted["total"], "entry" in counted) == (total, False)
    for query in ("", "_count=5", f"_id:missing={version}", "_id=" + ",".join(str(uuid4()) for _ in range(51))):
        assert (await case.bench.get(f"/fhir/Binary?{query}", token)).status == 400, query
    strictly = {"Prefer": "handling=strict"}
    assert (await case.bench.get(f"/fhir/Binary?_id={order}&x=1", token, headers=strictly)).status == 400
    assert (await case.bench.get(f"/fhir/Binary?_id={order}", case.token)).status == 403, "that needs .s"


async def test_as_much_is_shown_as_is_asked_for(case: Case) -> None:
    token = await case.laboratory.client_token("system/DiagnosticReport.rs", "system/Binary.rs")
    binary, fhir = f"/fhir/Binary/{case.order['order']}", {"Accept": "application/fhir+json"}
    for query, more in (("_elements=contentType", set()), ("_summary=true", {"securityContext"})):
        [found] = (await case.bench.get(f"/fhir/Binary?_id={case.order['order']}&{query}", token)).json["entry"]
        read = await case.bench.get(f"{binary}?{query}", token, headers=fhir)
        past = await case.bench.get(f"{binary}/_history/1?{query}", token, headers=fhir)
        for one in (found["resource"], read.json, past.json):
            assert set(one) == {"resourceType", "id", "meta", "contentType"} | more
    counted = (await case.bench.get(f"/fhir/Binary?_id={case.order['order']}&_summary=count", token)).json
    assert (counted["total"], "entry" in counted) == (1, False)


async def test_what_stands_in_the_way_of_a_read_stands_in_the_way_of_the_past_and_of_a_search(case: Case) -> None:
    order = case.order["order"]
    await case.bench.get(f"/fhir/Binary/{order}", case.token)
    paths = (f"Binary/{order}", f"Binary/{order}/_history", f"Binary/{order}/_history/1")
    reports, binaries = "system/DiagnosticReport.rs", "system/Binary.rs"
    patient, nobody = (f"patient=Patient/{id}" for id in (case.order["patient"], uuid4()))
    strangers = await found_laboratory(case.laboratory.database)
    for laboratory, scopes, status in (
        (case.laboratory, (reports, binaries), 200), (case.laboratory, (f"{reports}?{patient}", binaries), 200),
        (case.laboratory, (f"{reports}?{nobody}", binaries), 404), (strangers, (reports, binaries), 404),
    ):  # fmt: skip
        token = await laboratory.client_token(*scopes)
        for path in paths:
            assert (await case.bench.get(f"/fhir/{path}", token)).status == status, (path, scopes)
        total = (await case.bench.get(f"/fhir/Binary?_id={order}", token)).json["total"]
        assert total == (1 if status == 200 else 0), scopes
    await case.bench.writer.flush()
    for action in ("read", "vread", "history"):
        assert [row["entity_id"] for row in await strangers.audit(action)] == [order], action
    [found, *_] = [row for row in await case.laboratory.audit("search") if row["entity_kind"] == "Binary"]
    assert found["detail"]["matches"] == "1"
    shown = [row for row in await case.laboratory.audit("disclose") if row["detail"]["by"].endswith("Binary")]
    assert {row["detail"]["by"].partition(" ")[0] for row in shown} == {"read", "vread", "history", "search"}
