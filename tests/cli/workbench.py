"""`labora map` as a person runs it, beside a laboratory that gets real messages: journal, worker, PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from interface.cli import run_command
from interface.domain.model import Sex
from interface.domain.views import IdentifierView
from interface.flow import passwords
from interface.flow.orders import NewOrder, NewPatient, NewSpecimen, create_order
from interface.store.actors import insert_user
from tests.cli.desk import PASSWORD, Answer
from tests.flow.laboratory import Laboratory, laboratory, message

CONFIG = """
[[link]]
id = "bench"
organization = "{organization}"
driver = "{driver}"
transport = {{ type = "tcp-listen", listen = "127.0.0.1:4001" }}
[[link]]
id = "second"
organization = "{organization}"
driver = "{driver}"
transport = {{ type = "tcp-listen", listen = "127.0.0.1:4002" }}
"""
_digest: list[str] = []


@dataclass(frozen=True, slots=True)
class Workbench:
    """`ada` may change maps, `vera` may not. The daemon has run with the link `bench`, never yet with `second`."""

    laboratory: Laboratory
    config: Path
    folder: Path
    environment: pytest.MonkeyPatch
    capture: pytest.CaptureFixture[str]

    async def run(self, *arguments: str) -> Answer:
        self.environment.setenv("LABORA_PASSWORD", PASSWORD)
        self.capture.readouterr()
        status = await asyncio.to_thread(run_command, ["--config", str(self.config), *arguments])
        said = self.capture.readouterr()
        assert "Traceback" not in said.err
        return Answer(status, said.out, said.err)

    async def change(self, *arguments: str, reason: str = "because") -> Answer:
        """A command of `labora map` that changes maps, by ada, and done."""
        answer = await self.run("map", *arguments, "--as", "ada", "--reason", reason)
        assert answer.status == 0, answer.err
        return answer

    async def refused(self, *arguments: str) -> str:
        """The same where it fails: what is said, and nothing was changed."""
        before = await self.changes()
        answer = await self.run("map", *arguments, "--as", "ada", "--reason", "because")
        assert answer.status == 1, answer.out + answer.err
        assert await self.changes() == before
        return answer.err

    async def changes(self) -> int:
        counted: int = await self.laboratory.owner.fetchval("select count(*) from lab.map_change")
        return counted

    async def rows(self, *arguments: str) -> list[tuple[str, str, str, str]]:
        """Link, code, specimen type and test of the site's rows, as `map list` has them."""
        listed = (await self.run("map", "list", "--site", "--json", *arguments)).json
        return [(row["link"], row["code"], row["specimen_type"], row["test"]) for row in listed]

    def file(self, name: str, text: str | bytes) -> str:
        path = self.folder / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(path)

    async def order(self, barcode: str, specimen_type: str, *tests: str, day: int = 2) -> None:
        patient = NewPatient(
            identifiers=(IdentifierView("TEST", "P-1"),), family="Muster", given="Maria", birth_date=date(1980, 5, 1),
            sex=Sex.FEMALE,
        )  # fmt: skip
        at = datetime(2026, 1, day, tzinfo=UTC)
        specimen = NewSpecimen(tests=tests, barcode=barcode, type=specimen_type, collected_at=at, received_at=at)
        lab = self.laboratory
        async with lab.database.transaction(lab.organization_id) as connection:
            await create_order(connection, lab.context.actor, NewOrder((specimen,), patient=patient))

    async def receive(self, barcode: str, *results: str, control: str = "C1") -> None:
        """Results of one specimen, as `CODE|value|unit`, decided."""
        records = [
            f"R|{number}|^^^{code}|{value}|{unit}||N||F||||20260102030000"
            for number, (code, value, unit) in enumerate((one.split("|") for one in results), 1)
        ]
        who = "P|1||P-1||Muster^Maria||19800501|F"
        await self.laboratory.send(message(who, f"O|1|{barcode}||^^^X|R", *records, control=control))
        self.laboratory.worker._catalogues.clear()  # it keeps a catalogue for seconds, and no time passes here
        await self.laboratory.settle()


@asynccontextmanager
async def open_workbench(
    url: str, folder: Path, environment: pytest.MonkeyPatch, capture: pytest.CaptureFixture[str],
    driver: str = "generic_lis2",
) -> AsyncIterator[Workbench]:  # fmt: skip
    if not _digest:  # a tenth of a second and more: once for all tests
        _digest.append(await passwords.digest(PASSWORD))
    async with laboratory(url, driver) as lab:
        async with lab.database.transaction(lab.organization_id) as connection:
            for name, role in (("ada", "administrator"), ("vera", "technologist")):
                await insert_user(connection, lab.organization_id, name, "", _digest[0], (role,))
        config = folder / "config.toml"
        config.write_text(CONFIG.format(organization=lab.context.settings.organization, driver=driver))
        for name in ("LABORA_TOKEN", "LABORA_ORGANIZATION", "LABORA_CONFIG", "LABORA_DEBUG"):
            environment.delenv(name, raising=False)
        environment.setenv("LABORA_DATABASE_URL", url)
        environment.setenv("LABORA_STATE_DIR", str(folder))
        yield Workbench(lab, config, folder, environment, capture)
