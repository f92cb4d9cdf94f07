"""Laboratories, analyzers and subscriptions as they were: each version once, none where nothing changed, no secrets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from interface.driver import registry
from interface.flow import context
from interface.settings import Address, LinkSettings, Transport, TransportType
from interface.store.db import Database
from tests.api.bench import Answer, Bench, Laboratory, found_laboratory, serving
from tests.api.conftest import bench as bench
from tests.api.conftest import laboratory as laboratory
from tests.api.hooks_use import Hooked, hooked

READ = "system/*.rs"


async def history(bench: Bench, url: str, token: str) -> list[dict[str, Any]]:
    answer = await bench.get(f"/fhir/{url}/_history", token)
    assert answer.status == 200, answer.body
    assert (answer.json["type"], answer.json["total"]) == ("history", len(answer.json["entry"]))
    entries: list[dict[str, Any]] = answer.json["entry"]
    return entries


async def change(laboratory: Laboratory, *statements: str) -> None:
    """In one transaction of the laboratory's."""
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        for statement in statements:
            await connection.execute(statement)


async def kept(laboratory: Laboratory, kind: str) -> int:
    async with laboratory.database.organization(laboratory.organization_id) as connection:
        found: int = await connection.fetchval("select count(*) from lab.record_version where kind = $1", kind)
        return found


async def read_and_versions(bench: Bench, url: str, token: str) -> tuple[Answer, list[dict[str, Any]]]:
    """What is read now, and all it ever was; each is served under its own version too."""
    now = await bench.get(f"/fhir/{url}", token)
    entries = await history(bench, url, token)
    told = [entry["resource"] for entry in entries]
    assert told[0] == now.json and now.headers["ETag"] == f'W/"{now.json["meta"]["versionId"]}"'
    for entry in entries:
        version = entry["resource"]["meta"]["versionId"]
        again = await bench.get(f"/fhir/{url}/_history/{version}", token)
        assert (again.status, again.json) == (200, entry["resource"])
        assert again.headers["ETag"] == f'W/"{version}"' == entry["response"]["etag"]
        assert entry["response"]["lastModified"] == entry["resource"]["meta"]["lastUpdated"]
    times = [one["meta"]["lastUpdated"] for one in told]
    assert times == sorted(times, reverse=True)
    kind = url.partition("/")[0]
    methods = [(entry["request"]["method"], entry["request"]["url"]) for entry in entries]
    assert methods == [("PUT", url)] * (len(entries) - 1) + [("POST", kind)]
    return now, told


async def test_a_laboratory_is_served_as_it_was_called(bench: Bench, laboratory: Laboratory) -> None:
    token, url = await laboratory.client_token(READ), f"Organization/{laboratory.organization_id}"
    _, before = await read_and_versions(bench, url, token)
    assert [one["name"] for one in before] == ["Test Laboratory"]
    await change(laboratory, "update lab.organization set title = 'New Name'")
    await change(laboratory, "update lab.organization set title = 'New Name'")
    now, told = await read_and_versions(bench, url, token)
    assert [(one["meta"]["versionId"], one["name"]) for one in told] == [("2", "New Name"), ("1", "Test Laboratory")]
    assert told[1] == before[0]
    since = now.json["meta"]["lastUpdated"]
    changed = await bench.get(f"/fhir/Organization?_lastUpdated=ge{since}", token)
    assert [entry["resource"] for entry in changed.json["entry"]] == [now.json]
    unchanged = await bench.get(f"/fhir/{url}", token, headers={"If-None-Match": now.headers["ETag"]})
    assert unchanged.status == 304


async def test_an_analyzer_is_served_as_it_was_and_only_what_is_shown_makes_versions(
    bench: Bench, laboratory: Laboratory
) -> None:
    token, url = await laboratory.client_token(READ), f"Device/{laboratory.analyzer_id}"
    await change(laboratory, "update lab.analyzer set manufacturer = 'Maker', model = 'M-1'")
    await change(laboratory, "update lab.analyzer set serial = 'S-1'", "update lab.analyzer set serial = 'S-2'")
    _, told = await read_and_versions(bench, url, token)
    assert [(one["meta"]["versionId"], one.get("serialNumber"), one.get("modelNumber")) for one in told] == [
        ("3", "S-2", "M-1"), ("2", None, "M-1"), ("1", None, None)
    ]  # fmt: skip
    for statements in (
        ("update lab.analyzer set worklist = not worklist",),
        ("update lab.analyzer set driver = 'another'",),
        ("update lab.analyzer set serial = 'S-3'", "update lab.analyzer set serial = 'S-2'"),
        ("update lab.analyzer set serial = serial, name = name, model = model, manufacturer = manufacturer",),
    ):
        await change(laboratory, *statements)
    assert (await read_and_versions(bench, url, token))[1] == told
    assert await kept(laboratory, "analyzer") == 3


def _link(id: str, driver: str) -> LinkSettings:
    return LinkSettings(
        id, "main", driver, Transport(TransportType.TCP_LISTEN, Address("127.0.0.1", 4001)), analyzer="xn-1"
    )


async def _start(laboratory: Laboratory, *links: LinkSettings, model: str = "") -> None:
    """As the daemon's start does: every link of the configuration in one transaction."""
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        before = await context.Before.read(connection, laboratory.organization_id)
        for link in links:
            driver = registry.load(link.driver)
            driver = replace(driver, model=model) if model else driver
            await context.register(connection, laboratory.organization_id, link, driver, before)


async def test_maker_and_model_are_as_the_running_driver_says_and_a_start_makes_no_version(
    bench: Bench, laboratory: Laboratory
) -> None:
    pair = _link("xn-1", "sysmex_xn"), _link("xn-2", "generic_lis2")  # two links of one instrument
    for _ in range(3):
        await _start(laboratory, *pair[:1])
    token = await laboratory.client_token(READ)
    [device] = (await bench.get("/fhir/Device?device-name=xn-1", token)).json["entry"]
    url, said = f"Device/{device['resource']['id']}", device["resource"]
    assert said["manufacturer"] == registry.load("sysmex_xn").vendor and said["modelNumber"]
    assert len(await history(bench, url, token)) == 1
    for _ in range(3):
        await _start(laboratory, *pair)
    versions = len(await history(bench, url, token))
    assert versions <= 2, "the second link says otherwise, once"
    await _start(laboratory, *pair)
    assert len(await history(bench, url, token)) == versions


@pytest.fixture
async def emr(laboratory: Laboratory) -> AsyncIterator[Hooked]:
    async with hooked(laboratory) as emr:
        yield emr


SECRET = "Bearer s3cret"


async def test_a_subscription_is_served_as_it_was_without_its_secrets(emr: Hooked) -> None:
    made = await emr.subscribe(channel={"header": [f"Authorization: {SECRET}", "X-Site: 4"]})
    url = f"Subscription/{made['id']}"
    first = await emr.bench.get(f"/fhir/{url}/_history/1", emr.token)
    assert (first.status, first.json) == (200, made)
    wish = {**emr.wish("Observation?status=final"), "id": made["id"]}
    other = await emr.bench.ask("PUT", f"/fhir/{url}", emr.token, json=wish)
    same = await emr.bench.ask("PUT", f"/fhir/{url}", emr.token, json=wish)
    assert (other.status, same.status, same.json) == (200, 200, other.json)
    _, told = await read_and_versions(emr.bench, url, emr.token)
    assert told == [other.json, made]
    assert made["channel"]["header"] == ["Authorization: ***", "X-Site: ***"]
    async with emr.laboratory.database.organization(emr.laboratory.organization_id) as connection:
        rows = await connection.fetch("select body::text from lab.record_version where kind = 'subscription'")
    assert len(rows) == 2 and not any("s3cret" in row["body"] for row in rows)


async def test_a_headers_new_value_is_a_version_that_does_not_tell_it(emr: Hooked) -> None:
    made = await emr.subscribe(channel={"header": [f"Authorization: {SECRET}"]})
    url = f"Subscription/{made['id']}"
    for value, version in (("***", "1"), ("Bearer another", "2"), ("Bearer another", "2")):
        wish = {**emr.wish(channel={"header": [f"Authorization: {value}"]}), "id": made["id"]}
        answer = await emr.bench.ask("PUT", f"/fhir/{url}", emr.token, json=wish)
        assert (answer.status, answer.headers["ETag"]) == (200, f'W/"{version}"'), answer.body
    now, before = (await read_and_versions(emr.bench, url, emr.token))[1]
    assert now["channel"] == before["channel"] and b"another" not in str(now).encode()


async def test_what_a_sender_notes_is_a_version_only_where_the_client_sees_it(emr: Hooked) -> None:
    made = await emr.subscribe()
    url = f"Subscription/{made['id']}"
    for value in ("11.0", "12.0"):
        await emr.released(value)
        await emr.told()
    assert await kept(emr.laboratory, "subscription") == 1, "that it was told is none"
    emr.receiver.answers = [503, 503, 503]
    await emr.released("13.0")
    await emr.told()
    for _ in range(2):
        await emr.later(60)
    assert len(emr.receiver.got) == 5, "the third attempt failed like the first"
    _, told = await read_and_versions(emr.bench, url, emr.token)
    assert [(one["meta"]["versionId"], one["status"]) for one in told] == [("2", "error"), ("1", "active")]
    await emr.later(60)
    _, told = await read_and_versions(emr.bench, url, emr.token)
    assert [one["status"] for one in told] == ["active", "error", "active"]


async def test_a_deleted_subscription_has_its_history_and_says_that_it_was_deleted(emr: Hooked) -> None:
    made = await emr.subscribe(channel={"header": [f"Authorization: {SECRET}"]})
    url = f"Subscription/{made['id']}"
    assert (await emr.bench.ask("DELETE", f"/fhir/{url}", emr.token)).status == 204
    assert (await emr.bench.get(f"/fhir/{url}", emr.token)).status == 410
    deleted, created = await history(emr.bench, url, emr.token)
    assert (deleted["request"], deleted["response"]["status"]) == ({"method": "DELETE", "url": url}, "204")
    assert "resource" not in deleted and created["resource"] == made
    assert (await emr.bench.get(f"/fhir/{url}/_history/1", emr.token)).json == made
    gone = await emr.bench.get(f"/fhir/{url}/_history/2", emr.token)
    assert (gone.status, gone.json["issue"][0]["code"]) == (410, "deleted")


async def test_pages_and_since_are_as_of_every_history(emr: Hooked) -> None:
    made = await emr.subscribe()
    url = f"/fhir/Subscription/{made['id']}"
    for status in ("off", "requested", "off", "requested"):
        wish = {**emr.wish(), "id": made["id"], "status": status}
        assert (await emr.bench.ask("PUT", url, emr.token, json=wish)).status == 200
    paged: list[str] = []
    following: str | None = f"{url}/_history?_count=2"
    while following:
        page = (await emr.bench.get(following, emr.token)).json
        assert page["total"] == 5 and len(page["entry"]) <= 2
        paged += [entry["resource"]["meta"]["versionId"] for entry in page["entry"]]
        following = next((one["url"] for one in page["link"] if one["relation"] == "next"), None)
    assert paged == ["5", "4", "3", "2", "1"]
    assert (await emr.bench.get(f"{url}/_history?_since=2999-01-01", emr.token)).json["total"] == 0
    for query, refused in (("_count=x", 400), ("_since=x", 400), ("_cursor=77", 410)):
        assert (await emr.bench.get(f"{url}/_history?{query}", emr.token)).status == refused


async def test_subscriptions_are_found_by_each_parameter_in_pages(emr: Hooked) -> None:
    first = await emr.subscribe()
    second = await emr.subscribe("Patient", channel={"payload": "", "endpoint": f"{emr.receiver.url}/other"})
    at = second["meta"]["lastUpdated"]
    both = [first["id"], second["id"]]
    for query, expected in {
        "": both, "type=rest-hook": both, "type=email": [], "payload=application/fhir%2Bjson": both[:1],
        f"url={emr.receiver.url}/other": both[1:], f"url={emr.receiver.url}": [], "criteria=Patient": both[1:],
        f"_lastUpdated=lt{at}": both[:1], f"_lastUpdated=ge{at}": both[1:], f"_lastUpdated={at}": both[1:],
        "_lastUpdated=gt2999,lt2999": both, f"_lastUpdated=ne{at}": both[:1], f"_lastUpdated=gt{at}": [],
        f"_lastUpdated=le{at}": both, f"_id={both[1]},x": both[1:], "status=active,error": both, "status=off": [],
    }.items():  # fmt: skip
        found = (await emr.bench.get(f"/fhir/Subscription?{query}", emr.token)).json
        assert [one["resource"]["id"] for one in found.get("entry", [])] == expected, query
        assert found["total"] == len(expected)
    page = (await emr.bench.get("/fhir/Subscription?_count=1&type=rest-hook", emr.token)).json
    [following] = [one["url"] for one in page["link"] if one["relation"] == "next"]
    rest = (await emr.bench.get(following, emr.token)).json
    assert [one["resource"]["id"] for one in (*page["entry"], *rest["entry"])] == both
    assert (page["total"], rest["total"], len(rest["link"])) == (2, 2, 1)
    for query in ("_count=0", "_summary=count"):
        counted = (await emr.bench.get(f"/fhir/Subscription?{query}", emr.token)).json
        assert (counted["total"], "entry" in counted) == (2, False)
    for query in ("_count=x", "_lastUpdated=x", "status:not=off", "_summary=x", "_total=x", "_count=1&_count=2"):
        assert (await emr.bench.get(f"/fhir/Subscription?{query}", emr.token)).status == 400, query


async def test_of_subscriptions_as_much_is_shown_as_is_asked_for(emr: Hooked) -> None:
    made = await emr.subscribe(channel={"header": [f"Authorization: {SECRET}"]})
    paths = [f"Subscription/{made['id']}", f"Subscription/{made['id']}/_history/1"]
    needed = {"resourceType", "id", "meta", "status", "reason", "criteria", "channel"}
    for query, names in (("_elements=status", needed), ("_summary=true", set(made)), ("_summary=text", needed)):
        [found] = (await emr.bench.get(f"/fhir/Subscription?{query}", emr.token)).json["entry"]
        told = [found["resource"]] + [(await emr.bench.get(f"/fhir/{one}?{query}", emr.token)).json for one in paths]
        assert [set(one) for one in told] == [names] * 3, query
        assert all(one["meta"]["tag"][0]["code"] == "SUBSETTED" for one in told)
    strictly = {"Prefer": "handling=strict"}
    asked = "_summary=data&_elements=status&_total=accurate&_count=5&_format=json"
    answer = await emr.bench.get(f"/fhir/Subscription?{asked}", emr.token, headers=strictly)
    assert answer.status == 200 and "_elements=status" in answer.json["link"][0]["url"]


async def test_the_past_of_others_is_not_there_and_who_asked_for_it_is_known(database: Database) -> None:
    mine, theirs = await found_laboratory(database), await found_laboratory(database)
    async with hooked(theirs) as emr:
        made = await emr.subscribe()
        other = await theirs.client_token("system/*.cruds")  # of the same laboratory, and nobody else's either
        assert (await emr.bench.get(f"/fhir/Subscription/{made['id']}/_history", other)).status == 404
        assert (await emr.bench.get(f"/fhir/Subscription/{made['id']}/_history/1", other)).status == 404
    paths = [f"Organization/{theirs.organization_id}", f"Device/{theirs.analyzer_id}", f"Subscription/{made['id']}"]
    async with serving(database) as bench:
        token = await mine.client_token("system/*.cruds")
        for path in paths:
            for past in ("_history", "_history/1"):
                answer = await bench.get(f"/fhir/{path}/{past}", token)
                kind = path.partition("/")[0]
                unknown = await bench.get(f"/fhir/{kind}/{UUID(int=1)}/{past}", token)
                assert (answer.status, answer.body) == (404, unknown.body), path
        scopes = await mine.client_token("system/Observation.rs")
        for path in paths:
            assert (await bench.get(f"/fhir/{path}/_history", scopes)).status == 403
        await bench.writer.flush()
        for action in ("history", "vread"):
            asked = {f"{row['entity_kind']}/{row['entity_id']}" for row in await mine.audit(action)}
            assert asked >= set(paths), action
