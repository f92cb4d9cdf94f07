"""PostgreSQL for the tests: real, shared by all workers of a session, a database of its own for whoever asks.

`database` and `organization` suffice for most tests: they share a database and are kept apart by their organizations.
A daemon with a server of its own gets `state_dir`, or `empty_state_dir` where its first start is the subject.
"""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
import hypothesis
import pytest
import structlog

from interface.flow import actors, passwords
from interface.footprint import settle
from interface.settings import Settings
from interface.store.catalogue import load_code_map
from interface.store.db import Database, prepare
from interface.store.embedded import open_database
from interface.store.ids import uuid7
from interface.store.migrate import upgrade
from interface.store.schema import APP_ROLE, OWNER_ROLE
from tests.cluster import administer, new_state_dir, once, owner_of, shared_cluster, with_database
from tests.lasting import Lasting, Lender
from tests.quick_labora import HASHER
from tests.recycling import Recycler

if "PYTEST_XDIST_WORKER" in os.environ:
    gc.disable()  # until all is collected: what is imported stays
FOUNDED = "founded"
TESTS = Path(__file__).parent


# A machine that has much else to do is no fault: no test is about time. LABORA_EXAMPLES is for soaks.
EXAMPLES = int(os.environ.get("LABORA_EXAMPLES", "100"))
hypothesis.settings.register_profile("suite", deadline=None, max_examples=EXAMPLES)
hypothesis.settings.load_profile("suite")


# Of whole daemons and servers: a second and more for most of their tests.
SLOW = ("e2e", "fault", "fhir", "hazards", "ops", "simulation", "systemd")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """After the shuffle: what is given more time than others begins first, or a worker would end alone with it, and
    half of what is slow too.

    The first worker has it all, about as much as it can do in its time: it waits while the others compute. A module
    stays together, for the sake of what is made once for it.
    """
    longest = {item.path for item in items if item.get_closest_marker("timeout") is not None}
    slow = {item.path for item in items if item.path.relative_to(TESTS).parts[0] in SLOW} - longest
    some = set(sorted(slow)[::2])
    items.sort(key=lambda item: 0 if item.path in longest else 1 if item.path in some else 2)


def pytest_collection_finish() -> None:
    """As of a daemon's process: to look through all that was imported and collected, again and again, for what could
    go, is a fifth of what a test process computes."""
    settle()


@dataclass(frozen=True, slots=True)
class Organization:
    """A laboratory made for one test."""

    id: UUID
    name: str


@pytest.fixture(scope="session", autouse=True)
def quick_passwords() -> Iterator[None]:
    """Digests that are made in a test process cost next to nothing to make and check; a process of its own makes real
    ones (see `test_a_digest_is_as_costly_as_it_should_be`)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords, "_hasher", HASHER)
        yield


@pytest.fixture(scope="session", autouse=True)
def plain_logs() -> Iterator[None]:
    """A log line of a test process is one line, and a traceback is as Python prints it: structlog's own draws frames
    around every variable, which takes longer than many a test."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
        ]
    )
    yield
    structlog.reset_defaults()


@pytest.fixture
def empty_state_dir() -> Iterator[Path]:
    """A state directory before the first start, which the embedded server's account can reach."""
    path = new_state_dir()
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def state_dir(empty_state_dir: Path, started_once: Path) -> Path:
    """A state directory after its first start: its server is there with its schema, without a row, and not running."""
    subprocess.run(["cp", "-a", f"{started_once}/.", str(empty_state_dir)], check=True)  # -a: the server's account
    return empty_state_dir


@pytest.fixture(scope="session")
async def started_once(session_folder: Path, cluster_url: str) -> Path:
    """What `state_dir` is a copy of: making a server takes a second, of which no test but those of the making is."""

    async def make() -> str:
        path = new_state_dir()
        database, server = await open_database(Settings(state_dir=path))
        await database.close()
        assert server is not None
        await server.stop()
        return str(path)

    return Path(await once(session_folder, "started", make))


@pytest.fixture(scope="session")
def session_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shared by all workers of the session."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture(scope="session")
def cluster_url(session_folder: Path) -> Iterator[str]:
    """The session's server under the owner's login (a superuser), connected to its maintenance database."""
    with shared_cluster(session_folder) as url:
        yield with_database(url, "postgres", OWNER_ROLE)


@pytest.fixture(scope="session")
async def template(session_folder: Path, cluster_url: str) -> str:
    """The name of the session's migrated database, which nobody connects to: new ones are copies of it."""

    async def make() -> str:
        name = f"template_{uuid4().hex}"
        await administer(cluster_url, f"create database {name}")
        await upgrade(with_database(cluster_url, name, OWNER_ROLE))
        return name

    return await once(session_folder, "template", make)


@pytest.fixture
async def database_url(cluster_url: str, template: str) -> AsyncIterator[str]:
    """A fresh, migrated database for one test, under the application's login (see `owner_of`)."""
    name = f"test_{uuid4().hex}"
    await administer(cluster_url, f"create database {name} template {template}")
    yield with_database(cluster_url, name, APP_ROLE)
    await administer(cluster_url, f"drop database {name} with (force)")


@pytest.fixture
async def founded_url(cluster_url: str, founded: str) -> AsyncIterator[str]:
    """The same with one organization, FOUNDED, to which nothing has happened yet: `tests.flow.laboratory` takes it."""
    name = f"test_{uuid4().hex}"
    await administer(cluster_url, f"create database {name} template {founded}")
    yield with_database(cluster_url, name, APP_ROLE)
    await administer(cluster_url, f"drop database {name} with (force)")


@pytest.fixture(scope="session")
async def _recycled(cluster_url: str, template: str) -> AsyncIterator[Recycler]:
    recycler = Recycler(cluster_url, template)
    yield recycler
    await recycler.drop()


@pytest.fixture
async def recycled_url(_recycled: Recycler) -> AsyncIterator[str]:
    """As `database_url`, but not made for the test: every trace of the last one was taken out of it."""
    async with _recycled.database() as url:
        yield url


@pytest.fixture(scope="session")
async def _recycled_founded(cluster_url: str, founded: str) -> AsyncIterator[Recycler]:
    recycler = Recycler(cluster_url, founded)
    yield recycler
    await recycler.drop()


@pytest.fixture
async def recycled_founded_url(_recycled_founded: Recycler) -> AsyncIterator[str]:
    """As `founded_url`, and recycled."""
    async with _recycled_founded.database() as url:
        yield url


@pytest.fixture(scope="session")
async def founded(session_folder: Path, cluster_url: str, template: str) -> str:
    """What `founded_url` gives copies of: an organization's catalogue takes a tenth of a second to load."""

    async def make() -> str:
        name = f"founded_{uuid4().hex}"
        await administer(cluster_url, f"create database {name} template {template}")
        database = await Database.connect(with_database(cluster_url, name, APP_ROLE))
        made = await actors.create_organization(database, FOUNDED)
        async with database.transaction(made.id) as connection:
            await load_code_map(connection, made.id, "generic_lis2")
        await database.close()
        return name

    return await once(session_folder, "founded", make)


@pytest.fixture
async def empty_url(cluster_url: str) -> AsyncIterator[str]:
    """A fresh database without a schema, under the owner's login."""
    name = f"empty_{uuid4().hex}"
    await administer(cluster_url, f"create database {name}")
    yield with_database(cluster_url, name, OWNER_ROLE)
    await administer(cluster_url, f"drop database {name} with (force)")


@pytest.fixture(scope="session")
async def shared_database_url(cluster_url: str, template: str) -> AsyncIterator[str]:
    """This worker's shared, migrated database, under the application's login."""
    name = f"shared_{uuid4().hex}"
    await administer(cluster_url, f"create database {name} template {template}")
    yield with_database(cluster_url, name, APP_ROLE)
    await administer(cluster_url, f"drop database {name} with (force)")


@pytest.fixture(scope="session")
async def lender(shared_database_url: str) -> AsyncIterator[Lender]:
    """The connections that `database` has."""
    lender = Lender(shared_database_url)
    yield lender
    lender.terminate()


@pytest.fixture
async def database(lender: Lender) -> AsyncIterator[Database]:
    """The application's way into the shared database; of one test, over connections that every test has."""
    database = Lasting(lender)
    yield database
    await database.close()


@pytest.fixture
async def own_database(shared_database_url: str) -> AsyncIterator[Database]:
    """The same over pools of its own, as a daemon has them."""
    database = await Database.connect(shared_database_url)
    yield database
    await database.close()


@pytest.fixture(scope="session")
async def owner(shared_database_url: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """The administrator's connection to the shared database: it is a superuser's and sees every organization."""
    connection = await asyncpg.connect(owner_of(shared_database_url))
    await prepare(connection)
    yield connection
    await connection.close()


async def make_organization(owner: asyncpg.Connection[asyncpg.Record]) -> Organization:
    """A new organization in the database of an administrator's connection."""
    made = Organization(uuid7(), f"lab-{uuid4().hex}")
    await owner.execute("insert into lab.organization (id, name) values ($1, $2)", made.id, made.name)
    return made


@pytest.fixture
async def organization(owner: asyncpg.Connection[asyncpg.Record]) -> Organization:
    """A new organization in the shared database."""
    return await make_organization(owner)


@pytest.fixture
async def other_organization(owner: asyncpg.Connection[asyncpg.Record]) -> Organization:
    """Another new organization in the shared database, whose rows `organization` must never see."""
    return await make_organization(owner)
