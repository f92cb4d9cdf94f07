from __future__ import annotations

import json
from pathlib import Path
from uuid import uuid4

import pytest

from interface.store.db import Database
from tests.cli.desk import Shell, open_shell
from tests.conftest import Organization

FLAGS = ("--identifier", "urn:hospital|P1", "--family", "Muster", "--birth-date", "1980-02-29", "--sex", "female")


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


async def test_an_order_is_created_from_flags_and_shown_by_each_of_its_names(shell: Shell) -> None:
    barcode = uuid4().hex[:12]
    flags = ("--test", "CBC", "--barcode", barcode, "--placer-number", "EMR-1", "--priority", "stat", *FLAGS)
    made = await shell.run("order", "create", "--as", "vera", "--json", *flags)
    assert made.status == 0, made.err
    assert [item["test_code"] for item in made.json["items"]] == ["HGB", "WBC"]
    assert made.json["priority"] == "stat"
    for name in (made.json["number"], "EMR-1", made.json["id"]):
        assert (await shell.run("order", "show", name, "--json")).json == made.json
    again = await shell.run("order", "create", "--as", "vera", "--json", *flags)
    assert again.json == made.json
    text = (await shell.run("order", "list", "--specimen", barcode)).out
    assert made.json["number"] in text
    assert "HGB:requested" in text


async def test_orders_of_a_file_are_all_made_or_none(shell: Shell, tmp_path: Path) -> None:
    good = {"patient": {"family": "Muster"}, "specimens": [{"tests": ["HGB"], "collected_at": "2026-11-22T08:00:00Z"}]}
    bad = {"patient": {"family": "Muster"}, "specimens": [{"tests": ["NOPE"]}]}
    file = tmp_path / "orders.json"
    file.write_text(json.dumps([good, bad]))
    refused = await shell.run("order", "create", "--as", "vera", "--file", str(file))
    assert (refused.status, refused.out, refused.err) == (1, "", 'labora: there is no test or panel "NOPE"\n')
    assert await shell.laboratory.count("lab_order", "true") == 0
    file.write_text(json.dumps([good, good]))
    assert len((await shell.run("order", "create", "--as", "vera", "--json", "--file", str(file))).json) == 2
    file.write_text(json.dumps(good))
    assert (await shell.run("order", "create", "--as", "vera", "--json", "--file", str(file))).json["items"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is not JSON"),
        ("[]", "has no order"),
        ('{"specimens": 1, "nope": 2}', "specimens is not a list; nope is not known here"),
    ],
)
async def test_a_file_that_cannot_be_read_is_said_in_words(shell: Shell, tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "order.json"
    file.write_text(text)
    answer = await shell.run("order", "create", "--as", "vera", "--file", str(file))
    assert answer.status == 1
    assert words in answer.err


async def test_wrong_use_is_status_2(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "order.json"
    file.write_text("{}")
    assert (await shell.run("order", "create", "--test", "HGB", *FLAGS)).status == 2
    assert (await shell.run("order", "create", "--as", "vera", "--file", str(file), "--test", "HGB")).status == 2
    assert (await shell.run("order", "create", "--as", "vera", "--priority", "soon")).status == 2


async def test_an_order_that_makes_no_sense_is_refused_in_one_line(shell: Shell) -> None:
    answer = await shell.run("order", "create", "--as", "vera")
    assert answer.status == 1
    assert answer.err == (
        "labora: a patient needs an identifier or a family name; specimen 1: no test is ordered on it\n"
    )
    unknown = await shell.run("order", "show", "2020-000001")
    assert (unknown.status, unknown.err) == (1, "labora: there is no such order\n")


async def test_an_order_is_changed_and_replaced(shell: Shell) -> None:
    flags = ("--test", "HGB", "--placer-number", "HIS|A-1", *FLAGS)
    made = (await shell.run("order", "create", "--as", "vera", "--json", *flags)).json
    assert (made["placer_number"], made["placer_authority"]) == ("A-1", "HIS")
    said = ("--priority", "stat", "--ward", "3B", "--requester-number", "urn:doctors|D1")
    changed = (await shell.run("order", "change", "A-1", "--as", "vera", "--json", *said)).json
    assert (changed["priority"], changed["ward"], changed["requester"]["identifier"]) == ("stat", "3B", "D1")
    cleared = (await shell.run("order", "change", "A-1", "--as", "vera", "--json", "--clear", "requester")).json
    assert cleared["requester"] is None
    assert (await shell.run("order", "change", "A-1", "--as", "vera")).status == 2
    new = ("--reason", "another test", "--test", "WBC", "--placer-number", "HIS|A-2")
    done = (await shell.run("order", "replace", "A-1", "--as", "vera", "--json", *new)).json
    assert ([item["test_code"] for item in done["items"]], done["patient_id"]) == (["WBC"], made["patient_id"])
    assert (await shell.run("order", "show", "A-1", "--json")).json["cancelled"] is True
    late = await shell.run("order", "replace", "A-1", "--as", "vera", "--reason", "x", "--test", "HGB")
    assert (late.status, late.err) == (1, "labora: the order is cancelled already\n")


async def test_orders_of_one_number_of_several_orderers_are_all_shown(shell: Shell) -> None:
    """It was an unexpected error."""
    for whose in ("HIS", "WARD"):
        made = await shell.run(
            "order", "create", "--test", "HGB", "--placer-number", f"{whose}|A-1", "--as", "vera", *FLAGS
        )
        assert made.status == 0, made.err
    shown = await shell.run("order", "show", "A-1", "--json")
    assert [one["placer_authority"] for one in shown.json] == ["HIS", "WARD"]
    refused = await shell.run("order", "cancel", "A-1", "--reason", "x", "--as", "vera")
    assert (refused.status, refused.err) == (1, "labora: several orders have this number; say the id\n")
