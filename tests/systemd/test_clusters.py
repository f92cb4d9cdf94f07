"""Which of a machine's PostgreSQL clusters scripts/install takes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
OLD, NEW = "15 main 5432 online postgres /var/lib/postgresql/15/main", "17 main 5433 online postgres /var/lib/17/main"


def chosen(folder: Path, clusters: list[str], owner_env: str = "") -> subprocess.CompletedProcess[str]:
    """What the script's own function says, with its folders elsewhere and these clusters on the machine."""
    if os.geteuid() != 0:
        pytest.skip("needs root, as scripts/install does")
    etc = folder / "etc"
    etc.mkdir()
    if owner_env:
        (etc / "owner.env").write_text(owner_env)
    text = (ROOT / "scripts" / "install").read_text().split("\nsystem\n")[0]
    (folder / "install").write_text(f"{text}\ncluster\necho $version $port\n".replace("/etc/labora", str(etc)))
    (folder / "service").write_text((ROOT / "scripts" / "service").read_text().replace("/etc/labora", str(etc)))
    lists = folder / "pg_lsclusters"  # Debian's, which lists all of them or that of a version and name
    lists.write_text('#!/bin/sh\nshift\ngrep "^$1 *$2" <<EOF\n' + "\n".join(clusters) + "\nEOF\n")
    lists.chmod(0o755)
    return subprocess.run(
        ["bash", str(folder / "install")], capture_output=True, text=True, check=False,
        env={"PATH": f"{folder}:{os.environ['PATH']}"},
    )  # fmt: skip


def test_at_first_the_newest(tmp_path: Path) -> None:
    assert chosen(tmp_path, [OLD, NEW]).stdout == "17 5433\n"


def url(port: int) -> str:
    return f"LABORA_DATABASE_URL='postgresql:///labora?host=/run/postgresql&port={port}&user=labora_owner'\n"


def test_run_again_after_the_system_was_upgraded_that_which_has_the_database(tmp_path: Path) -> None:
    """A new Debian brings an empty cluster beside it. What runs as the owner was sent there, the nightly backup too."""
    done = chosen(tmp_path, [OLD, NEW], url(5432))
    assert (done.stdout, done.returncode) == ("15 5432\n", 0), done.stderr


def test_once_the_cluster_was_upgraded_the_new_one_at_the_same_port(tmp_path: Path) -> None:
    moved = [OLD.replace("5432 online", "5433 down"), NEW.replace("5433", "5432")]  # as pg_upgradecluster leaves them
    assert chosen(tmp_path, moved, url(5432)).stdout == "17 5432\n"


def test_where_it_is_not_there_nothing_is_made_anew(tmp_path: Path) -> None:
    done = chosen(tmp_path, [NEW], url(5432))
    assert done.returncode == 1 and "no PostgreSQL cluster 'main' on port 5432" in done.stderr
