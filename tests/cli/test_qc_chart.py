"""`labora qc chart` and `labora qc report`, as a person runs them."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from interface.store.db import Database
from tests.cli.desk import Shell, open_shell
from tests.conftest import Organization
from tests.qc_records import add_judged, add_lot, add_target


@pytest.fixture
async def shell(
    database: Database,
    shared_database_url: str,
    organization: Organization,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Shell:
    return await open_shell(database, shared_database_url, organization, tmp_path, monkeypatch, capsys)


async def test_a_chart_and_a_report_are_written_to_files(shell: Shell, tmp_path: Path) -> None:
    lot = await add_lot(shell.laboratory)
    aim = await add_target(shell.laboratory, "4711/low")
    now = datetime.now(UTC)
    await add_judged(shell.laboratory, lot, aim, ["1", "3.5"], now - timedelta(hours=1), timedelta(minutes=5))
    of = ("qc", "chart", "HGB", "--analyzer", "hema")
    for name, begin in (("c.svg", b"<svg"), ("c.PNG", b"\x89PNG")):
        made = await shell.run(*of, "--days", "30", "-o", str(tmp_path / name))
        assert (made.status, made.out, made.err) == (0, "", f"{tmp_path / name}: 2 points\n"), made.err
        assert (tmp_path / name).read_bytes().startswith(begin)
    assert "1-3s" in (tmp_path / "c.svg").read_text()
    shown = await shell.run(*of, "--as", "vera", "--together", "--zone", "Asia/Jakarta", "--width", "600")
    assert shown.status == 0 and shown.out.startswith("<svg") and "Asia/Jakarta" in shown.out
    data = (await shell.run(*of, "--json", "--from", f"{now:%Y-%m-%d}", "--days", "1")).json
    assert (data["zone"], data["chart"]["test_name"]) == ("UTC", "Haemoglobin")
    file = tmp_path / "m.pdf"
    made = await shell.run("qc", "report", "--month", f"{now:%Y-%m}", "-o", str(file), "--paper", "letter", "--json")
    assert (made.status, made.err) == (0, f"{file}: 1 of 1 tests\n"), made.err
    assert file.read_bytes().startswith(b"%PDF-") and made.json["streams"][0]["chart"]["analyzer"] == "hema"


async def test_what_cannot_be_drawn_is_said(shell: Shell, tmp_path: Path) -> None:
    for status, words, arguments in (
        (2, "ends in .svg or .png", ("chart", "HGB", "--analyzer", "hema", "-o", str(tmp_path / "c.gif"))),
        (1, 'there is no analyzer "none"', ("chart", "HGB", "--analyzer", "none")),
        (1, "time zone", ("chart", "HGB", "--analyzer", "hema", "--zone", "Mars")),
        (2, "Missing option '--analyzer'", ("chart", "HGB")),
        (2, "say where to", ("report", "--month", "2026-11")),
        (2, "ends in .pdf", ("report", "--month", "2026-11", "-o", str(tmp_path / "r.doc"))),
        (1, "a month is written as 2026-11", ("report", "--month", "11/2026", "--json")),
    ):
        answer = await shell.run("qc", *arguments)
        assert (answer.status, answer.out) == (status, ""), arguments
        assert words in answer.err
    assert not {"c.gif", "r.doc"} & set(os.listdir(tmp_path)), "no file is left of what was refused"
