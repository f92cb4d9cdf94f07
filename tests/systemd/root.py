"""A Debian to install on: debootstrap and apt once, kept between runs; each use gets a layer of its own over it.

`python -m tests.systemd.root` makes it ahead, as scripts/prepare --test does. Everything is fetched with the machine's
own apt and pip then; in a test nothing is.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

CHECKOUT = Path(__file__).parent.parent.parent
SUITE = "bookworm"
PYTHON = "3.11"  # bookworm's
PROGRAMS = ("debootstrap", "systemd-nspawn", "mount")
# What scripts/install asks for, so that it need not be fetched in each test; and what a server has that minbase lacks.
PACKAGES = (
    "systemd", "systemd-sysv", "dbus", "postgresql", "postgresql-client", "nginx", "fail2ban", "nftables", "python3",
    "python3-venv", "python3-systemd", "openssl", "ca-certificates", "age",
)  # fmt: skip
KEPT = 3  # bases of older locks and packages


class CannotBuild(Exception):
    """Why there is no root here, in one sentence."""


def cache() -> Path:
    """$LABORA_TEST_CACHE, else below $XDG_CACHE_HOME, else /var/cache/labora-test."""
    if named := os.environ.get("LABORA_TEST_CACHE"):
        return Path(named)
    if home := os.environ.get("XDG_CACHE_HOME"):
        return Path(home) / "labora-test"
    return Path("/var/cache/labora-test")


def obstacle() -> str:
    """Why a root cannot be built or booted here; "" where it can be tried."""
    if os.getuid() != 0:
        return "needs root"
    if missing := [name for name in PROGRAMS if shutil.which(name) is None]:
        return f"needs {', '.join(missing)}: scripts/prepare --test as root installs them"
    return ""


def base() -> Path:
    """The root with every package and the wheels of the lock, built where it is not there. Raises CannotBuild."""
    key = hashlib.sha256(repr((SUITE, PACKAGES, PYTHON)).encode() + (CHECKOUT / "requirements.lock").read_bytes())
    folder = cache()
    folder.mkdir(parents=True, exist_ok=True)
    found = folder / f"base-{key.hexdigest()[:16]}"
    with open(folder / "lock", "ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one builds, the others wait
        if not found.exists():
            new = found.with_suffix(".new")
            _remove(new)
            _build(new)
            new.rename(found)
            for old in sorted(folder.glob("base-*"), key=lambda path: path.stat().st_mtime)[:-KEPT]:
                _remove(old)
    return found


def _build(new: Path) -> None:
    root = new / "root"
    other = next((path / "root" for path in new.parent.glob("base-*") if (path / "packages").exists()
                  and (path / "packages").read_text() == repr((SUITE, PACKAGES))), None)  # fmt: skip
    if other is not None:  # another lock, the same packages
        new.mkdir()
        _run("cp", "-a", "--reflink=auto", str(other), str(root))
    else:
        root.mkdir(parents=True)
        _run("debootstrap", "--variant=minbase", SUITE, str(root), _mirror())
        policy = root / "usr/sbin/policy-rc.d"
        policy.write_text("#!/bin/sh\nexit 101\n")  # packages start nothing
        policy.chmod(0o755)
        quiet = {"DEBIAN_FRONTEND": "noninteractive"}
        _run("chroot", str(root), "apt-get", "update", "-qq", **quiet)
        _run("chroot", str(root), "apt-get", "install", "-y", "-qq", "--no-install-recommends", *PACKAGES, **quiet)
        _run("chroot", str(root), "apt-get", "clean")
    (new / "packages").write_text(repr((SUITE, PACKAGES)))
    wheels = root / "srv/wheels"
    _remove(wheels)
    lock = str(CHECKOUT / "requirements.lock")
    _run(sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--require-hashes", "--only-binary", ":all:",
         "--python-version", PYTHON, "-d", str(wheels), "-r", lock)  # fmt: skip
    _dependencies(root, lock)


def _dependencies(root: Path, lock: str) -> None:
    """A release that has nothing but its dependencies: scripts/install takes over what another has of the same lock."""
    release = root / "opt/labora/releases/0-dependencies"
    _remove(release)
    release.mkdir(parents=True)
    shutil.copy(lock, release)
    at = "/opt/labora/releases/0-dependencies"
    _run("chroot", str(root), "python3", "-m", "venv", f"{at}/.venv")
    _run("chroot", str(root), f"{at}/.venv/bin/python", "-m", "pip", "install", "-q", "--no-index", "--no-deps",
         "--find-links", "/srv/wheels", "--require-hashes", "-r", f"{at}/requirements.lock")  # fmt: skip
    (release / ".venv/.labora-stamp").write_text("dependencies only\n")


def _mirror() -> str:
    """Where this machine has its Debian from."""
    for path in (*Path("/etc/apt/sources.list.d").glob("*"), Path("/etc/apt/sources.list")):
        text = path.read_text(errors="replace") if path.is_file() else ""
        for place in re.findall(r"^(?:URIs:|deb(?: \[[^]]*\])?) *(\S+)(?: +(\S+))?", text, re.MULTILINE):
            if place[0].rstrip("/").endswith("/debian") and "security" not in place[1]:
                return str(place[0])
    raise CannotBuild("this machine has no Debian archive in its apt sources")


def _run(*command: str, **environ: str) -> None:
    clean = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8"}
    env = {**(os.environ if command[0] != "chroot" else {}), **clean, **environ}
    done = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CannotBuild(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()[-600:]}")


def _remove(path: Path) -> None:
    if path.exists():
        _run("rm", "-rf", "--one-file-system", str(path))


@contextmanager
def layer(folder: Path) -> Iterator[Path]:
    """The base under a layer of this test's own, at `folder`/root. Raises CannotBuild."""
    under = base() / "root"
    over, work, root = (folder / name for name in ("over", "work", "root"))
    with ExitStack() as stack:
        for each in (over, work, root):
            each.mkdir()
        _run("mount", "-t", "overlay", "labora", "-o", f"lowerdir={under},upperdir={over},workdir={work}", str(root))
        stack.callback(_run, "umount", "-l", str(root))
        yield root


@contextmanager
def entered(root: Path) -> Iterator[None]:
    """The checkout at /srv/labora, and what a chroot needs to run programs."""
    with ExitStack() as stack:
        (root / "srv/labora").mkdir(exist_ok=True)
        for command in (
            ("mount", "--bind", "-o", "ro", str(CHECKOUT), f"{root}/srv/labora"),
            ("mount", "-t", "proc", "proc", f"{root}/proc"),
            ("mount", "-t", "tmpfs", "shm", f"{root}/dev/shm"),  # noqa: S108
        ):
            _run(*command)
            stack.callback(_run, "umount", "-l", command[-1])
        yield


if __name__ == "__main__":
    if reason := obstacle():
        sys.exit(f"no root to install on: {reason}")
    try:
        print(base())
    except CannotBuild as error:
        sys.exit(f"no root to install on: {error}")
