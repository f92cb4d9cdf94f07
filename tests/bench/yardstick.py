"""The yardstick beside the repository, and servers to hold against it: scratch PostgreSQL, references, our daemon.

LABORA_BENCH names its folder (default: `../shared/bench`). Its drivers and reference servers run as processes of their
own, with this Python; a scratch PostgreSQL keeps fsync and synchronous_commit on, as in production.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from interface.wire.mllp import encode

ROOT = Path(__file__).resolve().parent.parent.parent
START_S, STOP_S = 600.0, 60.0  # a server that ends is not waited for
RECOVERY_S = 600.0
# While a database is filled that is worth nothing before it is whole: no log that is read after a crash only.
_TO_FILL = {
    "fsync": "off", "full_page_writes": "off", "synchronous_commit": "off", "wal_level": "minimal",
    "max_wal_senders": "0", "max_wal_size": "8GB", "checkpoint_timeout": "1h", "autovacuum": "off",
}  # fmt: skip
_FILES = ("ref_server.py", "mllp_load.py", "astm_load.py", "compare.py", "pg_scratch.py")


class NoYardstick(Exception):
    """One sentence that says what is missing."""


class Refused(NoYardstick):
    """A message was not accepted."""


@dataclass(frozen=True, slots=True)
class Load:
    """A driver's report of one measurement. Latencies in milliseconds; `others`: the rest of the machine, 0 to 1."""

    per_s: float
    done: int
    latency: dict[str, float]
    frame: dict[str, float]  # ASTM: one frame
    bad: int
    wrong: tuple[str, ...]  # what the first of the bad ones were
    driver_cpu: float
    server_cpu_ms: float  # per message or session, PostgreSQL included
    others: float


class Yardstick:
    """The folder of drivers and reference servers. Raises NoYardstick where it is not there."""

    def __init__(self, folder: Path | None = None) -> None:
        named = os.environ.get("LABORA_BENCH")
        self.folder = (folder or (Path(named) if named else ROOT.parent / "shared" / "bench")).resolve()
        missing = [name for name in _FILES if not (self.folder / name).is_file()]
        if missing:
            raise NoYardstick(
                f"the yardstick is not in {self.folder} (no {missing[0]}); LABORA_BENCH names the folder it is in"
            )
        sys.path.insert(0, str(self.folder))
        self._compare: Any = importlib.import_module("compare")
        self._scratch: Any = importlib.import_module("pg_scratch")

    @contextmanager
    def postgres(self, keep: Path | None = None) -> Iterator[Postgres]:
        """A server of its own that is removed at the end; with `keep`, the one whose data are in this folder, which
        stay there for the next time."""
        scratch = self._scratch.ScratchPostgres(free_port())
        if not Path(scratch.bin, "initdb").exists():
            raise NoYardstick("no PostgreSQL server found; install the package `postgresql`")
        if keep is None:
            with scratch:
                yield Postgres(scratch)
            return
        _lie_in(scratch, keep)
        try:
            scratch.start(RECOVERY_S)
            server = Postgres(scratch)
            server.forget("migrated")  # of an earlier state of the migrations
            yield server
        finally:
            scratch.stop()

    def reference(self, mode: str, port: int, dsn: str = "") -> list[str]:
        """The command of a reference server."""
        return [sys.executable, str(self.folder / "ref_server.py"), mode, str(port), *(["--dsn", dsn] if dsn else [])]

    def quiet(self, limit_s: float) -> None:
        """Wait for the machine to be idle, but no longer than `limit_s`."""
        self._compare.wait_quiet(limit_s)

    def drive(self, driver: str, port: int, servers: Sequence[int], *arguments: str) -> Load:
        """Run a load driver against a port; the CPU of the processes `servers` counts as the target's."""
        return self._measure(driver, servers, "127.0.0.1", str(port), *arguments)

    def fetch(self, urls: Sequence[str], servers: Sequence[int], *arguments: str) -> Load:
        """The same over HTTP: each of these URLs in turn, over and over."""
        with tempfile.NamedTemporaryFile("w", suffix=".urls") as file:
            file.write("\n".join(urls))
            file.flush()
            return self._measure("http", servers, "--urls", file.name, *arguments)

    def _measure(self, driver: str, servers: Sequence[int], *arguments: str) -> Load:
        command = [sys.executable, str(self.folder / f"{driver}_load.py"), *arguments]
        busy, own, spent, began = self.busy(), self.cpu(servers), os.times(), time.monotonic()
        # In a session of its own, as each server: the scheduler shares the processors out between sessions.
        done = subprocess.run(
            [*command, "--json", "-"], capture_output=True, text=True, check=False, start_new_session=True
        )
        took, after = time.monotonic() - began, os.times()
        driver_s = after.children_user + after.children_system - spent.children_user - spent.children_system
        target_s = self.cpu(servers) - own
        others_s = self.busy() - busy - driver_s - target_s
        try:
            *said, last = done.stdout.splitlines()
            row = json.loads(last)
        except ValueError:
            raise NoYardstick(
                f"{driver}_load.py gave no report: {(done.stderr or done.stdout).strip()[-300:]}"
            ) from None
        return Load(
            per_s=row["per_s"],
            done=row["ok"],
            latency=row["latency_ms"],
            frame=row.get("frame_ack_ms", {}),
            bad=row["bad"],
            wrong=tuple(line.strip() for line in said if line.strip().partition(": ")[0] in row["counts"]),
            driver_cpu=row["driver_cpu"],
            server_cpu_ms=target_s / max(1, row["ok"]) * 1e3,
            others=max(0.0, others_s / took / (os.cpu_count() or 1)),
        )

    def cpu(self, processes: Sequence[int]) -> float:
        """CPU seconds of these processes and all that they started."""
        spent: float = self._compare.tree_busy(list(processes))
        return spent

    def busy(self) -> float:
        """CPU seconds of the whole machine."""
        spent: float = self._compare.machine_busy()
        return spent


def _lie_in(scratch: Any, folder: Path) -> None:
    """Let the server's data be in this folder, made where there are none yet."""
    os.rmdir(scratch.root)
    folder.mkdir(parents=True, exist_ok=True)
    scratch.root, scratch.data = str(folder), str(folder / "data")
    if os.geteuid() == 0:
        shutil.chown(folder, scratch.user, scratch.user)
    if not Path(scratch.data, "PG_VERSION").exists():
        scratch.init()


class Postgres:
    """A scratch server with a migrated database to copy for each measurement."""

    def __init__(self, scratch: Any) -> None:
        self._scratch, self._made = scratch, 0

    @property
    def pid(self) -> int:
        """Of the process that started the others."""
        pid: int = self._scratch.process.pid
        return pid

    def _url(self, name: str) -> str:
        return f"{self._scratch.dsn.rpartition('/')[0]}/{name}"

    def _run(self, program: str, *arguments: str) -> str:
        where = ("-h", "127.0.0.1", "-p", str(self._scratch.port), "-U", "bench")
        command = [str(Path(self._scratch.bin, program)), *where, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def fresh(self, *, migrated: bool) -> str:
        """The URL of a new database; migrated ones are copies of one."""
        if migrated and "migrated" not in self._databases():
            self._run("createdb", "migrated")
            upgrade(self._url("migrated"))
        self._made += 1
        name = f"bench_{self._made}"
        self.forget(name)  # where the server is a kept one that was cut off
        self._run("createdb", *(["-T", "migrated"] if migrated else []), name)
        return self._url(name)

    def filled(self, name: str, fill: Callable[[str], None]) -> str:
        """The URL of a database that is filled once, with the organization that a first start makes, by `fill`, and
        then is there for as long as the server; brought to the newest migration each time."""
        if name not in self._databases():
            begun = f"{name}_begun"  # cut off, it is not taken for a whole one
            self.forget(begun)
            self._run("createdb", begun)
            upgrade(self._url(begun))
            with scratch_folder() as folder, daemon(self._url(begun), folder, astm=0):
                pass
            self._restart(_TO_FILL)
            fill(self._url(begun))
            self._run("psql", "-d", "postgres", "-c", "checkpoint")
            self._restart({})
            self._run("psql", "-d", "postgres", "-c", f"alter database {begun} rename to {name}")
        upgrade(self._url(name))
        return self._url(name)

    def _restart(self, settings: Mapping[str, str]) -> None:
        """With other settings; what was written is on the disk, however the settings of before were."""
        scratch, usual = self._scratch, self._scratch.settings
        scratch.stop()
        os.sync()
        scratch.settings = {**usual, **settings}
        try:
            scratch.start(RECOVERY_S)
        finally:
            scratch.settings = usual

    def _databases(self) -> list[str]:
        return self._run("psql", "-At", "-d", "postgres", "-c", "select datname from pg_database").split()

    def forget(self, name: str) -> None:
        """Remove a database of this name, if there is one."""
        self._run("dropdb", "--if-exists", "--force", name)

    def drop(self, url: str) -> None:
        """Remove a database, whoever is in it."""
        self._run("dropdb", "--force", url.rpartition("/")[2])
        self._run("psql", "-d", "postgres", "-c", "checkpoint")

    def ask(self, url: str, query: str) -> list[list[str]]:
        """Rows of a query as text, by the administrator, who sees every organization."""
        out = self._run("psql", "-At", "-F", "\t", "-d", url.rpartition("/")[2], "-c", query)
        return [line.split("\t") for line in out.splitlines()]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def program() -> str:
    """The path of `labora`."""
    return str(Path(sys.executable).with_name("labora"))


def upgrade(url: str) -> None:
    """Bring a database to the schema of this code."""
    environment = {**os.environ, "LABORA_DATABASE_URL": url}
    done = subprocess.run([program(), "db", "upgrade"], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NoYardstick(f"labora db upgrade failed: {done.stderr.strip()[-300:]}")


@contextmanager
def server(
    command: Sequence[str], port: int, log: Path, env: dict[str, str] | None = None, *, later: int | None = None
) -> Iterator[int]:
    """A server's process for the block, from when it listens, on a `later` port too; gives its process id."""
    with open(log, "ab") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env={**os.environ, **(env or {})}, start_new_session=True
        )
        try:
            for each in (port, later):
                if each is not None:
                    _wait_for(process, each, log)
            yield process.pid
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def ran(command: Sequence[str], env: Mapping[str, str], limit_s: float | None = None) -> int | None:
    """The status of a program that ends what it has started when it is told to end; None after `limit_s`."""
    process = subprocess.Popen(command, env=env, cwd=ROOT)
    try:
        return process.wait(limit_s)
    except subprocess.TimeoutExpired:
        return None
    except KeyboardInterrupt:
        process.wait()  # Ctrl-C has reached it too
        raise
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait()


def _wait_for(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    end = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < end:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise NoYardstick(f"{Path(process.args[0]).name} did not start: {log.read_text()[-500:]}")  # type: ignore[index,arg-type]


@dataclass(frozen=True, slots=True)
class Links:
    """The ports that a daemon under test listens on."""

    mllp: tuple[int, ...]
    astm: tuple[int, ...]
    api: int


LINK = """
[[link]]
id = "{name}-{number}"
organization = "main"
driver = "{driver}"
transport = {{ type = "{transport}", listen = "127.0.0.1:{port}" }}
max_connections = 128
"""


@contextmanager
def daemon(
    url: str, folder: Path, *, mllp: int = 1, astm: int = 1, api: str = "", link: str = ""
) -> Iterator[tuple[int, Links]]:
    """`labora run` as configured by default, on an external PostgreSQL; gives its process id and its ports. `api`,
    `link`: more lines of `[api]` and of each `[[link]]`."""
    ports = free_ports(mllp + astm + 1)
    links = Links(tuple(ports[1 : mllp + 1]), tuple(ports[mllp + 1 :]), ports[0])
    text = f'state_dir = "{folder}"\n[api]\nlisten = "127.0.0.1:{ports[0]}"\n{api}'
    for name, driver, transport, own in (
        ("hl7", "generic_hl7", "mllp-listen", links.mllp),
        ("astm", "generic_lis2", "tcp-listen", links.astm),
    ):
        for number, port in enumerate(own):
            text += LINK.format(name=name, number=number, driver=driver, transport=transport, port=port) + link
    config = folder / "config.toml"
    config.write_text(text)
    command = [program(), "--config", str(config), "run"]
    # the links are open before the API is
    with server(command, ports[-1], folder / "daemon.log", {"LABORA_DATABASE_URL": url}, later=ports[0]) as pid:
        yield pid, links


async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, message: bytes) -> None:
    """Send a message over MLLP, and have it accepted. Raises Refused."""
    writer.write(encode(message))
    answer = await reader.readuntil(b"\x1c\r")
    if b"MSA|AA|" not in answer and b"MSA|CA|" not in answer:
        raise Refused(f"not accepted: {answer[:200]!r}")


def free_ports(number: int) -> list[int]:
    """Ports that were free a moment ago, all different."""
    sockets: list[socket.socket] = []
    try:
        for _ in range(number):
            sockets.append(socket.create_server(("127.0.0.1", 0)))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder that is removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="labora-bench-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def stopped_by_signal() -> None:
    """SIGTERM ends the program as Ctrl-C does, so that everything that was started is stopped."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def say(text: str, to: IO[str] | None = None) -> None:
    """A line of the report, at once."""
    print(text, file=to or sys.stdout, flush=True)
