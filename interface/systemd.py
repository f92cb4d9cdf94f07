"""What a service and systemd say to each other: readiness and health (sd_notify(3)), and sockets that outlive the
process (sd_listen_fds(3), the file descriptor store). Where systemd did not start us all of it does nothing.

A listening socket that systemd keeps for us goes on taking connections while we are away: they wait in the kernel's
queue, nobody is refused, and the next process takes the socket back.
"""

from __future__ import annotations

import ipaddress
import os
import select
import socket
from array import array
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from contextlib import suppress
from typing import Final, Protocol

import structlog

from interface.settings import Address

FIRST_FD: Final = 3  # SD_LISTEN_FDS_START
API: Final = "api"  # FileDescriptorName= in labora-api.socket
BARRIER_WAIT_S: Final = 2.0

log = structlog.get_logger(__name__)


def notify(state: str, fds: Sequence[int] = ()) -> bool:
    """Tell systemd, with file descriptors where there are some; whether it was told."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return False
    address = "\0" + path[1:] if path.startswith("@") else path
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", fds))] if fds else []
        channel.sendmsg([state.encode()], rights, 0, address)
        return True
    return False


def barrier(wait_s: float = BARRIER_WAIT_S) -> bool:
    """Wait until systemd has done all that it was told before (sd_notify_barrier(3)); whether it has."""
    reading, writing = os.pipe()
    try:
        told = notify("BARRIER=1", [writing])
    finally:
        os.close(writing)
    try:
        poll = select.poll()
        poll.register(reading, select.POLLHUP)
        return told and bool(poll.poll(wait_s * 1000))
    finally:
        os.close(reading)


def watchdog_s(environ: MutableMapping[str, str] = os.environ) -> float | None:
    """How often systemd wants a sign of life (sd_watchdog_enabled(3)), in seconds; None: it does not."""
    text, process = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not text.isdigit() or int(text) == 0 or process not in ("", str(os.getpid())):
        return None
    return int(text) / 1_000_000


def passed_sockets(environ: MutableMapping[str, str] = os.environ) -> list[tuple[str, socket.socket]]:
    """The sockets that systemd gave this process, with their names. What says so is taken out of the environment, so
    that no process of ours believes that it was meant."""
    process, number, names = (environ.pop(f"LISTEN_{key}", "") for key in ("PID", "FDS", "FDNAMES"))
    if process != str(os.getpid()) or not number.isdigit():
        return []
    found: list[tuple[str, socket.socket]] = []
    named = names.split(":") if names else []
    for at in range(int(number)):
        fd = FIRST_FD + at
        try:
            os.set_inheritable(fd, False)
            sock = socket.socket(fileno=fd)
            sock.setblocking(False)
            found.append((named[at] if at < len(named) else "unknown", sock))
        except OSError:
            with suppress(OSError):
                os.close(fd)
    return found


class Progress(Protocol):
    """Something that must not stand still."""

    @property
    def engaged(self) -> bool:
        """Whether it has something to do."""
        ...

    @property
    def turns(self) -> int:
        """How often it has done some of it, or tried and failed: a database that is away is no standstill."""
        ...


class Standstill:
    """Who has had something to do and has not moved, and for how long."""

    def __init__(self) -> None:
        self._seen: dict[Progress, tuple[int, float]] = {}

    def look(self, now: float, watched: Mapping[Progress, float]) -> list[Progress]:
        """Those that stand still for longer than their seconds in `watched`."""
        self._seen = {
            each: self._seen[each]
            if each in self._seen and each.engaged and self._seen[each][0] == each.turns
            else (each.turns, now)
            for each in watched
        }
        return [each for each, longest_s in watched.items() if now - self._seen[each][1] > longest_s]


class Sockets:
    """Listening sockets by name: those that came from systemd, and those that it is to keep for the next process.

    A listener `take`s the socket at its address before it makes one, says `keep` when it listens and `drop` when it
    stops. What is dropped may be taken again, by a link that was changed for instance, until `settle`; then what nobody
    took is closed, and systemd's copy of it. A process that ends does not settle: its sockets are the next one's.
    `keeps`: False where systemd keeps nothing for us.
    """

    def __init__(
        self,
        passed: Iterable[tuple[str, socket.socket]] = (),
        *,
        keeps: bool = False,
        tell: Callable[[str, Sequence[int]], object] = notify,
        wait: Callable[[], object] = barrier,
    ) -> None:
        self._loose = list(passed)
        self._kept: dict[str, socket.socket] = {}
        self._keeps, self._tell, self._wait = keeps, tell, wait

    @classmethod
    def of_process(cls) -> Sockets:
        """Those of this process; asked once."""
        return cls(passed_sockets(), keeps=bool(os.environ.get("NOTIFY_SOCKET")))

    def take(self, name: str, address: Address) -> socket.socket | None:
        """The socket that listens at `address`, if there is one; the caller closes it.

        Without one the address can be bound: whatever else had its port is closed.
        """
        for entry in self._loose:
            if _listens_at(entry[1], address):
                self._loose.remove(entry)
                if entry[0] != name:
                    self._forget(entry[0])
                return entry[1]
        if self._close(lambda entry: _port(entry[1]) == address.port) and self._keeps:
            self._wait()
        return None

    def keep(self, name: str, fd: int) -> None:
        """Let systemd keep the listening socket `fd`. It must be at an address that `take` can tell."""
        if not self._keeps:
            return
        self._close(lambda entry: entry[0] == name)
        self._kept[name] = socket.socket(fileno=os.dup(fd))
        self._tell(f"FDSTORE=1\nFDNAME={name}", [fd])

    def drop(self, name: str) -> None:
        """Its listener has stopped."""
        if (kept := self._kept.pop(name, None)) is not None:
            self._loose.append((name, kept))

    def settle(self) -> None:
        """All listeners are there: close what nobody took."""
        for name, sock in self._loose:
            if name == API:
                log.warning("the socket unit listens elsewhere than api.listen, which counts", action="daemon.sockets",
                            port=_port(sock))  # fmt: skip
        self._close(lambda entry: True)

    def close(self) -> None:
        """The process ends: close what it has; what systemd has stays."""
        for sock in (*self._kept.values(), *(entry[1] for entry in self._loose)):
            sock.close()
        self._kept, self._loose = {}, []

    def _close(self, which: Callable[[tuple[str, socket.socket]], bool]) -> bool:
        gone = [entry for entry in self._loose if which(entry)]
        self._loose = [entry for entry in self._loose if entry not in gone]
        for name, sock in gone:
            sock.close()
            self._forget(name)
        return bool(gone)

    def _forget(self, name: str) -> None:
        if self._keeps:
            self._tell(f"FDSTOREREMOVE=1\nFDNAME={name}", ())


def can_be_kept(address: Address) -> bool:
    """Whether `Sockets.take` would know a socket at this address again: a host's name may be several addresses."""
    try:
        ipaddress.ip_address(address.host)
    except ValueError:
        return False
    return True


def _listens_at(sock: socket.socket, address: Address) -> bool:
    if not can_be_kept(address) or sock.type != socket.SOCK_STREAM or _port(sock) != address.port:
        return False
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return False
    return ipaddress.ip_address(sock.getsockname()[0]) == ipaddress.ip_address(address.host)


def _port(sock: socket.socket) -> int | None:
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return None
    return int(sock.getsockname()[1])
