"""`labora report`, as a person runs it."""

from __future__ import annotations

from pathlib import Path

import pytest

from interface.flow import review
from interface.store.db import Database
from tests.cli.desk import Shell, open_shell
from tests.conftest import Organization


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


async def _released(shell: Shell) -> str:
    placed = await shell.laboratory.order()
    result_id = await shell.laboratory.result(placed, "13.50")
    async with shell.laboratory.database.transaction(shell.organization.id) as connection:
        await review.release(connection, shell.laboratory.technologist, result_id)
    return placed.number


async def test_the_report_of_an_order_is_written_to_a_file(shell: Shell, tmp_path: Path) -> None:
    number, file = await _released(shell), tmp_path / "r.pdf"
    made = await shell.run("report", "order", number, "-o", str(file), "--paper", "letter", "--language", "id")
    assert (made.status, made.out, made.err) == (0, "", f"{file}: version 1, final\n"), made.err
    assert file.read_bytes().startswith(b"%PDF-")
    shown = (await shell.run("report", "order", number, "--json", "--as", "vera")).json
    assert (shown["content"]["number"], shown["content"]["lines"][0]["value"]) == (number, "13.50")
    assert (await shell.run("report", "order", number, "--versions")).out.startswith("1\tfinal\t")
    assert await shell.laboratory.count("audit_event", "action = 'print' and entity_kind = 'report'") == 2


async def test_tables_go_to_stdout_or_into_files(shell: Shell, tmp_path: Path) -> None:
    await _released(shell)
    workload = await shell.run("report", "workload", "--by", "test")
    assert workload.out.splitlines()[0].startswith("test,results,reported") and "\nHGB,1,1,1,0," in workload.out
    turnaround = await shell.run("report", "turnaround", "--json")
    assert {row["stage"] for row in turnaround.json["total"]} >= {"received-released", "ordered-collected"}
    qc = await shell.run("report", "qc", "--month", "2026-11")
    assert qc.out.startswith("analyzer,module,test,")
    for kind, more in (("workload", ()), ("turnaround", ()), ("qc", ("--month", "2026-11"))):
        for ending, begin in (("csv", b""), ("pdf", b"%PDF-")):
            file = tmp_path / f"{kind}.{ending}"
            made = await shell.run("report", kind, *more, "-o", str(file))
            assert (made.status, made.out, made.err) == (0, "", f"{file}\n"), made.err
            assert file.read_bytes().startswith(begin)


async def test_how_reports_look_and_how_soon_is_set_by_a_user(shell: Shell) -> None:
    assert "paper\ta4\n" in (await shell.run("report", "settings")).out
    changed = await shell.run("report", "settings", "--director", "dr. S.", "--paper", "letter", "--as", "ada")
    assert changed.status == 0 and "director\tdr. S.\n" in changed.out and "paper\tletter\n" in changed.out
    aims = ("report", "target", "received-released=60,priority=stat", "ordered-released=240")
    made = await shell.run(*aims, "--as", "ada")
    assert made.out == "ordered-released\t240\t\t\t\nreceived-released\t60\t\t\tstat\n"
    assert len((await shell.run("report", "target", "--json")).json["targets"]) == 2
    assert (await shell.run("report", "target", "--none", "--as", "ada")).out == ""
    for status, words, arguments in (
        (2, "say who does it", ("settings", "--director", "x")),
        (1, "permission", ("settings", "--director", "x", "--as", "vera")),
        (2, "is no target", ("target", "soon", "--as", "ada")),
        (2, "say where to", ("order", "N-1")),
        (2, "ends in .pdf", ("order", "N-1", "-o", "r.doc")),
        (1, "no order of this number", ("order", "none", "--json")),
        (1, "at most 366", ("workload", "--from", "2020-01-01", "--to", "2026-01-01")),
    ):
        answer = await shell.run("report", *arguments)
        assert (answer.status, answer.out) == (status, ""), arguments
        assert words in answer.err, answer.err
