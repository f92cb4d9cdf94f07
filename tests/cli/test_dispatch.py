from __future__ import annotations

from pathlib import Path

import pytest

from interface.store.db import Database
from tests.cli.desk import Shell, open_shell
from tests.cli.dispatch_use import refused
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


async def test_refused_work_is_seen_sent_again_and_taken_back(shell: Shell) -> None:
    work = await refused(shell)
    listed = await shell.run("dispatch", "list", "--state", "refused")
    assert (listed.status, listed.err) == (0, "")
    assert work in listed.out
    assert "no reagent" in listed.out
    nobody = await shell.run("dispatch", "resend", work, "--reason", "reagent is in")
    assert nobody.status == 2
    again = await shell.run("dispatch", "resend", work, "--reason", "reagent is in", "--as", "vera", "--json")
    assert again.status == 0, again.err
    [new] = again.json
    assert (new["state"], new["code"]) == ("queued", "HB")
    off = await shell.run("dispatch", "cancel", new["work_id"], "--reason", "by hand", "--as", "vera", "--json")
    assert [one["state"] for one in off.json] == ["cancelled"]
    twice = await shell.run("dispatch", "cancel", new["work_id"], "--reason", "by hand", "--as", "vera")
    assert (twice.status, twice.out) == (1, "")
    assert "already" in twice.err
    shown = (await shell.run("dispatch", "show", work, "--json")).json
    assert shown["dispatch"]["reason"] == "reagent is in"
    assert [event["actor"] for event in shown["events"]] == ["vera"]
    assert (await shell.run("dispatch", "list", "--json")).json == []
    assert len((await shell.run("dispatch", "list", "--all", "--json")).json) == 2
    assert (await shell.run("dispatch", "show", "0")).status == 1


async def test_routes_are_said_and_taken_back(shell: Shell) -> None:
    await refused(shell)
    said = ("dispatch", "route", "HGB", "hema=70", "--code", "hema=HB", "--reason", "as it is", "--as", "ada")
    [route] = (await shell.run(*said, "--json")).json
    assert (route["analyzer"], route["share"], route["codes"], route["down"]) == ("hema", 70, ["HB"], False)
    assert (await shell.run("dispatch", "down", "hema", "--reason", "broken", "--as", "vera")).status == 0
    assert (await shell.run("dispatch", "routes", "--json")).json[0]["down"] is True
    assert (await shell.run("dispatch", "up", "hema", "--reason", "repaired", "--as", "vera")).status == 0
    for arguments in (("HGB",), ("HGB", "hema", "--any"), ("HGB", "hema=x"), ("HGB", "hema", "--code", "b=1")):
        wrong = await shell.run("dispatch", "route", *arguments, "--reason", "x", "--as", "ada")
        assert wrong.status == 2, arguments
    gone = await shell.run("dispatch", "route", "HGB", "--any", "--reason", "x", "--as", "ada", "--json")
    assert gone.json == []
