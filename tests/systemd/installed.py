"""A Debian on which scripts/install has run, and what its service did there when it was booted."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import new_state_dir
from tests.docs.pages import DOCS, Block, blocks
from tests.systemd import root as roots

HOST, PASSWORD = "lab.example.org", "first-password-1"
# Whose blocks for root are run here: the first of the first two to install and to upgrade, the others in the guest.
PAGES = ("install.md", "upgrade.md", "recover.md", "backup.md")
BOOT_WAIT_S = 1500.0  # beside much else; alone it takes a tenth of that
_GUEST = Path(__file__).with_name("guest.py")
_UNIT = """
[Unit]
After=multi-user.target
[Service]
Type=oneshot
ExecStart=-/usr/bin/python3 /guest.py {checks}
ExecStopPost=/bin/systemctl poweroff --no-block
"""


def for_root(page: str) -> list[Block]:
    return [block for block in blocks(DOCS / page) if "root" in block.marks]


@dataclass(frozen=True, slots=True)
class Installed:
    """`said`: by the first run of scripts/install; `again`: by the second."""

    root: Path
    said: str
    again: str

    def run(self, *command: str, status: int = 0) -> str:
        """What a program says that is run inside, without systemd."""
        env = {"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8",
               "PIP_NO_INDEX": "1", "LABORA_ADMIN_PASSWORD": PASSWORD}  # fmt: skip
        with roots.entered(self.root):
            done = subprocess.run(
                ["chroot", self.root, *command], env=env, capture_output=True, text=True, check=False,
                stdin=subprocess.DEVNULL,
            )  # fmt: skip
        assert done.returncode == status, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout


@contextmanager
def installed() -> Iterator[Installed]:
    """Skips with the reason where no root can be made; in CI as root that is a failure."""
    must = os.environ.get("CI") == "true" and os.getuid() == 0
    if reason := roots.obstacle():
        (pytest.fail if must else pytest.skip)(reason)
    folder = new_state_dir()
    try:
        with roots.layer(folder) as root:
            before = Installed(root, "", "")
            install = f"cd /srv/labora && {for_root('install.md')[0].text}"
            assert HOST in install
            said = before.run("sh", "-ec", install)
            again = before.run("sh", "-ec", install)
            yield Installed(root, said, again)
    except roots.CannotBuild as error:
        (pytest.fail if must else pytest.skip)(str(error))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


Report = dict[str, Any]


def boot(installed: Installed, *checks: str) -> Report:
    """Boots the installed system, has it checked, and returns what was seen once it is off again."""
    units, report = installed.root / "etc/systemd/system", installed.root / "report"
    report.unlink(missing_ok=True)
    shutil.copy(_GUEST, installed.root / "guest.py")
    (_, *others), (upgrade,) = for_root("install.md"), for_root("upgrade.md")
    others += [block for page in PAGES[2:] for block in for_root(page)]
    told = {"upgrade": upgrade.text, "blocks": [(block.where, block.text) for block in others]}
    (installed.root / "pages.json").write_text(json.dumps(told))
    (units / "guest.service").write_text(_UNIT.format(checks=" ".join(checks)))
    wants = units / "graphical.target.wants"
    wants.mkdir(exist_ok=True)
    if not (wants / "guest.service").is_symlink():
        (wants / "guest.service").symlink_to("../guest.service")
    # Its own network: neither our ports nor anybody's. Ended by SIGTERM, never SIGKILL, which leaves the guest running.
    options = ("-q", "--register=no", "--keep-unit", "--private-network", "--boot")
    guest = subprocess.Popen(
        ["systemd-nspawn", "-D", str(installed.root), *options],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        console, _ = guest.communicate(timeout=BOOT_WAIT_S)
    except subprocess.TimeoutExpired:
        guest.terminate()
        console, _ = guest.communicate(timeout=60.0)
    assert report.exists(), console[-3000:]
    found: Report = json.loads(report.read_text())
    return found
