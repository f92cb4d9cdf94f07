from __future__ import annotations

from pathlib import Path

import pytest

from interface.store.db import Database
from interface.store.ids import uuid7
from tests.cli.desk import Shell, open_shell
from tests.conftest import Organization

BY = ("--as", "ada", "--json", "--reason", "as we do it")


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


async def test_a_test_is_set_shown_and_taken_out_of_use(shell: Shell) -> None:
    flags = ("--name", "Our own", "--unit", "mg/dL", "--decimals", "1", "--molar-mass", "180.16")
    made = await shell.run("test", "set", "OURS", *BY, *flags)
    assert made.status == 0, made.err
    assert (made.json["unit"], made.json["decimals"], made.json["substance"]["molar_mass"]) == ("mg/dL", 1, "180.16")
    changed = await shell.run("test", "set", "OURS", *BY, "--as-measured", "--version", "1")
    assert (changed.json["decimals"], changed.json["name"], changed.json["version"]) == (None, "Our own", 2)
    off = await shell.run("test", "deactivate", "OURS", *BY)
    assert off.json["active"] is False
    assert [one["code"] for one in (await shell.run("test", "list", "--inactive", "--json")).json] == ["OURS"]
    assert "Our own" in (await shell.run("test", "list")).out
    shown = await shell.run("test", "show", "OURS", "--json")
    assert (shown.json["test"], shown.json["intervals"]) == (off.json, [])
    assert (await shell.run("test", "show", "NOPE")).err == "labora: there is no test NOPE\n"
    refused = await shell.run("test", "set", "OURS", "--as", "vera", "--reason", "x", "--unit", "1")
    assert (refused.status, refused.out) == (1, "")
    assert (await shell.run("test", "set", "OURS", "--as", "ada", "--unit", "1")).status == 2, "a reason"
    assert (await shell.run("test", "set", "OURS", *BY, "--molar-mass", "heavy")).status == 2


async def test_who_says_a_valence_leaves_the_molar_mass(shell: Shell) -> None:
    """Without it what an analyzer sends in the other kind of unit is held, and nobody can accept that."""
    await shell.run("test", "set", "OURS", *BY, "--name", "Our own", "--unit", "mg/dL", "--molar-mass", "40.08")
    said = (await shell.run("test", "set", "OURS", *BY, "--valence", "2")).json["substance"]
    assert said == {"molar_mass": "40.08", "valence": 2}
    said = (await shell.run("test", "set", "OURS", *BY, "--molar-mass", "40.078")).json["substance"]
    assert said == {"molar_mass": "40.078", "valence": 2}


async def test_a_molar_mass_that_was_given_by_mistake_is_taken_back(shell: Shell) -> None:
    """What is sent in the other kind of unit went on being converted by it: none could be said to be known."""
    given = ("--name", "Our own", "--unit", "mg/dL", "--molar-mass", "40.08", "--valence", "2")
    await shell.run("test", "set", "OURS", *BY, *given)
    said = (await shell.run("test", "set", "OURS", *BY, "--no-molar-mass")).json["substance"]
    assert said == {"molar_mass": None, "valence": 2}
    said = (await shell.run("test", "set", "OURS", *BY, "--no-valence")).json["substance"]
    assert said == {"molar_mass": None, "valence": None}
    limits = ("--source", "leaflet", "--low", "2.1", "--high", "2.6", "--unit", "mmol/L")
    await shell.run("test", "set", "OURS", *BY, "--molar-mass", "40.08")
    assert (await shell.run("interval", "add", "OURS", *BY, *limits)).status == 0
    needed = await shell.run("test", "set", "OURS", *BY, "--no-molar-mass")  # all its results would be held
    assert (needed.status, "a limit in mmol/L cannot be compared with a result in mg/dL" in needed.err) == (1, True)
    both = await shell.run("test", "set", "OURS", *BY, "--no-valence", "--valence", "1")
    assert (both.status, "--valence and --no-valence contradict each other" in both.err) == (2, True)


async def test_a_test_with_results_keeps_its_unit(shell: Shell) -> None:
    await shell.laboratory.result(await shell.laboratory.order())
    answer = await shell.run("test", "set", "HGB", *BY, "--unit", "g/L")
    assert (answer.status, answer.out) == (1, "")
    assert "HGB has results: its unit cannot change" in answer.err


async def test_panels_are_set_listed_and_taken_out_of_use(shell: Shell) -> None:
    made = await shell.run("panel", "set", "OURS", *BY, "--name", "Ours", "--test", "WBC", "--test", "HGB")
    assert made.json["tests"] == ["WBC", "HGB"]
    assert (await shell.run("panel", "set", "OURS", *BY, "--test", "NOPE")).status == 1
    assert (await shell.run("panel", "deactivate", "OURS", *BY)).json["active"] is False
    assert [one["code"] for one in (await shell.run("panel", "list", "--active", "--json")).json] == ["CBC"]
    assert "WBC HGB" in (await shell.run("panel", "list")).out


async def test_an_order_of_a_panel_never_goes_on_without_one_of_its_tests_in_silence(shell: Shell) -> None:
    """Whoever orders it is answered that all is ordered."""
    for code in ("OLD", "NEW"):
        await shell.run("test", "set", code, *BY, "--name", "Our own", "--unit", "mg/dL")
    await shell.run("panel", "set", "BONE", *BY, "--name", "Bone", "--test", "OLD", "--test", "NEW")
    for off in (("deactivate", "OLD"), ("set", "OLD", "--inactive")):
        refused = await shell.run("test", *off, *BY)
        assert (refused.status, "OLD is in the panel BONE" in refused.err) == (1, True)
    assert (await shell.run("panel", "set", "BONE", *BY, "--test", "NEW")).status == 0
    assert (await shell.run("test", "deactivate", "OLD", *BY)).status == 0
    refused = await shell.run("panel", "set", "BONE", *BY, "--test", "OLD", "--test", "NEW")
    assert (refused.status, "OLD is not in use" in refused.err) == (1, True)


async def test_specimen_types_are_set_and_listed(shell: Shell) -> None:
    made = await shell.run("specimen-type", "set", "CORD", *BY, "--name", "Cord blood", "--source", "ours")
    assert (made.json["code"], made.json["name"], made.json["active"]) == ("CORD", "Cord blood", True)
    off = await shell.run("specimen-type", "set", "CORD", *BY, "--inactive")
    assert (off.json["name"], off.json["source"], off.json["active"]) == ("Cord blood", "ours", False)
    listed = await shell.run("specimen-type", "list", "--inactive", "--json")
    assert [one["code"] for one in listed.json] == ["CORD"]
    assert "Cord blood" in (await shell.run("specimen-type", "list")).out
    assert (await shell.run("specimen-type", "set", "MORE", *BY)).status == 1, "without a name"
    assert (await shell.run("specimen-type", "set", "MORE", "--as", "ada", "--name", "More")).status == 2, "a reason"
    refused = await shell.run("specimen-type", "set", "CORD", "--as", "vera", "--reason", "x", "--active")
    assert (refused.status, refused.out) == (1, "")


async def test_an_interval_is_added_changed_and_ended(shell: Shell) -> None:
    limits = ("--low", "11.90", "--high", "15", "--sex", "female", "--age-low-d", "6575")
    made = await shell.run("interval", "add", "HGB", *BY, "--source", "our own study", *limits)
    assert made.status == 0, made.err
    assert (made.json["test"], made.json["low"], made.json["unit"]) == ("HGB", "11.90", "g/dL")
    assert (await shell.run("interval", "add", "HGB", *BY, "--source", "again", *limits)).status == 1
    changed = await shell.run("interval", "change", made.json["id"], *BY, "--high", "15.5", "--from", "2026-01-01")
    assert (changed.json["low"], changed.json["high"], changed.json["source"]) == ("11.90", "15.5", "our own study")
    listed = (await shell.run("interval", "list", "--test", "HGB", "--json")).json
    assert [one["id"] for one in listed] == [changed.json["id"]]
    assert len((await shell.run("interval", "list", "--ended", "--json")).json) == 2
    assert "our own study" in (await shell.run("interval", "list")).out
    assert "15.5" in (await shell.run("test", "show", "HGB")).out
    ended = await shell.run("interval", "end", changed.json["id"], *BY, "--never")
    assert ended.json["valid_to"] == "1900-01-01T00:00:00Z"
    assert (await shell.run("interval", "list")).err == "no intervals\n"
    nothing = "00000000-0000-0000-0000-000000000000"
    assert (await shell.run("interval", "end", nothing, *BY)).err == "labora: there is no interval of this id\n"


async def test_an_interval_of_an_analyzer_that_there_is_not_is_refused(shell: Shell) -> None:
    """It would be for nobody: a critical value of the analyzer that was meant is ordinary."""
    limits = ("interval", "add", "HGB", *BY, "--source", "leaflet", "--critical-low", "6")
    refused = await shell.run(*limits, "--analyzer", "xn1")
    said = "labora: there is no analyzer 'xn1'; one is there once its link has been started\n"
    assert (refused.status, refused.err) == (1, said)
    async with shell.laboratory.database.transaction(shell.laboratory.organization_id) as connection:
        await connection.execute(
            "insert into lab.analyzer (id, organization_id, name, driver) values ($1, $2, 'xn1', 'sysmex_xn')",
            uuid7(), shell.laboratory.organization_id,
        )  # fmt: skip
    assert (await shell.run(*limits, "--analyzer", "xn1")).status == 0
