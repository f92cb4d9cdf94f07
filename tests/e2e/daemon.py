"""A whole daemon for a test: in this process (`running`), or as a process of its own that can be killed (`Process`)."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import IO, TypeVar

import aiohttp

from interface.daemon import Running, started
from interface.settings import (
    Address,
    ApiSettings,
    DatabaseSettings,
    LimitSettings,
    LinkSettings,
    Settings,
    Transport,
    TransportType,
)

ANY = Address("127.0.0.1", 0)
PATIENCE_S = 60.0
# The longest that may be configured: a test that is not about late commits must not fail where the disk is slow.
COMMIT_WAIT_S = 14.0
_T = TypeVar("_T")

CONFIG = """
state_dir = "{state}"
[database]
url = "embedded"
[api]
listen = "127.0.0.1:{api}"
[limits]
commit_wait_s = 14.0
[[link]]
id = "astm"
organization = "main"
driver = "generic_lis2"
transport = {{ type = "tcp-listen", listen = "127.0.0.1:{astm}" }}
[[link]]
id = "hl7"
organization = "main"
driver = "generic_hl7"
transport = {{ type = "mllp-listen", listen = "127.0.0.1:{hl7}" }}
"""


def link(name: str, transport: TransportType, driver: str, organization: str = "main") -> LinkSettings:
    return LinkSettings(name, organization, driver, Transport(transport, ANY))


def settings(state_dir: Path, url: str = "embedded", commit_wait_s: float = COMMIT_WAIT_S) -> Settings:
    """One ASTM and one HL7 link on free ports."""
    return Settings(
        state_dir,
        DatabaseSettings(url),
        ApiSettings(ANY),
        LimitSettings(commit_wait_s=commit_wait_s),
        (
            link("astm", TransportType.TCP_LISTEN, "generic_lis2"),
            link("hl7", TransportType.MLLP_LISTEN, "generic_hl7"),
        ),
    )


@asynccontextmanager
async def running(
    state_dir: Path, url: str = "embedded", commit_wait_s: float = COMMIT_WAIT_S
) -> AsyncIterator[Running]:
    async with started(settings(state_dir, url, commit_wait_s)) as daemon:
        yield daemon


async def eventually(probe: Callable[[], Awaitable[_T | None]], every_s: float = 0.02) -> _T:
    """What `probe` gives as soon as it gives anything true; what it waits for happens in another process."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            found = await probe()
            if found:
                return found
            await asyncio.sleep(every_s)


async def get(address: Address, path: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(f"http://{address}{path}") as response:
        return response.status, await response.text()


def _ports() -> Iterator[int]:
    """Below those that the kernel gives to connections (net.ipv4.ip_local_port_range): what is free now is free when it
    is bound, also once more after a kill. Each worker of a run has its own."""
    worker = int("".join(filter(str.isdigit, os.environ.get("PYTEST_XDIST_WORKER", ""))) or 0)
    first, size = 20_000 + worker % 6 * 2_000, 2_000
    for at in count(os.getpid()):
        yield first + at % size


_PORTS = _ports()


def free_ports(number: int) -> list[int]:
    """Ports that nobody listens on, all different."""
    found: list[int] = []
    while len(found) < number:
        port = next(_PORTS)
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        found.append(port)
    return found


async def _heard(channel: socket.socket) -> bytes:
    """The next thing that the daemon tells, but for the sockets that it gives away (tests/systemd)."""
    while (said := await asyncio.get_running_loop().sock_recv(channel, 100)).startswith(b"FDSTORE"):
        pass
    return said


class Process:
    """`labora run` as a process. It tells by sd_notify(3) when it is ready, as it would tell systemd."""

    def __init__(self, state_dir: Path, folder: Path) -> None:
        self.state_dir, self.folder = state_dir, folder
        astm, hl7, api = free_ports(3)
        self.astm, self.hl7, self.api = (Address("127.0.0.1", port) for port in (astm, hl7, api))
        self.config = folder / "config.toml"
        self.config.write_text(CONFIG.format(state=state_dir, api=api, astm=astm, hl7=hl7))
        self._process: asyncio.subprocess.Process | None = None

    def _command(self) -> list[str]:
        return [str(Path(sys.executable).with_name("labora")), "--config", str(self.config), "run"]

    def _environment(self) -> dict[str, str]:
        return dict(os.environ)

    def _log(self) -> IO[bytes]:
        return open(self.folder / "log", "ab")

    async def start(self) -> None:
        """Start it and wait until it says that it is ready."""
        path = self.folder / "notify"
        path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel, self._log() as log:
            channel.bind(str(path))
            channel.setblocking(False)
            self._process = await asyncio.create_subprocess_exec(
                *self._command(), stdout=log, stderr=log, env=self._environment() | {"NOTIFY_SOCKET": str(path)}
            )
            said = asyncio.create_task(_heard(channel))
            ended = asyncio.create_task(self._process.wait())
            async with asyncio.timeout(PATIENCE_S):
                await asyncio.wait({said, ended}, return_when=asyncio.FIRST_COMPLETED)
            ended.cancel()
            if not said.done():
                said.cancel()
                raise AssertionError(self.said())
            assert said.result() == b"READY=1"

    async def reload(self) -> None:
        """SIGHUP, and wait until it says that it is done with it."""
        path = self.folder / "notify"
        path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.bind(str(path))
            channel.setblocking(False)
            self.tell(signal.SIGHUP)
            async with asyncio.timeout(PATIENCE_S):
                begun, done = [await _heard(channel) for _ in range(2)]
        assert re.fullmatch(rb"RELOADING=1\nMONOTONIC_USEC=[0-9]+", begun)
        assert done == b"READY=1"

    def said(self) -> str:
        """Its log so far."""
        return (self.folder / "log").read_text()

    def tell(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    async def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; returns the exit status."""
        self.tell(number)
        assert self._process is not None
        async with asyncio.timeout(PATIENCE_S):
            return await self._process.wait()

    async def __aenter__(self) -> Process:
        try:
            await self.start()
        except BaseException:
            if self._process is not None and self._process.returncode is None:
                await self.end(signal.SIGKILL)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None and self._process.returncode is None:
            await self.end(signal.SIGKILL if kind else signal.SIGTERM)
