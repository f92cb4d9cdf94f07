from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from interface.domain.model import ResultStatus, Step
from interface.store.db import Database
from interface.store.lab_changes import copy_version, lock_result, point_to
from tests.cli.desk import Answer, Shell, open_shell
from tests.conftest import Organization
from tests.records import order

AS = ("--as", "vera", "--json")


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


async def add(shell: Shell, *flags: str) -> Answer:
    made = await shell.run("patient", "create", *AS, *flags)
    assert made.status == 0, made.err
    return made


async def test_a_patient_is_added_found_changed_and_shown(shell: Shell) -> None:
    made = await add(
        shell, "--family", "Müller", "--given", "Eva", "--identifier", "urn:hospital|4711", "--identifier", "7",
        "--birth-at", "2026-01-02T01:30+07:00", "--sex", "female",
    )  # fmt: skip
    assert (made.json["birth_date"], made.json["birth_at"]) == ("2026-01-02", "2026-01-01T18:30:00Z")
    id = made.json["id"]
    for flags in (
        ("--name", "eva muell"),
        ("--identifier", "4711"),
        ("--identifier", "urn:hospital|4711"),
        ("--active",),
    ):
        assert [one["id"] for one in (await shell.run("patient", "list", "--json", *flags)).json] == [id], flags
    nobody = await shell.run("patient", "list", "--name", "ller")
    assert (nobody.status, nobody.out, nobody.err) == (0, "", "no patients\n")
    assert "urn:hospital|4711 7" in (await shell.run("patient", "list")).out
    changed = await shell.run(
        "patient", "update", id, *AS, "--family", "Meier", "--no-birth-at", "--add-identifier", "urn:card|C1",
        "--end-identifier", "7", "--reason", "of somebody else",
    )  # fmt: skip
    assert changed.status == 0, changed.err
    assert (changed.json["family"], changed.json["given"], changed.json["birth_at"]) == ("Meier", "Eva", None)
    shown = (await shell.run("patient", "show", id, "--json")).json
    assert [each["value"] for each in shown["identifiers"]] == ["4711", "C1"]
    assert [each["value"] for each in shown["former_identifiers"]] == ["7"]
    assert "former identifiers  7" in (await shell.run("patient", "show", id)).out
    late = await shell.run("patient", "update", id, *AS, "--family", "Late", "--version", "1")
    assert (late.status, late.out) == (1, "")
    assert "it is at version" in late.err


async def test_who_is_registered_twice_is_proposed_merged_and_split(shell: Shell) -> None:
    one = await add(shell, "--family", "Müller", "--given", "Eva", "--birth-date", "1980-05-12")
    other = await add(shell, "--family", "Mueller", "--given", "Eva", "--birth-date", "1980-12-05")
    prior, survivor = other.json["id"], one.json["id"]
    assert f"may be the same: {survivor} (65: similar name, birth date with day and month exchanged)" in other.err
    for flags in ((prior,), ("--since", "2026-01-01")):
        found = await shell.run("patient", "duplicates", *flags, "--json")
        assert {row["patient"]["id"] for row in found.json} <= {prior, survivor}
        assert found.json[0]["score"] == 65
    assert "day and month exchanged" in (await shell.run("patient", "duplicates")).out
    flags = ("--reason", "one person")
    refused = await shell.run("patient", "merge", prior, survivor, *AS, *flags)
    assert (refused.status, "differ in birth date" in refused.err) == (1, True)
    merged = await shell.run("patient", "merge", prior, survivor, *AS, *flags, "--accept-differences")
    assert (merged.json["id"], merged.json["replaces"]) == (survivor, [prior])
    shown = await shell.run("patient", "show", prior)
    assert shown.err == f"merged into {survivor}, which is to be used in its place\n"
    assert f"merged into {survivor}" in (await shell.run("patient", "list")).out
    assert (await shell.run("patient", "duplicates", prior)).err == "nobody\n"
    split = await shell.run("patient", "unmerge", prior, *AS, "--reason", "two")
    assert (split.json["id"], split.json["merged_into"], split.json["look_again"]) == (prior, None, [])


async def test_a_change_of_people_needs_a_name_and_a_reason(shell: Shell) -> None:
    id = (await add(shell, "--family", "Muster")).json["id"]
    assert (await shell.run("patient", "create", "--family", "M")).status == 2
    assert (await shell.run("patient", "merge", id, id, "--as", "vera")).status == 2
    assert (await shell.run("patient", "show", "nobody")).status == 2
    same = await shell.run("patient", "merge", id, id, "--as", "vera", "--reason", "x")
    assert (same.status, same.err) == (1, "labora: a patient is not merged into itself\n")
    ended = await shell.run("patient", "update", id, "--as", "vera", "--end-identifier", "7")
    assert (ended.status, ended.err) == (1, "labora: this needs a reason\n")


async def test_providers_are_added_found_and_changed(shell: Shell) -> None:
    made = await shell.run(
        "provider", "create", *AS, "--family", "Arzt", "--identifier", "urn:d|1", "--role", "surgeon"
    )
    assert made.status == 0, made.err
    id = made.json["id"]
    for flags in (("--name", "arz"), ("--identifier", "urn:d|1"), ("--active",)):
        assert (await shell.run("provider", "list", "--json", *flags)).json == [made.json]
    changed = await shell.run("provider", "update", id, *AS, "--identifier", "2", "--inactive")
    assert ([each["value"] for each in changed.json["identifiers"]], changed.json["active"]) == (["2"], False)
    assert (await shell.run("provider", "show", id, "--json")).json == changed.json
    assert "surgeon" in (await shell.run("provider", "list")).out
    assert (await shell.run("provider", "show", "00000000-0000-0000-0000-000000000000")).status == 1


async def test_what_was_compared_with_the_other_is_shown_when_a_merge_is_taken_back(shell: Shell) -> None:
    prior, survivor = [(await add(shell, "--family", family)).json["id"] for family in ("Muster", "Muster-Neu")]
    flags = ("--as", "vera", "--reason", "one person")
    assert (await shell.run("patient", "merge", prior, survivor, *flags)).status == 0
    bench = shell.laboratory
    before, after = [
        await bench.result(await bench.order(replace(order(), patient=None, patient_id=UUID(of))), value)
        for of, value in ((survivor, "13.5"), (survivor, "9.1"))
    ]
    async with bench.database.transaction(bench.organization_id) as connection:
        # the older is of the record that was the prior, the newer was judged by it
        await connection.execute("update lab.result set patient_id = $2 where id = $1", before, UUID(prior))
        version = await connection.fetchval("select version_id from lab.result where id = $1", before)
        row = await lock_result(connection, after)
        assert row is not None
        step = Step("delta", "hold", "the change is beyond the limit", inputs={"previous": str(version)})
        made = await copy_version(connection, bench.technologist, row, ResultStatus.PRELIMINARY, "", step)
        await point_to(connection, row, *made, ResultStatus.PRELIMINARY, False)
    split = await shell.run("patient", "unmerge", prior, *flags)
    assert split.err == (
        "look again: 1 result compared with the other person's\n"
        "look again: 2 orders placed on the survivor's record meanwhile, whomever it was for\n"
    )
    assert all(word in split.out for word in (str(after), str(before), "9.1 g/dL", "13.5 g/dL"))
