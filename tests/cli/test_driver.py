"""`labora driver list`, `show`, `test`, `diff`, `schema` as a person runs them."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from socket import socket

import pytest

from interface.cli import run_command
from interface.config import load
from interface.driver import registry
from interface.flow.context import register
from interface.store.db import Database
from tests.cli.desk import Shell, open_shell
from tests.conftest import Organization

PACKAGED = registry.packaged_path()


def site(tmp_path: Path, driver_id: str = "sysmex_xn") -> Path:
    """A site's own folder of drivers with a copy of a packaged one."""
    shutil.copytree(PACKAGED / driver_id, tmp_path / "site" / driver_id)
    return tmp_path / "site"


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_drivers_are_listed_with_what_they_are_and_where_they_come_from(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["driver", "list", "--json"]) == 0
    listed = {one["id"]: one for one in json.loads(capsys.readouterr().out)}
    assert listed.keys() == registry.folders().keys()
    xn = listed["sysmex_xn"]
    assert (xn["revision"], xn["tier"], xn["protocol"], xn["origin"]) == ("1", "captured", "lis2", "packaged")
    assert (xn["vendor"], xn["model"], xn["title"]) == ("Sysmex", "XN", "Sysmex XN")
    assert xn["codes"] == len(registry.load("sysmex_xn").codes) > 0
    assert xn["folder"] == str(PACKAGED / "sysmex_xn")
    assert isinstance(xn["unverified"], list)
    assert len(xn["digest"]) == 64


def test_a_sites_own_driver_wins_and_what_it_hides_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = site(tmp_path)
    edit(own / "sysmex_xn" / "driver.toml", 'revision = "1"', 'revision = "1-site"')
    assert run_command(["driver", "list", "--json", "--driver-path", str(own)]) == 0
    printed = capsys.readouterr()
    (xn,) = (one for one in json.loads(printed.out) if one["id"] == "sysmex_xn")
    assert (xn["revision"], xn["origin"], xn["hides"]) == ("1-site", "site", [str(PACKAGED / "sysmex_xn")])
    assert f"{own / 'sysmex_xn'} hides {PACKAGED / 'sysmex_xn'}" in printed.err


def test_a_folder_that_cannot_be_used_is_listed_with_its_fault(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = site(tmp_path)
    edit(own / "sysmex_xn" / "driver.toml", "[paths]", "[path]")
    assert run_command(["driver", "list", "--json", "--driver-path", str(own)]) == 1
    printed = capsys.readouterr()
    (xn,) = (one for one in json.loads(printed.out) if one["id"] == "sysmex_xn")
    assert "path: is not a known key" in xn["fault"]
    assert "path: is not a known key" in printed.err


def test_a_driver_is_shown_in_the_vendors_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["driver", "show", "roche_cobas_c311"]) == 0
    said = capsys.readouterr().out
    for words in (
        "vendor              Roche",
        "model               cobas c 311",
        "685  ALTL  U/l  numeric  (method sheet ALTL 20764957322V9)",
        "qc where O.12 is Q",
        "O|1|{specimen_id:>22}|{Q.3.4}",
    ):
        assert words in said, words
    assert run_command(["driver", "show", "roche_cobas_c311", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["code"] == ["R.3.4"]
    assert shown["specimen_id"] == ["O.3.2"]
    assert shown["query"]["specimen_id"] == ["Q.3.3"]
    assert shown["answer"]["test"] == "^^^{code}^"
    assert {"code": "685", "name": "ALTL", "unit": "U/l", "kind": "numeric",
            "source": "method sheet ALTL 20764957322V9"} in shown["codes"]  # fmt: skip


def test_every_driver_can_be_shown(capsys: pytest.CaptureFixture[str]) -> None:
    for driver_id in registry.folders():
        assert run_command(["driver", "show", driver_id]) == 0, driver_id
        assert run_command(["driver", "show", driver_id, "--json"]) == 0, driver_id
    capsys.readouterr()


def test_a_driver_is_proved_and_a_fault_is_located(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["driver", "test", "sysmex_xn"]) == 0
    assert "ok   sysmex_xn query-with-orders" in capsys.readouterr().out
    own = site(tmp_path)
    edit(own / "sysmex_xn" / "vectors" / "qc.expected.json", '"role": "qc"', '"role": "patient"')
    assert run_command(["driver", "test", "sysmex_xn", "--driver-path", str(own)]) == 1
    printed = capsys.readouterr()
    assert "FAIL sysmex_xn qc" in printed.out
    assert "[0].specimens[0].role: expected 'patient', got 'qc'" in printed.err


def test_all_drivers_are_proved_side_by_side_and_one_that_cannot_be_read_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("sysmex_xn", "generic_lis2", "hipro_crp", "acme_one", "acme_two", "acme_three", "acme_four", "acme_five")
    own = tmp_path / "site"
    for name in names:
        source = name if (PACKAGED / name).is_dir() else "generic_lis2"
        shutil.copytree(PACKAGED / source, own / name)
        if name != source:
            edit(own / name / "driver.toml", '"generic_lis2"', f'"{name}"')
    monkeypatch.setattr(registry, "packaged_path", lambda: own)
    assert run_command(["driver", "test", "--all", "--json"]) == 0
    proved = json.loads(capsys.readouterr().out)
    assert {one["driver"] for one in proved} == set(names)
    edit(own / "acme_two" / "driver.toml", "[driver]", "[drivers]")
    assert run_command(["driver", "test", "--all"]) == 1
    assert "FAIL acme_two -" in capsys.readouterr().out


def test_the_schema_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["driver", "schema"]) == 0
    assert json.loads(capsys.readouterr().out)["required"] == ["driver"]


@pytest.fixture
async def shell(
    database: Database,
    shared_database_url: str,
    organization: Organization,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Shell:
    with socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return await open_shell(database, shared_database_url, organization, tmp_path, monkeypatch, capsys, port)


async def test_an_upgrade_shows_what_it_would_change(shell: Shell, database: Database, tmp_path: Path) -> None:
    settings = load(shell.config).links[0]
    async with database.transaction(shell.organization.id) as connection:
        await register(connection, shell.organization.id, settings, registry.load("generic_lis2"))
    own = site(tmp_path, "generic_lis2")
    file = own / "generic_lis2" / "driver.toml"
    edit(file, 'revision = "1"', 'revision = "2"')
    file.write_text(file.read_text(encoding="utf-8") + "[value]\ndecimal_comma = true\n", encoding="utf-8")
    expected = ["~ driver.revision = '1' -> '2'", "+ value.decimal_comma = true"]
    answer = await shell.run("driver", "diff", "generic_lis2", "--driver-path", str(own), "--json")
    assert answer.json == [{"from": "1", "to": "2", "changes": expected}]
    said = await shell.run("driver", "diff", "generic_lis2", "--from", "packaged", "--driver-path", str(own))
    assert said.out.splitlines()[1:] == [f"  {line}" for line in expected]
    unknown = await shell.run("driver", "diff", "generic_lis2", "--from", "7")
    assert (unknown.status, "has run revision '7'" in unknown.err) == (1, True)
    listed = (await shell.run("link", "list", "--json")).json
    assert (listed[0]["driver_revision"], listed[0]["offered_revision"]) == ("1", "1")
    upgraded = replace(settings, driver_revision="2")
    async with database.transaction(shell.organization.id) as connection:
        driver = registry.load("generic_lis2", [own])
        context = await register(connection, shell.organization.id, upgraded, driver)
    assert context.driver.grammar.decimal_comma
    listed = (await shell.run("link", "list", "--json")).json
    assert (listed[0]["driver_revision"], listed[0]["offered_revision"]) == ("2", "1")
