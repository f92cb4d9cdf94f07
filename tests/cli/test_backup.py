"""`labora backup`, as an administrator uses it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from interface.cli import run_command
from interface.ops import backup_verify
from interface.settings import packaged
from tests.cluster import owner_of
from tests.flow.laboratory import laboratory
from tests.ops.test_backup import store


async def labora(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()
    status = await asyncio.to_thread(run_command, ["--config", str(packaged("config.toml")), "backup", *arguments])
    out, err = capsys.readouterr()
    return status, out, err


async def test_a_backup_is_made_listed_verified_restored_and_confirmed(
    founded_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABORA_DATABASE_URL", owner_of(founded_url))
    monkeypatch.setenv("LABORA_STATE_DIR", str(tmp_path))
    monkeypatch.setattr(backup_verify, "server_at_least", lambda *_: None)
    status, out, err = await labora(capsys, "verify")
    assert (status, out) == (1, "") and "there is no backup in" in err
    async with laboratory(founded_url) as lab:
        await store(lab, "S1")
        status, out, err = await labora(capsys, "create")
        assert status == 0 and "1 messages, 1 results in 1 versions" in err and "not encrypted" in err
        name = out.strip()
        told = await lab.owner.fetch("select detail from lab.audit_event where action = 'backup'")
        assert [row["detail"]["backup"] for row in told] == [name]
        status, out, err = await labora(capsys, "restore")
        assert status == 1 and "stop the daemon" in err and err.count("\n") == 1
    status, out, err = await labora(capsys, "list", "--json")
    assert status == 0 and [(row["name"], row["state"]) for row in json.loads(out)] == [(name, "whole")]
    status, out, err = await labora(capsys, "verify")
    assert (status, out.strip()) == (0, name) and "RPO 0 min" in err and "RTO " in err and "good" in err

    status, out, err = await labora(capsys, "restore", name)
    assert (status, out.strip()) == (0, name) and "RTO " in err and "have analyzers and hospitals send again" in err
    status, out, err = await labora(capsys, "list")
    assert name in out and "waits: `labora backup confirm` drops it" in err
    status, out, err = await labora(capsys, "restore", "--back")
    assert status == 0 and "it is in its place again" in err
    status, out, err = await labora(capsys, "confirm")
    assert status == 0 and "_replaced_" in out and "dropped 1" in err
    status, out, err = await labora(capsys, "adopt", "--taken-at", "2026-11-26T17:00Z")
    assert status == 0 and "it goes on from 2026-11-26T17:00:00+00:00" in err

    manifest = tmp_path / "backups" / name / "manifest.json"
    said = json.loads(manifest.read_text())
    said["tables"]["message"]["rows"] = 7
    manifest.write_text(json.dumps(said))
    status, out, err = await labora(capsys, "verify")
    assert status == 1 and "message: 7 rows were backed up, 1 came back" in err and "differs" in err
