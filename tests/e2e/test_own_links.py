"""Two daemons on one database of which each has a link that is in its own configuration alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import pytest
from structlog.testing import capture_logs

from interface import config, ownership, telemetry
from interface.daemon import started
from interface.domain.alerts import Subject
from interface.domain.roster import Roster
from interface.errors import StoreUnavailable
from interface.links import Links
from interface.ops.alert_watch import LinkHeard, looks
from interface.ownership import Ownership
from interface.settings import AlertSettings
from interface.store.db import Database
from interface.store.journal import Journal
from interface.store.membership import Membership
from tests.cluster import owner_of
from tests.conftest import FOUNDED
from tests.e2e.daemon import eventually, free_ports
from tests.e2e.standby import Analyzer

DAEMON = """
state_dir = "{state}"
[database]
url = "{url}"
[api]
listen = "127.0.0.1:{port}"
[standby]
enabled = true
name = "{name}"
"""
LINK = """
[[link]]
id = "{id}"
organization = "{organization}"
driver = "generic_hl7"
transport = {{ type = "mllp-listen", listen = "127.0.0.1:{port}" }}
"""


@pytest.fixture
async def owner(founded_url: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    connection = await asyncpg.connect(owner_of(founded_url))
    yield connection
    await connection.close()


@pytest.mark.parametrize("known", [False, True], ids=["before it is known of", "later"])
async def test_what_only_the_other_can_read_waits_is_told_and_is_decided_once_it_is_known(
    owner: asyncpg.Connection[asyncpg.Record], founded_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    known: bool,
) -> None:  # fmt: skip
    """It was acknowledged, and parked or never decided; nobody was told why."""
    monkeypatch.setattr(ownership, "TELL_S", 0.05 if known else 60.0)
    files, ports = {name: tmp_path / f"{name}.toml" for name in "ab"}, dict(zip("ab", free_ports(2), strict=True))
    texts = {one: LINK.format(id=one, organization=FOUNDED, port=port) for one, port in ports.items()}
    for name, (file, port) in zip("ab", zip(files.values(), free_ports(2), strict=True), strict=True):
        text = DAEMON.format(state=tmp_path / name, url=founded_url, port=port, name=name)
        file.write_text(text + texts[name])
    with capture_logs() as logs:
        async with AsyncExitStack() as stack:
            a, b = [await stack.enter_async_context(started(config.load(file, {}))) for file in files.values()]

            def said() -> list[object]:
                return [one["links"] for one in logs if "only another daemon has" in one["event"]]

            if known:
                await eventually(lambda: _true(said()))
                assert said() == [["b"]]
            analyzer = Analyzer((b.links["b"], a.links["a"]), "B")
            await analyzer.send()
            analyzer._at = 1
            await analyzer.close()
            await analyzer.send()
            await analyzer.close()
            await eventually(lambda: owner.fetchval("select settled from lab.message where control_id = 'B-2'"))
            assert await owner.fetchval("select settled from lab.message where control_id = 'B-1'") is None
            assert await owner.fetchval("select attempts from lab.queue") == 0, "however long it waits"

            found = await _backlog(founded_url)
            assert list(found) == [Subject("link", "b")]
            assert found[Subject("link", "b")].startswith("1 messages wait: this link is in another daemon's")

            files["a"].write_text(files["a"].read_text() + texts["b"])
            await a.reload()
            settled = await eventually(
                lambda: owner.fetchval("select settled from lab.message where control_id = 'B-1'")
            )
            assert settled == "held"
            assert await _backlog(founded_url) == {}
    assert "message.parked" not in [one.get("action") for one in logs]


async def test_what_it_left_when_it_went_is_parked_where_everybody_sees_it(
    owner: asyncpg.Connection[asyncpg.Record], founded_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody's is it then. It went on waiting for a daemon that is no more, without a name and without an alert of its
    own, for as long as the last one ran alone; and the metrics said all the while that nothing waits."""
    monkeypatch.setattr(ownership, "TELL_S", 0.05)
    tell, ends = Ownership._tell, asyncio.Event()

    async def seldom(self: Ownership) -> None:
        """As with five seconds between: mostly it has noticed by then that it is alone."""
        if not (ends.is_set() and self.membership.others):
            await tell(self)

    monkeypatch.setattr(Ownership, "_tell", seldom)
    ports = dict(zip("ab", free_ports(2), strict=True))
    files = []
    for name, port in zip("ab", free_ports(2), strict=True):
        files.append(tmp_path / f"{name}.toml")
        files[-1].write_text(
            DAEMON.format(state=tmp_path / name, url=founded_url, port=port, name=name)
            + LINK.format(id=name, organization=FOUNDED, port=ports[name])
        )
    with capture_logs() as logs:
        async with started(config.load(files[0], {})):
            async with started(config.load(files[1], {})) as b:
                await eventually(lambda: _true([one for one in logs if "only another daemon has" in one["event"]]))
                analyzer = Analyzer((b.links["b"],), "B")
                await analyzer.send()
                await analyzer.close()
                await eventually(lambda: _true(["labora_queue_messages 1.0" in telemetry.metrics_page()[0].decode()]))
                assert await owner.fetchval("select settled from lab.message") is None
                ends.set()
            assert await eventually(lambda: owner.fetchval("select settled from lab.message")) == "parked"


async def _true(found: list[object]) -> bool:
    return any(found)


async def _backlog(url: str) -> dict[Subject, str]:
    """As the daemon that decides looks for alerts: its links are those of its configuration."""
    database = Database(url)
    now = datetime.now(UTC)
    organization_id = await database.find_organization(FOUNDED)
    assert organization_id is not None
    async with database.organization(organization_id) as connection:
        mine = await connection.fetchval("select id from lab.link where name = 'a'")
        links = [LinkHeard(mine, "a", 0.0, (), None, now)]
        found = await looks(organization_id, AlertSettings(), Roster(), links, now)[0](connection)
    await database.close()
    return dict(next(iter(found.values())))


REMOVED, ADDED = "a link that is removed", "a link that is added"


@pytest.mark.parametrize(
    ("of", "name", "error", "change"),
    [
        (Membership, "give_back", StoreUnavailable("away for a moment"), REMOVED),
        (Links, "set_worklists", StoreUnavailable("away for a moment"), ADDED),
        (Links, "set_worklists", asyncpg.DataCorruptedError("a damaged page"), ADDED),
        (Journal, "recover", asyncpg.DataCorruptedError("a damaged page"), REMOVED),
    ],
    ids=["not given back", "not taken over", "a fault", "never sealed"],
)
async def test_a_link_that_is_served_no_more_is_another_s_whatever_the_database_did_in_that_moment(
    founded_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, of: type[object], name: str, error: Exception,
    change: str,
) -> None:  # fmt: skip
    """Its lease stayed with who had served it, or had taken it for a reload that came to nothing: no daemon served it
    until that one was started anew."""
    texts = {
        one: LINK.format(id=one, organization=FOUNDED, port=port) for one, port in zip("ab", free_ports(2), strict=True)
    }
    theirs = LINK.format(id="b", organization=FOUNDED, port=free_ports(1)[0])
    files = {name: tmp_path / f"{name}.toml" for name in "ab"}
    heads = {
        name: DAEMON.format(state=tmp_path / name, url=founded_url, port=port, name=name)
        for name, port in zip("ab", free_ports(2), strict=True)
    }
    real, away = getattr(of, name), asyncio.Event()
    never = of is Journal

    async def gone(self: object, *arguments: object) -> None:
        if away.is_set():
            if not never:
                away.clear()
            raise error
        await real(self, *arguments)

    monkeypatch.setattr(of, name, gone)
    both = heads["a"] + texts["a"] + texts["b"]
    files["a"].write_text(both if change == REMOVED and not never else heads["a"] + texts["a"])
    async with started(config.load(files["a"], {})) as a:
        away.set()
        if never:  # it is taken, and what was being received over it is not sealed
            files["a"].write_text(both)
            await a.reload()
        files["a"].write_text(heads["a"] + texts["a"] if change == REMOVED else both)
        with suppress(type(error)):
            await a.reload()
        assert never or not away.is_set()
        assert "b" not in a.links
        files["b"].write_text(heads["b"] + theirs)
        away.clear()
        async with started(config.load(files["b"], {})) as b:
            await eventually(lambda: _true([1] if "b" in b.links else []))


async def test_who_has_nothing_of_a_laboratory_any_more_lets_another_decide_for_it(
    owner: asyncpg.Connection[asyncpg.Record], founded_url: str, tmp_path: Path
) -> None:
    """Its links were moved into another daemon's configuration: what they took waited until the first was started
    anew."""
    files, ports = {name: tmp_path / f"{name}.toml" for name in "ab"}, free_ports(2)
    heads = {
        name: DAEMON.format(state=tmp_path / name, url=founded_url, port=port, name=name)
        for name, port in zip("ab", free_ports(2), strict=True)
    }
    texts = {one: LINK.format(id=one, organization=FOUNDED, port=port) for one, port in zip("ab", ports, strict=True)}
    for name, file in files.items():
        file.write_text(heads[name] + texts[name])
    async with AsyncExitStack() as stack:
        a, b = [await stack.enter_async_context(started(config.load(file, {}))) for file in files.values()]
        files["a"].write_text(heads["a"])
        await a.reload()
        analyzer = Analyzer((b.links["b"], b.links["b"]), "B")
        await analyzer.send()
        await analyzer.close()
        assert await eventually(lambda: owner.fetchval("select settled from lab.message")) == "held"


async def test_a_laboratory_without_a_link_has_one_daemon_that_looks_after_it(
    owner: asyncpg.Connection[asyncpg.Record], founded_url: str, tmp_path: Path
) -> None:
    """Each of two gave it back at its next beat, and took it anew: hardly ever did one look after it."""
    files = {name: tmp_path / f"{name}.toml" for name in "ab"}
    for (name, file), port in zip(files.items(), free_ports(2), strict=True):
        text = DAEMON.format(state=tmp_path / name, url=founded_url, port=port, name=name)
        file.write_text(f'organizations = ["{FOUNDED}"]\n{text}')
    async with AsyncExitStack() as stack:
        for file in files.values():
            await stack.enter_async_context(started(config.load(file, {})))
        began = await owner.fetchval("select max(beat) from lab.daemon")
        await eventually(lambda: owner.fetchval("select min(beat) > $1 from lab.daemon", began + 2))
        kept = await owner.fetchval("select epoch = 1 and daemon_id is not null from lab.lease")
        assert kept
