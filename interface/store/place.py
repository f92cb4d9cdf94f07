"""Where a daemon runs, as proof that its former life there is over.

A process that holds the lock of a state directory's file knows that no other does: the kernel lets go of it when the
process that held it ends, however it ends. So what was at the same place before, which is the same file under the same
boot of the same kernel, is dead, and need not be waited for. On another machine the place is another one, also where
the disk is a copy.

After another boot of the same machine nothing proves that it is the same: it may be a copy. Its former life is not
waited for either where the database has no connection of it.
"""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Final

FILE: Final = "daemon.lock"
_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")
_MACHINE: Final = Path("/etc/machine-id")


@contextmanager
def held(state_dir: Path) -> Iterator[str]:
    """The place's name for as long as it is held; "" where it cannot be: then a former life is waited for."""
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(state_dir / FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        yield ""
        return
    try:
        yield _name(descriptor, state_dir)
    finally:
        os.close(descriptor)


def machine_of(place: str) -> str:
    """What a place has in common with those before another boot; "" where nothing is known of that."""
    return place.rpartition(".")[0]


def _name(descriptor: int, state_dir: Path) -> str:
    """Machine and boot, with a dot between them. A power cut may take the file, and a boot its device's number."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        boot = _BOOT.read_text()
    except OSError:
        return ""
    file = os.fstat(descriptor)
    return f"{_machine(state_dir)}.{_digest(f'{boot} {file.st_dev} {file.st_ino}')}"


def _machine(state_dir: Path) -> str:
    try:
        machine = _MACHINE.read_text().strip()
    except OSError:
        return ""
    return _digest(f"{machine} {socket.gethostname()} {state_dir.resolve()}") if machine else ""


def _digest(text: str) -> str:
    return blake2b(text.encode(), digest_size=16).hexdigest()
