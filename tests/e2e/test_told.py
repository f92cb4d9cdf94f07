"""A whole daemon tells of a release, in every way there is, once a person has released and not before."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from interface.daemon import started
from interface.domain.permissions import Role
from interface.flow.actors import find_organization
from interface.settings import ApiSettings, TransportType
from interface.simulator import parse_source, play
from interface.store.db import Database
from tests.api.bench import Answer, Laboratory
from tests.api.hooks_use import receiving
from tests.conftest import FOUNDED
from tests.e2e.daemon import ANY, eventually, link, settings

RESULT = (
    b"H|\\^&|C1||Testmaker^Bench^1||||||||LIS2-A2|20260102030405\rP|1\rO|1|S1||^^^HGB|R\r"
    b"R|1|^^^HGB|13.50|g/dL||N||F||||20260102030000\rL|1|N\r"
)


async def test_a_release_reaches_the_endpoint_the_stream_and_the_export(founded_url: str, tmp_path: Path) -> None:
    async with receiving() as receiver, aiohttp.ClientSession() as session:
        api = ApiSettings(ANY, hooks=(receiver.url,))
        links = (link("astm", TransportType.TCP_LISTEN, "generic_lis2", FOUNDED),)
        async with started(replace(settings(tmp_path, founded_url), api=api, links=links)) as daemon:
            database = await Database.connect(founded_url)
            laboratory = Laboratory(database, await find_organization(database, FOUNDED), FOUNDED)
            await laboratory.user()
            emr = await laboratory.client_token("system/*.cruds")
            person = await laboratory.user_token(Role.TECHNOLOGIST)
            await laboratory.order("S1")

            async def ask(method: str, path: str, token: str, **options: object) -> Answer:
                url = path if path.startswith("http") else f"http://{daemon.api}{path}"
                sent = {"Authorization": f"Bearer {token}", "Prefer": "respond-async"}
                async with session.request(method, url, headers=sent, **options) as response:  # type: ignore[arg-type]
                    return Answer(response.status, response.headers, await response.read())

            wish = {
                "resourceType": "Subscription", "status": "requested", "reason": "test", "criteria": "Observation",
                "channel": {"type": "rest-hook", "endpoint": receiver.url, "payload": "application/fhir+json"},
            }  # fmt: skip
            assert (await ask("POST", "/fhir/Subscription", emr, json=wish)).status == 201
            url, head = f"http://{daemon.api}/api/events", {"Authorization": f"Bearer {emr}"}
            async with session.get(url, headers=head) as stream:
                assert (await play(parse_source(RESULT), daemon.links["astm"])).complete

                async def decided() -> dict[str, Any]:
                    found = (await ask("GET", "/api/results", person)).json["results"]
                    return found[0] if found else {}

                result = await eventually(decided)
                id, seen = result["id"], {"comment": "seen", "version": result["version"]}
                assert receiver.got == []
                released = await ask("POST", f"/api/results/{id}/release", person, json=seen)
                assert released.status == 200, released.body

                async def told() -> bool:
                    return bool(receiver.got)

                await eventually(told)
                assert receiver.paths == [f"PUT /Observation/{id}"]
                async with asyncio.timeout(60):
                    async for line in stream.content:
                        if line.startswith(b"data: ") and orjson.loads(line[6:])["id"] == id:
                            break
            begun = await ask("GET", "/fhir/$export?_type=Observation", emr)

            async def exported() -> Answer | None:
                # the address that clients are given is that of the configuration, whose port is any
                path = "/fhir/" + begun.headers["Content-Location"].partition("/fhir/")[2]
                answer = await ask("GET", path, emr)
                return answer if answer.status == 200 else None

            manifest = await eventually(exported)
            assert manifest is not None
            assert [one["count"] for one in manifest.json["output"]] == [1]
            await database.close()
