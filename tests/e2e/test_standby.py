"""Two daemons on one database: one has the links, the other takes them over, and no message is lost or taken twice."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from interface.cli import run_command
from interface.daemon import Running, started
from interface.domain.permissions import Role as User
from interface.errors import LaboraError, StoreUnavailable
from interface.flow.results import ResultWorker
from interface.settings import ApiSettings, Role, StandbySettings, TransportType
from interface.store.membership import Membership
from tests.bench.messages import hl7_message
from tests.cluster import owner_of
from tests.conftest import FOUNDED
from tests.e2e.daemon import ANY, eventually, get, link, settings
from tests.e2e.people import register_people
from tests.e2e.standby import Analyzer, Daemon, accounted, listens, two

LEASE_S = 2.0  # so that a frozen daemon is found out in two seconds; `scripts/bench takeover` has the default's


@pytest.fixture
async def owner(founded_url: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    connection = await asyncpg.connect(owner_of(founded_url))
    yield connection
    await connection.close()


async def owner_names(daemon: Daemon, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    capsys.readouterr()
    status = await asyncio.to_thread(run_command, ["--config", str(daemon.config), "link", "list", "--json"])
    assert status == 0
    return {row["id"]: row["owner"] for row in json.loads(capsys.readouterr().out)}


async def test_the_second_takes_over_when_the_first_is_killed_or_frozen(
    founded_url: str, owner: asyncpg.Connection[asyncpg.Record], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = two(founded_url, FOUNDED, tmp_path, LEASE_S)
    analyzer = Analyzer((a.hl7, b.hl7), "K")
    async with a, b:
        assert await listens(a.hl7)
        assert not await listens(b.hl7), "a standby binds nothing"
        assert await owner_names(b, capsys) == {"hl7": "a", "astm": "a"}
        assert [(await get(one.api, "/active"))[0] for one in (a, b)] == [200, 503]
        assert (await get(b.api, "/ready"))[0] == 200
        await analyzer.send()

        await a.end(signal.SIGKILL)
        await analyzer.send()
        assert analyzer.acknowledged[-1][1] == b.hl7
        assert await owner_names(b, capsys) == {"hl7": "b", "astm": "b"}

        await a.start()  # a new life of it stands by
        assert not await listens(a.hl7)
        await _frozen(b, a, analyzer)
        assert await accounted(owner, analyzer) == []
        await analyzer.close()
    epochs = [row["epoch"] for row in await owner.fetch("select epoch from lab.lease")]
    assert epochs == [3, 3, 3], "the links', and that of deciding: a, b, a"


async def _frozen(frozen: Daemon, other: Daemon, analyzer: Analyzer) -> None:
    """Stop the process, not the connection that an analyzer has with it; let it go on when another has its links."""
    reader, writer = await asyncio.open_connection(frozen.hl7.host, frozen.hl7.port)
    writer.write(b"\x0b" + hl7_message("SF-0", "F-0") + b"\x1c\r")
    assert b"\rMSA|CA|F-0\r" in await reader.readuntil(b"\x1c\r")
    os.kill(frozen.pid, signal.SIGSTOP)
    writer.write(b"\x0b" + hl7_message("SF-1", "F-1") + b"\x1c\r")  # nobody reads it
    await eventually(lambda: listens(other.hl7))
    await analyzer.close()
    analyzer.addresses, analyzer._at = (other.hl7,), 0  # the other's port takes connections, and no more
    await analyzer.send()
    os.kill(frozen.pid, signal.SIGCONT)
    said = await reader.read()  # to the end: it closes its links at once
    assert b"MSA|AA" not in said and b"MSA|CA" not in said, said
    writer.close()
    assert await frozen.wait() == 1, "it ends, to begin anew"
    assert not await listens(frozen.hl7)


async def test_an_orderly_stop_hands_over_at_once(founded_url: str, tmp_path: Path) -> None:
    """With a lease that is waited for much longer; that the other is told at once: `tests.store.test_leases`."""
    chosen = [
        replace(
            settings(tmp_path / name, founded_url), standby=StandbySettings(True, name, 60.0),
            links=(link("hl7", TransportType.MLLP_LISTEN, "generic_hl7", FOUNDED),),
        )
        for name in ("first", "second")
    ]  # fmt: skip
    first = started(chosen[0])
    daemon = await first.__aenter__()
    async with started(chosen[1]) as second:
        assert list(daemon.links) == ["hl7"] and list(second.links) == []
        analyzer = Analyzer((daemon.links["hl7"],), "O")
        await analyzer.send()
        await analyzer.close()
        stopping = asyncio.create_task(first.__aexit__(None, None, None))
        await eventually(lambda: _listens(second))
        analyzer.addresses = (second.links["hl7"],)
        await analyzer.send()
        await analyzer.close()
        await stopping


async def test_a_takeover_that_is_broken_off_midway_opens_the_links_all_the_same(
    founded_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The leases are taken and the database fails before it is known who decides: the next look must not take the links
    for served."""
    take, take_on, faults, gone = Membership.take, ResultWorker.take_on, list[StoreUnavailable](), asyncio.Event()

    async def taking(membership: Membership, wanted: Any) -> Any:
        if not gone.is_set():  # links and decisions become free at once, as when the first is killed
            raise StoreUnavailable("the connection was lost")
        return await take(membership, wanted)

    async def taking_on(worker: ResultWorker, *of: Any) -> None:
        if faults:
            raise faults.pop()
        await take_on(worker, *of)

    first, second = (
        started(replace(
            settings(tmp_path / name, founded_url), standby=StandbySettings(True, name, LEASE_S),
            links=(link("hl7", TransportType.MLLP_LISTEN, "generic_hl7", FOUNDED),),
        ))
        for name in ("first", "second")
    )  # fmt: skip
    await first.__aenter__()
    async with second as standby:
        faults.append(StoreUnavailable("the connection was lost"))
        monkeypatch.setattr(Membership, "take", taking)
        monkeypatch.setattr(ResultWorker, "take_on", taking_on)
        await first.__aexit__(None, None, None)
        gone.set()
        await eventually(lambda: _listens(standby))
        assert not faults


async def _listens(daemon: Running) -> bool:
    """Whether its link has a port: until it listens the address is the configured one, of port 0."""
    return any(address.port for address in daemon.links.values())


async def test_roles_are_shared_out_over_processes(
    founded_url: str, owner: asyncpg.Connection[asyncpg.Record], tmp_path: Path
) -> None:
    """Links take, workers decide, the API shows: three daemons that know each other by the database alone."""
    await owner.execute("update lab.organization set name = 'main'")
    chosen = replace(settings(tmp_path, founded_url), links=(link("hl7", TransportType.MLLP_LISTEN, "generic_hl7"),))
    async with (
        started(replace(chosen, standby=StandbySettings(name="links")), roles={Role.LINKS}) as links,
        started(replace(chosen, standby=StandbySettings(name="workers")), roles={Role.WORKERS}),
        started(replace(chosen, standby=StandbySettings(name="api")), roles={Role.API}) as api,
    ):
        analyzer = Analyzer((links.links["hl7"],), "R")
        await analyzer.send()
        await analyzer.close()
        people = await register_people(tmp_path, api.api, User.ADMINISTRATOR, User.LABORATORY_DIRECTOR, url=founded_url)
        assert await eventually(lambda: people.results(25))

        async def up() -> dict[str, Any] | None:
            [found] = (await people.ask("GET", "/api/links", people.staff))["links"]
            return found if found["up"] else None

        shown = await eventually(up)
        assert (shown["owner"], shown["listen"]) == ("links", str(links.links["hl7"]))
        assert shown["owned_since"]


async def test_without_a_standby_a_second_daemon_says_whose_the_links_are(founded_url: str, tmp_path: Path) -> None:
    chosen = replace(
        settings(tmp_path / "a", founded_url), links=(link("hl7", TransportType.MLLP_LISTEN, "generic_hl7", FOUNDED),),
        standby=StandbySettings(name="first", lease_s=1.0),
    )  # fmt: skip
    async with started(chosen) as daemon:
        other = replace(chosen, state_dir=tmp_path / "b", api=ApiSettings(ANY))
        with pytest.raises(LaboraError, match=r"1 links are served by another daemon \(first\); stop that daemon"):
            async with started(other):
                raise AssertionError("two daemons have one link")
        analyzer = Analyzer((daemon.links["hl7"],), "W")
        await analyzer.send()
        await analyzer.close()
