"""The demo's own small laboratory: a state directory, free ports, a configuration, people, and the daemon as a child.

It never touches a site's configuration or database. Each pass has an organization of its own, so that the recorded
conversations, played again, are new results and not resends.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import secrets
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from interface import config
from interface.demo.client import Unexpected, connected
from interface.errors import LaboraError
from interface.flow import actors
from interface.settings import Address, Settings, TransportType

READY_WAIT_S = 30.0
STARTS = 3
STOP_WAIT_S = 30.0
API_PORT, FIRST_LINK_PORT = 8080, 4001
SCOPES = ("system/Observation.rs", "system/Patient.rs", "system/Specimen.rs", "system/DiagnosticReport.rs")

HEAD = "# Written by `labora demo` for its own use; the next run writes it again."

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


class DemoError(LaboraError):
    """The demo cannot go on."""

    slug = "demo"


class NotReady(DemoError):
    """The daemon did not start, or one of its ports was taken by somebody else in the meantime."""

    slug = "demo_not_ready"


@dataclass(frozen=True, slots=True)
class DemoLink:
    """A link of the demo's configuration."""

    id: str
    driver: str
    transport: TransportType


LINKS = (
    DemoLink("hema-1", "sysmex_xn", TransportType.TCP_LISTEN),
    DemoLink("chem-1", "roche_cobas_c311", TransportType.TCP_LISTEN),
    DemoLink("hema-2", "mindray_bc5380", TransportType.MLLP_LISTEN),
)


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who acts in this pass. Random, and of no use anywhere else."""

    organization: str
    username: str
    password: str
    client_id: str
    client_secret: str


def state_dir(environ: Mapping[str, str]) -> Path:
    """Where the demo keeps its database between runs: beside a site's state, never in it."""
    named = environ.get("LABORA_STATE_DIR")
    return (Path(named) if named else config.default_state_dir(environ)) / "demo"


def new_organization() -> str:
    """A name for the organization of one pass."""
    return f"demo-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def prepare(folder: Path, organization: str) -> Settings:
    """Write the configuration of this pass into `folder` and read it as the daemon will. Raises LaboraError."""
    try:
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        file = folder / "config.toml"
        if not _ours(folder, file):
            raise DemoError(f"{folder} is not the demo's: there is another Labora's state in it; name another folder")
        file.write_text(_configuration(folder, organization), encoding="utf-8")
    except OSError as error:
        raise DemoError(f"the demo cannot write to {folder}: {error.strerror}; name another with --state-dir") from None
    return config.load(file, {})


def _ours(folder: Path, file: Path) -> bool:
    """Whether nothing of anybody else is in a folder that may have been named by mistake."""
    if file.exists():
        return file.read_bytes().startswith(HEAD.encode())
    return not (folder / "pg").exists()


def _configuration(folder: Path, organization: str) -> str:
    ports = _free_ports(len(LINKS))
    lines = [
        HEAD,
        f"state_dir = {_toml(str(folder))}",
        "[api]",
        f'listen = "127.0.0.1:{ports[0]}"',
        "token_lifetime_s = 86400",
    ]
    for link, port in zip(LINKS, ports[1:], strict=True):
        lines += [
            "[[link]]",
            f'id = "{link.id}"',
            f'organization = "{organization}"',
            f'driver = "{link.driver}"',
            f'transport = {{ type = "{link.transport}", listen = "127.0.0.1:{port}" }}',
        ]
    return "\n".join(lines) + "\n"


def _toml(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _free_ports(links: int) -> list[int]:
    """The API's port and then the links': the usual ones where they are free, else any."""
    wanted = [API_PORT, *range(FIRST_LINK_PORT, FIRST_LINK_PORT + links)]
    with contextlib.ExitStack() as held:  # all are held until all are found, so that none is found twice
        return [held.enter_context(_listener(port)).getsockname()[1] for port in wanted]


def _listener(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen(1)
    except OSError:
        listener.close()
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.bind(("127.0.0.1", 0))
    return listener


async def employ(settings: Settings) -> Credentials:
    """Make the organization of this pass, its people and its EMR, as `labora organization|user|client create` do."""
    from interface.store.embedded import opened_database

    name = settings.links[0].organization
    password = secrets.token_urlsafe(18)
    async with opened_database(settings) as database:
        organization = await actors.create_organization(database, name, "Demo laboratory")
        setup = actors.setup_actor(organization.id)
        administrator = actors.NewUser("admin", secrets.token_urlsafe(18), ("administrator",))
        await actors.create_user(database, setup, administrator)
        admin = await actors.authenticate(database, name, administrator.username, administrator.password)
        # An administrator may not release: that is a medical act, so somebody of the laboratory does it.
        director = actors.NewUser("director", password, ("laboratory_director",), "Demo director")
        await actors.create_user(database, admin, director)
        client = await actors.create_client(database, admin, "emr", SCOPES)
    return Credentials(name, director.username, password, client.client_id, client.secret)


class Daemon:
    """`labora run` as a child process."""

    def __init__(self, settings: Settings, process: asyncio.subprocess.Process, log: Path) -> None:
        self.settings, self._process, self.log = settings, process, log

    @property
    def base_url(self) -> str:
        return f"http://{self.settings.api.listen}"

    def address(self, link_id: str) -> Address:
        """Where a link listens."""
        endpoint = next(link.transport.endpoint for link in self.settings.links if link.id == link_id)
        if not isinstance(endpoint, Address):
            raise LaboraError(f"link {link_id} does not listen")
        return endpoint

    async def ready(self) -> None:
        """Wait until this daemon, and none that happens to have its port, is ready. Raises NotReady."""
        deadline = asyncio.get_running_loop().time() + READY_WAIT_S
        async with connected(self.base_url) as api:
            while self._process.returncode is None and asyncio.get_running_loop().time() < deadline:
                if b'"action":"daemon.ready"' in self.log.read_bytes():
                    with contextlib.suppress(Unexpected):  # 503: a link cannot listen yet
                        if (await api.get("/ready")).get("ready") is True:
                            return
                await asyncio.sleep(0.05)
        raise NotReady(f"the daemon did not get ready: {self._last_words()}")

    async def ended(self) -> int:
        """Wait for the daemon to end by itself; its status."""
        return await self._process.wait()

    async def stop(self) -> int:
        """SIGTERM, wait, and as a last resort SIGKILL; the exit status."""
        if self._process.returncode is None:
            self._process.terminate()
            try:
                await asyncio.wait_for(self._process.wait(), STOP_WAIT_S)
            except TimeoutError:
                self._process.kill()
        return await self._process.wait()

    def _last_words(self) -> str:
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return lines[-1] if lines else f"see {self.log}"


def _die_with(parent: int) -> Callable[[], None]:
    """Run in the child: stop as by SIGTERM when the demo is gone, however it went."""

    def arrange() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return arrange


@asynccontextmanager
async def daemon(folder: Path, organization: str) -> AsyncIterator[Daemon]:
    """The daemon, ready, for the duration of the block; then stopped cleanly. Raises NotReady.

    Ports can only be found free, not kept: when another program takes one meanwhile, others are tried.
    """
    for attempt in range(1, STARTS + 1):
        settings = prepare(folder, organization)
        running = await _start(settings)
        try:
            try:
                await running.ready()
            except NotReady:
                if attempt == STARTS:
                    raise
                continue
            yield running
            return
        finally:
            await running.stop()


async def _start(settings: Settings) -> Daemon:
    log = settings.state_dir / "daemon.log"
    environ = {name: value for name, value in os.environ.items() if name not in config.ENVIRONMENT}
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *_command(["--config", str(settings.source), "run"]),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environ,
            start_new_session=True,  # the terminal's Ctrl-C is the demo's, which then stops the daemon
            preexec_fn=_die_with(os.getpid()),
        )
    return Daemon(settings, process, log)


def _command(arguments: Iterable[str]) -> list[str]:
    return [sys.executable, "-c", "from interface.cli import main; main()", *arguments]
