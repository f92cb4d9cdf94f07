"""Messages that are hard to take, at a whole daemon: each is answered and kept, what is uncertain is held, none is
taken for another's repetition, and what comes behind it is decided (F14)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg
import pytest

from interface.store.ids import uuid7
from tests.bench.messages import hl7_message
from tests.cluster import owner_of
from tests.e2e.daemon import PATIENCE_S, eventually, running

_SETTLED = """
select m.control_id, m.settled, (select sum(length(f.bytes)) from lab.frame f where f.message_id = m.id) as bytes
  from lab.message m where m.state = 'complete' and m.settled is not null order by m.id
"""
_VALUES = "select raw_value from lab.result_version where specimen_as_sent = $1 and code = '2345-7' order by id"


def large(control_id: str) -> bytes:
    """With a value of 10 MB among the others."""
    return hl7_message("SBIG", control_id).replace(b"||91|mg/dL", b"||" + b"9" * 10_000_000 + b"|mg/dL")


def damaged(control_id: str) -> bytes:
    """It says UTF-8, and is not."""
    return hl7_message("SBAD", control_id).replace(b"Analyte 1^", b"Analyt\xe9 1^").replace(b"PATIENT", b"P\xc3TIENT")


def another(control_id: str) -> bytes:
    """The control id of the message before, and another value of the same specimen."""
    return hl7_message("SFIRST", control_id).replace(b"||91|mg/dL", b"||92|mg/dL")


@pytest.mark.timeout(180)
async def test_each_is_answered_and_kept_and_the_queue_behind_it_moves(tmp_path: Path, database_url: str) -> None:
    owner = await asyncpg.connect(owner_of(database_url))
    await owner.execute("insert into lab.organization (id, name) values ($1, 'main')", uuid7())
    said = [hl7_message("SFIRST", "K1"), another("K1"), large("K2"), damaged("K3"), hl7_message("SLAST", "K4")]
    async with running(tmp_path, owner_of(database_url)) as daemon:
        address = daemon.links["hl7"]
        reader, writer = await asyncio.open_connection(address.host, address.port)
        answers = []
        for message in said:
            writer.write(b"\x0b" + message + b"\x1c\r")
            async with asyncio.timeout(PATIENCE_S):
                answers.append((await reader.readuntil(b"\x1c\r")).partition(b"MSA|")[2][:5])
        writer.close()
        await writer.wait_closed()

        async def settled() -> list[asyncpg.Record] | None:
            rows = await owner.fetch(_SETTLED)
            return rows if len(rows) == len(said) else None

        rows = await eventually(settled)
    assert answers == [b"CA|K1", b"CA|K1", b"CA|K2", b"CA|K3", b"CA|K4"]
    assert [row["control_id"] for row in rows] == ["K1", "K1", "K2", "K3", "K4"]
    assert [row["bytes"] for row in rows] == list(map(len, said)), "as they were sent"
    assert all(row["settled"] in ("held", "released") for row in rows), rows
    assert [row["raw_value"] for row in await owner.fetch(_VALUES, "SFIRST")] == ["91", "92"]
    assert [row["raw_value"] for row in await owner.fetch(_VALUES, "SLAST")] == ["91"]
    await owner.close()
