"""Serial ports as byte streams: pyserial opens, sets and lists them, the event loop waits for their bytes."""

from __future__ import annotations

import asyncio
import errno
import os
import termios
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from serial import Serial
from serial.tools.list_ports import comports

from interface.errors import LinkError, LinkLost
from interface.link.stream import CHUNK_BYTES
from interface.settings import Parity, SerialPort

BY_ID = Path("/dev/serial/by-id")  # udev's names, which stay with an adapter whichever socket it is put into

_CLOSE_WAIT_S = 2.0  # for the line to take what is still unsent
_DRAIN_CHECK_S = 0.02
_REASONS = {
    errno.ENOENT: "there is no such port",
    errno.ENXIO: "there is no such port",
    errno.ENODEV: "there is no such port",
    errno.EIO: "nothing is behind this port",
    errno.EACCES: "this user may not use it; it must be in the group dialout",
    errno.EPERM: "this user may not use it; it must be in the group dialout",
}
_SEVEN_BITS = bytes(code & 0x7F for code in range(256))  # a real line carries no more; a pseudo-terminal would
_BUSY = (errno.EAGAIN, errno.EBUSY)


class PortBusy(LinkError):
    """Another program, or another link, has the port open."""

    slug = "port_busy"


class LineFault(StrEnum):
    """What a line does beside carrying characters."""

    BREAK = "break"
    PARITY = "parity"  # a character with a wrong parity bit or no stop bit


class LineMarks:
    """The terminal driver's marks (termios(3), PARMRK) out of what was read: FF 00 00 is a break, FF 00 and a character
    one that came damaged, FF FF a character FF."""

    def __init__(self) -> None:
        self._left = b""  # of a mark whose rest was not read yet

    def read(self, data: bytes) -> tuple[bytes, tuple[LineFault, ...]]:
        """The characters, and what else happened. A damaged character is 00, so that no checksum is right with it."""
        data, self._left = self._left + data, b""
        if b"\xff" not in data:
            return data, ()
        out, faults, at = bytearray(), list[LineFault](), 0
        while (mark := data.find(0xFF, at)) >= 0:
            out += data[at:mark]
            sort = data[mark + 1 : mark + 2]
            if not sort or (sort == b"\x00" and len(data) < mark + 3):
                self._left, at = data[mark:], len(data)
                break
            if sort != b"\x00":
                out.append(0xFF)
                at = mark + (2 if sort == b"\xff" else 1)
                continue
            damaged = data[mark + 2] != 0
            faults.append(LineFault.PARITY if damaged else LineFault.BREAK)
            out += b"\x00" * damaged
            at = mark + 3
        return bytes(out + data[at:]), tuple(faults)


class SerialStream:
    """One open serial port as a `ByteStream`. `noted` is told of what the line does beside carrying characters.

    Nothing is read ahead and nothing is queued: what a reader does not take stays in the kernel, what the line does not
    take keeps the writer waiting.
    """

    def __init__(self, port: Serial, name: str, noted: Callable[[LineFault], None] = lambda fault: None) -> None:
        self._port, self._peer = port, name
        self._seven_bits = port.bytesize == 7
        self._marks, self._noted = LineMarks(), noted
        self._descriptor = port.fileno()
        self._waiting: asyncio.Future[None] | None = None
        self._closed = False
        self.fault = ""  # why the stream ended, where it was not closed from here

    @property
    def peer(self) -> str:
        return self._peer

    async def read(self) -> bytes:
        loop = asyncio.get_running_loop()
        while not self._closed and not self.fault:
            try:
                data = os.read(self._descriptor, CHUNK_BYTES)
            except BlockingIOError:
                await self._ready(loop.add_reader, loop.remove_reader)
            except OSError as error:  # EIO, ENXIO: the adapter is gone
                self._broke(error)
            else:
                if not data:  # the line was hung up; a port with nothing to read says EAGAIN, see `open_port`
                    self._broke()
                    return data
                data, faults = self._marks.read(data)
                for fault in faults:
                    self._noted(fault)
                if data:
                    return data.translate(_SEVEN_BITS) if self._seven_bits else data
                await asyncio.sleep(0)  # a line that does nothing but break keeps nobody else waiting
        return b""

    async def write(self, data: bytes) -> None:
        loop = asyncio.get_running_loop()
        unsent = memoryview(data.translate(_SEVEN_BITS) if self._seven_bits else data)
        while unsent:
            if self._closed or self.fault:
                raise LinkLost(f"the port {self._peer} is closed")
            try:
                unsent = unsent[os.write(self._descriptor, unsent) :]
            except BlockingIOError:
                await self._ready(loop.add_writer, loop.remove_writer)
            except OSError as error:
                self._broke(error)
                raise LinkLost(f"the port {self._peer} broke") from error

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)
        try:
            if not self.fault:
                await self._drain()
        finally:
            with suppress(OSError):
                self._port.close()

    async def _ready(
        self, add: Callable[[int, Callable[[], None]], None], remove: Callable[[int], bool | None]
    ) -> None:
        """Wait until the descriptor can be used, or the stream is closed."""
        waiting = self._waiting = asyncio.get_running_loop().create_future()

        def wake() -> None:
            if not waiting.done():
                waiting.set_result(None)

        add(self._descriptor, wake)
        try:
            await waiting
        finally:
            remove(self._descriptor)
            self._waiting = None

    async def _drain(self) -> None:
        """Let the line take what is unsent; what it does not take in time is dropped.

        The kernel's own close waits for it too, but for 30 s and with the whole daemon.
        """
        sent = False
        try:
            async with asyncio.timeout(_CLOSE_WAIT_S):
                while self._port.out_waiting:  # noqa: ASYNC110  the kernel has no event for "all sent"
                    await asyncio.sleep(_DRAIN_CHECK_S)
            sent = True
        except OSError:  # the timeout too
            pass
        finally:
            if not sent:
                with suppress(OSError, termios.error):
                    self._port.reset_output_buffer()

    def _broke(self, error: OSError | None = None) -> None:
        reason = f": {os.strerror(error.errno).lower()}" if error is not None and error.errno else ""
        self.fault = f"{self._peer} was unplugged{reason}"


def open_port(port: SerialPort, noted: Callable[[LineFault], None] = lambda fault: None) -> SerialStream:
    """Open a port for nobody but us; raises LinkError with one sentence."""
    try:
        opened = Serial(
            str(port.path),
            port.baud,
            bytesize=port.format.data_bits,
            parity=port.format.parity.value,
            stopbits=port.format.stop_bits,
            exclusive=True,
            timeout=0,
            write_timeout=0,
            # VMIN 1, VTIME 0: a read without data is EAGAIN, so that one of zero bytes can only be a hang-up. With
            # pyserial's default, VMIN 0, the two look alike.
            inter_byte_timeout=0,
        )
        try:
            _mark_faults(opened.fileno(), port)
        except termios.error:
            opened.close()
            raise
    except (OSError, ValueError, termios.error) as error:
        if getattr(error, "errno", None) in _BUSY:
            raise PortBusy(f"cannot open {port.path}: another program uses it") from error
        raise LinkError(f"cannot open {port.path}: {_reason(error)}") from error
    return SerialStream(opened, str(port.path), noted)


def _mark_faults(descriptor: int, port: SerialPort) -> None:
    """Have breaks, and damaged characters where there is a parity, told apart from data (see `LineMarks`).

    Without this a break is read as a NUL, or with BRKINT throws away what was not read yet. Raises termios.error.
    """
    attributes = termios.tcgetattr(descriptor)
    attributes[0] &= ~(termios.IGNBRK | termios.BRKINT | termios.IGNPAR | termios.INPCK | termios.ISTRIP)
    attributes[0] |= termios.PARMRK | (termios.INPCK if port.format.parity is not Parity.NONE else 0)
    termios.tcsetattr(descriptor, termios.TCSANOW, attributes)


def _reason(error: Exception) -> str:
    code = getattr(error, "errno", None)
    if code is None:  # pyserial could not set it up
        return "it is not a serial port, or cannot be set to this speed and format"
    return _REASONS.get(code) or os.strerror(code).lower()


@dataclass(frozen=True, slots=True)
class FoundPort:
    """A serial port of this machine. `port` is the name to configure: the stable one, where there is one."""

    port: str
    device: str
    description: str


def list_ports(by_id: Path = BY_ID) -> tuple[FoundPort, ...]:
    """The serial ports there are, by name."""
    stable: dict[str, str] = {}
    if by_id.is_dir():
        stable = {os.path.realpath(name): str(name) for name in sorted(by_id.iterdir(), reverse=True)}
    found = (
        FoundPort(
            stable.get(os.path.realpath(one.device), one.device),
            one.device,
            one.description if one.description not in ("n/a", one.name) else "",
        )
        for one in comports()
    )
    return tuple(sorted(found, key=lambda one: one.port))
