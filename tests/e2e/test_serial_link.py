"""A daemon with an analyzer on a serial cable."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

from interface.daemon import started
from interface.domain.permissions import Role
from interface.settings import LinkSettings, Transport, TransportType
from interface.simulator import parse_source, play
from tests.e2e.daemon import PATIENCE_S, eventually, get, settings
from tests.e2e.people import register_people
from tests.link.cable import Cable, splice

MESSAGE = (
    b"H|\\^&|C1||Testmaker^Bench^1||||||||LIS2-A2|20260102030405\rP|1||P-1||Muster^Maria||19800501|F\r"
    b"O|1|S1||^^^CBC|R\rR|1|^^^WBC|7.35|10*3/uL||N||F||||20260102030000\rL|1|N\r"
)


async def test_a_message_on_a_serial_cable_is_stored_and_a_cable_that_is_out_is_shown(
    state_dir: Path, tmp_path: Path
) -> None:
    ours, theirs = Cable(tmp_path / "ours"), Cable(tmp_path / "theirs")
    link = LinkSettings("serial", "main", "generic_lis2", Transport(TransportType.SERIAL, ours.port))
    async with started(replace(settings(state_dir), links=(link,))) as daemon:
        assert not daemon.links, "a cable is not listened on"
        assert (await get(daemon.api, "/ready"))[0] == 200
        people = await register_people(state_dir, daemon.api, Role.ADMINISTRATOR, Role.TECHNOLOGIST)
        await people.order("S1", "WBC")
        middle = asyncio.create_task(splice(ours, theirs))
        async with asyncio.timeout(PATIENCE_S):
            report = await play(parse_source(MESSAGE), theirs.port)
        assert report.complete
        middle.cancel()
        await asyncio.gather(middle, return_exceptions=True)
        (result,) = await eventually(lambda: people.results(1))
        assert not result["held"]
        ours.unplug()

        async def not_ready() -> str | None:
            status, body = await get(daemon.api, "/ready")
            return body if status == 503 else None

        said = json.loads(await eventually(not_ready))
        assert (said["database"], said["links"]) == (True, False)
    theirs.unplug()
