"""Many links at once, some of whose analyzers misbehave: the others lose nothing, and no link is wedged (DESIGN §1.7).

The short twin of `scripts/bench soak`: what is promised is looked at, how fast it is promised is not.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg
import pytest

from interface.daemon import started
from interface.settings import ApiSettings, DatabaseSettings, LimitSettings, LinkSettings, Settings, TransportType
from interface.store.ids import uuid7
from tests.bench.crowd import MISDEEDS, Healthy, Protocol, Report, misbehave, shared_out
from tests.cluster import owner_of
from tests.e2e.daemon import ANY, COMMIT_WAIT_S, link

LINKS, MESSAGES = 20, 3
_STORED = """
select m.control_id, count(distinct m.id) as messages, count(f.id) as frames
  from lab.message m join lab.frame f on f.message_id = m.id
 where m.state = 'complete' and m.settled is distinct from 'duplicate' and m.control_id like 'K%' group by 1
"""


def _link(number: int) -> LinkSettings:
    if number % 2:
        return link(f"hl7-{number}", TransportType.MLLP_LISTEN, "generic_hl7")
    return link(f"astm-{number}", TransportType.TCP_LISTEN, "generic_lis2")


@pytest.mark.timeout(180)
async def test_healthy_links_lose_nothing_beside_misbehaving_ones_and_none_is_wedged(
    tmp_path: Path, database_url: str
) -> None:
    links = tuple(_link(number) for number in range(LINKS))
    settings = Settings(
        tmp_path, DatabaseSettings(database_url), ApiSettings(ANY), LimitSettings(commit_wait_s=COMMIT_WAIT_S), links
    )
    report, deeds = Report(), set[str]()
    owner = await asyncpg.connect(owner_of(database_url))
    await owner.execute("insert into lab.organization (id, name) values ($1, 'main')", uuid7())
    async with started(settings) as daemon:
        ports: dict[Protocol, list[int]] = {Protocol.ASTM: [], Protocol.MLLP: []}
        for name, address in daemon.links.items():
            ports[Protocol.MLLP if name.startswith("hl7") else Protocol.ASTM].append(address.port)
        healthy, bad, bad_ports = [], [], []
        for protocol, port, deed in shared_out(ports, every=2):
            if deed:
                deeds.add(deed)
                bad_ports.append((protocol, port))
                bad.append(asyncio.create_task(misbehave(deed, protocol, port, seed=port)))
            else:
                healthy.append(Healthy(protocol, port, f"K{port}", report).run(MESSAGES))
        await asyncio.gather(*healthy)
        # On each link with a misbehaving analyzer a healthy one is served while the other still misbehaves.
        await asyncio.gather(*(Healthy(protocol, port, f"K{port}", report).run(1) for protocol, port in bad_ports))
        assert not any(task.done() for task in bad)
        for task in bad:
            task.cancel()
        await asyncio.gather(*bad, return_exceptions=True)
    assert deeds == set(MISDEEDS)
    assert report.faults == []
    stored = {row["control_id"]: (row["messages"], row["frames"]) for row in await owner.fetch(_STORED)}
    await owner.close()
    assert stored == {control_id: (1, frames) for control_id, frames in report.promised.items()}
    assert len(stored) == LINKS // 2 * MESSAGES + LINKS // 2
