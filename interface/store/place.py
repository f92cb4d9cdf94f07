"""Where a daemon runs, as proof that its former life there is over.

A process that holds the lock of a state directory's file knows that no other does: the kernel lets go of it when the
process that held it ends, however it ends. So what was at the same place before, which is the same file under the same
boot of the same kernel, is dead, and need not be waited for. On another machine the place is another one, also where
the disk is a copy.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Final

FILE: Final = "daemon.lock"
_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")


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
        yield _name(descriptor)
    finally:
        os.close(descriptor)


def _name(descriptor: int) -> str:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        boot = _BOOT.read_text()
    except OSError:
        return ""
    file = os.fstat(descriptor)
    return blake2b(f"{boot} {file.st_dev} {file.st_ino}".encode(), digest_size=16).hexdigest()
