from __future__ import annotations

from pathlib import Path

import pytest

from interface.domain.model import HoldReason, ResultStatus
from interface.store.db import Database
from tests.cli.desk import Shell, open_shell
from tests.conftest import Organization
from tests.records import order, store_message


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


async def test_a_specimen_is_explained_to_people_and_machines(shell: Shell) -> None:
    of = await shell.laboratory.order(order(barcode="S1"))
    message_id = await store_message(shell.laboratory, (1, b"\x021H|\\^&\rR|1|HB|\x1b13.5\rL|1\r\x0300\r\n"))
    await shell.laboratory.result(of, "13.5", message_id=message_id)
    held = (HoldReason.UNMAPPED_CODE,)
    await shell.laboratory.result(None, status=ResultStatus.REGISTERED, held=held, barcode="S1")
    text = (await shell.run("trace", "S1")).out
    for words in (
        f"message {message_id} on hema-1, lis2, complete: released; reply sent",
        "HGB Haemoglobin: 13.5 g/dL N",
        "R 1 of message",
        "R|1|HB|\N{REPLACEMENT CHARACTER}13.5",
        "map       ok    HGB [test map 1]",
        "registered, version 1, held: unmapped_code",
    ):
        assert words in text
    data = (await shell.run("trace", "S1", "--json", "--as", "vera")).json
    assert len(data["results"]) == 2
    assert data["results"][0]["versions"][0]["record"]["location"] == "R 1"
    assert await shell.laboratory.count("audit_event", "action = 'trace'") == 2
    assert await shell.laboratory.count("audit_event", "action = 'disclose' and entity_id = $1", of.patient_id) == 2


async def test_each_version_is_told_with_its_comparator(shell: Shell) -> None:
    of = await shell.laboratory.order(order(barcode="S1"))
    await shell.laboratory.result(of, "13.5", comparator="<")
    text = (await shell.run("trace", "S1")).out
    assert "HGB Haemoglobin: <13.5 g/dL N" in text
    assert "preliminary <13.5 g/dL" in text


async def test_nothing_known_is_status_1(shell: Shell) -> None:
    answer = await shell.run("trace", "unknown")
    assert (answer.status, answer.err) == (1, "nothing is known of this specimen\n")


async def test_a_trace_needs_the_right_to_read_messages(shell: Shell) -> None:
    async with shell.laboratory.database.transaction(shell.organization.id) as connection:
        await connection.execute("update lab.app_user set roles = '{viewer}' where username = 'vera'")
    answer = await shell.run("trace", "S1", "--as", "vera")
    assert (answer.status, answer.err) == (1, "labora: this needs the permission message:read\n")
