"""What scripts/install takes its names from where it is run again without its options, as docs/install.md says."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


def said(folder: Path, last: str, *options: str) -> subprocess.CompletedProcess[str]:
    """What the script's functions say, with its folders elsewhere."""
    if os.geteuid() != 0:
        pytest.skip("needs root, as scripts/install does")
    for name, more in (("install", f"\n{last}\n"), ("service", "")):
        text = (ROOT / "scripts" / name).read_text().split("\nsystem\n")[0] + more
        (folder / name).write_text(text.replace("/etc/labora", str(folder / "etc")))
    return subprocess.run(
        ["bash", str(folder / "install"), *options], capture_output=True, text=True, check=False,
        env={"PATH": os.environ["PATH"]},
    )  # fmt: skip


def named(folder: Path, *options: str) -> str:
    """The host and the laboratory."""
    return said(folder, "echo $host $organization", *options).stdout.strip()


def test_it_stays_what_it_was_installed_as(tmp_path: Path) -> None:
    """Another laboratory was made, with an administrator, and nginx answered to another name."""
    etc = tmp_path / "etc"
    etc.mkdir()
    assert named(tmp_path).endswith(" main")
    assert named(tmp_path, "--host", "lab.example.org", "--organization", "north") == "lab.example.org north"
    (etc / "labora.env").write_text("LABORA_ORGANIZATION=north\n")
    (etc / "config.toml").write_text('[api]\nlisten = "127.0.0.1:8080"\nbase_url = "https://lab.example.org"\n')
    assert named(tmp_path) == "lab.example.org north"
    assert named(tmp_path, "--organization", "south") == "lab.example.org south"


def test_the_owners_url_is_of_the_database_that_the_daemon_works_on(tmp_path: Path) -> None:
    """With the daemon's database elsewhere the nightly backup went on being of the empty one that was installed."""
    etc = tmp_path / "etc"
    (etc / "credentials").mkdir(parents=True)
    owner = "LABORA_DATABASE_URL='postgresql:///labora?host=/run/postgresql&port=5432&user=labora_owner'\n"
    (etc / "owner.env").write_text(owner)
    handed = etc / "credentials" / "database-url"

    def elsewhere() -> str:
        return said(tmp_path, "database_elsewhere; echo $elsewhere").stdout.strip()

    assert elsewhere() == ""
    for here in (
        "postgresql:///labora?host=/run/postgresql&user=labora_app",
        "postgresql://labora_app:hush@localhost/labora",
    ):
        handed.write_text(here)
        assert elsewhere() == ""
    handed.write_text("postgresql://labora_app:secret@db.lab.example/labora")
    refused = said(tmp_path, "database_elsewhere")
    assert refused.returncode == 1 and "put the URL of its owner there" in refused.stderr
    (etc / "owner.env").write_text("LABORA_DATABASE_URL='postgresql://labora_owner:other@db.lab.example/labora?'\n")
    assert elsewhere() == "1"
