"""A daemon acknowledges as soon as its journal can commit: nothing else is even imported before its links are open."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest
from structlog.testing import capture_logs

from interface import daemon
from interface.daemon import started
from interface.flow import link_watch
from interface.flow.actors import create_organization
from interface.settings import Address, Transport, TransportType
from interface.store.db import Database
from tests.bench.yardstick import free_port
from tests.cluster import owner_of
from tests.conftest import FOUNDED
from tests.e2e.daemon import eventually, get, link, settings
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


DAMAGED = """
create function lab.damaged() returns trigger language plpgsql as $$ begin
    if current_setting('labora.org') = '{organization}' then
        raise exception 'invalid page in block 7' using errcode = 'XX001';
    end if;
    return null;
end $$;
create trigger damaged before update on lab.message for each statement execute function lab.damaged();
"""


async def test_a_laboratory_whose_cut_transmissions_cannot_be_sealed_keeps_no_other_from_its_analyzers(
    founded_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The start ended there, each time: with a page that is damaged in one laboratory, no analyzer of any had an
    answer. It says that the link is down, and opens it as soon as it can."""
    monkeypatch.setattr(link_watch, "START_LOOKS", 0)
    monkeypatch.setattr(link_watch, "WATCH_S", 0.02)
    database = Database(founded_url)
    await create_organization(database, "other")
    first = await database.find_organization(FOUNDED)
    await database.close()
    owner = await asyncpg.connect(owner_of(founded_url))
    try:
        await owner.execute(DAMAGED.format(organization=first))
        own = (
            link("first", TransportType.MLLP_LISTEN, "generic_hl7", FOUNDED),
            link("second", TransportType.MLLP_LISTEN, "generic_hl7", "other"),
        )
        with capture_logs() as logs:
            async with started(replace(settings(tmp_path, founded_url), links=own)) as daemon:
                assert sorted(daemon.links) == ["second"]
                status, said = await get(daemon.api, "/ready")
                assert (status, "1 links are not up" in said) == (503, True), said
                analyzer = Analyzer((daemon.links["second"],), "E")
                await analyzer.send()
                await analyzer.close()
                assert len(analyzer.acknowledged) == 1

                async def told() -> bool:
                    note = "select note from lab.alert where kind = 'link_down' and subject = 'first'"
                    return "cannot be sealed" in (await owner.fetchval(note) or "")

                await eventually(told)
                await owner.execute("drop trigger damaged on lab.message")

                async def opened() -> bool:
                    return "first" in daemon.links

                await eventually(opened)
                assert (await get(daemon.api, "/ready"))[0] == 200
        assert [one["action"] for one in logs].count("lease.recover") == 1, "not each second"
    finally:
        await owner.close()
