"""A link with leniencies in a daemon's configuration, from its bytes to the journal, through kill -9."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg

from interface.simulator import parse_source, play
from interface.store.embedded import EmbeddedPostgres
from interface.store.schema import OWNER_ROLE
from tests.e2e.daemon import Process, eventually, get

LINK = 'driver = "generic_lis2"\n'
LENIENT = LINK + 'leniencies = ["no_terminator_record", "bare_records"]\n'
OPEN = (
    b"H|\\^&|%s||Testmaker^Bench^1||||||||LIS2-A2|20260102030405\rP|1||P-1\rO|1|S-%s||^^^CBC|R\r"
    b"R|1|^^^WBC|7.35|10*3/uL||N||F||||20260102030000\r"
)


async def test_eot_completes_only_what_it_has_ended_and_bare_records_need_no_answer(
    state_dir: Path, tmp_path: Path
) -> None:
    daemon = Process(state_dir, tmp_path)
    daemon.config.write_text(daemon.config.read_text().replace(LINK, LENIENT, 1))
    source = parse_source(OPEN % (b"K1", b"1"))

    async def sealed(number: int) -> list[tuple[str, str, str]] | None:
        """(control id, state, settled), once there are so many and each is settled."""
        connection = await asyncpg.connect(EmbeddedPostgres(state_dir).url(OWNER_ROLE))
        try:
            rows = await connection.fetch("select control_id, state, settled from lab.message order by id")
        finally:
            await connection.close()
        done = len(rows) == number and all(row["settled"] for row in rows)
        return [(row["control_id"], row["state"], row["settled"]) for row in rows] if done else None

    async with daemon:
        reader, writer = await asyncio.open_connection(daemon.astm.host, daemon.astm.port)
        for data in (b"\x05", *source.transmissions[0]):
            writer.write(data)
            assert await reader.readexactly(1) == b"\x06"
        await daemon.end(9)  # all of it is acknowledged, and EOT has not come
        writer.close()
        await daemon.start()
        cut = ("", "incomplete", "held")  # sealed at the start, which does not read it
        assert await eventually(lambda: sealed(1)) == [cut]
        assert (await play(source, daemon.astm, repeat=2)).complete
        whole = [cut, ("K1", "complete", "held"), ("K1", "complete", "duplicate")]
        assert await eventually(lambda: sealed(3)) == whole

        reader, writer = await asyncio.open_connection(daemon.astm.host, daemon.astm.port)
        writer.write(OPEN % (b"K2", b"2") + b"L|1|N")  # the L record has no end but the connection's
        await writer.drain()
        writer.close()
        assert await eventually(lambda: sealed(4)) == [*whole, ("K2", "complete", "held")]
        _, page = await get(daemon.api, "/metrics")
        for name, times in (("no_terminator_record", 2), ("bare_records", 1)):
            assert f'labora_leniencies_total{{leniency="{name}",link="astm"}} {times}.0' in page
