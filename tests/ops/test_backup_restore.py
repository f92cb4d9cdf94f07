"""The restore drill: what was stored comes back, what was handed out since is not handed out again, and whatever ends a
restore, the database is the old one or the new one."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest

from interface.domain.alerts import AlertKind, Subject
from interface.errors import BackupError
from interface.flow import actors, alerting
from interface.ops import backup, backup_restore
from interface.settings import DatabaseSettings, Settings, packaged
from interface.store import audit_chain, changes, databases, lab_changes, page_keys
from interface.store.audit_chain import Head
from interface.store.databases import with_database
from interface.store.db import Connection, Database
from interface.store.restored import NUMBERS_A_DAY, POSITIONS_A_DAY, Issued
from tests import records
from tests.cluster import owner_of
from tests.conftest import FOUNDED, Organization, make_organization
from tests.flow.laboratory import Laboratory, laboratory
from tests.ops.receivers import MailServer, WebServer
from tests.ops.telling import Telling
from tests.ops.test_backup import store
from tests.ops.test_notices import Ward, release
from tests.store.sealing import sealed


@dataclass(frozen=True, slots=True)
class Handed:
    """What a laboratory has handed out."""

    number: int
    work_id: int
    position: int
    head: Head | None


async def work(lab: Laboratory, *barcodes: str) -> Handed:
    """Messages, an order of its own number, a work id, a page link, a token; what was handed out."""
    await store(lab, *barcodes)
    await lab.order(f"{barcodes[0]}-O", "GLU")
    async with lab.database.transaction(lab.organization_id) as connection:
        number = await lab_changes.next_number(connection, lab.organization_id, f"order.{datetime.now(UTC).year}")
        work_id = await connection.fetchval("select nextval('lab.dispatch_work_id_seq')")
        await page_keys.page_key(connection, lab.organization_id)
        await connection.execute(
            "insert into lab.access_token (token_hash, organization_id, expires_at) values ($1, $2, now() + '1 h')",
            barcodes[0].encode(), lab.organization_id,
        )  # fmt: skip
    async with lab.database.transaction(lab.organization_id) as connection:
        await changes.seal(connection, lab.organization_id)
    await sealed(lab.database, lab.organization_id)
    async with lab.database.transaction(lab.organization_id) as connection:
        return Handed(
            number, work_id, await changes.last_position(connection), await audit_chain.head(connection)
        )  # fmt: skip


@pytest.fixture
def settings(founded_url: str, tmp_path: Path) -> Settings:
    return Settings(tmp_path, DatabaseSettings(owner_of(founded_url)))


@pytest.fixture
async def owner_connection(settings: Settings) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """Beside the database, which a restore must find unused."""
    connection = await asyncpg.connect(with_database(settings.database.url, "postgres"))
    yield connection
    await connection.close()


async def ask(settings: Settings, query: str) -> object:
    connection = await asyncpg.connect(settings.database.url)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def killed_when_half_restored(settings: Settings, beside: asyncpg.Connection[asyncpg.Record]) -> None:
    """`labora backup restore`, killed once it has begun to make the other database."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "from interface.cli import main; main()", "--config", str(packaged("config.toml")),
        "backup", "restore",
        env={**os.environ, "LABORA_DATABASE_URL": settings.database.url, "LABORA_STATE_DIR": str(settings.state_dir)},
    )  # fmt: skip
    making = databases.restoring_name(databases.database_name(settings.database.url))
    while not await databases.exists(beside, making):
        assert process.returncode is None
        await asyncio.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    await process.wait()


async def test_the_drill(
    founded_url: str, settings: Settings, owner_connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    async with laboratory(founded_url) as lab:
        kept = await work(lab, "S1", "S2")
        made = await backup.create(settings)
        lost = await work(lab, "S3", "S4")
        assert lost.number > kept.number and lost.work_id > kept.work_id and lost.position > kept.position
        with pytest.raises(BackupError, match=r"connections are open to the database .*: stop the daemon"):
            await backup_restore.restore(settings, None, None)
        organization_id = lab.organization_id

    await killed_when_half_restored(settings, owner_connection)
    assert await ask(settings, "select count(*) from lab.message") == 4  # the old one, whole

    done = await backup_restore.restore(settings, None, None)
    assert (done.name, done.replaced is not None) == (made.info.name, True)
    assert [one.name for one in await backup_restore.replaced(settings)] == [done.replaced]
    async with laboratory_of(founded_url, organization_id) as connection:
        assert await connection.fetchval("select count(*) from lab.message") == 2
        assert await connection.fetchval("select count(*) from lab.result_version") == 2
        year = datetime.now(UTC).year
        assert await lab_changes.next_number(connection, organization_id, f"order.{year}") > lost.number + NUMBERS_A_DAY
        assert await connection.fetchval("select nextval('lab.dispatch_work_id_seq')") > lost.work_id
        # What an EMR read up to: before the backup it is known, after it is not, whatever comes now.
        assert await changes.has(connection, kept.position) and not await changes.has(connection, lost.position)
        assert await connection.fetchval("select value from lab.counter where name = 'changes'") > (
            lost.position + POSITIONS_A_DAY - 1
        )
        assert await connection.fetchval("select count(*) from lab.access_token where revoked_at is null") == 0
        assert await connection.fetchval("select count(*) from lab.page_key") == 0
        rows = await connection.fetch("select actor_kind, entity_kind from lab.audit_event where action = 'restore'")
        assert [tuple(row) for row in rows] == [("setup", "database")]
        assert kept.head is not None and lost.head is not None
        await audit_chain.seal(connection, organization_id)
        verdict = await audit_chain.verify(connection, organization_id, [kept.head])
        assert verdict.findings == ()
        cut = await audit_chain.verify(connection, organization_id, [lost.head])
        assert [each.what for each in cut.findings] == ["head"]  # who kept it elsewhere sees that rows were lost

    back = await backup_restore.take_back(settings)
    assert back.name == done.replaced
    async with laboratory_of(founded_url, organization_id) as connection:
        assert await connection.fetchval("select count(*) from lab.message") == 4
        # What the restored one handed out in between is not handed out again either.
        number = await lab_changes.next_number(connection, organization_id, f"order.{year}")
        assert number > lost.number + 2 * NUMBERS_A_DAY
    assert len(await backup_restore.confirm(settings)) == 1
    assert await backup_restore.replaced(settings) == () and await backup_restore.confirm(settings) == ()
    with pytest.raises(BackupError, match="no replaced database waits"):
        await backup_restore.take_back(settings)


def laboratory_of(url: str, organization_id: object) -> _Session:
    return _Session(url, str(organization_id))


class _Session:
    """A connection of the application's for one organization, in a transaction."""

    def __init__(self, url: str, organization_id: str) -> None:
        self._url, self._organization_id = url, organization_id

    async def __aenter__(self) -> asyncpg.Connection[asyncpg.Record]:
        self._connection = await asyncpg.connect(self._url, server_settings={"labora.org": self._organization_id})
        return self._connection

    async def __aexit__(self, *_: object) -> None:
        await self._connection.close()


async def test_a_restore_that_fails_leaves_everything_as_it_was(
    founded_url: str, settings: Settings, owner_connection: asyncpg.Connection[asyncpg.Record],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """What came back differently, a server that is older, a database that was made in the meantime by nobody."""
    async with laboratory(founded_url) as lab:
        await store(lab, "S1")
        made = await backup.create(settings)
    name = databases.database_name(settings.database.url)

    async def differs(*_: object) -> tuple[str, ...]:
        return ("message: 2 rows were backed up, 1 came back",)

    monkeypatch.setattr(backup_restore, "compare", differs)
    with pytest.raises(BackupError, match="did not come back as it was backed up: message: 2 rows"):
        await backup_restore.restore(settings, None, None)
    monkeypatch.undo()
    newer = replace(made.manifest, server="99.1")
    monkeypatch.setattr(backup_restore, "checked", lambda _: newer)
    with pytest.raises(BackupError, match=r"is of PostgreSQL 99.1, and this server is \d+"):
        await backup_restore.restore(settings, None, None)
    assert await ask(settings, "select count(*) from lab.message") == 1
    assert not await databases.exists(owner_connection, databases.restoring_name(name))
    assert await databases.waiting(owner_connection, name) == ()


async def test_who_is_just_leaving_does_not_stop_a_restore(
    founded_url: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A daemon that has ended a moment ago: the server has not seen each of its connections off."""
    async with laboratory(founded_url) as lab:
        await store(lab, "S1")
        await backup.create(settings)
    leaving, sessions, seen = await asyncpg.connect(founded_url), databases.sessions, list[int]()

    async def noted(connection: Connection, name: str) -> int:
        seen.append(await sessions(connection, name))
        await leaving.close()
        return seen[-1]

    monkeypatch.setattr(databases, "sessions", noted)
    await backup_restore.restore(settings, None, None)
    assert seen[0] >= 1 and seen[-1] == 0


async def test_a_database_that_is_gone_is_made_and_an_empty_one_does_not_wait(
    founded_url: str, settings: Settings, owner_connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    """A new server: there is no database yet, or one without a schema."""
    async with laboratory(founded_url) as lab:
        await store(lab, "S1")
        await backup.create(settings)
    name = databases.database_name(settings.database.url)
    await databases.drop(owner_connection, name)
    assert (await backup_restore.restore(settings, None, None)).replaced is None
    assert await ask(settings, "select count(*) from lab.message") == 1
    await databases.drop(owner_connection, name)
    await databases.create(owner_connection, name)
    assert (await backup_restore.restore(settings, None, None)).replaced is None
    assert await ask(settings, "select count(*) from lab.message") == 1
    assert await databases.waiting(owner_connection, name) == ()


async def test_a_backup_comes_back_on_a_server_that_sorts_otherwise(
    founded_url: str, settings: Settings, owner_connection: asyncpg.Connection[asyncpg.Record],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The laboratories' names stood in another order there: nothing of it was lost, and the restore was refused."""
    database = Database(founded_url)
    for each in ("lab1", "lab_1"):
        await actors.create_organization(database, each)
    await database.close()
    made = await backup.create(settings)
    name = databases.database_name(settings.database.url)
    await databases.drop(owner_connection, name)
    create = f"create database {name} template template0 encoding 'UTF8' locale_provider icu icu_locale 'en'"
    try:
        await owner_connection.execute(create)
    except asyncpg.PostgresError as error:  # before PostgreSQL 15, or built without ICU
        pytest.skip(str(error))

    async def sorts_otherwise(connection: Connection, making: str, _: str = "") -> None:
        await connection.execute(create.replace(name, making, 1))

    monkeypatch.setattr(databases, "create", sorts_otherwise)
    assert (await backup_restore.restore(settings, None, None)).name == made.info.name


async def test_a_restored_database_is_of_the_locale_of_the_one_that_it_replaces(
    founded_url: str, settings: Settings, owner_connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    """scripts/install makes one whose indexes of texts stay good when a system is upgraded; it was the server's own."""
    await backup.create(settings)
    name = databases.database_name(settings.database.url)
    await databases.drop(owner_connection, name)
    await owner_connection.execute(
        f"create database {name} template template0 encoding 'UTF8' lc_collate 'C.UTF-8' lc_ctype 'C.UTF-8'"
    )
    await backup_restore.restore(settings, None, None)
    assert await ask(settings, "select datctype from pg_database where datname = current_database()") == "C.UTF-8"


async def test_numbers_of_the_new_year_go_on_too(founded_url: str, settings: Settings) -> None:
    """A backup of December that is restored in January: its counters know nothing of the new year's first labels."""
    async with laboratory(founded_url) as lab:
        year = datetime.now(UTC).year
        await backup_restore._go_on(
            settings.database.url, datetime(year - 1, 12, 31, 20, tzinfo=UTC), datetime(year, 1, 2, tzinfo=UTC),
            Issued(), "labora-x",
        )  # fmt: skip
        async with lab.database.transaction(lab.organization_id) as connection:
            for stem in lab_changes.NUMBERED:
                number = await lab_changes.next_number(connection, lab.organization_id, f"{stem}.{year}")
                assert number == 2 * NUMBERS_A_DAY + 1


async def test_a_restore_calls_nobody_about_an_old_alert(
    founded_url: str, settings: Settings, post: MailServer, web: WebServer
) -> None:
    """What waited to be sent at the backup's moment may have been sent since; what stood then may be long over."""
    async with laboratory(founded_url) as lab:
        telling = Telling(lab.database, Organization(lab.organization_id, FOUNDED), post, web)
        told, over, waits, seen_to = [Subject("link", name) for name in ("told", "over", "waits", "seen-to")]
        ids = {each: await telling.enter(AlertKind.DISK, each) for each in (told, over, seen_to)}
        await telling.tell(60)
        await telling.send()
        await telling.recover(AlertKind.DISK, over)
        async with telling.transaction() as connection:
            await alerting.acknowledge(connection, lab.director, ids[seen_to], "on my way")
        ids[waits] = await telling.enter(AlertKind.DISK, waits)
        await telling.tell(300)  # of both, and nothing is sent
        before = len(post.got)
        await backup_restore._go_on(settings.database.url, telling.now, telling.now, Issued(), "labora-x")

        assert await telling.send() == 0 and len(post.got) == before
        _, history = await telling.alert(ids[waits])
        assert [one.note for one in history if one.what == "failed"] == 2 * [  # the mail, and the SMS
            f"not sent: it waited at {telling.now:%Y-%m-%d %H:%M} UTC, and the database was restored of then"
        ]
        for each in (told, waits):  # the first look of the daemon: they are not so any more
            await telling.recover(AlertKind.DISK, each)
        assert await telling.told(3600) == []
        detail = await lab.owner.fetchval("select detail from lab.audit_event where action = 'restore'")
        assert detail["messages_not_sent"] == "2"


async def test_what_still_stands_after_a_restore_is_told_as_new(
    founded_url: str, settings: Settings, post: MailServer, web: WebServer
) -> None:
    """Not escalated for the time that has passed since the backup."""
    async with laboratory(founded_url) as lab:
        telling = Telling(lab.database, Organization(lab.organization_id, FOUNDED), post, web)
        await telling.enter(AlertKind.DISPATCH)
        assert len(await telling.told(60)) == 1
        await backup_restore._go_on(settings.database.url, telling.now, telling.now, Issued(), "labora-x")
        assert [to for to, _ in await telling.told(86400)] == ["anna@lab.example"]


async def test_a_ward_is_told_after_a_restore_what_nobody_had_come_to_tell_it(
    founded_url: str, settings: Settings, post: MailServer, web: WebServer
) -> None:
    """How far the feed was looked through is no number that was handed out: what is behind it was told nobody."""
    owner, database = await asyncpg.connect(settings.database.url), Database(founded_url)
    try:
        made = await make_organization(owner)
        telling = Telling(database, made, post, web)
        ward = Ward(telling, await records.found(database, made.id))
        assert await ward.told() == []
        order_id, result_id, _ = await ward.order()
        await release(ward, order_id, result_id)
        async with telling.transaction() as connection:
            await changes.seal(connection, made.id)
        await backup_restore._go_on(settings.database.url, telling.now, telling.now, Issued(), "labora-x")
        assert await ward.told() == ["ward3a@x.example [main] An order is reported"]
    finally:
        await database.close()
        await owner.close()


def test_everything_that_is_numbered_goes_on() -> None:
    """A number that is handed out elsewhere must be known to the restore."""
    root = Path(__file__).parent.parent.parent / "interface"
    named = [
        found
        for path in root.rglob("*.py")
        for found in re.findall(r'next_number\([^)]*f"([a-z_]+)\.\{year\}"', path.read_text())
    ]
    used = sum(path.read_text().count("next_number(") for path in root.rglob("*.py")) - 1  # its definition
    assert (sorted(set(named)), len(named)) == (sorted(lab_changes.NUMBERED), used)


@pytest.mark.parametrize(
    ("url", "name"),
    [("postgresql://a@h/lab", "lab"), ("postgresql:///x?dbname=lab&host=/run", "lab"), ("postgresql://h/l%20b", "l b")],
)
def test_a_database_is_named_by_its_url(url: str, name: str) -> None:
    assert databases.database_name(url) == name
    assert databases.database_name(with_database(url, "other")) == "other"


def test_no_password_is_where_everybody_sees_it() -> None:
    shown, environment = databases.for_programs("postgresql://labora:s%26cret@h:5433/lab?sslmode=require")
    assert shown == "postgresql://labora@h:5433/lab?sslmode=require"
    assert environment["PGPASSWORD"] == "s&cret"
    shown, environment = databases.for_programs("postgresql:///lab?host=/run&password=hidden")
    assert "hidden" not in shown and environment["PGPASSWORD"] == "hidden"


def test_a_replaced_database_says_since_when() -> None:
    at = datetime(2026, 11, 26, 17, 29, 35, tzinfo=UTC)
    assert databases.replaced_name("labora", at) == "labora_replaced_20261126t172935z"
    assert len(databases.replaced_name("x" * 63, at + timedelta(days=1))) == 63
