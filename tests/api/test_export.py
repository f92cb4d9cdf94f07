"""Bulk export: what a client may read, whole, once begun to its end, and for nobody else."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import orjson
import pytest

from interface.api.fhir.export import exporter
from interface.domain.model import HoldReason, ResultStatus
from interface.domain.permissions import Role
from interface.domain.views import Actor, ActorKind
from interface.flow import actors, exporting
from interface.flow.exporting import Exporter
from interface.flow.feed import Feed
from interface.render.json import dumps
from interface.settings import Settings
from interface.store.ids import uuid7
from tests.api.bench import Answer, Bench, Laboratory, found_laboratory, serving

ASYNC = {"Prefer": "respond-async"}
HELD = (HoldReason.QUESTIONABLE,)


@dataclass(slots=True)
class Export:
    laboratory: Laboratory
    bench: Bench
    folder: Path
    feed: Feed
    exporter: Exporter
    token: str

    def another(self) -> Exporter:
        """As a process that starts anew."""
        return exporter(Settings(self.folder), self.laboratory.database, self.feed)

    async def begin(self, query: str = "", token: str = "", level: str = "") -> str:
        answer = await self.bench.get(f"/fhir{level}/$export?{query}", token or self.token, headers=ASYNC)
        assert answer.status == 202, answer.body
        return answer.headers["Content-Location"]

    async def work(self) -> None:
        while await self.exporter.work(self.laboratory.organization_id):
            pass

    async def files(self, url: str, token: str = "") -> dict[str, list[Any]]:
        """The resources of each type of a job that is at its end."""
        answer = await self.bench.get(url, token or self.token)
        assert answer.status == 200, answer.body
        found = {}
        for one in answer.json["output"]:
            file = await self.bench.get(one["url"], token or self.token)
            assert (file.status, file.headers["Content-Type"]) == (200, "application/fhir+ndjson")
            found[one["type"]] = [orjson.loads(line) for line in file.body.splitlines()]
            assert len(found[one["type"]]) == one["count"]
        return found

    async def exported(self, query: str = "", token: str = "", level: str = "") -> dict[str, list[Any]]:
        url = await self.begin(query, token, level)
        await self.work()
        return await self.files(url, token)


@pytest.fixture
async def export(laboratory: Laboratory, tmp_path: Path) -> AsyncIterator[Export]:
    feed = Feed(laboratory.database)
    async with serving(laboratory.database, feed=feed, state_dir=tmp_path) as bench:
        made = exporter(Settings(tmp_path), laboratory.database, feed)
        yield Export(laboratory, bench, tmp_path, feed, made, await laboratory.client_token("system/*.rs"))


def values(found: dict[str, list[Any]]) -> set[str]:
    return {str(one["valueQuantity"]["value"]) for one in found.get("Observation", [])}


async def test_what_the_trail_says_of_an_export_names_its_job(export: Export) -> None:
    await export.laboratory.result(await export.laboratory.order())
    url = await export.begin("_type=Observation,Patient")
    await export.work()
    await export.files(url)
    await export.bench.writer.flush()
    auditor = await export.laboratory.client_token("system/AuditEvent.rs")
    events = (await export.bench.get("/fhir/AuditEvent", auditor)).json["entry"]
    told = [one["resource"]["entity"][0] for one in events if one["resource"]["subtype"][0]["code"] == "operation"]
    fetched = [one for one in told if one["description"] != "export"]
    job = {"system": "urn:labora:export", "value": url.rpartition("/")[2]}
    assert {one["description"] for one in fetched} == {"Observation", "Patient"}
    assert [one["what"] for one in fetched] == [{"identifier": job}] * 2
    assert {one["role"]["code"] for one in fetched} == {"4"}, "it is no patient's"


async def test_everything_that_the_client_may_read_is_in_the_files(
    export: Export, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "PAGE", 2)
    for value in ("11.1", "11.2", "11.3", "11.4", "11.5"):
        await export.laboratory.result(of := await export.laboratory.order(), value)
    await export.laboratory.result(of, "9.1", status=ResultStatus.PRELIMINARY)
    await export.laboratory.result(of, "9.2", held=HELD)
    other = await found_laboratory(export.laboratory.database)
    await other.result(await other.order(), "1.0")
    url = await export.begin()
    waiting = await export.bench.get(url, export.token)
    assert (waiting.status, waiting.headers["Retry-After"]) == (202, "5")
    assert waiting.headers["X-Progress"].startswith("0 resources")
    await export.work()
    found = await export.files(url)
    assert values(found) == {"11.1", "11.2", "11.3", "11.4", "11.5"}
    assert {
        type: len(found[type]) for type in ("Patient", "ServiceRequest", "Specimen", "Observation")
    } == dict.fromkeys(("Patient", "ServiceRequest", "Specimen", "Observation"), 5)
    manifest = (await export.bench.get(url, export.token)).json
    assert manifest["requiresAccessToken"] and manifest["request"].endswith("/fhir/$export")
    one = next(each for each in found["Observation"] if each["valueQuantity"]["value"] == 11.1)
    assert one == (await export.bench.get(f"/fhir/Observation/{one['id']}", export.token)).json
    for path in export.folder.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, "nobody but the service reads it"


async def test_it_may_be_begun_by_a_post_with_its_parameters_in_the_body(export: Export) -> None:
    of = await export.laboratory.order()
    await export.laboratory.result(of, "11.1")
    await export.laboratory.result(of, "5.5", loinc="2345-7", test_code="GLU")
    said = {
        "_type": "Observation,Patient", "_typeFilter": "Observation?code=2345-7", "_since": "2026-01-01T00:00:00Z",
        "_outputFormat": "application/fhir+ndjson",
    }  # fmt: skip
    kinds = {"_since": "valueInstant"}
    body = {
        "resourceType": "Parameters",
        "parameter": [{"name": name, kinds.get(name, "valueString"): value} for name, value in said.items()],
    }
    for level in ("", "/Patient"):
        headers = {**ASYNC, "Idempotency-Key": f"export{level}"}
        url = f"/fhir{level}/$export"
        begun = await export.bench.ask("POST", url, export.token, json=body, headers=headers)
        assert begun.status == 202, begun.body
        again = await export.bench.ask("POST", url, export.token, json=body, headers=headers)
        assert again.status == 202
        where = begun.headers["Content-Location"]
        assert again.headers["Content-Location"] == where, "once, however often it is sent"
        await export.work()
        found = await export.files(where)
        assert (set(found), values(found)) == ({"Observation", "Patient"}, {"5.5"})
        manifest = (await export.bench.get(where, export.token)).json
        assert manifest["request"].endswith(url), "the URL alone, as Bulk Data has it"
    one = {
        "resourceType": "Parameters",
        "parameter": [{"name": "patient", "valueReference": {"reference": "Patient/1"}}],
    }
    refused = await export.bench.ask("POST", "/fhir/Patient/$export", export.token, json=one, headers=ASYNC)
    assert (refused.status, "'patient'" in refused.json["issue"][0]["diagnostics"]) == (400, True)
    assert (await export.bench.ask("POST", "/fhir/$export", export.token, headers=ASYNC)).status == 202
    group = await export.bench.ask("POST", f"/fhir/Group/{uuid7()}/$export", export.token, headers=ASYNC)
    assert group.status == 404


async def test_types_filters_and_scopes_narrow_it(export: Export) -> None:
    of = await export.laboratory.order()
    await export.laboratory.result(of, "11.1")
    await export.laboratory.result(of, "5.5", loinc="2345-7", test_code="GLU")
    filtered = await export.exported("_type=Observation,Patient&_typeFilter=Observation%3Fcode%3D2345-7")
    assert (set(filtered), values(filtered)) == ({"Observation", "Patient"}, {"5.5"})
    token = await export.laboratory.client_token(
        "system/Observation.rs?code=http://loinc.org|718-7", "system/Patient.rs"
    )
    assert values(narrow := await export.exported(token=token, level="/Patient")) == {"11.1"}
    assert set(narrow) == {"Observation", "Patient"}


async def test_a_token_that_reads_less_has_no_file_that_another_asked_for(export: Export) -> None:
    of = await export.laboratory.order()
    await export.laboratory.result(of, "11.1")
    await export.laboratory.result(of, "5.5", loinc="2345-7", test_code="GLU")
    url = await export.begin("_type=Observation")
    await export.work()
    [file] = [one["url"] for one in (await export.bench.get(url, export.token)).json["output"]]
    hgb, glu = (f"system/Observation.rs?code=http://loinc.org|{code}" for code in ("718-7", "2345-7"))
    for scopes, status in (([hgb], 403), ([hgb, glu], 403), (["system/Observation.r", hgb], 200)):
        async with export.laboratory.database.transaction(export.laboratory.organization_id) as connection:
            await connection.execute("update lab.access_token set scopes = $1 where client_id = (select client_id from"
                                     " lab.export_job)", ["system/Patient.rs", *scopes])  # fmt: skip
        assert (await export.bench.get(file, export.token)).status == status, scopes


async def test_what_changed_since_the_last_export_is_in_the_next(export: Export) -> None:
    await export.laboratory.result(await export.laboratory.order(), "11.1")
    url = await export.begin("_type=Observation")
    async with export.laboratory.database.transaction(export.laboratory.organization_id) as slow:
        # under way while the first export reads, with a time of change from before it
        await slow.execute("insert into lab.patient (id, organization_id) values (lab.new_id(), $1)",
                           export.laboratory.organization_id)  # fmt: skip
        await export.work()
    since = (await export.bench.get(url, export.token)).json["transactionTime"]
    await export.laboratory.result(await export.laboratory.order(), "11.2")
    found = await export.exported(f"_since={since}")
    assert values(found) == {"11.2"}
    assert len(found["Patient"]) == 2, "the late one and the new order's"


@pytest.mark.parametrize(
    "said", [lambda text: text, lambda text: text.partition(".")[0] + "Z"], ids=["whole", "to the second"]
)
async def test_what_changed_since_an_export_of_a_clock_that_was_ahead_is_in_the_next(
    export: Export, said: Callable[[str], str]
) -> None:
    first = await export.exported("_type=Patient")
    assert first == {}
    url = await export.begin("_type=Patient")
    await export.work()
    own = export.laboratory.organization_id
    async with export.laboratory.database.transaction(own) as connection:
        await connection.execute("update lab.export_job set transaction_time = transaction_time + interval '3 hours'")
    since = (await export.bench.get(url, export.token)).json["transactionTime"]
    assert (await export.exported(f"_since={said(since)}")) == {}
    await export.laboratory.order()
    assert len((await export.exported(f"_since={said(since)}"))["Patient"]) == 1


async def test_an_export_that_a_clock_that_was_ahead_has_claimed_is_gone_on_with(export: Export) -> None:
    await export.laboratory.order()
    url = await export.begin("_type=Patient")
    own = export.laboratory.organization_id
    async with export.laboratory.database.transaction(own) as connection:
        await connection.execute(
            "update lab.export_job set state = 'running', claimed_by = $1, claimed_until = now() + interval '1 year'",
            uuid7(),
        )
    await export.work()
    assert len((await export.files(url))["Patient"]) == 1


@pytest.mark.parametrize("kept", [True, False], ids=["here", "where its files are not"])
async def test_a_process_that_dies_leaves_what_is_whole_and_another_goes_on(
    export: Export, monkeypatch: pytest.MonkeyPatch, kept: bool
) -> None:
    await export.laboratory.result(await export.laboratory.order(), "11.1")
    url = await export.begin("_type=Patient,Observation")

    def dies(value: Any) -> bytes:
        if value["resourceType"] == "Observation":
            raise SystemExit
        return dumps(value)

    monkeypatch.setattr(exporting, "dumps", dies)
    with pytest.raises(SystemExit):
        await export.work()
    monkeypatch.setattr(exporting, "dumps", dumps)
    progress = (await export.bench.get(url, export.token)).headers["X-Progress"]
    assert progress.endswith("1 of 2 types")
    now = datetime.now(UTC)
    rival = export.another()
    assert not await rival.work(export.laboratory.organization_id), "it is claimed"
    rival._now = lambda: now + timedelta(seconds=exporting.LEASE_S + 1)
    export.exporter = rival
    if not kept:
        shutil.rmtree(export.folder / "exports")
    await export.work()
    found = await export.files(url)
    assert (values(found), len(found["Patient"])) == ({"11.1"}, 1)


async def test_what_never_comes_to_its_end_fails_and_says_so(export: Export, monkeypatch: pytest.MonkeyPatch) -> None:
    await export.laboratory.order()
    url = await export.begin()
    monkeypatch.setattr(exporting, "LEASE_S", -1.0)

    def dies(_: Any) -> bytes:
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(exporting, "dumps", dies)
        for _ in range(exporting.MOST_ATTEMPTS):
            with pytest.raises(SystemExit):
                await export.work()
    await export.work()
    answer = await export.bench.get(url, export.token)
    assert (answer.status, answer.json["resourceType"]) == (500, "OperationOutcome")
    assert "never came to its end" in answer.json["issue"][0]["diagnostics"]


async def test_a_stop_is_gone_on_with_at_once(export: Export, monkeypatch: pytest.MonkeyPatch) -> None:
    await export.laboratory.order()
    url = await export.begin("_type=Patient")
    began, go = asyncio.Event(), asyncio.Event()

    async def slow(*_: Any, **__: Any) -> Any:
        began.set()
        await go.wait()

    with monkeypatch.context() as patch:
        patch.setattr(export.exporter, "_file", slow)
        task = asyncio.create_task(export.work())
        await began.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    export.exporter = export.another()
    await export.work()
    assert len((await export.files(url))["Patient"]) == 1


async def test_only_so_many_are_under_way_and_a_cancelled_one_is_gone(export: Export) -> None:
    await export.laboratory.order()
    urls = [await export.begin() for _ in range(exporting.MOST_OF_A_CLIENT)]
    refused = await export.bench.get("/fhir/$export", export.token, headers=ASYNC)
    assert (refused.status, refused.json["issue"][0]["code"]) == (429, "throttled")
    assert (await export.bench.ask("DELETE", urls[0], export.token)).status == 202
    assert (await export.bench.get(urls[0], export.token)).status == 404
    await export.work()
    file = (await export.bench.get(urls[1], export.token)).json["output"][0]["url"]
    job = UUID(urls[1].rpartition("/")[2])
    assert export.exporter.folder_of(job).is_dir()
    now = datetime.now(UTC) + timedelta(seconds=exporting.KEPT_S + 60)
    export.exporter._now = lambda: now
    await export.exporter.sweep(export.laboratory.organization_id)
    assert not export.exporter.folder_of(job).exists()
    for url in (urls[1], file):
        assert (await export.bench.get(url, export.token)).status == 404


async def test_what_a_client_lets_lie_does_not_fill_the_disk(export: Export, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "MOST_KEPT", 2)
    other = await export.laboratory.client_token("system/*.rs")
    kept = await export.begin("_type=Patient", other)
    urls = []
    for _ in range(4):
        urls.append(await export.begin("_type=Patient"))
        await export.work()
        await export.exporter.sweep(export.laboratory.organization_id)
    statuses = [(await export.bench.get(url, export.token)).status for url in urls]
    assert statuses == [404, 200, 200, 200], "what was there when the last began, and the last"
    assert (await export.bench.get(kept, other)).status == 200, "each has its own"
    assert len(list(export.folder.glob("exports/*"))) == 4


async def test_files_that_no_sweep_comes_to_go_all_the_same(export: Export) -> None:
    """After a restart a laboratory without links is known only once somebody asks for it."""
    url = await export.begin("_type=Patient")
    await export.work()
    folder = export.exporter.folder_of(UUID(url.rpartition("/")[2]))
    now = [datetime.now(UTC)]
    nobody = Exporter(export.laboratory.database, Feed(export.laboratory.database), export.exporter._reading,
                      folder.parent, lambda: now[0])  # fmt: skip
    for days, there in ((1.9, True), (2.1, False)):
        now[0] += timedelta(seconds=days * exporting.KEPT_S)
        nobody.tidy()
        assert folder.exists() is there
        now[0] -= timedelta(seconds=days * exporting.KEPT_S)


async def test_of_a_client_that_is_disabled_nothing_goes_on(export: Export) -> None:
    await export.laboratory.order()
    done, waits = await export.begin("_type=Patient"), ""
    await export.work()
    [file] = [one["url"] for one in (await export.bench.get(done, export.token)).json["output"]]
    waits = await export.begin("_type=Patient")
    async with export.laboratory.database.organization(export.laboratory.organization_id) as connection:
        name = await connection.fetchval("select name from lab.client")
    actor = Actor(ActorKind.USER, uuid7(), "admin", export.laboratory.organization_id, frozenset({"client:write"}))
    await actors.disable_client(export.laboratory.database, actor, name)
    for method, url in (("GET", done), ("GET", waits), ("GET", file), ("DELETE", done)):
        assert (await export.bench.ask(method, url, export.token)).status == 401
    await export.work()
    job = UUID(waits.rpartition("/")[2])
    async with export.laboratory.database.organization(export.laboratory.organization_id) as connection:
        row = await connection.fetchrow("select state, error from lab.export_job where id = $1", job)
    assert row is not None and tuple(row) == ("failed", "its client is disabled")
    assert not export.exporter.folder_of(job).exists()


async def test_nobody_else_comes_near_it(export: Export) -> None:
    await export.laboratory.order()
    url = await export.begin()
    await export.work()
    file = (await export.bench.get(url, export.token)).json["output"][0]["url"]
    strangers = [
        await export.laboratory.client_token("system/*.rs"),
        await (await found_laboratory(export.laboratory.database)).client_token("system/*.rs"),
    ]
    for token in strangers:
        for method, at in (("GET", url), ("DELETE", url), ("GET", file)):
            assert (await export.bench.ask(method, at, token)).status == 404
    for name in ("..%2F..%2Fconfig.toml", "1.Patient.part", "2.Patient.ndjson"):
        path = urlsplit(file).path.rpartition("/")[0]
        assert (await export.bench.get(f"{path}/{name}", export.token)).status == 404
    user = await export.laboratory.user_token(Role.ADMINISTRATOR)
    assert [(await export.bench.get(at, token)).status for at, token in ((url, user), (file, user), (file, ""))] == [
        403, 403, 401,
    ]  # fmt: skip


async def test_what_is_not_supported_is_refused_in_words(export: Export) -> None:
    narrow = await export.laboratory.client_token("system/Patient.rs")
    cases: list[tuple[str, dict[str, str], str, int]] = [
        ("/fhir/$export", {}, export.token, 400), ("/fhir/$export?_type=Medication", ASYNC, export.token, 400),
        ("/fhir/$export?_outputFormat=text/csv", ASYNC, export.token, 400),
        ("/fhir/$export?_since=yesterday", ASYNC, export.token, 400),
        ("/fhir/$export?_elements=id", ASYNC, export.token, 400),
        ("/fhir/$export?_typeFilter=Observation%3Fnothing%3D1", ASYNC, export.token, 400),
        ("/fhir/$export?_type=Observation", ASYNC, narrow, 403),
        (f"/fhir/Group/{UUID(int=1)}/$export", ASYNC, export.token, 404),
    ]  # fmt: skip
    answers: list[Answer] = []
    for path, headers, token, status in cases:
        answer = await export.bench.get(path, token, headers=headers)
        assert (answer.status, answer.json["resourceType"]) == (status, "OperationOutcome"), (path, answer.body)
        answers.append(answer)
    assert "Groups" in answers[-1].json["issue"][0]["diagnostics"]
