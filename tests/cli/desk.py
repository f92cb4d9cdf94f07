"""The command as a person runs it, against a laboratory in a database of its own."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from interface.cli import run_command
from interface.flow import passwords
from interface.store.actors import insert_user
from interface.store.db import Database
from tests.conftest import Organization
from tests.records import Laboratory, found

PASSWORD = "correct horse battery"
_digest: list[str] = []
CONFIG = """
[api]
listen = "127.0.0.1:{port}"
[[link]]
id = "hema-1"
organization = "{organization}"
driver = "generic_lis2"
transport = {{ type = "tcp-listen", listen = "127.0.0.1:{link_port}" }}
"""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True, slots=True)
class Shell:
    """Runs `labora …`; `vera` is a technologist, `ada` an administrator, both with PASSWORD."""

    laboratory: Laboratory
    organization: Organization
    config: Path
    environment: pytest.MonkeyPatch
    capture: pytest.CaptureFixture[str]

    async def run(self, *arguments: str, password: str | None = PASSWORD) -> Answer:
        if password is None:
            self.environment.delenv("LABORA_PASSWORD", raising=False)
        else:
            self.environment.setenv("LABORA_PASSWORD", password)
        self.capture.readouterr()
        status = await asyncio.to_thread(run_command, ["--config", str(self.config), *arguments])
        said = self.capture.readouterr()
        assert "Traceback" not in said.err
        return Answer(status, said.out, said.err)


async def open_shell(
    database: Database,
    url: str,
    organization: Organization,
    folder: Path,
    environment: pytest.MonkeyPatch,
    capture: pytest.CaptureFixture[str],
    port: int = 8080,
) -> Shell:
    laboratory = await found(database, organization.id)
    if not _digest:  # a tenth of a second and more: once for all tests
        _digest.append(await passwords.digest(PASSWORD))
    async with database.transaction(organization.id) as connection:
        for name, role in (("ada", "administrator"), ("vera", "technologist")):
            await insert_user(connection, organization.id, name, "", _digest[0], (role,))
    config = folder / "config.toml"
    config.write_text(CONFIG.format(port=port, link_port=port + 1 if port else 4001, organization=organization.name))
    for name in ("LABORA_TOKEN", "LABORA_ORGANIZATION", "LABORA_CONFIG", "LABORA_DEBUG"):
        environment.delenv(name, raising=False)
    environment.setenv("LABORA_DATABASE_URL", url)
    environment.setenv("LABORA_STATE_DIR", str(folder))
    return Shell(laboratory, organization, config, environment, capture)
