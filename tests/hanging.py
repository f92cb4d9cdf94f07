"""A file system whose server is there and never answers, as an NFS mount's whose server is gone."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import pytest

_DETACH: Final = 2  # umount2(2): MNT_DETACH


@contextmanager
def broken(folder: Path) -> Iterator[None]:
    """The same, whose server has ended: whoever asks it for anything is told that it is not connected."""
    with hung(folder) as end:
        end()
        yield


@contextmanager
def hung(folder: Path) -> Iterator[Callable[[], None]]:
    """It is mounted at `folder` for the block: whoever asks it for anything waits until its server is ended, at the end
    of the block or by what is yielded."""
    if os.geteuid() != 0:
        pytest.skip("needs root: a file system is mounted")
    try:
        server = os.open("/dev/fuse", os.O_RDWR)  # which nobody reads
    except OSError:
        pytest.skip("no file system of one's own can be made here")
    libc = ctypes.CDLL(None, use_errno=True)
    options = f"fd={server},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
    with ExitStack() as stack:
        ended = stack.enter_context(os.fdopen(server, "rb", buffering=0))
        if libc.mount(b"hung", bytes(folder), b"fuse", 0, options):
            pytest.skip("no file system can be mounted here")
        stack.callback(libc.umount2, bytes(folder), _DETACH)
        stack.callback(ended.close)  # who waits is told that it is not connected
        yield ended.close
