"""Two daemons on one database, as processes on two addresses of this machine as if it were two, and an analyzer that
knows both."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg

from interface.settings import Address
from interface.wire.frames import build_frame
from tests.bench.messages import hl7_message, lis2_message
from tests.e2e.daemon import PATIENCE_S, Process, free_ports

AGAIN_S = 0.05
ENQ, EOT, ACK = b"\x05", b"\x04", b"\x06"
CONFIG = """
state_dir = "{state}"
[database]
url = "{url}"
[api]
listen = "127.0.0.1:{api}"
[limits]
commit_wait_s = 14.0
[standby]
enabled = true
name = "{name}"
lease_s = {lease_s}
[[link]]
id = "hl7"
organization = "{organization}"
driver = "generic_hl7"
transport = {{ type = "mllp-listen", listen = "{hl7}" }}
[[link]]
id = "astm"
organization = "{organization}"
driver = "generic_lis2"
transport = {{ type = "tcp-listen", listen = "{astm}" }}
"""
LOST = """
select a.id from unnest($1::text[]) as a (id) left join lab.message m
    on m.control_id = a.id and m.state = 'complete' and m.settled is distinct from 'duplicate'
 group by a.id having count(m.id) <> 1
"""
WAITING = "select count(*) from lab.queue"


class Daemon(Process):
    """One of the two; `host`: the machine that it is on."""

    def __init__(
        self, url: str, organization: str, folder: Path, name: str, hl7: Address, astm: Address, lease_s: float
    ) -> None:
        self.folder = folder / name
        self.folder.mkdir()
        self.state_dir, self.name, self.hl7, self.astm = self.folder / "state", name, hl7, astm
        self.api = Address("127.0.0.1", free_ports(1)[0])
        self.config = self.folder / "config.toml"
        self.config.write_text(
            CONFIG.format(state=self.state_dir, url=url, api=self.api.port, name=name, hl7=hl7, astm=astm,
                          lease_s=lease_s, organization=organization)
        )  # fmt: skip
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def ended(self) -> bool:
        return self._process is None or self._process.returncode is not None

    async def wait(self) -> int:
        assert self._process is not None
        async with asyncio.timeout(PATIENCE_S):
            return await self._process.wait()


def two(url: str, organization: str, folder: Path, lease_s: float) -> tuple[Daemon, Daemon]:
    hl7, astm = free_ports(2)
    a, b = (
        Daemon(url, organization, folder, name, Address(host, hl7), Address(host, astm), lease_s)
        for name, host in (("a", "127.0.0.1"), ("b", "127.0.0.2"))
    )
    return a, b


async def listens(address: Address) -> bool:
    try:
        _, writer = await asyncio.open_connection(address.host, address.port)
    except OSError:
        return False
    writer.close()
    return True


@dataclass(slots=True)
class Analyzer:
    """Sends messages, each until it is acknowledged, to whichever of its addresses takes it."""

    addresses: tuple[Address, ...]
    name: str
    astm: bool = False
    try_s: float = 15.0  # for a connection, and for each answer
    tls: ssl.SSLContext | None = None
    acknowledged: list[tuple[str, Address, float]] = field(default_factory=list)  # control id, by whom, loop time
    refused: int = 0
    longest_s: float = 0.0  # that it waited for an answer
    _number: int = 0
    _at: int = 0
    _line: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self) -> float:
        """One message; the loop's time at which it was acknowledged."""
        self._number += 1
        control_id = f"{self.name}-{self._number}"
        async with asyncio.timeout(PATIENCE_S):
            while not await self._try(control_id):
                await self.close()
                self._at = (self._at + 1) % len(self.addresses)
                await asyncio.sleep(AGAIN_S)
        return self.acknowledged[-1][2]

    async def _try(self, control_id: str) -> bool:
        address = self.addresses[self._at]
        try:
            async with asyncio.timeout(self.try_s):
                if self._line is None:
                    self._line = await asyncio.open_connection(address.host, address.port, ssl=self.tls)
            taken = await (self._session if self.astm else self._block)(*self._line, control_id)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            return False
        if not taken:
            self.refused += 1
            return False
        self.acknowledged.append((control_id, address, asyncio.get_running_loop().time()))
        return True

    async def _block(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, control_id: str) -> bool:
        _write(writer, b"\x0b" + hl7_message(f"S{control_id}", control_id) + b"\x1c\r")
        answer = await self._heard(reader.readuntil(b"\x1c\r"))
        return re.search(rb"\rMSA\|[AC]A\|%s\r" % control_id.encode(), answer) is not None

    async def _session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, control_id: str) -> bool:
        records = lis2_message(f"S{control_id}", control_id).split(b"\r")[:-1]
        frames = [build_frame(number, record + b"\r", True) for number, record in enumerate(records, 1)]
        for data in (ENQ, *frames):
            _write(writer, data)
            if await self._heard(reader.readexactly(1)) != ACK:
                _write(writer, EOT)
                return False
        _write(writer, EOT)
        return True

    async def _heard(self, answer: Awaitable[bytes]) -> bytes:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(self.try_s):
                return await answer
        finally:
            self.longest_s = max(self.longest_s, loop.time() - began)

    async def close(self) -> None:
        if self._line is not None:
            self._line[1].close()
            with suppress(OSError):
                await self._line[1].wait_closed()
        self._line = None


def _write(writer: asyncio.StreamWriter, data: bytes) -> None:
    """Raises ConnectionError for a line that was cut: of a transport that is closed uvloop raises RuntimeError."""
    if writer.transport.is_closing():
        raise ConnectionResetError
    writer.write(data)


async def accounted(
    owner: asyncpg.Connection[asyncpg.Record], *analyzers: Analyzer, patience_s: float = PATIENCE_S
) -> list[str]:
    """Once all is decided: the acknowledged messages that are not there, or more than once."""
    async with asyncio.timeout(patience_s):
        while await owner.fetchval(WAITING):  # noqa: ASYNC110  another process empties it
            await asyncio.sleep(0.05)
    ids = [control_id for analyzer in analyzers for control_id, _, _ in analyzer.acknowledged]
    return [row["id"] for row in await owner.fetch(LOST, ids)]
