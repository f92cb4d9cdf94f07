"""What is wrong is said in a sentence each, with the right status and without a traceback: by the real commands."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import asyncpg
import pytest

from interface.store.embedded import EmbeddedPostgres
from interface.store.ids import uuid7
from interface.store.schema import OWNER_ROLE
from tests.cluster import owner_of
from tests.e2e.daemon import CONFIG, eventually, free_ports
from tests.quick_labora import forking

LABORA = str(Path(sys.executable).with_name("labora"))
UNREACHABLE = "postgresql://somebody:Geh3im@127.0.0.1:1/lab"  # nobody listens there, who is not root


@dataclass(frozen=True, slots=True)
class Said:
    status: int
    lines: list[str]  # what a person reads: problems, without the log


class Labora(Protocol):
    """Runs a command to its end and sees that whatever it says is fit to be read."""

    def __call__(self, command: str, config: Path, **environment: str) -> Awaitable[Said]: ...


@pytest.fixture(scope="module")
def labora(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Labora]:
    """The real commands, each in a process of its own, that need not be imported for each."""

    async def run(command: str, config: Path, **environment: str) -> Said:
        process = await asyncio.create_subprocess_exec(
            program, "--config", str(config), command, stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=os.environ | environment,
        )  # fmt: skip
        out, err = await asyncio.wait_for(process.communicate(), 60.0)
        said = (out + err).decode()
        assert "Traceback" not in said
        assert "Geh3im" not in said, "a password"
        lines = [line for line in said.splitlines() if line.startswith(("labora: ", "problem "))]
        return Said(process.returncode or 0, [line.partition(": " if line[0] == "l" else "  ")[2] for line in lines])

    with forking(tmp_path_factory.mktemp("labora"), os.environ, impatient=True) as program:
        yield run


def correct(folder: Path) -> Path:
    """A configuration in which nothing is wrong."""
    api, astm, hl7 = free_ports(3)
    path = folder / "config.toml"
    path.write_text(CONFIG.format(state=folder / "state", api=api, astm=astm, hl7=hl7))
    return path


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return correct(tmp_path)


def change(config: Path, old: str, new: str, number: int = -1) -> None:
    text = config.read_text()
    assert old in text
    config.write_text(text.replace(old, new, number))


COMMANDS = pytest.mark.parametrize("command", ["run", "check"])
SECOND = 'id = "hl7"'


@COMMANDS
async def test_every_problem_of_a_file_is_said_at_once_with_its_place(
    labora: Labora, command: str, config: Path
) -> None:
    change(config, 'url = "embedded"', 'url = "postgresql://u:Geh3im@db/lab"\nport = 5432')
    change(config, "[api]", '[api]\nbase_url = "http://u:Geh3im@x"')
    change(config, "generic_lis2", "generic_lis")
    change(config, SECOND, 'id = "astm"\ndirver = "x"')
    change(config, "commit_wait_s = 14.0", "commit_wait_s = true")
    said = await labora(command, config)
    assert said.status == 78
    assert sorted(line.partition(": ")[0] for line in said.lines) == [
        "api.base_url", "database.port", "database.url", "limits.commit_wait_s", "link[0].driver", "link[1].dirver",
        "link[1].id",
    ]  # fmt: skip


@COMMANDS
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"[api\n", "is not TOML"),
        (b"\x80\xff\x00", "is not UTF-8"),
        (b"\x00\x01", "is not TOML"),
        (None, "cannot be read: Is a directory"),
    ],
)
async def test_a_file_that_is_no_configuration(
    labora: Labora, command: str, content: bytes | None, expected: str, tmp_path: Path
) -> None:
    path = tmp_path / "c"
    path.mkdir() if content is None else path.write_bytes(content)
    said = await labora(command, path)
    assert said.status == 78
    assert len(said.lines) == 1 and expected in said.lines[0] and str(path) in said.lines[0]


@COMMANDS
async def test_a_database_that_cannot_be_had(labora: Labora, command: str, tmp_path: Path, cluster_url: str) -> None:
    cases = (
        (UNREACHABLE, 1, "cannot be reached"),
        (cluster_url.replace("/postgres?", "/nodb?"), 78, 'database "nodb" does not exist'),
        (cluster_url.replace(OWNER_ROLE, "somebody"), 78, "refused the login"),
        (owner_of(cluster_url).replace(OWNER_ROLE, "labora_app"), 78, "no Labora schema; run `labora db upgrade`"),
        ("postgresql://somebody:Geh3im@[::1/lab", 78, "LABORA_DATABASE_URL: is not a URL"),
    )
    # At once, for the first is tried for a while; each with ports of its own, for it looks whether they are free.
    folders = [tmp_path / str(number) for number in range(len(cases))]
    for folder in folders:
        folder.mkdir()
    answers = await asyncio.gather(
        *(labora(command, correct(at), LABORA_DATABASE_URL=url) for at, (url, _, _) in zip(folders, cases, strict=True))
    )
    for said, (_, status, expected) in zip(answers, cases, strict=True):
        assert said.status == status, said
        assert len(said.lines) == 1 and expected in said.lines[0], said


async def test_a_server_that_may_lose_commits(labora: Labora, config: Path, empty_state_dir: Path) -> None:
    server = EmbeddedPostgres(empty_state_dir, options={"fsync": "off"})
    await server.start()
    try:
        for command in ("run", "check"):
            said = await labora(command, config, LABORA_DATABASE_URL=server.url(OWNER_ROLE))
            assert said.status == 78 and len(said.lines) == 1 and "fsync off" in said.lines[0], said
        connection = await asyncpg.connect(server.url(OWNER_ROLE))
        made = await connection.fetchval("select count(*) from pg_namespace where nspname = 'lab'")
        await connection.close()
        assert made == 0, "nothing is made on a server that is refused"
    finally:
        await server.stop()


@COMMANDS
async def test_an_organization_that_is_missing(labora: Labora, command: str, config: Path, database_url: str) -> None:
    connection = await asyncpg.connect(owner_of(database_url))
    await connection.execute("insert into lab.organization (id, name) values ($1, 'main')", uuid7())
    await connection.close()
    change(config, '"main"', '"maim"', 1)
    said = await labora(command, config, LABORA_DATABASE_URL=database_url)
    assert said.status == 78
    assert said.lines == [
        "link[0].organization: there is no organization maim; create it with `labora organization create`"
    ]


def address_after(config: Path, place: str) -> str:
    """The address that is configured after some text."""
    return config.read_text().partition(place)[2].partition('listen = "')[2].partition('"')[0]


@COMMANDS
@pytest.mark.parametrize(("place", "name"), [("[api]", "api.listen"), ('id = "hl7"', "hl7")])
async def test_a_port_that_is_taken(
    labora: Labora, command: str, place: str, name: str, config: Path, database_url: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        taken = f"127.0.0.1:{holder.getsockname()[1]}"
        change(config, address_after(config, place), taken)
        said = await labora(command, config, LABORA_DATABASE_URL=owner_of(database_url))
    assert said.status == 1
    assert len(said.lines) == 1 and taken in said.lines[0]
    assert command == "check" or name in said.lines[0]


@COMMANDS
async def test_a_state_directory_that_is_no_place(labora: Labora, command: str, config: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    change(config, str(tmp_path / "state"), str(tmp_path / "file"))
    said = await labora(command, config)
    assert said.status == 78
    assert len(said.lines) == 1 and said.lines[0].startswith("state_dir: ") and str(tmp_path / "file") in said.lines[0]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL as another user")
@COMMANDS
async def test_a_state_directory_that_postgresqls_account_cannot_reach(
    labora: Labora, command: str, config: Path, tmp_path: Path
) -> None:
    (tmp_path / "closed").mkdir(mode=0o700)
    change(config, str(tmp_path / "state"), str(tmp_path / "closed" / "state"))
    said = await labora(command, config)
    assert said.status == 78
    assert len(said.lines) == 1 and "who may not pass through" in said.lines[0], said


@COMMANDS
async def test_a_state_directory_of_another_daemon(labora: Labora, command: str, config: Path, state_dir: Path) -> None:
    server = EmbeddedPostgres(state_dir)
    await server.start()
    change(config, str(config.parent / "state"), str(state_dir))
    try:
        said = await labora(command, config)
    finally:
        await server.stop()
    assert said.status == 1
    assert len(said.lines) == 1 and f"another Labora runs on {state_dir}" in said.lines[0], said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_start_that_is_broken_off_ends_cleanly(number: int, config: Path, empty_state_dir: Path) -> None:
    change(config, str(config.parent / "state"), str(empty_state_dir))
    daemon = await asyncio.create_subprocess_exec(
        LABORA, "--config", str(config), "run", stderr=asyncio.subprocess.PIPE, start_new_session=True,
        stdin=asyncio.subprocess.DEVNULL,
    )  # fmt: skip

    async def initializing() -> bool:
        return (empty_state_dir / "pg" / "data.new" / "PG_VERSION").exists() or (
            empty_state_dir / "pg" / "data"
        ).exists()

    await eventually(initializing)
    os.killpg(daemon.pid, number)  # as a terminal does
    _, said = await asyncio.wait_for(daemon.communicate(), 60.0)
    assert daemon.returncode == 0, said
    assert b"labora: " not in said and b"Traceback" not in said and b"daemon.ready" not in said
    assert not (empty_state_dir / "pg" / "data" / "postmaster.pid").exists()


async def test_what_is_kept_is_for_the_owner_alone(empty_state_dir: Path) -> None:
    server = EmbeddedPostgres(empty_state_dir)
    await server.start()
    await server.stop()
    for path in ("pg/lock", "pg/server.log", "pg/data", "pg/run"):
        assert (empty_state_dir / path).stat().st_mode & 0o077 == 0, path


def test_a_reader_that_goes_away_is_no_error_of_ours() -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", f'{LABORA} driver list --json | head -1; {LABORA} --help | true'], capture_output=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert done.stderr == b""
