"""Two laboratories behind one port: each message is in the journal of its own organization, and only there."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import asyncpg

from interface.link.tcp import connect
from interface.settings import Address
from interface.store.embedded import EmbeddedPostgres
from interface.store.ids import uuid7
from interface.store.schema import OWNER_ROLE
from interface.wire.frames import build_frame
from interface.wire.wirelog import Came, Event, FrameCame, Left, Noted, What, decode
from tests.e2e.daemon import Process, eventually, free_ports
from tests.link.bench import ACK, ENQ, EOT, NAK, Analyzer

HEADER = b"H|\\^&|||%s^1||||||||LIS2-A2|20260102030405\r"
LINK = """
[[link]]
id = "{name}"
organization = "{organization}"
driver = "generic_lis2"
transport = {{ type = "tcp-listen", listen = "127.0.0.1:{port}" }}
match = {{ sender = "^{name}" }}
"""


async def closed_log(owner: asyncpg.Connection[asyncpg.Record], organization: str) -> list[Event]:
    """The wire log of an organization's link, once it has the end of its connection; before that nothing."""
    rows = await owner.fetch(
        """select w.events from lab.wire_log w join lab.organization o on o.id = w.organization_id
           join lab.link l on l.id = w.link_id and l.organization_id = o.id
           where o.name = $1 order by w.ended_at, w.id""",
        organization,
    )
    events = [event for row in rows for event in decode(row["events"])]
    return events if any(isinstance(one, Noted) and one.what is What.CLOSED for one in events) else []


async def test_each_message_is_in_the_journal_of_its_own_organization(state_dir: Path, tmp_path: Path) -> None:
    [port] = free_ports(1)
    async with Process(state_dir, tmp_path) as daemon:
        owner = await asyncpg.connect(EmbeddedPostgres(state_dir).url(OWNER_ROLE))
        await owner.execute("insert into lab.organization (id, name) values ($1, 'branch')", uuid7())
        links = "".join(
            LINK.format(name=name, organization=organization, port=port)
            for name, organization in (("near", "main"), ("far", "branch"))
        )
        daemon.config.write_text(daemon.config.read_text() + links)
        await daemon.reload()
        analyzer = Analyzer(await connect(Address("127.0.0.1", port)))
        for name in (b"near", b"far", b"near"):
            first, last = build_frame(1, HEADER % name, True), build_frame(2, b"L|1|N\r", True)
            await analyzer.talk((ENQ, ACK), (first, ACK), (last, ACK), (EOT, b""))
        await analyzer.talk((ENQ, ACK), (build_frame(1, HEADER % b"unheard", True), NAK), (EOT, b""))
        await analyzer.stream.close()
        for organization, sessions in (("main", 2), ("branch", 1)):
            log = await eventually(partial(closed_log, owner, organization))
            assert sum(isinstance(event, FrameCame) for event in log) == 2 * sessions
            said = b"".join(event.data for event in log if isinstance(event, Came | Left))
            assert said == (ENQ + ACK * 3 + EOT) * sessions
        rows = await owner.fetch(
            """select o.name as organization, l.name as link, f.bytes from lab.frame f
               join lab.message m on m.id = f.message_id join lab.link l on l.id = m.link_id
               join lab.organization o on o.id = m.organization_id and o.id = f.organization_id order by f.id"""
        )
        await owner.close()
        seen = [(row["organization"], row["link"]) for row in rows]
        assert seen == [("main", "near")] * 2 + [("branch", "far")] * 2 + [("main", "near")] * 2
        assert not any(b"unheard" in row["bytes"] for row in rows)
        assert "unheard" not in daemon.said()
