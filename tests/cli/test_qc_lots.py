"""`labora qc material|lot|target|reagent` as people run them."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest

from interface.store.db import Database
from tests.cli.desk import Shell, open_shell
from tests.cli.qc_lots_use import DORA, LIMITS, PLACE, VERA, WHY, made
from tests.cli.qc_use import add_director
from tests.conftest import Organization
from tests.qc_records import add_points

BY = (*WHY, *DORA)


@pytest.fixture
async def shell(
    database: Database,
    shared_database_url: str,
    organization: Organization,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Shell:
    shell = await open_shell(database, shared_database_url, organization, tmp_path, monkeypatch, capsys)
    await add_director(shell)
    return shell


async def test_a_lot_is_created_changed_shown_and_closed(shell: Shell) -> None:
    assert (await shell.run("qc", "material", "list")).err == "no control materials\n"
    await made(shell, "qc", "material", "create", "Control", "--manufacturer", "Maker", *DORA)
    bare = await shell.run("qc", "lot", "create", "Control", "4711", "--level", "low", *DORA)
    assert "what analyzers send of it will not be recognised" in bare.err
    flags = ("--expires", "2999-01-31", "--identifier", "QC1", "--identifier", "C*", "--analyzer", "hema")
    changed = await shell.run("qc", "lot", "change", "4711", *flags, *BY, "--json")
    assert (changed.json["identifiers"], changed.json["analyzers"], changed.json["expires_on"]) == (
        ["QC1", "C*"], ["hema"], "2999-01-31",
    )  # fmt: skip
    listed = await shell.run("qc", "lot", "list", "--material", "Control")
    assert listed.out.splitlines()[0].split() == [
        "material", "lot", "level", "level", "number", "expires", "on", "identifiers", "analyzers", "closed", "at",
        "version", "id",
    ]  # fmt: skip
    assert "QC1 C*" in listed.out
    none = await shell.run("qc", "lot", "change", "4711/low", "--no-identifiers", "--any-analyzer", *BY, "--json")
    assert (none.json["identifiers"], none.json["analyzers"]) == ([], [])
    assert (await shell.run("qc", "lot", "close", "4711", *DORA)).status == 2, "it needs a reason"
    assert (await shell.run("qc", "lot", "close", "4711", *WHY)).status == 2, "and somebody who does it"
    refused = await shell.run("qc", "lot", "close", "4711", *WHY, *VERA)
    assert (refused.status, refused.err) == (1, "labora: this needs the permission qc:manage\n")
    assert (await shell.run("qc", "lot", "close", "4711", *BY, "--json")).json["closed_at"]
    assert (await shell.run("qc", "lot", "list")).err == "no lots\n"
    assert len((await shell.run("qc", "lot", "list", "--closed", "--json")).json) == 1
    assert (await shell.run("qc", "lot", "show", "9")).err == "labora: there is no lot '9'\n"
    shown = await shell.run("qc", "material", "show", "Control", "--json")
    assert (shown.json["material"]["manufacturer"], len(shown.json["lots"])) == ("Maker", 1)
    assert (await shell.run("qc", "lot", "create", "Control", "5", "--expires", "soon", *DORA)).status == 2


async def test_a_target_is_set_replaced_and_ended(shell: Shell) -> None:
    await made(shell, "qc", "material", "create", "Control", *DORA)
    await made(shell, "qc", "lot", "create", "Control", "4711", "--identifier", "QC1", *DORA)
    first = await made(shell, "qc", "target", "set", "4711", *PLACE, *LIMITS, *BY)
    again = await shell.run("qc", "target", "set", "4711", *PLACE, *LIMITS, *BY)
    assert (again.status, "has a target for HGB on hema since" in again.err) == (1, True)
    second = await shell.run("qc", "target", "change", first, "--sd", "0.4", *BY, "--json")
    assert (second.json["sd"], second.json["mean"]) == ("0.4", "12.0")
    listed = await shell.run("qc", "target", "list", "--lot", "4711", "--analyzer", "hema", "--test", "HGB", "--json")
    assert [one["id"] for one in listed.json] == [second.json["id"]]
    history = await shell.run("qc", "target", "list", "--ended", "--json")
    assert [one["id"] for one in history.json] == [first, second.json["id"]]
    shown = await shell.run("qc", "target", "show", first)
    assert "ended by      dora" in shown.out
    ended = await shell.run("qc", "target", "end", second.json["id"], "--never", *BY, "--json")
    assert ended.json["ended_at"] == ended.json["valid_from"]
    assert (await shell.run("qc", "target", "list")).err == "no targets\n"
    assert (await shell.run("qc", "target", "set", "4711", *PLACE, "--mean", "NaN", "--sd", "1", *BY)).status == 2
    assert (await shell.run("qc", "target", "recompute", *BY)).status == 2
    nothing = await shell.run("qc", "target", "recompute", "--all", *BY)
    assert (nothing.status, nothing.err) == (0, "there is nothing new\n")


async def test_a_new_lot_is_shown_beside_the_old_one_before_it_is_set(shell: Shell) -> None:
    await made(shell, "qc", "material", "create", "Control", *DORA)
    lots = [await made(shell, "qc", "lot", "create", "Control", lot, *DORA) for lot in ("4710", "4711")]
    await made(shell, "qc", "target", "set", "4710", *PLACE, *LIMITS, *BY)
    few = await shell.run("qc", "target", "establish", "4711", *PLACE)
    assert (few.status, "there are 0 points on 0 days, and at least 20 on 10 are wanted" in few.err) == (1, True)
    await add_points(shell.laboratory, UUID(lots[1]), ["12.0", "12.2"] * 10)
    shown = await shell.run("qc", "target", "establish", "4711", *PLACE)
    assert shown.status == 0
    rows = [line.split() for line in shown.out.splitlines()]
    assert rows[1] == ["proposed", "12.100", "0.103", "0.85", "g/dL"]
    assert rows[2] == ["measured", "12.1000", "0.1026", "0.85", "g/dL", "20", "20"]
    assert rows[3][:3] == ["target", "of", "4710"]
    assert "its CV is 0.85 %, 0.20 times that of lot 4710" in shown.err
    assert (await shell.run("qc", "target", "establish", "4711", *PLACE, "--set", "20", *WHY)).status == 2, "by whom"
    unsaid = await shell.run("qc", "target", "establish", "4711", *PLACE, "--set", "20", *DORA)
    assert (unsaid.status, unsaid.err) == (1, "labora: this needs a reason\n")
    set_ = await shell.run("qc", "target", "establish", "4711", *PLACE, "--set", "20", *BY, "--json")
    assert (set_.json["mean"], set_.json["sd"], set_.json["points"]) == ("12.100", "0.103", 20)


async def test_lots_in_use_are_set_listed_and_ended(shell: Shell) -> None:
    assert (await shell.run("qc", "reagent", "list")).err == "no lots in use are known\n"
    first = await made(shell, "qc", "reagent", "set", "hema", "R1", "--test", "HGB", "--from", "2026-01-01", *VERA)
    await made(shell, "qc", "reagent", "set", "hema", "C1", "--kind", "calibrator", *VERA)
    await made(shell, "qc", "reagent", "set", "hema", "R2", "--test", "HGB", "--from", "2026-02-01", *VERA)
    listed = await shell.run("qc", "reagent", "list", "--analyzer", "hema", "--json")
    assert [(one["kind"], one["lot"]) for one in listed.json] == [("calibrator", "C1"), ("reagent", "R2")]
    everything = await shell.run("qc", "reagent", "list", "--kind", "reagent", "--ended", "--json")
    assert [one["id"] for one in everything.json][1] == first
    assert everything.json[1]["ended_at"] == "2026-02-01T00:00:00Z"
    gone = await shell.run("qc", "reagent", "end", everything.json[0]["id"], *WHY, *VERA, "--json")
    assert gone.json["end_reason"] == "new lot"


async def test_a_file_is_taken_whole_or_not_at_all(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "insert.csv"
    head = "material,lot,level,level_number,identifiers,test,analyzer,unit,mean,low,high,range_sd\n"
    file.write_text(f"{head}Multi,77,low,1,Q1,HGB,hema,g/dL,7.5,7.1,7.9,2\nMulti,77,high,one,Q1,HGB,,g/dL,16,15,17,2\n")
    wrong = await shell.run("qc", "lot", "import", str(file), *BY)
    assert (wrong.status, wrong.out, wrong.err.splitlines()) == (1, "", [
        "labora: insert.csv:3: level_number: 'one' is not a whole number",
        "labora: insert.csv:3: analyzer: is missing",
    ])  # fmt: skip
    file.write_text("\ufeff" + file.read_text().replace("one,Q1,HGB,,", "2,Q1,HGB,hema,"))
    tried = await shell.run("qc", "lot", "import", str(file), "--dry-run", *BY, "--json")
    assert (tried.json, tried.err) == ({"materials": 1, "lots": 2, "targets": 2, "known": 0}, "nothing was added\n")
    assert (await shell.run("qc", "lot", "import", str(file), *BY, "--json")).json == tried.json
    out = await shell.run("qc", "lot", "export", "--material", "Multi")
    assert out.out.splitlines()[1].startswith("Multi,,,77,low,1,,Q1,,HGB,hema,,,g/dL,7.5,0.2,manufacturer,fixed,,")
    for text in (out.out, (await shell.run("qc", "lot", "export", "--json")).out):
        file.write_text(text)
        back = await shell.run("qc", "lot", "import", str(file), *BY, "--json")
        assert back.json == {"materials": 0, "lots": 0, "targets": 0, "known": 2}, back.err
    assert (await shell.run("qc", "lot", "import", str(tmp_path / "none.csv"), *BY)).status == 1
