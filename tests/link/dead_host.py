"""A host beside this one, in a network namespace, that can go silent as one does whose power is cut: its packets still
come, ours do not arrive, and nothing is refused or ended."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count

_NUMBERS = count()
_TALK = """
import socket, sys
line = socket.create_connection((sys.argv[1], int(sys.argv[2])), 30)
for said in iter(sys.stdin.buffer.readline, b""):
    line.sendall(bytes.fromhex(said.decode()))
    sys.stdout.buffer.write((line.recv(100).hex() + "\\n").encode())
    sys.stdout.buffer.flush()
"""


def _run(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _ip(*arguments: str) -> bool:
    return _run("ip", *arguments)


def _within(name: str) -> tuple[str, ...]:
    """Not `ip netns exec`, which takes a copy of all mounts along: other tests unmount."""
    return ("nsenter", f"--net=/run/netns/{name}")


@dataclass(frozen=True, slots=True)
class DeadHost:
    """`ours`: this machine's address for it."""

    name: str
    ours: str
    theirs: str

    def connected(self, port: int) -> subprocess.Popen[bytes]:
        """Somebody there who connects to us; of each line of hex digits that it is told it says the bytes, and writes a
        line of what it is answered."""
        command = [*_within(self.name), sys.executable, "-c", _TALK, self.ours, str(port)]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def fall_silent(self) -> None:
        """What we send it goes nowhere from now on."""
        assert _ip("neigh", "replace", self.theirs, "lladdr", "02:00:00:00:00:01", "dev", f"{self.name}a",
                   "nud", "permanent")  # fmt: skip


@contextmanager
def dead_host() -> Iterator[DeadHost | None]:
    """None where there can be none: it needs root and network namespaces."""
    number = os.getpid() * 8 + next(_NUMBERS)
    name = f"lab{number % 1_000_000}"
    net = f"198.18.{number // 64 % 256}.{number % 64 * 4}".rpartition(".")  # RFC 2544: for tests of networks
    ours, theirs = (f"{net[0]}.{int(net[2]) + at}" for at in (1, 2))
    inside = (*_within(name), "ip")
    made = os.geteuid() == 0 and all(map(shutil.which, ("ip", "nsenter"))) and _ip("netns", "add", name)
    try:
        yield DeadHost(name, ours, theirs) if made and all((
            _ip("link", "add", f"{name}a", "type", "veth", "peer", "name", f"{name}b", "netns", name),
            _ip("address", "add", f"{ours}/30", "dev", f"{name}a"), _ip("link", "set", f"{name}a", "up"),
            _run(*inside, "address", "add", f"{theirs}/30", "dev", f"{name}b"),
            _run(*inside, "link", "set", f"{name}b", "up"),
        )) else None  # fmt: skip
    finally:
        if made:
            _ip("link", "delete", f"{name}a")
            _ip("netns", "delete", name)
