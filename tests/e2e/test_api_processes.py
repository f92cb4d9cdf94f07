"""`[api] workers`: several processes serve one port, and are replaced without a client noticing."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from interface import servers as servers_module
from interface.daemon import Running, started
from interface.domain.permissions import Role
from interface.errors import LaboraError
from interface.flow import actors, waking
from interface.links import Links
from interface.servers import Servers
from interface.settings import Address, ApiSettings, Settings
from interface.store.embedded import opened_database
from interface.store.ids import uuid7
from interface.systemd import API, Sockets
from tests.e2e.daemon import ANY, PATIENCE_S, Process, eventually, get, settings
from tests.e2e.people import register_people

CLIENTS, KEEPING = 16, 4


@asynccontextmanager
async def several(state_dir: Path) -> AsyncIterator[tuple[Running, Servers]]:
    async with started(replace(settings(state_dir), api=ApiSettings(ANY, workers=2))) as daemon:
        assert daemon.servers is not None
        yield daemon, daemon.servers


def counted_of(page: str) -> float:
    found = re.search(
        r'^labora_api_requests_total{method="GET",route="/health",status="200"} (\S+)', page, re.MULTILINE
    )
    return float(found[1]) if found else 0.0


async def test_the_api_answers_on_the_socket_that_systemd_has_passed(state_dir: Path, founded_url: str) -> None:
    """Also though links open first, and what nobody has taken then is closed."""
    with socket.create_server((ANY.host, 0)) as passed:
        passed.setblocking(False)
        at = Address(*passed.getsockname())
        asking = asyncio.create_task(get(at, "/health"))  # before anybody accepts
        given = replace(settings(state_dir, founded_url), api=ApiSettings(at), links=())
        async with started(given, sockets=Sockets([(API, passed)])) as daemon:
            assert daemon.api == at
            assert (await asking)[0] == 200


@pytest.mark.parametrize("workers", [1, 2])
async def test_who_decides_results_knows_that_clients_ask(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    made: list[Links] = []

    class Seen(Links):
        def __init__(self, *given: Any, **named: Any) -> None:
            super().__init__(*given, **named)
            made.append(self)

    monkeypatch.setattr("interface.daemon.Links", Seen)
    monkeypatch.setattr("interface.api.shares.MUCH_S", -3600.0)  # also when it has long been answered
    async with started(replace(settings(state_dir), api=ApiSettings(ANY, workers=workers))) as daemon:
        assert not made[0].asked()
        assert (await get(daemon.api, "/health"))[0] == 200
        assert made[0].asked()


async def test_several_processes_serve_one_port_and_count_together(state_dir: Path) -> None:
    async with several(state_dir) as (daemon, servers):
        before = counted_of((await get(daemon.api, "/metrics"))[1])  # this process may have served others before
        assert len(set(servers.pids)) == 2
        assert os.getpid() not in servers.pids
        assert len({os.getsid(pid) for pid in (os.getpid(), *servers.pids)}) == 3  # each has its share of the machine
        answers = await asyncio.gather(*(get(daemon.api, "/health") for _ in range(40)))
        assert {status for status, _ in answers} == {200}
        assert await get(daemon.api, "/ready") == (200, '{"ready":true,"database":true,"links":true,"text":""}')

        async def counted() -> bool:
            _, page = await get(daemon.api, "/metrics")
            return counted_of(page) == before + 40

        assert await eventually(counted)


async def test_processes_are_replaced_under_load_and_nobody_is_refused_reset_or_left_unanswered(
    state_dir: Path,
) -> None:
    async with several(state_dir) as (daemon, servers):
        before, ended, asked = set(servers.pids), asyncio.Event(), [0]

        async def client(keeps: bool) -> None:
            connector = aiohttp.TCPConnector(limit=1, force_close=not keeps)
            async with aiohttp.ClientSession(connector=connector) as session:
                while not ended.is_set():
                    async with session.get(f"http://{daemon.api}/health") as response:
                        assert response.status == 200
                        assert await response.json() == {"status": "ok"}
                    asked[0] += 1

        async with asyncio.TaskGroup() as group:
            for place in range(CLIENTS):
                group.create_task(client(place < KEEPING))
            await servers.restart()
            ended.set()
        assert not before & set(servers.pids)
        assert asked[0] > 100


async def test_a_process_that_dies_is_replaced(state_dir: Path) -> None:
    async with several(state_dir) as (daemon, servers):
        lost = servers.pids[0]
        os.kill(lost, signal.SIGKILL)

        async def replaced() -> bool:
            return lost not in servers.pids

        assert await eventually(replaced)
        answers = await asyncio.gather(*(get(daemon.api, "/health") for _ in range(20)))
        assert {status for status, _ in answers} == {200}


async def test_processes_of_a_daemon_that_stands_still_do_not_say_that_all_is_well(
    state_dir: Path, tmp_path: Path
) -> None:
    """keepalived asks `/active` where analyzers shall connect: its links answer nobody, and another has them soon."""
    daemon = Process(state_dir, tmp_path)
    daemon.config.write_text(daemon.config.read_text().replace("[limits]", "workers = 2\n[limits]"))

    async def said(status: int, words: str) -> bool:
        """By both processes: of so many requests one has not all."""
        answers = [await get(daemon.api, path) for _ in range(20) for path in ("/active", "/ready")]
        return all(answer[0] == status for answer in answers) and all(words in answer[1] for answer in answers[1::2])

    async with daemon:
        assert await eventually(partial(said, 200, '"ready":true'))
        daemon.tell(signal.SIGSTOP)
        try:
            assert await eventually(partial(said, 503, "does not say how it is"))
            assert (await get(daemon.api, "/health"))[0] == 200
        finally:
            daemon.tell(signal.SIGCONT)
        assert await eventually(partial(said, 200, '"ready":true'))


async def test_processes_end_when_the_daemon_is_killed(state_dir: Path, tmp_path: Path) -> None:
    daemon = Process(state_dir, tmp_path)
    daemon.config.write_text(daemon.config.read_text().replace("[limits]", "workers = 2\n[limits]"))
    await daemon.start()
    assert (await get(daemon.api, "/health"))[0] == 200
    await daemon.end(signal.SIGKILL)

    async def free() -> bool:
        try:
            (await asyncio.start_server(lambda *_: None, daemon.api.host, daemon.api.port)).close()
        except OSError:
            return False
        return True

    assert await eventually(free), "a process of the API still listens"


async def test_a_change_over_any_process_wakes_the_links_of_the_daemon(state_dir: Path) -> None:
    async with several(state_dir) as (daemon, _):
        people = await register_people(state_dir, daemon.api, Role.ADMINISTRATOR, Role.TECHNOLOGIST)
        async with opened_database(Settings(state_dir)) as database:
            organization_id = await database.find_organization("main")
        assert organization_id is not None
        woken = asyncio.Event()
        waking.sleep(organization_id, uuid7(), woken.set)
        await people.order("S-1", "HGB")
        async with asyncio.timeout(PATIENCE_S):
            await woken.wait()
        waking.leave(organization_id, woken.set)


async def test_the_daemon_works_for_a_laboratory_without_links_that_asks_over_any_process(state_dir: Path) -> None:
    """What is once is done by the daemon, which knows of itself only the laboratories of its links."""
    alone = replace(settings(state_dir), links=(), api=ApiSettings(ANY, workers=2))
    async with started(alone) as daemon:
        async with opened_database(Settings(state_dir)) as database:
            await actors.create_organization(database, "main")
        people = await register_people(state_dir, daemon.api, Role.ADMINISTRATOR)
        headers = {"Authorization": f"Bearer {people.emr}", "Prefer": "respond-async"}
        base = f"http://{daemon.api}"
        async with aiohttp.ClientSession(base, headers=headers) as session:
            async with session.get("/fhir/$export?_type=Patient") as begun:
                assert begun.status == 202, await begun.text()
                path = urlsplit(begun.headers["Content-Location"]).path

            async def done() -> bool:
                async with session.get(path) as answer:
                    return answer.status == 200

            assert await eventually(done)


async def test_a_process_that_does_not_start_is_one_clear_sentence(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers_module, "PROGRAM", "interface.no_such_server")
    with pytest.raises(LaboraError, match=r"api\.workers: a process of the API ended \(status 1\)"):
        async with several(state_dir):
            pass
