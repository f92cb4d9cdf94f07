"""A backup is of one moment, is what it says, and is refused in one sentence where it is not."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pyrage
import pytest

from interface import config
from interface.cli.backup import _span
from interface.domain.alerts import Severity
from interface.errors import BackupError
from interface.ops import backup, backup_manifest, backup_pipe, backup_verify, doctor
from interface.ops.backup_pipe import Encryption
from interface.settings import BackupSettings, DatabaseSettings, Settings
from interface.store import census, databases, db
from tests.cluster import owner_of
from tests.flow.laboratory import Laboratory, laboratory, message
from tests.store.journals import until
from tests.store.sealing import sealed

RESULTS = ("P|1||P-1", "O|1|{}||^^^GLU", "R|1|^^^GLU|5.4|mmol/L||N||F||||20260102030405")


async def store(lab: Laboratory, *barcodes: str) -> None:
    for barcode in barcodes:
        await lab.send(message(*(text.format(barcode) for text in RESULTS), control=barcode))
    await lab.settle()
    await sealed(lab.database, lab.organization_id)


@pytest.fixture
async def lab(founded_url: str) -> AsyncIterator[Laboratory]:
    """A laboratory with three messages, decided, and a sealed audit trail."""
    async with laboratory(founded_url) as made:
        await store(made, "S1", "S2", "S3")
        yield made


@pytest.fixture
def settings(founded_url: str, tmp_path: Path) -> Settings:
    return Settings(tmp_path, DatabaseSettings(owner_of(founded_url)))


@pytest.fixture
def beside(monkeypatch: pytest.MonkeyPatch) -> None:
    """No programs of a server here: the database to verify in is made on the configured one."""
    monkeypatch.setattr(backup_verify, "server_at_least", lambda *_: None)


def run(*command: str, cwd: Path | None = None) -> None:
    subprocess.run(command, cwd=cwd, check=True, capture_output=True)


def rewrite(folder: Path, change: Callable[[Any], None]) -> None:
    said = orjson.loads((folder / "manifest.json").read_bytes())
    change(said)
    (folder / "manifest.json").write_bytes(orjson.dumps(said))


async def test_a_backup_is_of_one_moment_while_messages_come(
    lab: Laboratory, settings: Settings, state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the snapshot and the dump a message is stored: it is in neither the dump nor the count."""
    real = census.census

    async def counted(connection: Any) -> Any:
        await store(lab, "S4")
        return await real(connection)

    monkeypatch.setattr(census, "census", counted)
    made = await backup.create(settings)
    monkeypatch.undo()
    assert made.manifest.tables["message"].rows == 3
    assert await lab.owner.fetchval("select count(*) from lab.message") == 4
    # In a server of its own, which is gone afterwards.
    verdict = await backup_verify.verify(replace(settings, state_dir=state_dir), str(made.info.path), None)
    assert (verdict.differences, verdict.rows > 0, verdict.seconds is not None) == ((), True, True)
    assert "verify-" not in " ".join(os.listdir(state_dir))
    assert (made.info.path.stat().st_mode & 0o777, made.info.whole) == (0o700, True)
    run("sha256sum", "--check", "--quiet", str(made.info.path / "SHA256SUMS"), cwd=made.info.path)
    assert backup.newest(settings) == made.info
    text = (made.info.path / "manifest.json").read_text()
    assert not any(each in text for each in ("S1", "P-1", "GLU"))  # nothing of a patient


async def test_a_dump_that_takes_longer_than_a_session_may_be_idle_is_a_backup(
    lab: Laboratory, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its snapshot is held by a session that waits: the disk is slow, and five minutes are over."""
    session_settings, dump, loop = db.session_settings, backup_pipe.dump, asyncio.get_running_loop()

    def hurried(*arguments: Any) -> dict[str, str]:
        return session_settings(*arguments) | {"idle_in_transaction_session_timeout": "50ms"}

    async def idle() -> bool:
        """Whether the session is as idle as it may be, or ended."""
        return not await lab.owner.fetchval(
            """select count(*) from pg_stat_activity where datname = current_database() and application_name = 'labora'
                and backend_xmin is not null and (state <> 'idle in transaction'
                    or state_change > clock_timestamp() - interval '200ms')"""
        )

    def slow(*arguments: Any) -> backup_pipe.Stored:
        stored = dump(*arguments)
        asyncio.run_coroutine_threadsafe(until(idle), loop).result()
        return stored

    monkeypatch.setattr(db, "session_settings", hurried)
    monkeypatch.setattr(backup_pipe, "dump", slow)
    made = await backup.create(settings)
    assert made.manifest.tables["message"].rows == 3


@pytest.mark.usefixtures("beside")
async def test_what_came_back_differently_is_said(lab: Laboratory, settings: Settings) -> None:
    path = (await backup.create(settings)).info.path
    assert (await backup_verify.verify(settings, None, None)).differences == ()

    def lost(said: Any) -> None:
        said["tables"]["message"]["rows"] += 1
        said["tables"]["result_version"]["digest"] = "1:2"
        said["tables"]["invented"] = {"rows": 0, "digest": "0:0"}
        head = said["organizations"][0]["audit_head"]
        said["organizations"][0]["audit_head"] = head[:-1] + ("0" if head[-1] != "0" else "1")

    rewrite(path, lost)
    said = "\n".join((await backup_verify.verify(settings, None, None)).differences)
    assert "message: 4 rows were backed up, 3 came back" in said
    assert "result_version: its 3 rows say something else" in said
    assert "invented: is missing" in said
    assert "heads of their audit trails" in said
    assert re.search(r"segment \d+: head", said), "a transaction elsewhere on the server may have made it two segments"


def cut(folder: Path) -> None:
    with open(folder / "labora.dump", "r+b") as file:
        file.truncate(1000)


def changed(folder: Path) -> None:
    with open(folder / "labora.dump", "r+b") as file:
        file.seek(2000)
        file.write(b"\0\0\0\0")


def says(**values: Any) -> Callable[[Path], object]:
    return lambda folder: rewrite(folder, lambda said: said.update(values))


@pytest.mark.usefixtures("beside")
async def test_each_thing_that_can_be_wrong_is_one_sentence(lab: Laboratory, settings: Settings) -> None:
    whole = (await backup.create(settings)).info.path
    wrong: list[tuple[Callable[[Path], object], str]] = [
        (cut, "is cut: 1000 of"),
        (changed, "its SHA-256 is not that of the manifest"),
        (says(schema="9999"), "schema (9999, of Labora 0.1.0) is newer than this program's"),
        (says(format=2), "is of format 2, and this program reads 1"),
        (says(pg_dump="99.1"), "no pg_restore here is as new: install the package postgresql-client-99"),
        (says(tables=None), "is damaged: something is missing in it"),
        (lambda folder: (folder / "manifest.json").unlink(), "is not a backup: it has no manifest.json"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "it is not the manifest of a backup"),
        (lambda folder: (folder / "labora.dump").unlink(), "No such file"),
        (shutil.rmtree, "there is no backup"),
    ]
    for number, (spoil, text) in enumerate(wrong):
        folder = whole.with_name(f"labora-20200101T00000{number}Z")
        shutil.copytree(whole, folder)
        spoil(folder)
        with pytest.raises(BackupError) as caught:
            await backup_verify.verify(settings, folder.name, None)
        assert text in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.usefixtures("beside")
async def test_what_is_encrypted_is_read_by_its_key_alone(lab: Laboratory, settings: Settings, tmp_path: Path) -> None:
    key, other = pyrage.x25519.Identity.generate(), pyrage.x25519.Identity.generate()
    for name, identity in (("key", key), ("other", other)):
        (tmp_path / name).write_text(f"# created: today\n{identity}\n")
    (tmp_path / "none").write_text("AGE-SECRET-KEY-1X\n")
    encrypted = replace(settings, backup=BackupSettings(recipients=(str(key.to_public()),)))
    made = await backup.create(encrypted)
    data = (made.info.path / "labora.dump.age").read_bytes()
    assert data.startswith(b"age-encryption.org/v1") and b"PGDMP" not in data
    assert (await backup_verify.verify(encrypted, None, tmp_path / "key")).differences == ()
    assert (await backup_verify.verify(encrypted, None, None, only_checksum=True)).seconds is None  # without the key
    for file, text in (("other", "not encrypted for this private key"), ("none", "not a private key"),
                       ("missing", "No such file"), (None, "name the file of the private key")):  # fmt: skip
        with pytest.raises(BackupError, match=text):
            await backup_verify.verify(encrypted, None, tmp_path / file if file else None)


@pytest.fixture
def gpg_home(monkeypatch: pytest.MonkeyPatch, empty_state_dir: Path) -> Iterator[Path]:
    home = empty_state_dir / "gpg"  # short enough for the agent's socket
    home.mkdir(mode=0o700)
    monkeypatch.setenv("GNUPGHOME", str(home))
    yield home
    run("gpgconf", "--kill", "all")


@pytest.mark.usefixtures("beside")
async def test_gpg_encrypts_for_whom_it_is_told(lab: Laboratory, settings: Settings, gpg_home: Path) -> None:
    run("gpg", "--batch", "--passphrase", "", "--quick-generate-key", "lab@example.org", "future-default")
    encrypted = replace(settings, backup=BackupSettings(gpg_recipients=("lab@example.org",)))
    made = await backup.create(encrypted)
    assert b"PGDMP" not in (made.info.path / "labora.dump.gpg").read_bytes()
    assert (await backup_verify.verify(encrypted, None, None)).differences == ()
    with pytest.raises(BackupError, match="gpg failed: "):
        await backup.create(replace(settings, backup=BackupSettings(gpg_recipients=("nobody@example.org",))))
    run("gpgconf", "--kill", "all")
    shutil.rmtree(gpg_home / "private-keys-v1.d")
    with pytest.raises(BackupError, match="gpg failed: "):
        await backup_verify.verify(encrypted, None, None)


async def test_a_full_disk_leaves_no_half_backup(
    lab: Laboratory, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = (await backup.create(settings)).info
    monkeypatch.setattr(backup_pipe, "_private", lambda _path, _flags: os.open("/dev/full", os.O_WRONLY))
    for recipients in ((), (str(pyrage.x25519.Identity.generate().to_public()),)):
        with pytest.raises(BackupError, match="no room is left on the disk"):
            await backup.create(replace(settings, backup=BackupSettings(recipients=recipients)))
    assert [entry.name for entry in whole.path.parent.iterdir() if entry.name != ".lock"] == [whole.name]


async def test_what_an_interrupted_backup_left_is_none_and_goes(lab: Laboratory, settings: Settings) -> None:
    folder = backup.directory(settings)
    left = folder / ".labora-20260101T000000Z.part"
    left.mkdir(parents=True)
    (left / "labora.dump").write_bytes(b"half")
    assert backup.newest(settings) is None
    with backup._alone(folder):
        with pytest.raises(BackupError, match="another backup is being made"):
            await backup.create(settings)
    assert left.exists()
    made = await backup.create(settings)
    assert [entry.name for entry in folder.iterdir() if entry.name != ".lock"] == [made.info.name]


async def test_a_login_that_sees_one_laboratory_only_makes_no_backup(lab: Laboratory, settings: Settings) -> None:
    """Row-level security would leave a backup without rows, and nobody would see it."""
    unseeing = replace(settings, database=DatabaseSettings(lab.database.url))
    with pytest.raises(Exception, match="create role labora_backup nologin bypassrls"):
        await backup.create(unseeing)
    assert backup.newest(unseeing) is None


async def test_it_is_of_the_database_that_the_daemon_works_on(
    lab: Laboratory, settings: Settings, tmp_path: Path
) -> None:
    """Where that is elsewhere (docs/install.md) the nightly backup was of the empty one beside it, and looked well."""
    secret = tmp_path / "labora.database-url"
    environ = {
        "LABORA_DATABASE_URL": settings.database.url, "CREDENTIALS_DIRECTORY": str(tmp_path),
        "LABORA_STATE_DIR": str(tmp_path),
    }  # fmt: skip
    secret.write_text("postgresql://labora_app:hush9c5f@db.lab.example/labora?sslmode=verify-full")
    with pytest.raises(BackupError, match=r"the daemon works on db\.lab\.example:5432/labora") as raised:
        await backup.create(config.parse("", tmp_path / "config.toml", environ))
    assert "hush9c5f" not in str(raised.value)
    assert databases.place("postgresql://a:b@localhost/labora") == databases.place("postgresql:///labora?host=/run")
    text = '[database]\nurl = "postgresql://labora@db.lab.example/labora"\n'
    with pytest.raises(BackupError, match=r"the daemon works on db\.lab\.example:5432/labora"):
        await backup.create(config.parse(text, tmp_path / "config.toml", environ | {"CREDENTIALS_DIRECTORY": ""}))
    assert backup.newest(settings) is None
    by_hand = environ | {"CREDENTIALS_DIRECTORY": ""}  # it is of what the services are handed
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials" / "database-url").write_text(lab.database.url)
    assert (await backup.create(config.parse(text, tmp_path / "config.toml", by_hand))).info.whole
    (tmp_path / "credentials" / "database-url").write_text("postgresql://labora_app@db.lab.example/labora")
    with pytest.raises(BackupError, match=r"the daemon works on db\.lab\.example:5432/labora"):
        await backup.create(config.parse("", tmp_path / "config.toml", by_hand))
    secret.write_text(lab.database.url)  # as another role
    assert (await backup.create(config.parse(text, tmp_path / "config.toml", environ))).info.whole


# ---- keeping so many ------------------------------------------------------------------------------------------------

NOW = datetime(2026, 6, 30, 12, tzinfo=UTC)


def planted(folder: Path, days: int, *, good: bool = True) -> str:
    """A backup of so many days ago."""
    at = NOW - timedelta(days=days)
    path = folder / backup_manifest.name_of(at)
    path.mkdir(parents=True)
    (path / "labora.dump").write_bytes(b"the dump")
    stored = backup_pipe.checksum(path / "labora.dump")
    manifest = backup_manifest.Manifest(
        at, at, "0.1.0", "0034", "15.18", "15.18", "labora.dump", stored, Encryption.NONE, {}, ()
    )  # fmt: skip
    (path / "manifest.json").write_bytes(backup_manifest.write(manifest))
    if not good:
        (path / "labora.dump").write_bytes(b"the dumb")
    return path.name


@pytest.mark.parametrize(
    ("days", "number", "kept"),
    [
        (30, 1, {1, 5, 29}),
        (30, 4, {1, 5, 29, 40}),
        (0, 2, {1, 5}),
        (0, 1, {1}),
        (100, 1, {1, 5, 29, 40, 90}),
        (3, 100, {1, 5, 29, 40, 90}),
    ],
)
def test_what_is_young_and_the_last_ones_are_kept(tmp_path: Path, days: int, number: int, kept: set[int]) -> None:
    names = {ago: planted(tmp_path, ago) for ago in (1, 5, 29, 40, 90)}
    deleted = backup._prune(BackupSettings(keep_days=days, keep_number=number), tmp_path, NOW)
    assert set(deleted) == {name for ago, name in names.items() if ago not in kept}
    assert {entry.name for entry in tmp_path.iterdir()} == {names[ago] for ago in kept}


def test_the_newest_good_one_and_what_is_not_ours_stay(tmp_path: Path) -> None:
    bad, good, old = planted(tmp_path, 1, good=False), planted(tmp_path, 50), planted(tmp_path, 60)
    shared = planted(tmp_path, 70)
    (tmp_path / shared / "notes.txt").write_text("somebody's")
    (tmp_path / "labora-20250101T000000Z").mkdir()  # without a manifest
    (tmp_path / "labora-by-hand").mkdir()
    deleted = backup._prune(BackupSettings(keep_days=0, keep_number=1), tmp_path, NOW)
    assert deleted == (old,)
    assert (tmp_path / good / "labora.dump").exists() and (tmp_path / bad).exists()
    assert [entry.name for entry in (tmp_path / shared).iterdir()] == ["notes.txt"]
    assert (tmp_path / "labora-20250101T000000Z").exists() and (tmp_path / "labora-by-hand").exists()


def test_without_a_good_one_none_is_deleted(tmp_path: Path) -> None:
    for ago in (1, 50, 60):
        planted(tmp_path, ago, good=False)
    assert backup._prune(BackupSettings(keep_days=0, keep_number=1), tmp_path, NOW) == ()


def test_what_was_made_by_a_clock_that_was_ahead_is_not_the_newest(tmp_path: Path) -> None:
    """It was right again for long: how old that one is nobody knows, and to restore it would lose all since."""
    ahead, old, newest = [planted(tmp_path, ago) for ago in (-50_000, 9, 5)]
    settings = Settings(tmp_path, backup=BackupSettings(directory=tmp_path))
    assert [one.name for one in backup.found(settings)] == [newest, old, ahead]
    assert backup.find(settings, None).name == newest
    finding, taken_at = doctor.backup(settings, NOW)
    assert finding.severity is Severity.URGENT and taken_at == NOW - timedelta(days=5)
    assert backup._prune(BackupSettings(keep_days=0, keep_number=1), tmp_path, NOW) == (old,)

    shutil.rmtree(tmp_path / newest)
    assert backup.find(settings, None).name == ahead
    finding, taken_at = doctor.backup(settings, NOW)
    assert finding.severity is Severity.WARNING and "not known" in finding.text and taken_at is None
    assert "not known" in _span(NOW - (NOW + timedelta(days=1)))
