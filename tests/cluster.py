"""One PostgreSQL server for all workers of a test session, kept by a process of its own.

`python -m tests.cluster FOLDER` starts an embedded server and keeps it while anyone holds a shared lock on
FOLDER/users. Workers come and go; when the last has gone, however it went, the keeper stops the server and removes
its data.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

import asyncpg

from interface.store.embedded import EmbeddedPostgres
from interface.store.schema import OWNER_ROLE

_ROOT = Path(__file__).parent.parent
_MEMORY = Path("/dev/shm")  # noqa: S108 (mkdtemp makes what is put there)
_MEMORY_BYTES = 4 * 1024**3


def _in_memory() -> Path | None:
    """A file system in memory with room for servers and their programs, else None.

    PostgreSQL syncs there as ever, and it costs nothing: what a test can see of durability, by killing processes, is
    the same. What a power cut leaves no test can see.
    """
    try:
        found = os.statvfs(_MEMORY)
    except OSError:
        return None
    usable = found.f_bavail * found.f_frsize >= _MEMORY_BYTES and not found.f_flag & os.ST_NOEXEC
    return _MEMORY if usable and os.access(_MEMORY, os.W_OK) else None


def new_state_dir(*, on_disk: bool = False) -> Path:
    """An empty state directory with a short path that PostgreSQL's account can reach; the caller removes it.

    It is in memory where that can be, unless `on_disk`, for whoever measures.
    """
    path = Path(tempfile.mkdtemp(prefix="labora-", dir=None if on_disk else _in_memory()))
    path.chmod(0o755)
    return path


def with_database(url: str, name: str, role: str) -> str:
    """The same server's URL for another database and login."""
    query = {**dict(parse_qsl(urlsplit(url).query)), "user": role}
    return f"postgresql:///{name}?{urlencode(query, safe='/')}"


def owner_of(url: str) -> str:
    """The administrator's URL for the database of an application URL such as `database_url`."""
    return with_database(url, urlsplit(url).path.lstrip("/"), OWNER_ROLE)


async def administer(url: str, statement: str) -> None:
    """One statement over a connection of its own."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def once(folder: Path, name: str, make: Callable[[], Awaitable[str]]) -> str:
    """What the first of all workers with this folder made, as long as the server is the same one."""
    made = folder / f"made {name}"
    with _locked(folder / "once"):
        if not made.exists():
            made.write_text(await make())
        return made.read_text()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with open(path, "ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _remove_made(folder: Path) -> None:
    for made in folder.glob("made *"):
        if (path := Path(made.read_text())).is_absolute():
            shutil.rmtree(path, ignore_errors=True)
        made.unlink()


@contextmanager
def shared_cluster(folder: Path) -> Iterator[str]:
    """The owner's URL of the server that everyone with this folder shares; started by whoever comes first."""
    with open(folder / "start", "ab") as start, open(folder / "users", "ab") as users:
        fcntl.flock(start, fcntl.LOCK_EX)
        fcntl.flock(users, fcntl.LOCK_SH)  # waits for a keeper that is just leaving
        url = folder / "url"
        if not url.exists():
            _start_keeper(folder)
        fcntl.flock(start, fcntl.LOCK_UN)
        yield url.read_text()


def _start_keeper(folder: Path) -> None:
    with open(folder / "keeper.log", "ab") as output:
        keeper = subprocess.Popen(
            [sys.executable, "-m", "tests.cluster", str(folder)],
            cwd=_ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=output,
            start_new_session=True,
        )
    assert keeper.stdout is not None
    with keeper.stdout:
        ready = b"ready\n" in keeper.stdout  # after what the server has to say about its start
    keeper.returncode = 0  # it outlives us: not ours to wait for
    assert ready, (folder / "keeper.log").read_text()


async def _keep(folder: Path) -> None:
    state_dir = new_state_dir()
    server = EmbeddedPostgres(state_dir)
    try:
        await server.start()
        (folder / "url").write_text(server.url(OWNER_ROLE))
        os.write(1, b"ready\n")
        users = os.open(folder / "users", os.O_WRONLY)
        await asyncio.to_thread(fcntl.flock, users, fcntl.LOCK_EX)  # once nobody holds it any more
        _remove_made(folder)
        (folder / "url").unlink()  # whoever comes now waits for the lock, which ends with us, and starts a new one
    finally:
        await server.stop()
        shutil.rmtree(state_dir, ignore_errors=True)


if __name__ == "__main__":
    asyncio.run(_keep(Path(sys.argv[1])))
