"""`/api/events`: what happens as it happens, resumed where it was cut, cut where nobody reads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
from aiohttp import ClientError, ClientResponse, web

from interface.api import events
from interface.domain.permissions import Role
from interface.flow.feed import Feed
from interface.flow.link_watch import LinkUp, LinkWatch
from interface.store import changes
from interface.store.ids import uuid7
from interface.store.lab_changes import owe
from tests.api.bench import Bench, Laboratory, serving


@dataclass(slots=True)
class Stream:
    """What came: name, data, and the id that a browser would send as Last-Event-ID."""

    response: ClientResponse
    last_id: str = ""
    beat: asyncio.Event = field(default_factory=asyncio.Event)

    async def next(self) -> tuple[str, Any]:
        """The next event, comments left out."""
        name = ""
        while True:
            line = (await self.response.content.readline()).decode()
            if not line:
                raise EOFError
            field, _, value = line.rstrip("\n").partition(": ")
            if line.startswith(":"):
                self.beat.set()
            elif field == "id":
                self.last_id = value
            elif field == "event":
                name = value
            elif field == "data":
                return name, orjson.loads(value)


@asynccontextmanager
async def listening(bench: Bench, token: str, query: str = "", **headers: str) -> AsyncIterator[Stream]:
    sent = {"Authorization": f"Bearer {token}"} | headers
    async with bench.session.get(f"{bench.url}/api/events?{query}", headers=sent) as response:
        assert (response.status, response.content_type) == (200, "text/event-stream"), await response.text()
        yield Stream(response)


@pytest.fixture
async def live(laboratory: Laboratory) -> AsyncIterator[Bench]:
    """A server whose feed is looked after, as the daemon does."""
    feed = Feed(laboratory.database)
    async with serving(laboratory.database, feed=feed) as bench:
        task = asyncio.create_task(feed.run(lambda: [laboratory.organization_id]))
        yield bench
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def released(laboratory: Laboratory, value: str) -> str:
    result_id = await laboratory.result(await laboratory.order(), value)
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        await owe(connection, laboratory.organization_id, result_id, 1)
    return str(result_id)


async def test_results_come_as_they_are_released_and_are_resumed_without_a_gap(
    live: Bench, laboratory: Laboratory
) -> None:
    token = await laboratory.client_token("system/Observation.rs")
    async with listening(live, token) as stream:
        first = await released(laboratory, "11.0")
        kind, told = await stream.next()
        assert (kind, told["type"], told["id"]) == ("Observation", "Observation", first)
        async with laboratory.database.organization(laboratory.organization_id) as connection:
            version = await connection.fetchval("select version_id::text from lab.result where id = $1::uuid", first)
        assert told["version"] == version, "its versionId in FHIR"
    missed = await released(laboratory, "12.0")
    async with listening(live, token, **{"Last-Event-ID": stream.last_id}) as again:
        assert (await again.next())[1]["id"] == missed
        later = await released(laboratory, "13.0")
        assert (await again.next())[1]["id"] == later
    await live.writer.flush()
    assert len(await laboratory.audit("disclose")) == 3


async def test_the_position_stands_with_the_last_event_of_a_row(live: Bench, laboratory: Laboratory) -> None:
    """Cut off in the middle of a row, a client is told all of it again."""
    token = await laboratory.client_token("system/*.rs")
    async with listening(live, token, "after=0") as stream:
        of = await laboratory.order()
        names = {}
        while "DiagnosticReport" not in names:
            name, data = await stream.next()
            names[name] = stream.last_id
            if name == "ServiceRequest":
                assert data["id"] == str(of["item"])
    assert names["ServiceRequest"] != names["DiagnosticReport"] == stream.last_id


async def test_people_hear_of_links_and_alerts_and_clients_do_not(live: Bench, laboratory: Laboratory) -> None:
    await laboratory.user()
    viewer, technologist = await laboratory.user_token(Role.VIEWER), await laboratory.user_token(Role.TECHNOLOGIST)
    client = await laboratory.client_token("system/*.rs")
    up = [True]
    watch = LinkWatch(laboratory.database, lambda: [LinkUp(laboratory.organization_id, "hema-1", up[0])])
    await watch.look()
    for up[0] in (False, False, True):
        await watch.look()
    async with laboratory.database.transaction(laboratory.organization_id) as connection:
        for kind in ("critical", "qc_problem"):
            await changes.note_alert(connection, laboratory.organization_id, kind, uuid7(), "opened")

    async def heard(token: str) -> list[tuple[str, ...]]:
        found = []
        async with listening(live, token, "after=0&wait=false") as stream:
            try:
                while True:
                    name, data = await stream.next()
                    found.append((name, *[data[key] for key in ("what", "kind", "thing", "subject") if key in data]))
            except EOFError:
                return found

    links = [("alert", what, "link_down", "link", "hema-1") for what in ("entered", "recovered")]
    assert await heard(technologist) == [*links, ("critical", "opened"), ("qc_problem", "opened")]
    assert await heard(viewer) == [("critical", "opened"), ("qc_problem", "opened")]
    assert await heard(client) == []


async def test_a_quiet_stream_beats_and_ends_with_its_token(
    live: Bench, laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "HEARTBEAT_S", 0.02)
    token = await laboratory.user_token(Role.VIEWER)
    async with listening(live, token) as stream:
        task = asyncio.create_task(stream.next())
        await stream.beat.wait()
        assert (await live.ask("POST", "/api/logout", token)).status == 204
        with pytest.raises(EOFError):
            await task


async def test_who_reads_a_long_feed_reads_no_longer_than_the_token_lasts(
    live: Bench, laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "ROWS", 1)
    token = await laboratory.client_token("system/*.rs")
    for value in ("11.1", "11.2", "11.3"):
        await released(laboratory, value)
    write, wrote = events._write, 0

    async def ends(response: web.StreamResponse, text: bytes) -> None:
        nonlocal wrote
        await write(response, text)
        wrote += b"event: " in text
        if wrote == 1:
            async with laboratory.database.transaction(laboratory.organization_id) as connection:
                await connection.execute("update lab.access_token set revoked_at = now()")

    monkeypatch.setattr(events, "_write", ends)
    async with listening(live, token, "after=0") as stream:
        with pytest.raises(EOFError):
            while True:
                await stream.next()
    assert wrote == 1


async def test_places_that_are_none_of_this_feeds_are_refused(live: Bench, laboratory: Laboratory) -> None:
    await released(laboratory, "11.1")
    token = await laboratory.client_token("system/*.rs")
    for place, status in (
        ("999999999", 410), ("9" * 18, 410), ("9" * 19, 400), ("-1", 400), ("1.5", 400), ("x", 400), ("\u0661", 400),
        ("0x1", 400), ("' or 1=1", 400),
    ):  # fmt: skip
        answer = await live.get("/api/events", token, params={"wait": "false", "after": place})
        assert answer.status == status, place
        if place.isascii():
            headers = {"Last-Event-ID": place}
            assert (await live.get("/api/events?wait=false", token, headers=headers)).status == status, place


async def test_a_reader_that_does_not_read_is_cut_and_streams_are_counted(
    live: Bench, laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = await laboratory.client_token("system/*.rs")
    monkeypatch.setattr(events, "MOST_OF_ONE", 1)
    async with listening(live, token):
        assert (await live.get("/api/events", token)).status == 429
    monkeypatch.setattr(events, "WRITE_S", 0.05)
    other = await laboratory.client_token("system/*.rs")

    async def never(*_: Any) -> None:
        await asyncio.Event().wait()

    with monkeypatch.context() as patch:
        patch.setattr(web.StreamResponse, "write", never)
        sent = {"Authorization": f"Bearer {other}"}
        async with live.session.get(f"{live.url}/api/events", headers=sent) as response:
            with pytest.raises(ClientError):
                await response.read()
    async with listening(live, other):
        """What was cut counts no more."""


async def test_what_cannot_be_followed_is_refused(live: Bench, laboratory: Laboratory) -> None:
    token = await laboratory.client_token("system/*.rs")
    for query, status in (("after=x", 400), ("after=999999", 410), ("wait=perhaps", 400)):
        assert (await live.get(f"/api/events?{query}", token)).status == status
    nothing = await laboratory.client_token("system/Subscription.c")
    assert (await live.get("/api/events", nothing)).status == 403
