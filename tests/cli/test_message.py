from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from interface.store.db import Database
from interface.store.ids import uuid7
from tests.cli.desk import Shell, open_shell
from tests.conftest import Organization
from tests.records import store_message

FRAMES = ((1, b"\x021H|\\^&|||x\rP|1||\x1b[2J\r\x1700\r\n"), (2, b"\x022L|1|N\r\x0300\r\n"))


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


async def test_messages_are_listed_without_what_they_say(shell: Shell) -> None:
    message_id = await store_message(shell.laboratory, *FRAMES, control_id="C1")
    [line] = (await shell.run("message", "list", "--json")).json
    assert (line["id"], line["link"], line["state"], line["settled"]) == (
        str(message_id),
        "hema-1",
        "complete",
        "released",
    )
    assert "H|" not in (await shell.run("message", "list")).out
    for filter in (("--link", "hema-1"), ("--state", "complete"), ("--settled", "released"), ("--control-id", "C1")):
        assert len((await shell.run("message", "list", "--json", *filter)).json) == 1, filter
    for filter in (("--link", "x"), ("--state", "incomplete"), ("--settled", "held"), ("--until", "2020-01-01")):
        answer = await shell.run("message", "list", *filter)
        assert (answer.status, answer.out, answer.err) == (0, "", "no messages\n"), filter


async def test_what_a_message_says_is_for_a_user_and_audited(shell: Shell) -> None:
    message_id = await store_message(shell.laboratory, *FRAMES)
    assert (await shell.run("message", "show", str(message_id))).status == 2
    shown = await shell.run("message", "show", str(message_id), "--as", "vera")
    assert shown.out == "H|\\^&|||x\nP|1||<ESC>[2J\nL|1|N\n"
    wire = await shell.run("message", "show", str(message_id), "--as", "vera", "--wire")
    at, line = wire.out.splitlines()[1].split(" ", 1)
    assert datetime.fromisoformat(at).tzinfo is not None
    assert line == "> <STX>2L|1|N<CR><ETX>00<CR><LF>"
    assert "its frames alone" in wire.err, "no daemon has heard it"
    data = (await shell.run("message", "show", str(message_id), "--as", "vera", "--json")).json
    assert [frame["fn"] for frame in data["frames"]] == [1, 2]
    count = "action = 'read_payload' and actor_name = 'vera' and entity_id = $1"
    assert await shell.laboratory.count("audit_event", count, message_id) == 3


async def test_a_message_that_is_not_there_is_one_sentence(shell: Shell) -> None:
    answer = await shell.run("message", "show", str(uuid7()), "--as", "vera")
    assert (answer.status, answer.out, answer.err) == (1, "", "labora: there is no such message\n")


GOOD = (
    "MSH|^~\\&|T|L|M|L|20260102030405||ORU^R01^ORU_R01|7|P|2.5.1\rPID|1||P-1||TEST^ANNA\r"
    "OBR|1|||CBC^Blood count^L\rOBX|1|NM|6690-2^Leukocytes^LN||7.35|10*3/uL|||||F\r"
)


async def test_an_hl7_file_is_checked_against_its_versions_structures(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "good.hl7").write_text(GOOD)
    (tmp_path / "faulty.hl7").write_text(GOOD.replace("PID|1||P-1||TEST^ANNA\r", "PID|1||P-1||TEST^ANNA\rPID|2\r"))
    (tmp_path / "other.astm").write_text("H|\\^&\rL|1|N\r")
    answer = await shell.run("message", "validate", str(tmp_path / "good.hl7"))
    assert (answer.status, answer.out) == (0, "")
    answer = await shell.run("message", "validate", str(tmp_path / "faulty.hl7"))
    assert answer.status == 1
    assert answer.out.startswith("message 1: ")
    (checked,) = (await shell.run("message", "validate", "--json", str(tmp_path / "faulty.hl7"))).json
    assert checked["findings"]
    assert checked["notes"] == []
    for wrong in ("other.astm", "nothing.hl7"):
        answer = await shell.run("message", "validate", str(tmp_path / wrong))
        assert (answer.status, len(answer.err.splitlines())) == (1, 1)


async def test_a_file_of_blocks_and_batches_is_checked_message_by_message(shell: Shell, tmp_path: Path) -> None:
    faulty = GOOD.replace("|NM|6690-2^Leukocytes^LN|", "|NM||")
    batch = f"FHS|^~\\&\rBHS|^~\\&\r{GOOD}{faulty}BTS|2\rFTS|1\r"
    (tmp_path / "batch.hl7").write_text(batch)
    (tmp_path / "blocks.hl7").write_text(f"\x0b{GOOD}ZZ1|1\r\x1c\r\x0b{batch}\x1c\r")
    answer = await shell.run("message", "validate", str(tmp_path / "batch.hl7"))
    assert (answer.status, answer.out) == (1, "message 2: Missing required child OBX.OBX_3\n")
    answer = await shell.run("message", "validate", str(tmp_path / "blocks.hl7"))
    assert (answer.status, answer.out) == (1, "message 3: Missing required child OBX.OBX_3\n")
    assert answer.err.startswith("message 1: ZZ1^1: a Z segment")
