"""TCP and serial cables without a kernel: bytes that come late, in pieces, damaged, or never; resets and silence."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from interface.errors import LinkLost
from interface.link.serial import LineFault
from tests.simulation.loop import Process, SimLoop

_MOST_PIECES = 6


@dataclass(frozen=True, slots=True)
class Weather:
    """What befalls bytes. Chances are of what is written at once, but for `reset` and `half_open`: of a connection.

    `damaged` on serial cables only: one byte of a writing, never two, which a checksum may take for good.
    """

    delay_s: tuple[float, float] = (0.0005, 0.02)
    stalled: float = 0.0  # it comes up to 3 s late
    pieces: float = 0.5  # it comes in several
    reset: float = 0.0
    half_open: float = 0.0
    damaged: float = 0.0
    lost: float = 0.0


CALM = Weather()


class SimTransport(asyncio.Transport):
    """One end of a connection."""

    def __init__(self, network: Network, protocol: Any, process: Process | None, names: tuple[str, str]) -> None:
        super().__init__()
        self.network, self.protocol, self.process, self.names = network, protocol, process, names
        self.other: SimTransport = self
        self.label = ""
        self.written: Callable[[bytes], None] = lambda data: None
        self._closing = self._over = self._ended = False
        self._paused, self._unread = False, list[bytes]()
        self._last = 0.0  # when what was written last arrives
        self._coming: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self.fate: tuple[str, int] = ("", 0)  # and after how many bytes
        self._carried = 0

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        host, _, port = self.names[1].rpartition(":")
        return (host, int(port)) if name == "peername" else default

    @property
    def over(self) -> bool:
        return self._over

    def is_closing(self) -> bool:
        return self._closing

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        self._paused = False
        unread, self._unread = self._unread, []
        for data in unread:
            self._arrive(data)

    def write(self, data: Any) -> None:
        data = bytes(data)
        if self._closing or not data:
            return
        self.written(data)
        network = self.network
        network.note(self.label, "sends", data)
        kind, after = self.fate
        if kind and self._carried + len(data) > after:
            keep = max(after - self._carried, 0)
            if kind == "reset":
                self._send(data[:keep])
                network.later(self._last, self.break_off)
            else:  # nobody learns of it: bytes vanish, both ways
                self._send(data[:keep])
                self._carried += len(data)
                self.other.fate = ("half_open", 0)
                return
        else:
            self._send(data)
        self._carried += len(data)

    def _send(self, data: bytes) -> None:
        network, weather = self.network, self.network.weather
        dice = network.dice
        pieces = [data]
        if len(data) > 1 and dice.random() < weather.pieces:
            cuts = sorted(dice.randrange(1, len(data)) for _ in range(dice.randint(1, _MOST_PIECES)))
            pieces = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True) if a < b]
        for piece in pieces:
            late = dice.uniform(0.2, 3.0) if dice.random() < weather.stalled else dice.uniform(*weather.delay_s)
            self._last = max(self._last, network.loop.time() + late)
            self._then(self._last, self.other._arrive, piece)

    def _then(self, when: float, callback: Callable[..., None], *args: Any) -> None:
        """Call it after what was written before, whose time may be the same."""
        self._coming.append((callback, args))
        self.network.later(when, self._next)

    def _next(self) -> None:
        callback, args = self._coming.popleft()
        callback(*args)

    def _arrive(self, data: bytes) -> None:
        if self._over or self._closing:
            return
        if self._paused:
            self._unread.append(data)
            return
        self.network.note(self.label, "hears", data)
        self.network.run(self.process, self.protocol.data_received, data)

    def close(self) -> None:
        """In order: what was written arrives, then the end."""
        if self._closing:
            return
        self._closing = True
        if self.fate[0] != "half_open":
            self._last = max(self._last, self.network.loop.time() + 0.001)
            self._then(self._last, self.other._finished)
        self.network.later(self.network.loop.time() + 0.001, self._gone, None)

    def abort(self) -> None:
        self._closing = True
        if self.fate[0] != "half_open":
            self.network.later(self.network.loop.time() + 0.001, self.other._gone, ConnectionResetError("reset"))
        self.network.later(self.network.loop.time(), self._gone, None)

    def break_off(self) -> None:
        """Both ends learn that the connection is reset."""
        for end in (self, self.other):
            end._gone(ConnectionResetError("reset"))

    def orphaned(self) -> None:
        """Its process is dead: the kernel closes it, with a reset where bytes were unread."""
        self._closing = self._over = True
        if self.fate[0] != "half_open":
            self._last = max(self._last, self.network.loop.time() + 0.001)
            self._then(self._last, self.other._gone, ConnectionResetError("reset"))

    def _finished(self) -> None:
        if not (self._over or self._ended):
            self._ended = True
            self.network.note(self.label, "is hung up on", b"")
            self.network.run(self.process, self._eof)

    def _eof(self) -> None:
        if not self.protocol.eof_received():
            self.close()

    def _gone(self, error: Exception | None) -> None:
        if self._over:
            return
        self._over = self._closing = True
        self.network.note(self.label, "is cut off" if error else "is closed", b"")
        self.network.run(self.process, self.protocol.connection_lost, error)


class SimServer:
    """What listens."""

    def __init__(self, network: Network, factory: Callable[[], Any], at: str, process: Process | None) -> None:
        self.network, self.factory, self.at, self.process = network, factory, at, process
        self.sockets = [self]

    def getsockname(self) -> tuple[str, int]:
        host, _, port = self.at.rpartition(":")
        return host, int(port)

    def fileno(self) -> int:
        return -1

    def is_serving(self) -> bool:
        return self.network.servers.get(self.at) is self

    def close(self) -> None:
        if self.is_serving():
            del self.network.servers[self.at]


class Network:
    """All connections there are. `note(who, what, data)` is told of everything."""

    def __init__(self, loop: SimLoop, dice: Random, note: Callable[[str, str, bytes], None]) -> None:
        self.loop, self.dice, self.note = loop, dice, note
        self.weather = CALM
        self.servers: dict[str, SimServer] = {}
        self.ends: list[SimTransport] = []
        self._ports = 40_000
        loop.network = self

    def later(self, when: float, callback: Callable[..., None], *args: Any) -> None:
        """Call it for the world, whoever asks."""
        self.run(None, self.loop.call_at, when, callback, *args)

    def run(self, process: Process | None, callback: Callable[..., Any], *args: Any) -> None:
        """Call it as a process does, now."""
        if process is None or process.alive:
            context_of(process).run(callback, *args)

    def listen(self, factory: Callable[[], Any], host: str, port: int, process: Process | None) -> SimServer:
        at = f"{host}:{port}"
        if at in self.servers:
            raise OSError(98, "another program uses this address")
        self.servers[at] = SimServer(self, factory, at, process)
        return self.servers[at]

    async def connect(
        self,
        factory: Callable[[], Any],
        host: str,
        port: int,
        process: Process | None,
        label: str = "",
        answered: Callable[[bytes, Any], None] = lambda data, protocol: None,
    ) -> tuple[SimTransport, Any]:
        """`answered` is told what the other end writes, and to whom. Raises ConnectionRefusedError."""
        await asyncio.sleep(self.dice.uniform(*self.weather.delay_s))
        server = self.servers.get(f"{host}:{port}")
        if server is None or not (server.process is None or server.process.alive):
            raise ConnectionRefusedError(111, "connection refused")
        self._ports += 1
        mine = f"10.0.0.{1 + self._ports % 7}:{self._ports}"
        near = SimTransport(self, factory(), process, (mine, server.at))
        far = SimTransport(self, None, server.process, (server.at, mine))
        near.other, far.other = far, near
        far.written = lambda data: answered(data, near.protocol)
        near.label, far.label = label or mine, f"{server.at} from {label or mine}"
        chance = self.dice.random()
        if chance < self.weather.reset + self.weather.half_open:
            kind = "reset" if chance < self.weather.reset else "half_open"
            (near if self.dice.random() < 0.5 else far).fate = (kind, self.dice.randrange(0, 400))
        self.ends = [end for end in self.ends if not end._over] + [near, far]
        self.note(near.label, "connects", b"")
        near.protocol.connection_made(near)

        def accept() -> None:
            far.protocol = server.factory()
            far.protocol.connection_made(far)

        self.run(server.process, accept)
        return near, near.protocol

    def killed(self, process: Process) -> None:
        """The process is dead: the kernel closes what it had."""
        for at, server in list(self.servers.items()):
            if server.process is process:
                del self.servers[at]
        for end in self.ends:
            if end.process is process and not end._over:
                end.orphaned()


def context_of(process: Process | None) -> Any:
    from contextvars import copy_context

    from tests.simulation.loop import _process

    context = copy_context()
    context.run(_process.set, process)
    return context


class Port:
    """A serial cable: its analyzer's end is a protocol as of a connection; the other is opened by name, by one at a
    time. What is said while nobody has it open is lost."""

    def __init__(self, network: Network, label: str) -> None:
        self.network, self.label = network, label
        self.opened: SerialEnd | None = None
        self.plugged = True
        self.protocol: Any = None  # the analyzer's
        self._last = [0.0, 0.0]
        self._coming: tuple[deque[bytes], deque[bytes]] = (deque(), deque())
        self.answered: Callable[[bytes, Any], None] = lambda data, protocol: None

    def open(self, noted: Callable[[LineFault], None]) -> SerialEnd:
        """Our end. Raises OSError."""
        if not self.plugged:
            raise OSError(2, "there is no such port")
        self.opened = SerialEnd(self, noted)
        return self.opened

    def unplug(self) -> None:
        self.plugged = False
        if self.opened is not None:
            self.opened.broke()
            self.opened = None

    def say(self, data: bytes) -> None:
        """As the analyzer."""
        self.network.note(self.label, "sends", data)
        self._carry(0, data, lambda piece: self.opened.arrive(piece) if self.opened is not None else None)

    def reply(self, data: bytes) -> None:
        """As the host."""
        self.answered(data, self.protocol)
        self.network.note(f"{self.label} host", "sends", data)
        self._carry(1, data, self._heard)

    def _heard(self, piece: bytes) -> None:
        self.network.note(self.label, "hears", piece)  # an analyzer is always there
        self.protocol.data_received(piece)

    def _carry(self, way: int, data: bytes, arrive: Callable[[bytes], None]) -> None:
        network, dice = self.network, self.network.dice
        weather, chance, at = network.weather, dice.random(), dice.randrange(len(data))
        if chance < weather.lost:
            data = data[:at] + data[at + 1 :]
        elif chance < weather.lost + weather.damaged:
            data = data[:at] + bytes([data[at] ^ 1 << dice.randrange(8)]) + data[at + 1 :]
        cut = dice.randrange(len(data) + 1)
        for piece in (data[:cut], data[cut:]):
            if piece:
                self._last[way] = max(self._last[way], network.loop.time() + dice.uniform(*weather.delay_s))
                self._coming[way].append(piece)
                network.later(self._last[way], self._next, way, arrive)

    def _next(self, way: int, arrive: Callable[[bytes], None]) -> None:
        arrive(self._coming[way].popleft())


class SerialEnd:
    """Our end of a `Port`, as `link.serial.SerialStream` is."""

    def __init__(self, port: Port, noted: Callable[[LineFault], None]) -> None:
        from tests.simulation.loop import current

        self._port, self.fault, self.process = port, "", current()
        self._unread, self._changed, self._closed = bytearray(), asyncio.Event(), False

    @property
    def peer(self) -> str:
        return self._port.label

    async def read(self) -> bytes:
        while not (self._unread or self._closed or self.fault):
            self._changed.clear()
            await self._changed.wait()
        data = bytes(self._unread)
        self._unread.clear()
        return data

    async def write(self, data: bytes) -> None:
        if self._closed or self.fault:
            raise LinkLost("the port broke")
        self._port.reply(data)

    async def close(self) -> None:
        self._closed = True
        self._changed.set()
        if self._port.opened is self:
            self._port.opened = None

    def arrive(self, data: bytes) -> None:
        if self.process is None or self.process.alive:
            self._port.network.note(f"{self._port.label} host", "hears", data)
            self._unread += data
            self._changed.set()

    def broke(self) -> None:
        self.fault = f"{self._port.label} was unplugged"
        self._changed.set()
