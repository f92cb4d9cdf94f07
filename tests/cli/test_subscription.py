from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest

from interface.domain.subscription import Status
from interface.store import subscriptions
from interface.store.actors import insert_client
from interface.store.db import Database
from interface.store.subscriptions import NewSubscription
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


async def stopped(shell: Shell) -> UUID:
    """A subscription that is off after too many attempts, with a letter."""
    at = shell.organization.id
    async with shell.laboratory.database.transaction(at) as connection:
        client = await insert_client(connection, at, "emr", ["system/*.rs"], secret_hash=b"x" * 32)
        new = NewSubscription(
            client.id, "Observation", "Observation", "https://emr.example.org/fhir", "", ("Authorization: s3cret",), "",
            None, ("system/*.rs",),
        )  # fmt: skip
        made = await subscriptions.insert(connection, at, new, 0)
        await subscriptions.insert_letter(connection, at, made.id, 1, at, "emr answered 422", 3)
        await subscriptions.set_status(connection, made.id, Status.OFF, "stopped after 20 attempts")
    return made.id


async def test_a_subscription_is_seen_resumed_and_switched_off(shell: Shell) -> None:
    assert (await shell.run("subscription", "list")).err.strip() == "no subscriptions"
    id = str(await stopped(shell))
    listed = await shell.run("subscription", "list")
    assert (listed.status, "stopped after 20 attempts" in listed.out, "s3cret" in listed.out) == (0, True, False)
    shown = (await shell.run("subscription", "show", id, "--json")).json
    assert (shown["subscription"]["client"], shown["letters"][0]["error"]) == ("emr", "emr answered 422")
    assert "s3cret" not in str(shown)
    assert (await shell.run("subscription", "resume", id)).status == 2, "somebody must do it"
    assert (await shell.run("subscription", "resume", id, "--as", "vera")).status == 1, "an administrator"
    resumed = await shell.run("subscription", "resume", id, "--letters", "--as", "ada", "--json")
    assert (resumed.json["status"], resumed.json["error"]) == ("active", "")
    off = await shell.run("subscription", "off", id, "--reason", "moved", "--as", "ada", "--json")
    assert (off.json["status"], off.json["error"]) == ("off", "switched off by the laboratory: moved")
    assert (await shell.run("subscription", "show", str(UUID(int=0)))).status == 1
