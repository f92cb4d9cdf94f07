"""A query that a whole daemon has acknowledged, and a kill before its answer."""

from __future__ import annotations

import signal
from pathlib import Path

import asyncpg

from interface.domain.permissions import Role
from interface.settings import Address
from interface.simulator.law import law_analyzer
from interface.store.embedded import EmbeddedPostgres
from interface.store.ids import uuid7
from interface.store.schema import OWNER_ROLE
from tests.e2e.daemon import Process, free_ports
from tests.e2e.people import register_people

LINKS = """
[[link]]
id = "law-in"
organization = "main"
analyzer = "law"
driver = "ihe_law"
transport = {{ type = "mllp-listen", listen = "127.0.0.1:{listen}" }}
[[link]]
id = "law-out"
organization = "main"
analyzer = "law"
driver = "ihe_law"
transport = {{ type = "mllp-dial", dial = "127.0.0.1:{dial}" }}
"""
MAP = """
insert into lab.code_map (id, organization_id, driver, code, test_id, origin)
select $1, o.id, 'ihe_law', 'GLU', t.id, 'site' from lab.organization o
  join lab.test t on t.organization_id = o.id and t.code = 'GLU' where o.name = 'main'
"""


async def test_a_query_outlives_a_kill_of_the_daemon(state_dir: Path, tmp_path: Path) -> None:
    """The analyzer cannot be reached when it asks; the daemon acknowledges, is killed, and answers once it is back."""
    listen, dial = free_ports(2)
    daemon = Process(state_dir, tmp_path)
    daemon.config.write_text(daemon.config.read_text() + LINKS.format(listen=listen, dial=dial))
    async with law_analyzer(Address("127.0.0.1", listen)) as analyzer:
        async with daemon:
            owner = await asyncpg.connect(EmbeddedPostgres(state_dir).url(OWNER_ROLE))
            await owner.execute(MAP, uuid7())
            await owner.close()
            people = await register_people(state_dir, daemon.api, Role.ADMINISTRATOR)
            await people.order("S-1", "GLU")
            reply = await analyzer.ask("S-1")
            assert [one.text for one in reply.all("MSA")] == ["MSA|AA|LAW1-1"]
            await daemon.end(signal.SIGKILL)
            await analyzer.close()
            await analyzer.listen(Address("127.0.0.1", dial))
            await daemon.start()
            told = await analyzer.next(30.0)
            assert (told.order.specimen_id, [step.code for step in told.order.steps]) == ("S-1", ["GLU"])
            assert told.controls == ("OK",)
