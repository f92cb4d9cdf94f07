"""A folder from the file to the journal, with the daemon killed between the commit and the move."""

from __future__ import annotations

import signal
from pathlib import Path

import asyncpg

from interface.store.embedded import EmbeddedPostgres
from interface.store.schema import OWNER_ROLE
from tests.e2e.daemon import Process, eventually

HEAD = b"MSH|^~\\&|A|B|||20260102030405||ORU^R01|%d|P|2.5.1\r"
MESSAGE = HEAD + b"PID|1\rOBR|1|S1\rOBX|1|NM|GLU||5.1|mmol/L|||||F\r"
LINK = """
[[link]]
id = "drop"
organization = "main"
driver = "generic_hl7"
transport = {{ type = "folder", path = "{path}", stable_s = 0 }}
"""


async def messages(state_dir: Path) -> list[tuple[str, str | None, str]]:
    """(state, settled, peer) in the order of receipt."""
    owner = await asyncpg.connect(EmbeddedPostgres(state_dir).url(OWNER_ROLE))
    try:
        rows = await owner.fetch("select state, settled, peer from lab.message order by id")
        return [(row["state"], row["settled"], row["peer"]) for row in rows]
    finally:
        await owner.close()


async def test_a_kill_between_commit_and_move_loses_and_doubles_nothing(state_dir: Path, tmp_path: Path) -> None:
    drop = tmp_path / "drop"
    drop.mkdir()
    daemon = Process(state_dir, tmp_path)
    daemon.config.write_text(daemon.config.read_text() + LINK.format(path=drop))

    async def moved() -> bool:
        return (drop / "done" / "one.hl7").exists() and not (drop / "one.hl7").exists()

    await daemon.start()
    (tmp_path / "one.tmp").write_bytes(MESSAGE % 1 + MESSAGE % 2)
    (tmp_path / "one.tmp").rename(drop / "one.hl7")
    await eventually(moved)
    await daemon.end(signal.SIGKILL)
    # What a kill before the move would have left: the commits, and the file where it was.
    (drop / "done" / "one.hl7").rename(drop / "one.hl7")
    await daemon.start()
    await eventually(moved)
    assert (drop / "done" / "one.hl7").read_bytes() == MESSAGE % 1 + MESSAGE % 2

    async def all_settled() -> list[tuple[str, str | None, str]] | None:
        found = await messages(state_dir)
        return found if all(settled for _, settled, _ in found) else None

    found = await eventually(all_settled)
    assert [(state, peer) for state, _, peer in found] == [("complete", "one.hl7")] * 4
    assert [settled == "duplicate" for _, settled, _ in found] == [False, False, True, True]
    await daemon.end()
