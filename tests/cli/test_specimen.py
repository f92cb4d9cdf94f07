"""`labora specimen`, `worksheet` and what `order` adds, as a person runs them."""

from __future__ import annotations

from pathlib import Path

import pytest

from interface.domain.model import FollowUpKind
from interface.flow import follow_ups
from interface.store.db import Database
from tests.cli.desk import Shell, open_shell
from tests.conftest import Organization

VERA = ("--as", "vera", "--json")


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


async def test_a_specimen_from_order_to_disposal(shell: Shell) -> None:
    flags = ("--test", "HGB", "--family", "Muster", "--container", "EDTA", "--ward", "3B", "--requester-number", "D1")
    made = await shell.run("order", "create", *VERA, *flags, "--pregnant", "--gestation-weeks", "9")
    assert made.status == 0, made.err
    assert (made.json["ward"], made.json["gestation_weeks"], made.json["requester"]["identifier"]) == ("3B", 9, "D1")
    barcode = made.json["items"][0]["barcode"]
    for step, state in (
        (("collect", "--by", "Nurse"), "collected"), (("receive",), "received"), (("move", "--rack", "R1"), "stored"),
        (("retime", "--at", "2026-01-02T03:04:05Z", "--reason", "mistyped"), "stored"),
    ):  # fmt: skip
        done = await shell.run("specimen", step[0], barcode, *VERA, *step[1:])
        assert (done.status, done.json["state"]) == (0, state), done.err
    child = (await shell.run("specimen", "aliquot", barcode, *VERA, "--test", "HGB")).json
    assert child["barcode"] == f"{barcode}-1"
    assert barcode in (await shell.run("specimen", "list", "--rack", "R1")).out
    svg = await shell.run("specimen", "label", barcode)
    assert svg.out.startswith("<svg")
    assert (await shell.run("specimen", "label", barcode, "--zpl")).out.startswith("^XA")
    waits = await shell.run("specimen", "dispose", child["barcode"], *VERA)
    assert (waits.status, waits.err) == (1, "labora: tests wait for it: HGB; reject it, or cancel them first\n")
    rejected = await shell.run("specimen", "reject", barcode, "--as", "vera", "--reason", "clotted", "--recollect")
    assert rejected.status == 0
    assert "rejected: HGB" in rejected.err
    assert "expected in its place: " in rejected.err
    back = await shell.run("specimen", "reinstate", child["barcode"], *VERA, "--reason", "it is fine")
    assert back.json["state"] == "received"
    gone = await shell.run("specimen", "dispose", barcode, *VERA)
    assert gone.json["state"] == "disposed"
    history = (await shell.run("specimen", "show", barcode, "--json")).json["history"]
    assert [one["action"] for one in history] == [
        "create", "collect", "receive", "store", "retime", "aliquot", "reject", "dispose",
    ]  # fmt: skip
    assert "vera" in (await shell.run("specimen", "show", barcode)).out


async def test_orders_are_extended_and_cancelled(shell: Shell) -> None:
    made = (await shell.run("order", "create", *VERA, "--test", "HGB", "--family", "Muster")).json
    barcode = made["items"][0]["barcode"]
    more = await shell.run("order", "add", made["number"], *VERA, "--test", "WBC", "--specimen", barcode)
    assert [item["barcode"] for item in more.json["items"]] == [barcode, barcode]
    more = await shell.run("order", "add", made["number"], *VERA, "--test", "GLU", "--type", "PLAS")
    assert len({item["barcode"] for item in more.json["items"]}) == 2
    assert (await shell.run("order", "add", made["number"], *VERA, "--test", "GLU", "--specimen", "X")).status == 1
    one = await shell.run("order", "cancel", made["number"], *VERA, "--reason", "by mistake", "--test", "WBC")
    assert one.json["cancelled"] == ["WBC"]
    whole = await shell.run("order", "cancel", made["id"], "--as", "vera", "--reason", "by mistake")
    assert whole.err == "cancelled: HGB, GLU\n"
    assert "HGB:cancelled" in whole.out
    assert (await shell.run("order", "cancel", "nope", "--as", "vera", "--reason", "x")).status == 1
    assert (await shell.run("order", "cancel", made["id"], "--as", "vera")).status == 2


async def test_a_worksheet_from_waiting_to_done(shell: Shell, tmp_path: Path) -> None:
    for _ in range(3):
        made = (await shell.run("order", "create", *VERA, "--test", "GLU", "--family", "Muster")).json
        await shell.run("specimen", "receive", made["items"][0]["barcode"], *VERA)
    waiting = (await shell.run("worksheet", "waiting", "--test", "GLU", "--json")).json
    assert len(waiting) == 3
    sheet = (await shell.run("worksheet", "build", *VERA, "--test", "GLU")).json
    assert [item["item_id"] for item in sheet["items"]] == [one["item_id"] for one in waiting]
    number = sheet["number"]
    assert (await shell.run("worksheet", "enter", number, *VERA, "1=5.1")).json["items"][0]["value"] == "5.1"
    file = tmp_path / "values.csv"
    file.write_text('2,"5.2",,by hand\n')
    assert (await shell.run("worksheet", "enter", number, *VERA, "--file", str(file))).status == 0
    file.write_text("two,5.2\n")
    assert (await shell.run("worksheet", "enter", number, *VERA, "--file", str(file))).status == 1
    refused = await shell.run("worksheet", "complete", number, *VERA)
    assert (refused.status, refused.err) == (1, "labora: not measured: 3; say why they are left\n")
    done = await shell.run("worksheet", "complete", number, *VERA, "--unmeasured", "too little")
    assert (done.json["state"], done.json["qc"]) == ("completed", "unknown")
    assert "5.2" in (await shell.run("worksheet", "show", number)).out
    assert number in (await shell.run("worksheet", "show")).out
    assert (await shell.run("worksheet", "enter", number, *VERA)).status == 2
    assert (await shell.run("worksheet", "enter", number, "1=5")).status == 2
    assert (await shell.run("worksheet", "show", "W1")).status == 1


async def _in_hand(shell: Shell, test: str) -> str:
    """The number of a worksheet of one place."""
    made = (await shell.run("order", "create", *VERA, "--test", test, "--family", "Muster")).json
    await shell.run("specimen", "receive", made["items"][0]["barcode"], *VERA)
    number: str = (await shell.run("worksheet", "build", *VERA, "--test", test)).json["number"]
    return number


async def test_a_worksheet_shows_below_what_limit_a_value_is(shell: Shell) -> None:
    number = await _in_hand(shell, "GLU")
    done = await shell.run("worksheet", "enter", number, *VERA, "1=<5")
    assert [item["value"] for item in done.json["items"]] == ["<5"]
    assert (await shell.run("worksheet", "enter", number, *VERA, "1=<1:10")).json["items"][0]["value"] == "<1:10"


async def test_the_same_value_again_is_the_rerun_where_the_version_of_the_worksheet_is_said(shell: Shell) -> None:
    """It could be said over REST alone: who entered it here said nothing new, and the rerun was awaited for ever."""
    number, at = await _in_hand(shell, "GLU"), shell.laboratory

    async def entered(*more: str) -> list[str]:
        assert (await shell.run("worksheet", "enter", number, *VERA, "1=5.1", *more)).status == 0
        async with at.database.transaction(at.organization_id) as connection:
            rows = await connection.fetch("select state from lab.follow_up")
        return [row["state"] for row in rows]

    assert await entered() == []
    async with at.database.transaction(at.organization_id) as connection:
        result_id = await connection.fetchval("select id from lab.result")
        await follow_ups.request(connection, at.technologist, result_id, FollowUpKind.RERUN, reason="to be sure")
    assert await entered() == ["requested"]
    sheet = (await shell.run("worksheet", "show", number, "--json")).json
    assert f"version {sheet['version']}" in (await shell.run("worksheet", "show", number)).out
    stale = await shell.run("worksheet", "enter", number, *VERA, "1=5.1", "--version", "1")
    assert stale.status == 1
    assert await entered("--version", str(sheet["version"])) == ["done"]
