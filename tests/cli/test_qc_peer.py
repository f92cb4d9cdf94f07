"""`labora qc peer`: the way of a report from a programme and back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from interface.store.db import Database
from tests.cli.desk import Shell, open_shell
from tests.cli.qc_use import DORA, add_director
from tests.conftest import Organization
from tests.qc_records import add_lot, add_points

HEADINGS = "lot,level,test,peer_group,period,unit,laboratories,points,mean,sd\n"


@pytest.fixture
async def shell(
    database: Database,
    shared_database_url: str,
    organization: Organization,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> AsyncIterator[Shell]:
    shell = await open_shell(database, shared_database_url, organization, tmp_path, monkeypatch, capsys)
    await add_director(shell)
    yield shell


async def test_a_report_is_imported_compared_and_answered(shell: Shell, tmp_path: Path) -> None:
    lot = await add_lot(shell.laboratory)
    await add_points(shell.laboratory, lot.id, ["12.2", "12.6", "12.4"], begin=datetime(2026, 11, 5, tzinfo=UTC))
    file = tmp_path / "peers.csv"
    file.write_text(f"{HEADINGS}4711,low,HGB,all,2026-11,g/dL,12,340,12.0,0.4\n", encoding="utf-8-sig")
    command = ("qc", "peer", "import", str(file), "--reason", "report")
    assert (await shell.run(*command)).status == 2  # nobody says that they do it
    refused = await shell.run(*command, "--as", "vera")
    assert (refused.status, "qc:manage" in refused.err) == (1, True)
    tried = await shell.run(*command, "--dry-run", "--json", *DORA)
    assert (tried.json, "nothing was changed" in tried.err) == ({"added": 1, "changed": 0, "known": 0}, True)
    done = await shell.run(*command, "--json", *DORA)
    assert (done.status, done.json) == (0, {"added": 1, "changed": 0, "known": 0})
    (listed,) = (await shell.run("qc", "peer", "list", "--json")).json
    assert (listed["peer_group"], listed["mean"], listed["by"]) == ("all", "12.0", "dora")
    (compared,) = (await shell.run("qc", "peer", "compare", "--period", "2026-11", "--json")).json
    assert (compared["sdi"], compared["cvr"], compared["bias"]) == ("1.00", "0.48", "3.33")
    written = tmp_path / "own.csv"
    assert (await shell.run("qc", "peer", "export", "--period", "2026-11", "-o", str(written))).status == 0
    assert ",4711,low," in written.read_text("utf-8")
    bundle = (await shell.run("qc", "peer", "export", "--period", "2026-11", "--json")).json
    assert bundle["resourceType"] == "Bundle"
    nothing = await shell.run("qc", "peer", "compare", "--period", "2026-09")
    assert (nothing.status, nothing.out, "no lot" in nothing.err) == (0, "", True)


async def test_a_file_that_cannot_be_taken_says_each_line(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "peers.csv"
    file.write_text(
        f"{HEADINGS}4711,low,HGB,all,2026-11,g/dL,12,340,12.0,0.4\nx,,Y,all,2026,,,,1,0\n", encoding="utf-8"
    )
    done = await shell.run("qc", "peer", "import", str(file), "--reason", "report", *DORA)
    assert (done.status, done.out) == (1, "")
    assert f"{file}:2:" in done.err and f"{file}:3: period:" in done.err
    missing = await shell.run("qc", "peer", "import", str(tmp_path / "none.csv"), "--reason", "report", *DORA)
    assert (missing.status, "cannot read" in missing.err) == (1, True)
