"""`labora db` on a database of its own."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest

from interface.cli.db import without_password
from interface.store.db import prepare
from interface.store.ids import uuid7
from tests.cluster import owner_of
from tests.conftest import FOUNDED

ROOT = Path(__file__).parent.parent.parent


async def labora(url: str, state_dir: Path, *arguments: str) -> tuple[int, str, str]:
    """Run the command as a user would: its status, stdout, stderr."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "from interface.cli import main; main()", "--config", str(ROOT / "config.toml"),
        *arguments,
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "LABORA_DATABASE_URL": url, "LABORA_STATE_DIR": str(state_dir)},
    )  # fmt: skip
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_a_database_is_upgraded_and_its_status_says_so(empty_url: str, state_dir: Path) -> None:
    status, out, _ = await labora(empty_url, state_dir, "db", "status", "--json")
    before = json.loads(out)
    assert (status, before["schema"], before["usable"]) == (1, None, False)
    assert before["pending"][-1] == before["program"]
    status, out, err = await labora(empty_url, state_dir, "db", "upgrade")
    assert (status, out) == (0, "") and f"upgraded to {before['program']}" in err
    status, out, _ = await labora(empty_url, state_dir, "db", "status", "--json")
    after = json.loads(out)
    assert (status, after["schema"], after["pending"], after["usable"]) == (0, before["program"], [], True)
    status, _, err = await labora(empty_url, state_dir, "db", "maintain")
    assert status == 0 and "nothing to do" in err


async def test_an_unreachable_database_is_one_sentence(tmp_path: Path, state_dir: Path) -> None:
    status, out, err = await labora(f"postgresql:///x?host={tmp_path}&user=labora_app", state_dir, "db", "maintain")
    assert (status, out) == (1, "")
    assert err.count("\n") == 1 and "cannot be reached" in err


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("embedded", "embedded"),
        (
            "postgresql://labora:secret@host:5433/lab?sslmode=require",
            "postgresql://labora@host:5433/lab?sslmode=require",
        ),
        ("postgresql:///lab?host=/run/postgresql&password=secret", "postgresql:///lab?host=/run/postgresql"),
        ("postgresql://host/lab", "postgresql://host/lab"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert without_password(url) == shown


async def test_what_retention_would_delete_is_said_first_and_holds_are_kept_by_name(
    founded_url: str, state_dir: Path
) -> None:
    url = owner_of(founded_url)
    status, _, err = await labora(url, state_dir, "db", "maintain", "--dry-run")
    assert status == 0 and "nothing to do" in err
    arguments = ("db", "hold", "add", "--organization", FOUNDED, "--reason", "claim 17")
    status, _, err = await labora(url, state_dir, *arguments)
    assert status == 2 and "say who does it" in err
    status, out, err = await labora(url, state_dir, "db", "hold", "list", "--organization", FOUNDED, "--json")
    assert (status, json.loads(out)) == (0, [])


async def test_before_a_backup_is_made_nothing_is_deleted_that_retention_names(
    founded_url: str, state_dir: Path
) -> None:
    url = owner_of(founded_url)
    owner = await asyncpg.connect(url)
    await prepare(owner)
    organization_id = await owner.fetchval("select id from lab.organization where name = $1", FOUNDED)
    await owner.execute(
        "insert into lab.access_token (token_hash, organization_id, expires_at)"
        " values ('\\x01', $1, now() - interval '5 years')", organization_id,
    )  # fmt: skip
    weeks = [datetime.now(UTC) - timedelta(weeks=number) for number in range(15)]
    await owner.executemany(  # the laboratory was at work meanwhile
        "insert into lab.audit_event (id, organization_id, at, actor_kind, action, entity_kind)"
        " values ($1, $2, $3, 'setup', 'read', 'test')",
        [(uuid7(int(at.timestamp() * 1000)), organization_id, at) for at in weeks],
    )
    for arguments, left in ((("--keep",), 1), ((), 0)):
        status, _, err = await labora(url, state_dir, "db", "maintain", *arguments)
        assert status == 0, err
        assert await owner.fetchval("select count(*) from lab.access_token") == left
    await owner.close()
