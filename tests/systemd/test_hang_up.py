"""`scripts/upgrade` whose terminal goes away: a connection over ssh is lost while the new daemon starts."""

from __future__ import annotations

import fcntl
import os
import pty
import subprocess
import termios
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PATIENCE_S = 60.0
# What it asks of systemd and the database; `restart` ends when the terminal has gone.
PROGRAMS = {
    "systemctl": """case "$*" in
  "restart labora.service") touch {folder}/restarting; until [ -e {folder}/gone ]; do sleep 0.05; done
     if [ -e {folder}/fails ]; then rm {folder}/fails; exit 1; fi ;;
esac
echo "$*" >>{folder}/asked""",
    "psql": "exit 0",
    "journalctl": "echo the log",
}
ELSEWHERE = (
    ("/run/systemd/system", "run"), ("/run/labora", "run/labora"), ("/opt/labora", "opt"), ("/var/log/labora", "log"),
)  # fmt: skip
STUBS = """
make_release() {{ release={folder}/opt/releases/new; }}
compile_release() {{ :; }}
put_units() {{ :; }}
put_credentials() {{ :; }}
owner_url() {{ echo 'postgresql:///labora?host=/nowhere'; }}
"""


def prepared(folder: Path) -> tuple[list[str], dict[str, str]]:
    """The script, its folders elsewhere, and its environment."""
    if os.geteuid() != 0:
        pytest.skip("needs root, as scripts/upgrade does")
    for release in ("old", "new"):
        labora = folder / "opt" / "releases" / release / ".venv" / "bin" / "labora"
        labora.parent.mkdir(parents=True)
        labora.write_text("#!/bin/sh\nexit 0\n")
        labora.chmod(0o755)
    (folder / "opt" / "current").symlink_to(folder / "opt" / "releases" / "old")
    (folder / "run").mkdir()
    for name, text in PROGRAMS.items():
        (folder / name).write_text(f"#!/bin/sh\n{text.format(folder=folder)}\n")
        (folder / name).chmod(0o755)
    for name in ("upgrade", "service"):
        text = (ROOT / "scripts" / name).read_text()
        for path, there in ELSEWHERE:
            text = text.replace(path, str(folder / there))
        (folder / name).write_text(text + (STUBS.format(folder=folder) if name == "service" else ""))
    return ["bash", str(folder / "upgrade"), "--no-backup"], {"PATH": f"{folder}:{os.environ['PATH']}"}


def upgrade(folder: Path) -> subprocess.Popen[bytes]:
    """The script on a terminal of its own, which goes away in the middle of the start."""
    command, environment = prepared(folder)
    ours, its = pty.openpty()
    script = subprocess.Popen(
        command, stdin=its, stdout=its, stderr=its, start_new_session=True, env=environment,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(its)
    until = time.monotonic() + PATIENCE_S
    while not (folder / "restarting").exists():
        assert script.poll() is None and time.monotonic() < until, os.read(ours, 4096)
        time.sleep(0.01)
    os.close(ours)
    (folder / "gone").touch()
    script.wait(PATIENCE_S)
    return script


def test_an_upgrade_whose_terminal_goes_away_is_finished(tmp_path: Path) -> None:
    assert upgrade(tmp_path).returncode == 0
    assert not (tmp_path / "run" / "labora.service.d" / "upgrade.conf").exists(), "a start is as quick as ever again"
    assert (tmp_path / "opt" / "current").resolve().name == "new"
    assert "release in use" in (tmp_path / "log-upgrade.log").read_text().splitlines()[-1]


def test_and_one_that_fails_is_put_back(tmp_path: Path) -> None:
    (tmp_path / "fails").touch()
    assert upgrade(tmp_path).returncode == 1
    assert not (tmp_path / "run" / "labora.service.d" / "upgrade.conf").exists()
    assert (tmp_path / "opt" / "current").resolve().name == "old"
    assert (tmp_path / "asked").read_text().splitlines()[-2:] == ["restart labora.service", "daemon-reload"]
    assert "nothing that was acknowledged is lost" in (tmp_path / "log-upgrade.log").read_text().splitlines()[-1]


def test_otherwise_it_says_all_of_it_before_it_ends(tmp_path: Path) -> None:
    command, environment = prepared(tmp_path)
    (tmp_path / "gone").touch()
    (tmp_path / "fails").touch()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    said = done.stdout.splitlines()
    assert said[0].startswith("check ") and "the new release does not run" in said[-4] and said[-3] == "the log"
    assert said[-1].endswith("runs again; nothing that was acknowledged is lost")


def test_another_that_is_begun_meanwhile_says_that_one_is_under_way(tmp_path: Path) -> None:
    """As whoever lost the connection does: it said that the new release is in use, of which nobody knew that yet."""
    command, environment = prepared(tmp_path)
    (tmp_path / "fails").touch()
    first = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + PATIENCE_S
    while not (tmp_path / "restarting").exists():
        assert first.poll() is None and time.monotonic() < until
        time.sleep(0.01)
    second = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    (tmp_path / "gone").touch()
    assert first.wait(PATIENCE_S) == 1
    assert second.returncode == 1 and f"what it says is in {tmp_path}/log-upgrade.log" in second.stderr, second.stdout
    assert (tmp_path / "opt" / "current").resolve().name == "old"
    again = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr


def test_one_that_does_not_run_is_started_as_the_new_release(tmp_path: Path) -> None:
    """A standby is stopped while the other machine changes the schema (docs/standby.md), and its release does not start
    on that any more: it was to be mended first, by nothing. So was a new release that has stored something."""
    command, environment = prepared(tmp_path)
    (tmp_path / "gone").touch()
    systemctl = tmp_path / "systemctl"
    stopped = f'[ "$1" != is-active ] || [ -e {tmp_path}/restarting ] || exit 3'
    systemctl.write_text(systemctl.read_text().replace("#!/bin/sh\n", f"#!/bin/sh\n{stopped}\n"))
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, (tmp_path / "opt" / "current").resolve().name) == (0, "new"), done.stderr
