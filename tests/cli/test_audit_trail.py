"""`labora audit`: looking something up, and the verdict on the whole trail, as an auditor works."""

from __future__ import annotations

from pathlib import Path

import asyncpg
import pytest

from interface.store.db import Database
from tests.cli.desk import Shell, open_shell
from tests.conftest import Organization
from tests.store.sealing import sealed


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


async def test_an_auditor_finds_who_did_what(shell: Shell) -> None:
    assert (await shell.run("order", "list", "--as", "vera")).status == 0
    assert (await shell.run("order", "list", "--as", "vera", password="wrong horse battery")).status == 1
    by_ada = ("--as", "ada", "--json")
    [row] = (await shell.run("audit", "list", "--action", "login", "--outcome", "refused", *by_ada)).json
    assert (row["actor_name"], row["detail"]) == ("vera", {"reason": "wrong_password"})
    rows = (await shell.run("audit", "list", "--actor", "vera", "--kind", "order", *by_ada)).json
    assert [row["action"] for row in rows] == ["search"]
    rows = (await shell.run("audit", "list", "--since", "2001-01-01", "--limit", "2", *by_ada)).json
    assert len(rows) == 2
    assert rows[0]["at"] > rows[1]["at"], "the newest first"
    nothing = await shell.run("audit", "list", "--until", "2001-01-01", "--as", "ada")
    assert (nothing.out, nothing.status) == ("", 0)
    assert "vera" in (await shell.run("audit", "list", "--as", "ada")).out
    refused = await shell.run("audit", "list", "--as", "vera")
    assert (refused.status, refused.out) == (1, "")
    assert "audit:read" in refused.err


async def test_the_verdict_is_a_status_and_names_the_place(
    shell: Shell, database: Database, organization: Organization, owner: asyncpg.Connection[asyncpg.Record]
) -> None:
    none = await shell.run("audit", "head", "--as", "ada")
    assert (none.status, none.out) == (0, "")
    await sealed(database, organization.id)
    head = (await shell.run("audit", "head", "--as", "ada")).out.strip()
    whole = await shell.run("audit", "verify", "--head", head, "--as", "ada")
    assert whole.status == 0
    assert f"head {head}" in whole.out
    assert "wait for their seal" in whole.err
    told = (await shell.run("audit", "verify", "--json", "--as", "ada")).json
    assert (told["whole"], told["head"], told["findings"]) == (True, head, [])
    wrong = await shell.run("audit", "verify", "--head", "1:zz", "--as", "ada")
    assert wrong.status == 2
    other = await shell.run("audit", "verify", "--head", f"1:{'ab' * 32}", "--as", "ada")
    assert (other.status, "kept elsewhere" in other.out) == (1, True)
    changed = await owner.fetchval(
        "update lab.audit_event set actor_name = 'eve' where organization_id = $1 and position ="
        " (select min(position) from lab.audit_event where organization_id = $1) returning id",
        organization.id,
    )
    found = await shell.run("audit", "verify", "--as", "ada")
    assert found.status == 1
    assert str(changed) in found.out
    assert "changed" in found.out
    assert "tampered" in found.err
    told = (await shell.run("audit", "verify", "--json", "--as", "ada")).json
    assert [(each["what"], each["segment"], each["row"]) for each in told["findings"]] == [("changed", 1, str(changed))]
