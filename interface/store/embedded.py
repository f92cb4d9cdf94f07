"""The zero-config PostgreSQL: a direct child of the daemon, under the state directory, reached by its Unix socket only.

`postgres` itself runs in the foreground as our child (not by pg_ctl), so that we reap it, restart it when it dies, and
it ends when we do, however we end. It never runs as root: a root daemon runs it as `labora`, else `nobody`.
"""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final
from urllib.parse import quote
from uuid import UUID

import asyncpg
import structlog

from interface.errors import ConfigError, ConfigProblem, StoreError, StoreUnavailable
from interface.settings import Settings
from interface.store import migrate
from interface.store.db import START_WAIT_S, Connection, Database, open_connection
from interface.store.driver_errors import store_errors
from interface.store.programs import Programs, choose_programs, reachable, server_account
from interface.store.schema import APP_ROLE, OWNER_ROLE
from interface.store.server_checks import check_server

log = structlog.get_logger(__name__)

DATABASE: Final = "labora"
SOCKET_NAME: Final = ".s.PGSQL.5432"
MAX_SOCKET_PATH_BYTES: Final = 107
READY_WAIT_S: Final = 120.0  # recovery after a crash replays the log; that takes what it takes
LOCK_WAIT_S: Final = 3.0  # a command line that started the server for itself is soon done
STOP_WAIT_S: Final = 30.0
PREDECESSOR_WAIT_S: Final = 1.0  # then our own is tried, which says what is wrong
RESTART_FIRST_S: Final = 0.05
RESTART_LONGEST_S: Final = 5.0
LOG_LIMIT_BYTES: Final = 4 * 1024 * 1024

_PR_SET_PDEATHSIG: Final = 1
_libc = ctypes.CDLL(None, use_errno=True)

# Given on the command line, so that no file in the data directory can take them back.
SERVER_OPTIONS: Final[Mapping[str, str]] = {
    "listen_addresses": "",
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "max_connections": "200",
    "jit": "off",
    # Statements and the details of errors carry patient data (DESIGN §1.9): the server's log gets neither.
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_statement": "none",
    "log_checkpoints": "off",
    "logging_collector": "off",
    "log_destination": "stderr",
}


def _state_problem(text: str) -> ConfigError:
    return ConfigError([ConfigProblem("state_dir", text)])


class AlreadyRunning(StoreUnavailable):
    """Another process has this state directory's server."""

    slug = "embedded_running"


class EmbeddedPostgres:
    """One state directory's server. `start` and `stop` belong in the main thread: the parent-death signal follows it.

    `options`: server settings over SERVER_OPTIONS, for tests of a badly configured server.
    """

    def __init__(self, state_dir: Path, bin_dir: Path | None = None, options: Mapping[str, str] | None = None) -> None:
        self._state_dir = state_dir.absolute()
        self._base = self._state_dir / "pg"
        self._data = self._base / "data"
        self._bin_dir = bin_dir
        self._options = {**SERVER_OPTIONS, **(options or {})}
        self._account = server_account(self._data)
        self._run = self._run_dir()
        self._lock_fd: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._programs: Programs | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self.restarts = 0
        self.restarted = asyncio.Event()  # set at the first restart

    # ---- what others ask -------------------------------------------------------------------------------------------

    @property
    def pid(self) -> int | None:
        """The postmaster's process id while it runs."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    @property
    def account(self) -> str:
        """The user the server runs as; never root."""
        return self._account.name

    def url(self, role: str = APP_ROLE, database: str = DATABASE) -> str:
        """The URL for one of the two roles; for the user who started the server, the server's own account, and root."""
        return f"postgresql:///{database}?host={quote(str(self._run), safe='/')}&user={role}"

    async def start(self, *, lock_wait_s: float = LOCK_WAIT_S) -> None:
        """Create what is missing, start, wait until it answers, and from then on restart it whenever it dies.

        Raises AlreadyRunning, ConfigError (no usable programs, state directory, account) or StoreUnavailable.
        """
        self._make_directories()
        await self._lock(lock_wait_s)
        try:
            chosen = await asyncio.to_thread(choose_programs, self._data, self._bin_dir)
            self._programs = await asyncio.to_thread(reachable, chosen, self._base, self._account)
            if not (self._data / "PG_VERSION").exists():
                await asyncio.to_thread(self._initialize, self._programs)
            self._write_access_files()
            self._rotate_log()
            await self._launch()
        except BaseException:
            await self._end()
            self._unlock()
            raise
        self._supervisor = asyncio.create_task(self._supervise(), name="postgresql")

    async def stop(self) -> None:
        """Shut the server down cleanly (SIGINT: sessions are cut, nothing committed is lost)."""
        if self._supervisor is not None:
            self._supervisor.cancel()
            with suppress(asyncio.CancelledError):
                await self._supervisor
            self._supervisor = None
        await self._end()
        self._unlock()

    async def wait_ready(self, wait_s: float = READY_WAIT_S) -> None:
        """Wait for a server that another process started. Raises StoreUnavailable, ConfigError (not ours to enter)."""
        try:
            connection = await open_connection(self.url(OWNER_ROLE), wait_s=wait_s)
        except StoreUnavailable as error:
            if isinstance(error.__cause__, PermissionError):
                raise _state_problem(
                    f"{self._run} belongs to another user; run this as that user or as root"
                ) from error
            raise
        await connection.close()

    # ---- directories and files -------------------------------------------------------------------------------------

    def _run_dir(self) -> Path:
        """Where the socket is. Raises ConfigError where that path would be too long for one."""
        run = self._base / "run"
        if len(os.fsencode(run / SOCKET_NAME)) <= MAX_SOCKET_PATH_BYTES:
            return run
        raise _state_problem(
            f"{self._state_dir} is too long a path: {run / SOCKET_NAME} would exceed {MAX_SOCKET_PATH_BYTES} bytes, "
            "the limit for a socket; choose a shorter state directory"
        )

    def _make_directories(self) -> None:
        mode = 0o755 if self._account.drop else 0o700  # as root, the server's account must pass through
        try:
            self._state_dir.mkdir(mode=mode, parents=True, exist_ok=True)
            if not self._base.exists():
                self._base.mkdir(mode=mode)
            if not self._run.exists():
                self._run.mkdir(mode=0o700)
            self._account.take(self._run)
        except PermissionError as error:
            raise _state_problem(
                f"{error.filename} cannot be used by {self._account.caller}: {error.strerror}; "
                "run as the user who owns it, or choose another state directory"
            ) from error
        except OSError as error:
            raise _state_problem(f"{error.filename} cannot be used: {error.strerror}") from error
        blocked = self._account.blocked_at(self._base)
        if blocked is not None:
            raise _state_problem(
                f"PostgreSQL runs as {self._account.name}, who may not pass through {blocked}; "
                f"choose another state directory (as root: /var/lib/labora) or run `chmod a+x {blocked}`"
            )

    async def _lock(self, wait_s: float) -> None:
        try:
            descriptor = os.open(self._base / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _state_problem(f"{error.filename} cannot be opened: {error.strerror}") from error
        deadline = asyncio.get_running_loop().time() + wait_s
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if asyncio.get_running_loop().time() < deadline:
                    await asyncio.sleep(0.05)
                    continue
                os.close(descriptor)
                raise AlreadyRunning(
                    f"another Labora runs on {self._state_dir}; stop it, or choose another state directory"
                ) from None
            self._lock_fd = descriptor
            return

    def _unlock(self) -> None:
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None

    def _initialize(self, programs: Programs) -> None:
        """initdb beside the final place and rename, so that an interrupted one is never taken for a cluster."""
        new = self._base / "data.new"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700)
        self._account.take(new)
        locale = ["--locale=C"]
        if programs.major >= 17:
            locale += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        command = [programs.path("initdb"), "-D", str(new), "-U", OWNER_ROLE, "-E", "UTF8", "-k", *locale]
        done = subprocess.run(  # noqa: S603
            [*command, "--auth-local=peer", "--auth-host=reject"],
            **self._account.popen(),
            env=_environment(),
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            start_new_session=True,  # the terminal's Ctrl-C is for us, who then say nothing of a failed initdb
        )
        if done.returncode != 0:
            last = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no reason given"]
            raise StoreUnavailable(f"PostgreSQL could not create its data directory: {last[0]}")
        new.rename(self._data)
        _sync_directory(self._base)
        log.info("database created", action="embedded.create", version=programs.version, account=self._account.name)

    def _write_access_files(self) -> None:
        """Peer authentication with a map: the daemon's user, the server's account and root, under either role."""
        users = sorted({self._account.caller, self._account.name, "root"})
        self._write("pg_hba.conf", f"local all {OWNER_ROLE},{APP_ROLE} peer map=labora\n")
        self._write("pg_ident.conf", "".join(f'labora "{u}" {r}\n' for u in users for r in (OWNER_ROLE, APP_ROLE)))

    def _write(self, name: str, text: str) -> None:
        new = self._data / f"{name}.new"
        new.write_text(text, encoding="utf-8")
        new.chmod(0o600)
        self._account.take(new)
        new.replace(self._data / name)

    def _rotate_log(self) -> None:
        path = self._base / "server.log"
        if path.exists() and path.stat().st_size > LOG_LIMIT_BYTES:
            path.replace(path.with_suffix(".log.1"))

    # ---- the process -----------------------------------------------------------------------------------------------

    def _spawn(self) -> subprocess.Popen[bytes]:
        if self._programs is None:
            raise StoreUnavailable("the embedded PostgreSQL was not started")
        options = {**self._options, "unix_socket_directories": '"' + str(self._run).replace('"', '""') + '"'}
        arguments = [each for name, value in options.items() for each in ("-c", f"{name}={value}")]
        with open(self._base / "server.log", "ab", opener=_private) as output:
            return subprocess.Popen(  # noqa: S603
                [self._programs.path("postgres"), "-D", str(self._data), *arguments],
                **self._account.popen(),
                env=_environment(),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # the terminal's Ctrl-C is for the daemon, which stops the server last
                preexec_fn=_die_with(os.getpid()),
            )

    async def _launch(self) -> None:
        """Start and wait for the first answer. A predecessor that is still ending is waited for."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + READY_WAIT_S
        await _predecessor_ended(self._data, self._run)
        self._process, alone = self._spawn(), 0
        while loop.time() < deadline:
            if self._process.poll() is not None:
                alone = 0 if _alive(self._data) else alone + 1
                if alone > 1:  # once may have been the lock file of a predecessor that has ended since
                    raise StoreUnavailable(f"PostgreSQL did not start: {self._last_words()}")
                await _predecessor_ended(self._data, self._run)
                self._process = self._spawn()
            try:
                connection = await asyncpg.connect(self.url(OWNER_ROLE, "postgres"), timeout=5.0)
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await asyncio.sleep(0.02)
                continue
            try:
                serving = await connection.fetchval("select pg_read_file('postmaster.pid', 0, 20)")
                if int(serving.split()[0]) == self._process.pid:  # and not that predecessor
                    await _make_roles(connection)
                    return
            finally:
                await connection.close()
            await asyncio.sleep(0.05)
        raise StoreUnavailable(f"PostgreSQL did not answer within {READY_WAIT_S:.0f} s: {self._last_words()}")

    async def _supervise(self) -> None:
        delay_s = RESTART_FIRST_S
        while True:
            if self._process is not None:
                await _exit_of(self._process)
                log.error("PostgreSQL ended", action="embedded.ended", status=self._process.returncode)
            await asyncio.sleep(delay_s)
            try:
                await self._launch()
            except (StoreError, OSError) as error:
                log.error("PostgreSQL does not start", action="embedded.restart", reason=str(error))
                delay_s = min(delay_s * 2, RESTART_LONGEST_S)
            else:
                self.restarts += 1
                self.restarted.set()
                delay_s = RESTART_FIRST_S
                log.warning("PostgreSQL restarted", action="embedded.restarted", pid=self.pid)

    async def _end(self) -> None:
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                await asyncio.wait_for(_exit_of(process), STOP_WAIT_S)
            except TimeoutError:
                log.error("PostgreSQL does not stop", action="embedded.stop", pid=process.pid)
                process.send_signal(signal.SIGQUIT)  # immediate: the next start recovers
                await _exit_of(process)
        self._process = None

    def _last_words(self) -> str:
        """The last fatal line of the server's log, which carries no statement."""
        with suppress(OSError), open(self._base / "server.log", "rb") as output:
            output.seek(max(0, output.seek(0, os.SEEK_END) - 4096))
            lines = output.read().decode(errors="replace").splitlines()
            return next(
                (line for line in reversed(lines) if "FATAL" in line or "PANIC" in line), lines[-1] if lines else ""
            )
        return "it left no log"


async def _make_roles(connection: Connection) -> None:
    with store_errors():
        if not await connection.fetchval("select exists (select from pg_roles where rolname = $1)", APP_ROLE):
            await connection.execute(f"create role {APP_ROLE} login nosuperuser nobypassrls")
        if not await connection.fetchval("select exists (select from pg_database where datname = $1)", DATABASE):
            await connection.execute(f"create database {DATABASE}")


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _environment() -> dict[str, str]:
    return {"PATH": "/nonexistent", "LC_ALL": "C", "TZ": "UTC"}


def _die_with(parent: int) -> Callable[[], None]:
    """Run in the child after it dropped its user: a clean shutdown when the parent is gone, however it went."""

    def arrange() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGINT), 0, 0, 0)
        if os.getppid() != parent:  # it went before we could ask
            os._exit(1)

    return arrange


async def _exit_of(process: subprocess.Popen[bytes]) -> None:
    """Wait for a child without a thread and without polling."""
    if process.poll() is None:
        await _ended(process.pid)
        process.wait()


async def _ended(pid: int) -> None:
    """Wait until a process, not necessarily our child, has ended. Raises ProcessLookupError."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    descriptor = os.pidfd_open(pid)
    try:
        loop.add_reader(descriptor, ended.set)
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def _alive(data: Path) -> int | None:
    """The process that `postmaster.pid` names, if it still exists and is a server on this directory."""
    try:
        pid = int((data / "postmaster.pid").read_text().split()[0])
        return pid if str(data).encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0") else None
    except (OSError, ValueError, IndexError):
        return None


async def _predecessor_ended(data: Path, run: Path) -> None:
    """Wait a little for the server of a daemon that was killed: it ends by itself. Then nothing speaks for it."""
    pid = _alive(data)
    if pid is not None:
        with suppress(ProcessLookupError, TimeoutError):
            await asyncio.wait_for(_ended(pid), PREDECESSOR_WAIT_S)
    # After a power cut the lock files are empty or name a process id that somebody else has now, and PostgreSQL would
    # refuse for ever. Nobody else runs a server here, since we hold the state directory's lock; should backends of a
    # killed one still be attached, PostgreSQL finds that out by its shared memory, with these files or without.
    if _alive(data) is None:
        for stale in (data / "postmaster.pid", run / f"{SOCKET_NAME}.lock"):
            if stale.exists():
                log.warning("lock file of an ended PostgreSQL removed", action="embedded.lock", file=stale.name)
                stale.unlink(missing_ok=True)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# ---- the way in for daemon and commands ------------------------------------------------------------------------------


@asynccontextmanager
async def attach(settings: Settings) -> AsyncIterator[EmbeddedPostgres]:
    """The state directory's server for one command: the one that runs, else started for the duration of the block."""
    server = EmbeddedPostgres(settings.state_dir, settings.database.bin_dir)
    try:
        await server.start(lock_wait_s=0.0)
    except AlreadyRunning:
        await server.wait_ready()
        yield server
        return
    try:
        yield server
    finally:
        await server.stop()


@asynccontextmanager
async def login_url(settings: Settings) -> AsyncIterator[str]:
    """The URL with which the schema is administered: the owner's on the embedded server, else the configured one."""
    if settings.database.url != "embedded":
        yield settings.database.url
        return
    async with attach(settings) as server:
        yield server.url(OWNER_ROLE)


async def open_database(settings: Settings, daemon_id: UUID | None = None) -> tuple[Database, EmbeddedPostgres | None]:
    """For the daemon of this id: the database, migrated where that is permitted, checked and of this program's schema.

    The caller closes the database, then stops the server (None where the database is not embedded).
    Raises ConfigError or StoreUnavailable, each a sentence for the administrator.
    """
    if settings.database.url != "embedded":
        return await _open(settings.database.url, settings.database.url, False, daemon_id), None
    server = EmbeddedPostgres(settings.state_dir, settings.database.bin_dir)
    await server.start()
    if server.account == "nobody":
        log.warning("PostgreSQL runs as nobody, whom others share: for trying only", action="embedded.account")
    try:
        return await _open(server.url(APP_ROLE), server.url(OWNER_ROLE), True, daemon_id), server
    except BaseException:
        await server.stop()
        raise


@asynccontextmanager
async def opened_database(settings: Settings) -> AsyncIterator[Database]:
    """For a command: as `open_database`, beside a daemon that may be running; closed at the end of the block."""
    if settings.database.url != "embedded":
        database = await _open(settings.database.url, settings.database.url, False)
        try:
            yield database
        finally:
            await database.close()
        return
    async with attach(settings) as server:
        database = await _open(server.url(APP_ROLE), server.url(OWNER_ROLE), True)
        try:
            yield database
        finally:
            await database.close()


async def _open(url: str, owner_url: str, embedded: bool, daemon_id: UUID | None = None) -> Database:
    """One connection tells whether all is well, and then nothing else is asked before the first ACK."""
    try:
        return await _checked(url, embedded, daemon_id)
    except ConfigError:  # no schema, an older one, or what an upgrade cannot mend: then it is said again below
        await _upgraded(owner_url)
    return await _checked(url, embedded, daemon_id)


async def _checked(url: str, embedded: bool, daemon_id: UUID | None) -> Database:
    database = Database(url, daemon_id=daemon_id)
    async with database.reached(START_WAIT_S) as connection:
        await migrate.gate(connection)
        await check_server(connection, embedded=embedded)
    return database


async def _upgraded(owner_url: str) -> None:
    found = await migrate.status(owner_url)
    if found.newer or (found.pending and not await migrate.may_upgrade(owner_url)):
        raise migrate.mismatch(found) or AssertionError("pending and newer are mismatches")
    if found.pending:
        connection = await open_connection(owner_url)
        try:  # nothing is made on a server that would be refused
            await check_server(connection, administering=True)
        finally:
            await connection.close()
        applied = await migrate.upgrade(owner_url)
        log.info("schema upgraded", action="db.upgrade", revisions=applied)
