"""What the daemon finds of its machine is one alert when it begins and one when it is over, and is in the metrics."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from interface import telemetry
from interface.domain.alerts import Severity
from interface.errors import StoreError
from interface.ops import doctor, machine
from interface.ops.alert_center import AlertCenter
from interface.ops.looks import Looks
from interface.ops.machine_watch import STANDS_S, MachineWatch
from interface.settings import Address, ApiSettings, BackupSettings, DatabaseSettings, ListenTls, Settings
from interface.store import alerts
from interface.store.db import Database
from tests.conftest import Organization
from tests.e2e import outage
from tests.hanging import hung
from tests.link.certificates import Authority


@dataclass
class Clock:
    """A clock that can be stepped, and one that only goes on."""

    start: float = field(default_factory=lambda: datetime.now(UTC).timestamp())
    passed: float = 0.0
    stepped: float = 0.0

    def wall(self) -> float:
        return self.start + self.stepped

    def monotonic(self) -> float:
        return self.passed

    def later(self, seconds: float) -> None:
        """Both go on."""
        self.passed += seconds
        self.stepped += seconds


@dataclass
class Watched:
    watch: MachineWatch
    clock: Clock
    database: Database
    organization: Organization
    settings: list[Settings]

    def reloaded(self) -> None:
        """As after SIGHUP: what is in force is another object, and files were read again."""
        self.settings[0] = replace(self.settings[0])

    async def standing(self) -> dict[str, str]:
        async with self.database.organization(self.organization.id) as connection:
            return {one.kind: one.note for one in await alerts.find(connection)}

    async def told(self, kind: str) -> list[str]:
        """What the feed of changes has been told."""
        async with self.database.organization(self.organization.id) as connection:
            rows = await connection.fetch("select note from lab.outbox where kind = 'alert' order by id")
        return [row["note"].split()[0] for row in rows if row["note"].split()[1] == kind]


def watched(database: Database, organization: Organization, settings: Settings, looks: Looks | None = None) -> Watched:
    clock, of = Clock(), [settings]
    watch = MachineWatch(lambda: of[0], database, lambda: [organization.id], clock.wall, clock.monotonic, looks=looks)
    return Watched(watch, clock, database, organization, of)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MB."""
    if os.geteuid() != 0:
        pytest.skip("needs root: a small file system is mounted")
    folder = tmp_path / "small"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], check=False)
    if made.returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


async def test_a_disk_that_fills_up_is_one_alert_and_its_room_another(
    database: Database, organization: Organization, small_disk: Path
) -> None:
    at = watched(database, organization, Settings(small_disk))
    await at.watch.look()
    assert "disk" not in await at.standing()
    full = small_disk / "full"
    with pytest.raises(OSError, match="No space left"), full.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1 << 16))
    for _ in range(3):
        await at.watch.look()
        at.clock.later(60)
    assert "free" in (await at.standing())["disk"]
    assert ("disk", "urgent") in [one.labels for one in at.watch.readings() if one.gauge == "findings"]
    full.unlink()
    at.clock.later(STANDS_S - 61)
    await at.watch.look()
    assert "disk" in await at.standing(), "what swings about a limit is told once"
    at.clock.later(1)
    await at.watch.look()
    assert "disk" not in await at.standing()
    assert await at.told("disk") == ["entered", "recovered"]


@pytest.fixture
def log_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system on a loop device, for a server's log alone."""
    with outage.small_disk(tmp_path, 16) as at:
        if at is None:
            pytest.skip("needs root and a loop device: a small file system is mounted")
        yield at


@pytest.mark.parametrize("whose", ["embedded", "another's"])
async def test_a_log_on_a_file_system_of_its_own_that_fills_up_is_an_alert(
    database: Database, organization: Organization, tmp_path: Path, log_disk: Path, whose: str
) -> None:
    log = log_disk / "pg_wal"
    log.mkdir()
    settings = Settings(tmp_path / "state")
    if whose == "embedded":
        data = settings.state_dir / "pg" / "data"
        data.mkdir(parents=True)
        (data / "pg_wal").symlink_to(log)
    else:
        settings = replace(settings, database=DatabaseSettings("postgresql:///labora", folders=(log,)))
    at = watched(database, organization, settings)
    await at.watch.look()
    assert "disk" not in await at.standing()
    with pytest.raises(OSError, match="No space left"), (log / "segments").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1 << 16))
    await at.watch.look()
    assert "free" in (await at.standing())["disk"]
    short = [one.subject.name for one in at.watch._findings if one.kind == "disk" and one.severity]
    assert len(short) == 1 and short[0].endswith("/pg_wal")


async def test_a_folder_that_is_named_and_cannot_be_looked_at_is_an_alert(
    database: Database, organization: Organization, tmp_path: Path
) -> None:
    named = DatabaseSettings("postgresql:///labora", folders=(tmp_path, tmp_path / "not there"))
    at = watched(database, organization, Settings(tmp_path, named))
    await at.watch.look()
    assert (await at.standing())["disk"] == "its room cannot be looked at: No such file or directory"


@pytest.mark.parametrize("step", [3600.0, -3600.0])
async def test_a_clock_that_is_stepped_is_one_alert(
    database: Database, organization: Organization, tmp_path: Path, step: float
) -> None:
    at = watched(database, organization, Settings(tmp_path))
    await at.watch.look()
    before = await at.standing()
    at.clock.stepped += step
    await at.watch.look()
    await at.watch.look()
    assert [kind for kind in await at.standing() if kind == "clock"] == ["clock"]
    if "clock" not in before:  # it may have no time server
        assert await at.told("clock") == ["entered"]


async def test_a_certificate_that_ends_is_one_alert_until_there_is_a_new_one(
    database: Database, organization: Organization, tmp_path: Path
) -> None:
    authority, now = Authority(tmp_path), datetime.now(UTC)
    old = authority.pair("ours", not_before=now - timedelta(days=90), not_after=now - timedelta(seconds=1))
    api = ApiSettings(listen=Address("127.0.0.1", 0), tls=ListenTls(old.cert, old.key))
    at = watched(database, organization, Settings(tmp_path, api=api))
    await at.watch.look()
    await at.watch.look()
    assert (await at.standing())["certificate"].startswith("expired")
    asked = telemetry.Asked(at.watch.readings)
    page = telemetry.metrics_page()[0].decode()
    asked.close()
    assert f'labora_certificate_expiry_timestamp_seconds{{certificate="{old.cert}"}}' in page
    authority.pair("ours", not_after=now + timedelta(days=90))
    at.reloaded()
    at.clock.later(STANDS_S)
    await at.watch.look()
    assert await at.told("certificate") == ["entered", "recovered"]


async def test_a_certificate_that_was_renewed_and_not_read_is_an_alert_until_a_reload(
    database: Database, organization: Organization, tmp_path: Path
) -> None:
    """The alert was over as soon as the new one lay there, and the old one was shown until it ended."""
    authority, now = Authority(tmp_path), datetime.now(UTC)
    old = authority.pair("ours", not_after=now + timedelta(days=6))
    api = ApiSettings(listen=Address("127.0.0.1", 0), tls=ListenTls(old.cert, old.key))
    at = watched(database, organization, Settings(tmp_path, api=api))
    await at.watch.look()
    authority.pair("ours", not_after=now + timedelta(days=90))
    at.clock.later(STANDS_S)
    await at.watch.look()
    assert (await at.standing())["certificate"].startswith("is good until")
    (found,) = [one for one in at.watch._findings if one.kind == "certificate" and one.severity]
    assert found.text.startswith("the one in use is good until") and found.command == "systemctl reload labora"
    (until,) = [one.value for one in at.watch.readings() if one.gauge == "certificate"]
    assert until < (now + timedelta(days=7)).timestamp()
    at.reloaded()
    at.clock.later(STANDS_S)
    await at.watch.look()
    assert await at.told("certificate") == ["entered", "recovered"]


async def test_a_list_of_revoked_certificates_that_ends_is_an_alert(
    database: Database, organization: Organization, tmp_path: Path
) -> None:
    """Past its next update it admits nobody any more: all analyzers at once, and nobody was told before."""
    authority = Authority(tmp_path)
    ours = authority.pair("ours", not_after=datetime.now(UTC) + timedelta(days=90))
    both = authority.revoke(authority.pair("theirs"))
    api = ApiSettings(listen=Address("127.0.0.1", 0), tls=ListenTls(ours.cert, ours.key, both))
    at = watched(database, organization, Settings(tmp_path, api=api))
    end = machine.lists_end_at(both)
    assert end is not None
    at.clock.stepped = (end - timedelta(days=3)).timestamp() - at.clock.start - 1
    await at.watch.look()
    assert [one.text for one in at.watch._findings if "revoked ones" in one.subject.name and one.severity] == []
    at.clock.later(2)
    await at.watch.look()
    (found,) = [one for one in at.watch._findings if "revoked ones" in one.subject.name]
    assert found.severity is Severity.WARNING and found.text == f"is good until {end:%Y-%m-%d %H:%M} UTC"
    assert "certificate" in await at.standing()


async def test_a_list_that_is_made_anew_each_day_is_no_alert_before_its_last_hours(tmp_path: Path) -> None:
    """It never had a day left, and so was urgent for ever: one that always stands says nothing on the day it does."""
    authority = Authority(tmp_path)
    ours = authority.pair("ours", not_after=datetime.now(UTC) + timedelta(days=90))
    both = authority.revoke(authority.pair("theirs"), life=timedelta(days=1))  # half of which is over
    settings = Settings(tmp_path, api=ApiSettings(tls=ListenTls(ours.cert, ours.key, both)))
    end = machine.lists_end_at(both)
    assert end is not None

    def graveness(left_h: float) -> Severity | None:
        found = machine.certificates(settings, end - timedelta(hours=left_h))
        return next(one.severity for one in found if "revoked ones" in one.subject.name)

    assert [graveness(hours) for hours in (12, 6.1, 5.9, 2.1, 1.9)] == [
        None, None, Severity.WARNING, Severity.WARNING, Severity.URGENT
    ]  # fmt: skip


async def test_while_the_database_is_away_what_is_found_is_kept(
    database: Database, organization: Organization, tmp_path: Path
) -> None:
    authority, now = Authority(tmp_path), datetime.now(UTC)
    old = authority.pair("ours", not_before=now - timedelta(days=90), not_after=now - timedelta(seconds=1))
    api = ApiSettings(listen=Address("127.0.0.1", 0), tls=ListenTls(old.cert, old.key))
    nowhere = Database("postgresql://nobody@127.0.0.1:1/nothing")
    settings = Settings(tmp_path, api=api)
    watch = MachineWatch(lambda: settings, nowhere, lambda: [organization.id])
    with pytest.raises(StoreError):
        await watch.look()
    await nowhere.close()
    watch._database = database  # it is back
    await watch.look()
    async with database.organization(organization.id) as connection:
        assert "certificate" in [one.kind for one in await alerts.find(connection)]


async def test_a_mount_that_hangs_is_an_alert_and_hides_no_other(
    database: Database, organization: Organization, tmp_path: Path
) -> None:
    """Backups and a server's archive lie on another machine's disk as a rule: where that machine is gone, whoever asks
    the mount for anything waits for it, for ever."""
    authority, now = Authority(tmp_path), datetime.now(UTC)
    old = authority.pair("ours", not_before=now - timedelta(days=90), not_after=now - timedelta(seconds=1))
    (far := tmp_path / "far").mkdir()
    settings = Settings(
        tmp_path,
        DatabaseSettings("postgresql:///labora", folders=(far,)),
        api=ApiSettings(listen=Address("127.0.0.1", 0), tls=ListenTls(old.cert, old.key)),
        backup=BackupSettings(directory=far / "backups"),
    )
    at = watched(database, organization, settings, Looks(0.2))
    with hung(far):
        for _ in range(3):
            await at.watch.look()
            at.clock.later(60)
        found = {(one.kind.value, one.subject.name): one.text for one in at.watch._findings if one.severity}
        assert found["disk", str(far)] == found["backup_age", ""] == "does not answer: a mount whose server is gone?"
        assert (await at.standing())["certificate"].startswith("expired")
        hanging = [one for one in threading.enumerate() if one.name.startswith("look ")]
        assert len(hanging) == 2, "no thread more for each look, until there are no more"
        assert all(one.daemon for one in hanging), "nor does the end of the program wait for them"
    for one in hanging:
        one.join()
    at.clock.later(STANDS_S)
    await at.watch.look()
    assert "disk" not in await at.standing()
    assert await at.told("disk") == ["entered", "recovered"]


async def test_what_of_the_server_will_be_used_up_is_an_alert(
    database: Database, organization: Organization, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where transaction ids are used up it stops, and nobody had been told but who asked `labora doctor`."""
    at = watched(database, organization, Settings(tmp_path))
    center = AlertCenter(database, tmp_path, lambda: {organization.id: "lab"}, dict)
    with monkeypatch.context() as nearly:
        nearly.setattr(doctor, "_FROZEN", ((Severity.WARNING, 0),))
        for _ in range(2):
            await at.watch.look()
            await center.look()
        assert "transaction ids: " in (await at.standing())["database"]
    at.clock.later(STANDS_S)
    await at.watch.look()
    assert "database" not in await at.standing()
    assert await at.told("database") == ["entered", "recovered"]
