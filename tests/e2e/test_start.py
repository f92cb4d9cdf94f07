"""A daemon acknowledges as soon as its journal can commit: nothing else is even imported before its links are open."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest

from interface import daemon
from interface.daemon import started
from interface.settings import Address, Transport, TransportType
from tests.bench.yardstick import free_port
from tests.cluster import owner_of
from tests.conftest import FOUNDED
from tests.e2e.daemon import eventually, link, settings
from tests.e2e.standby import Analyzer

# The heaviest of what the API, the worker and a hospital's orders need.
LATER = "aiohttp argon2 interface.api interface.beside interface.flow.hospital interface.flow.results interface.ops jwt"

# Megabytes each.
SELDOM = "PIL cryptography jwt reportlab"


def test_what_no_acknowledgement_needs_is_not_imported_with_the_daemon() -> None:
    program = "import sys, interface.cli.run, interface.daemon; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    found = done.stdout.split()
    assert "interface.store.journal" in found
    assert not set(found).intersection(LATER.split())


def test_what_not_every_daemon_needs_is_imported_when_it_does() -> None:
    """By who asks for a second page, registers a key, signs in with one or has a certificate; who reads a report."""
    program = "import sys, interface.daemon, interface.beside; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    found = done.stdout.split()
    assert "interface.api.app" in found
    assert not set(found).intersection(SELDOM.split())


async def test_links_acknowledge_before_the_rest_is_there_and_it_is_decided_then(
    founded_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at, rest = Address("127.0.0.1", free_port()), daemon._beside
    acknowledged = []

    async def later() -> type[object]:
        analyzer = Analyzer((at,), "E")
        await analyzer.send()
        await analyzer.close()
        acknowledged.extend(analyzer.acknowledged)
        return await rest()

    monkeypatch.setattr(daemon, "_beside", later)
    own = link("hl7", TransportType.MLLP_LISTEN, "generic_hl7", FOUNDED)
    own = replace(own, transport=Transport(TransportType.MLLP_LISTEN, at))
    owner = await asyncpg.connect(owner_of(founded_url))
    try:
        async with started(replace(settings(tmp_path, founded_url), links=(own,))):
            assert len(acknowledged) == 1

            async def decided() -> bool:
                found: int = await owner.fetchval("select count(*) from lab.message where settled is not null")
                return found == 1

            assert await eventually(decided)
    finally:
        await owner.close()
