"""SIGHUP: links come, change and go, and the connections of the others stay what they are."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import asyncpg

from interface import config
from interface.errors import LinkError
from interface.link.tcp import connect
from interface.links import Links
from interface.settings import Address
from interface.store.db import Database
from interface.store.embedded import EmbeddedPostgres
from interface.store.ids import uuid7
from interface.store.schema import OWNER_ROLE
from interface.wire.frames import build_frame
from interface.wire.mllp import encode
from tests.e2e.daemon import PATIENCE_S, Process, free_ports
from tests.link.bench import ACK, ENQ, EOT, Analyzer

H = build_frame(1, b"H|\\^&|||Testmaker^Bench^1||||||||LIS2-A2|20260102030405\r", True)
L = build_frame(2, b"L|1|N\r", True)
ORU = b"MSH|^~\\&|A|B|||20260102030405||ORU^R01|1|P|2.5.1\rPID|1\r"
LINK = """
[[link]]
id = "{name}"
organization = "{organization}"
driver = "generic_lis2"
transport = {{ type = "tcp-listen", listen = "127.0.0.1:{port}" }}
"""


async def refuses(address: Address) -> bool:
    try:
        await (await connect(address)).close()
    except LinkError:
        return True
    return False


async def whole_session(address: Address) -> None:
    analyzer = Analyzer(await connect(address))
    await analyzer.talk((ENQ, ACK), (H, ACK), (L, ACK), (EOT, b""))
    await analyzer.stream.close()


async def test_links_are_added_changed_and_removed_beside_connections_that_stay(
    state_dir: Path, tmp_path: Path
) -> None:
    first, moved = free_ports(2)
    async with Process(state_dir, tmp_path) as daemon:
        plain = daemon.config.read_text()
        held = Analyzer(await connect(daemon.astm))
        await held.talk((ENQ, ACK), (H, ACK))
        removed = Analyzer(await connect(daemon.hl7))
        await removed.send(encode(ORU))
        assert await removed.stream.read()

        without_hl7 = re.sub(r'\[\[link\]\]\nid = "hl7".*?\n(?=\[\[|\Z)', "", plain, flags=re.DOTALL)
        assert without_hl7 != plain
        daemon.config.write_text(without_hl7 + LINK.format(name="second", organization="main", port=first))
        await daemon.reload()
        await whole_session(Address("127.0.0.1", first))
        await removed.expect_end()
        assert await refuses(daemon.hl7)

        open_link = Analyzer(await connect(Address("127.0.0.1", first)))
        daemon.config.write_text(without_hl7 + LINK.format(name="second", organization="main", port=moved))
        await daemon.reload()
        await whole_session(Address("127.0.0.1", moved))
        await open_link.expect_end()
        assert await refuses(Address("127.0.0.1", first))

        await held.talk((L, ACK), (EOT, b""))  # all that time in the middle of a message
        assert await stored(state_dir, "astm") == 1
        assert await stored(state_dir, "second") == 2
        for analyzer in (held, removed, open_link):
            await analyzer.stream.close()


async def test_a_file_that_cannot_be_used_changes_nothing(state_dir: Path, tmp_path: Path) -> None:
    async with Process(state_dir, tmp_path) as daemon:
        plain = daemon.config.read_text()
        for bad in ("nonsense = 1\n", LINK.format(name="lost", organization="nowhere", port=0)):
            daemon.config.write_text(plain.replace(str(daemon.hl7), "127.0.0.1:1") + bad)
            await daemon.reload()
        assert "nonsense" in daemon.said()
        assert "there is no organization nowhere" in daemon.said()
        assert daemon.said().count("nothing was changed") == 2
        analyzer = Analyzer(await connect(daemon.hl7))
        await analyzer.send(encode(ORU))
        assert b"|ACK" in await analyzer.stream.read()
        await analyzer.stream.close()
        await whole_session(daemon.astm)


async def test_what_needs_a_restart_is_said_and_kept(state_dir: Path, tmp_path: Path) -> None:
    async with Process(state_dir, tmp_path) as daemon:
        [port] = free_ports(1)
        daemon.config.write_text(
            daemon.config.read_text().replace(str(daemon.api), f"127.0.0.1:{port}").replace("commit_wait_s = 14.0", "")
        )
        await daemon.reload()
        assert '"kept":["api","limits"]' in daemon.said()
        assert await refuses(Address("127.0.0.1", port))
        assert not await refuses(daemon.api)


async def test_how_long_is_kept_and_where_backups_are_is_in_force_at_once(founded_url: str, tmp_path: Path) -> None:
    """Who wants something kept for longer, and is told that the configuration is applied, must not lose it at night."""
    file = tmp_path / "config.toml"
    file.write_text("[retention]\naudit_months = 24\n")
    database = await Database.connect(founded_url)
    links = Links(database, config.load(file, {}))
    file.write_text(f'[retention]\naudit_months = 0\n[backup]\ndirectory = "{tmp_path}"\n')
    await links.reload()
    assert links.settings().retention.audit_months == 0
    assert links.settings().backup.directory == tmp_path
    await links.close()
    await database.close()


async def test_an_organization_that_appears_gets_a_journal(state_dir: Path, tmp_path: Path) -> None:
    [port] = free_ports(1)
    async with Process(state_dir, tmp_path) as daemon:
        owner = await asyncpg.connect(EmbeddedPostgres(state_dir).url(OWNER_ROLE))
        await owner.execute("insert into lab.organization (id, name) values ($1, 'branch')", uuid7())
        await owner.close()
        daemon.config.write_text(daemon.config.read_text() + LINK.format(name="far", organization="branch", port=port))
        await daemon.reload()
        await whole_session(Address("127.0.0.1", port))
        assert await stored(state_dir, "far") == 1


async def test_an_added_link_whose_port_is_taken_is_down_and_the_rest_goes_on(state_dir: Path, tmp_path: Path) -> None:
    taken = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = taken.sockets[0].getsockname()[1]
    async with taken, Process(state_dir, tmp_path) as daemon:
        daemon.config.write_text(daemon.config.read_text() + LINK.format(name="second", organization="main", port=port))
        await daemon.reload()
        assert "another program uses this address" in daemon.said()
        await whole_session(daemon.astm)


async def stored(state_dir: Path, link: str) -> int:
    """Complete messages of a link."""
    owner = await asyncpg.connect(EmbeddedPostgres(state_dir).url(OWNER_ROLE))
    try:
        async with asyncio.timeout(PATIENCE_S):
            number: int = await owner.fetchval(
                """select count(*) from lab.message m join lab.link l on l.id = m.link_id
                   where l.name = $1 and m.state = 'complete'""",
                link,
            )
        return number
    finally:
        await owner.close()
