"""A small file system that can lose what was not synced, as a disk does when its power is cut."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import struct
import subprocess
from pathlib import Path

# linux/fs/ext4/ext4.h: _IOR('X', 125, __u32), and of its flags EXT4_GOING_FLAGS_NOLOGFLUSH: neither data nor journal is
# written any more.
_SHUTDOWN, _NO_LOG_FLUSH = 0x8004587D, 2
SIZE_MB = 2048  # sparse: what is used of it counts


def obstacle() -> str | None:
    """Why there can be no such file system here."""
    if os.geteuid() != 0:
        return "needs root: a file system is mounted"
    if not Path("/dev/loop-control").exists():
        return "needs loop devices: a file system in a file is mounted"
    if missing := [name for name in ("losetup", "mkfs.ext4", "mount", "umount") if shutil.which(name) is None]:
        return f"needs {', '.join(missing)}"
    return None


class LoopDisk:
    """An ext4 in a file, mounted for the life of the object on `folder`/disk. Everybody may pass through it."""

    def __init__(self, folder: Path) -> None:
        self._image, self.path = folder / "disk.img", folder / "disk"
        self.path.mkdir()
        with self._image.open("wb") as file:
            file.truncate(SIZE_MB << 20)
        lazy = "lazy_itable_init=0,lazy_journal_init=0"  # or the kernel goes on writing to it
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", "-E", lazy, str(self._image)], check=True)
        self.mount()

    def mount(self) -> None:
        subprocess.run(["mount", "-o", "loop", str(self._image), str(self.path)], check=True)
        self.path.chmod(0o755)

    def cut(self) -> None:
        """The power goes: what was not synced is lost, and whoever writes gets EIO."""
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, _SHUTDOWN, struct.pack("I", _NO_LOG_FLUSH))
        finally:
            os.close(descriptor)

    async def unmount(self) -> None:
        """Once nobody uses it any more: who was just killed may still be going, and who has taken a copy of our mounts
        along, as a container does that is being started, holds it when it is no longer mounted here; mounted again
        meanwhile, it would be the one whose power was cut."""
        for _ in range(200):
            if await asyncio.to_thread(self.is_unmounted):
                return
            await asyncio.sleep(0.05)
        await asyncio.to_thread(self._unmount, "-l")
        raise AssertionError(f"somebody still uses {self.path}")

    def is_unmounted(self) -> bool:
        """Tries it once."""
        self._unmount()
        bound = subprocess.run(["losetup", "-j", str(self._image)], capture_output=True, check=True).stdout
        return not bound and not self.path.is_mount()

    def _unmount(self, *options: str) -> None:
        subprocess.run(["umount", *options, str(self.path)], capture_output=True, check=False)
