"""A PostgreSQL of the system's own: backups by roles without special rights, and recovery to a moment by its WAL."""

from __future__ import annotations

import asyncio
import re
import shutil
import signal
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest

from interface.domain.alerts import AlertKind, Severity, Subject
from interface.ops import backup, backup_restore, backup_verify, doctor
from interface.ops.machine_watch import MachineWatch
from interface.ops.retention import deleted
from interface.settings import DatabaseSettings, RetentionSettings, Settings
from interface.store import retention
from interface.store.db import Database
from interface.store.ids import uuid7
from interface.store.migrate import upgrade
from interface.store.retention import Kind
from tests.flow.laboratory import laboratory
from tests.ops.system_cluster import ROLES, SystemCluster
from tests.ops.test_backup import store
from tests.store.lived import every_day

SCRIPT = str(Path(__file__).parent.parent.parent / "scripts" / "pitr")


@pytest.fixture(scope="module")
async def cluster() -> AsyncIterator[SystemCluster]:
    """A server with a schema that was made as `scripts/install` makes it."""
    made = SystemCluster()
    try:
        made.make()
        await made.start()
        await made.execute(*ROLES, "select 1")
        await upgrade(made.url())
        yield made
    finally:
        made.remove()


async def count(cluster: SystemCluster) -> object:
    return await cluster.execute("select count(*) from lab.message", database="labora")


async def test_roles_without_special_rights_back_up_verify_and_restore(
    cluster: SystemCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(tmp_path, DatabaseSettings(cluster.url()))
    async with laboratory(cluster.url("labora_app")) as lab:
        await store(lab, "S1", "S2")
    backed_up = await count(cluster)
    made = await backup.create(settings)
    assert made.manifest.tables["message"].rows == backed_up  # past row-level security
    monkeypatch.setattr(backup_verify, "server_at_least", lambda *_: None)
    assert (await backup_verify.verify(settings, None, None)).differences == ()
    async with laboratory(cluster.url("labora_app")) as lab:
        await store(lab, "S3")
    done = await backup_restore.restore(settings, None, None)
    assert (await count(cluster), done.replaced is not None) == (backed_up, True)
    assert await backup_restore.confirm(settings) == (done.replaced,)
    # The application works with it as before: its grants and policies came back, too.
    async with laboratory(cluster.url("labora_app")) as lab:
        await store(lab, "S4")
        async with lab.database.organization(lab.organization_id) as connection:
            assert await connection.fetchval("select count(*) from lab.message") == 1
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute("delete from lab.result_version")
    # The owner, who is held to the policies too, deletes what was kept long enough: here all are held results'.
    monkeypatch.setattr(retention, "lived_days", every_day)
    later = datetime.now(UTC) + timedelta(days=2000)
    said = [one async for one in deleted(cluster.url(), RetentionSettings(1, 1, 1, 1, 1, 1), later, dry_run=False)]
    assert [(one.kind, one.rows) for one in said if one.kind is Kind.FRAMES] == [(Kind.FRAMES, 0)]
    there = await cluster.execute("select count(distinct message_id) from lab.frame", database="labora")
    assert there == await count(cluster)


async def archived(cluster: SystemCluster) -> None:
    """Close the segment, and wait until it is in the archive."""
    last = await cluster.execute("select pg_walfile_name(pg_switch_wal())")
    for _ in range(1000):
        if str(await cluster.execute("select coalesce(last_archived_wal, '') from pg_stat_archiver")) >= str(last):
            return
        await asyncio.sleep(0.01)
    raise AssertionError((cluster.folder / "log").read_text()[-3000:])


def pitr(cluster: SystemCluster, *arguments: str) -> str:
    done = cluster.command(SCRIPT, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


async def test_a_server_is_brought_back_to_a_moment(cluster: SystemCluster, tmp_path: Path) -> None:
    """F19: base backup and WAL into a new directory, after the server crashed, went on, was killed, and lost its disk.
    All that was acknowledged up to the moment is there, and nothing that came after."""
    archive, new = cluster.folder / "archive", cluster.folder / "new"
    archive.mkdir()
    cluster.account.take(archive)
    pitr(cluster, "setup", str(archive))
    cluster.stop()
    await cluster.start()
    name = pitr(cluster, "base", str(archive)).split()[-1]
    before = await count(cluster)
    async with laboratory(cluster.url("labora_app")) as lab:
        await store(lab, "P0")
    cluster.stop(signal.SIGKILL)  # what is replayed has a crash in it, and what was recovered then
    await cluster.start()
    async with laboratory(cluster.url("labora_app")) as lab:
        await store(lab, "P1", "P2", "P3")
        moment = await cluster.execute("select clock_timestamp()")
        assert isinstance(moment, datetime) and isinstance(before, int)
        await store(lab, "P4")
        number = await cluster.execute("select nextval('lab.dispatch_work_id_seq')", database="labora")
        organization_id = lab.organization_id
    await archived(cluster)
    said = pitr(cluster, "status", str(archive))
    assert re.search(r"RPO +\d+ s", said) and "failing    no" in said and name in said
    cluster.stop(signal.SIGKILL)
    shutil.rmtree(cluster.data)

    said = pitr(cluster, "restore", str(archive), str(new), "--to", moment.isoformat())
    print(said)  # RPO and RTO
    assert not (new / "recovery.signal").exists()  # replayed, not only begun
    assert "RTO " in said and "RPO: everything up to" in said
    await cluster.start(new)
    assert await count(cluster) == before + 4
    adopt = re.search(r"labora backup adopt --taken-at (\S+);", said)
    assert adopt is not None and abs((datetime.fromisoformat(adopt[1]) - moment).total_seconds()) < 1
    await backup_restore.adopt(Settings(tmp_path, DatabaseSettings(cluster.url())), moment)
    later = await cluster.execute("select nextval('lab.dispatch_work_id_seq')", database="labora")
    assert isinstance(later, int) and isinstance(number, int) and later > number
    async with laboratory(cluster.url("labora_app")) as lab:
        await store(lab, "P5")  # it goes on
    trail = f"select count(*) from lab.audit_event where action = 'restore' and organization_id = '{organization_id}'"  # noqa: S608
    assert await cluster.execute(trail, database="labora") == 1


async def test_what_was_brought_back_to_a_moment_is_brought_back_whole_the_next_time() -> None:
    """The moment of the first restore stays in the settings, which base backups copy: the next restore ended there."""
    cluster = SystemCluster()

    async def into(archive: str, data: Path) -> str:
        """Keep what is written from now on."""
        (cluster.folder / archive).mkdir()
        cluster.account.take(cluster.folder / archive)
        pitr(cluster, "setup", str(cluster.folder / archive))
        cluster.stop()
        await cluster.start(data)
        pitr(cluster, "base", str(cluster.folder / archive))
        return str(cluster.folder / archive)

    async def written(*words: str) -> object:
        await cluster.execute(*(f"insert into written values ('{word}')" for word in words), "select 1")  # noqa: S608
        return await cluster.execute("select string_agg(word, ' ' order by word) from written")

    try:
        cluster.make()
        await cluster.start()
        await cluster.execute("create table written (word text)", "select 1")
        first = await into("first", cluster.data)
        await written("a")
        moment = await cluster.execute("select clock_timestamp()")
        assert isinstance(moment, datetime)
        await written("b")
        await archived(cluster)
        cluster.stop(signal.SIGKILL)
        again, whole = cluster.folder / "again", cluster.folder / "whole"
        pitr(cluster, "restore", first, str(again), "--to", moment.isoformat())
        await cluster.start(again)
        assert await written() == "a"
        second = await into("second", again)
        assert await written("c", "d") == "a c d"
        await archived(cluster)
        cluster.stop(signal.SIGKILL)
        pitr(cluster, "restore", second, str(whole))
        await cluster.start(whole)
        assert await written() == "a c d"
    finally:
        cluster.remove()


async def test_what_archives_is_there_after_the_next_upgrades(cluster: SystemCluster) -> None:
    """scripts/upgrade removes all releases but three: the server calls the one in use, by the name of its link."""
    current, archive = cluster.folder / "current", cluster.folder / "linked"
    current.symlink_to(Path(SCRIPT).parent.parent)
    assert cluster.command(str(current / "scripts" / "pitr"), "setup", str(archive)).returncode == 0
    written = "select setting from pg_file_settings where name = 'archive_command' order by seqno desc limit 1"
    assert await cluster.execute(written) == f'"{current}/scripts/pitr" archive "%p" "{archive}/wal/%f"'


async def test_an_archive_that_takes_nothing_any_more_is_an_alert(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it is found out on the day on which a restore needs it."""
    cluster, found = SystemCluster(None, "-c", "archive_mode=on", "-c", "archive_timeout=3600"), dict[str, list[str]]()

    async def settled(of: UUID, kind: AlertKind, standing: Mapping[Subject, str]) -> None:
        found[kind] = [subject.name for subject in standing]

    try:
        cluster.make()
        await cluster.start()
        await cluster.execute(*ROLES, "select 1")
        await upgrade(cluster.url())
        database = Database(cluster.url("labora_app"))
        settings = Settings(tmp_path, DatabaseSettings(cluster.url("labora_app")))
        watch = MachineWatch(lambda: settings, database, lambda: [uuid7()], settle=settled)
        monkeypatch.setattr(doctor, "_UNARCHIVED", ((Severity.WARNING, 0.0),))
        try:
            for command, expected in (("true", []), ("false", ["archive"])):
                await cluster.execute(f"alter system set archive_command = '{command}'", "select pg_reload_conf()")
                await cluster.execute("create table if not exists written ()", "select pg_switch_wal()")
                counter = "archived_count" if command == "true" else "failed_count"
                while not await cluster.execute(f"select {counter} from pg_stat_archiver"):  # noqa: S608, ASYNC110
                    await asyncio.sleep(0.02)
                await watch.look()
                assert [name for name in found[AlertKind.BACKUP_AGE] if name] == expected
        finally:
            await database.close()
    finally:
        cluster.remove()


def test_the_archive_keeps_what_it_has(cluster: SystemCluster, tmp_path: Path) -> None:
    """A segment is on the disk under its name, whole, or not at all; another one never replaces it."""
    folder = cluster.folder / "segments"
    folder.mkdir()
    cluster.account.take(folder)
    first, other = folder / "first", folder / "other"
    first.write_bytes(b"first")
    other.write_bytes(b"other")
    target = str(folder / "000000010000000000000001")
    for _ in range(2):  # the server asks again where it did not hear the answer
        assert cluster.command(SCRIPT, "archive", str(first), target).returncode == 0
    refused = cluster.command(SCRIPT, "archive", str(other), target)
    assert refused.returncode == 1 and "is another" in refused.stderr
    assert Path(target).read_bytes() == b"first"
    assert cluster.command(SCRIPT, "archive", str(folder / "missing"), target + "2").returncode != 0
    assert not Path(target + "2").exists()
    assert cluster.command(SCRIPT).returncode == 2


def test_base_backups_are_in_the_order_of_what_is_in_them(cluster: SystemCluster) -> None:
    """A clock that was ahead has named one: it is not the last, and the WAL since the others stays."""
    segments = {"20260101T000000Z": 2, "20990101T000000Z": 4, "20260201T000000Z": 6, "20260301T000000Z": 8}
    archive = cluster.folder / "dated"
    (archive / "wal").mkdir(parents=True)
    for name, number in segments.items():
        (archive / "base" / name).mkdir(parents=True)
        file = f"0000000100000000000000{number:02X}"
        label = archive / "base" / name / "backup_label"
        label.write_text(f"START WAL LOCATION: 0/{number:X}000028 (file {file})\nLABEL: labora\n")
        (archive / "wal" / file).touch()
    for each in (archive, *archive.rglob("*")):
        cluster.account.take(each)
    restoring = SCRIPT, "restore", str(archive), str(cluster.folder / "dated-new")
    refused = cluster.command(*restoring)  # for there is nothing in any
    assert "the base backup 20260301T000000Z is damaged" in refused.stderr
    refused = cluster.command(*restoring, "--to", "2026-02-15 00:00:00+00")
    assert "the base backup 20260201T000000Z is damaged" in refused.stderr
    assert cluster.command(SCRIPT, "prune", str(archive), "2").returncode == 0
    assert {each.name for each in (archive / "base").iterdir()} == {"20260201T000000Z", "20260301T000000Z"}
    assert {int(each.name, 16) & 0xFF for each in (archive / "wal").iterdir()} == {6, 8}
