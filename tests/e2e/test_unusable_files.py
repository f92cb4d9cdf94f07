"""A configuration or a roster that is wrong on the disk: the daemon goes on, and would not start again."""

from __future__ import annotations

from pathlib import Path

import asyncpg
import pytest

from interface import config
from interface.daemon import started
from interface.ops import machine_watch
from tests.cluster import owner_of
from tests.conftest import FOUNDED
from tests.e2e.daemon import eventually, free_ports

DAEMON = """
state_dir = "{state}"
organizations = ["{organization}"]
[database]
url = "{url}"
[api]
listen = "127.0.0.1:{port}"
[alerts]
roster = "{roster}"
"""


async def test_it_is_an_alert_until_it_is_mended(
    founded_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A word in the log of a reload was all, and after the next power cut neither the daemon nor the doctor, who tells
    people that it does not run, could start: analyzers were answered by nobody, and nobody was told."""
    monkeypatch.setattr(machine_watch, "WATCH_S", 0.05)
    file, roster = tmp_path / "config.toml", tmp_path / "roster.toml"
    text = DAEMON.format(state=tmp_path, organization=FOUNDED, url=founded_url, port=free_ports(1)[0], roster=roster)
    file.write_text(text)
    roster.write_text("holidays = []\n")
    owner = await asyncpg.connect(owner_of(founded_url))

    async def told(standing: bool, word: str) -> bool:
        asked = "select note from lab.alert where kind = 'service' and (recovered_at is null) = $1"
        return any(word in row["note"] for row in await owner.fetch(asked, standing))

    try:
        async with started(config.load(file, {})) as daemon:
            roster.write_text('[[shift]]\nname = "night"\npeople = ["gone"]\n')
            await daemon.reload()
            assert await eventually(lambda: told(True, "roster.shift[0].people[0]"))
            roster.write_text("holidays = []\n")
            assert await eventually(lambda: told(False, "roster.shift[0].people[0]"))
            file.write_text(text + "[retenton]\n")
            assert await eventually(lambda: told(True, "retenton"))
            file.write_text(text)
            assert await eventually(lambda: told(False, "retenton"))
            file.write_text(text.replace(FOUNDED, "nobody"))  # which only the database knows
            await daemon.reload()
            assert await eventually(lambda: told(True, "there is no organization nobody"))
            file.write_text(text)
            assert await eventually(lambda: told(False, "there is no organization nobody"))
    finally:
        await owner.close()
