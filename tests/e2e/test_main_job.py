"""The main job over real sockets: an analyzer's bytes in, a FHIR Observation out; and what happens when parts fail."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest

from interface.daemon import started
from interface.domain.permissions import Role
from interface.errors import LaboraError
from interface.settings import Address
from interface.simulator import PlayReport, parse_source, play
from interface.store.embedded import EmbeddedPostgres
from interface.store.schema import OWNER_ROLE
from tests.e2e.daemon import Process, eventually, get, running, settings
from tests.e2e.people import register_people

ASTM = (
    b"H|\\^&|%s||Testmaker^Bench^1||||||||LIS2-A2|20260102030405\rP|1||P-1||Muster^Maria||19800501|F\r"
    b"O|1|%s||^^^CBC|R\rR|1|^^^WBC|7.35|10*3/uL||N||F||||20260102030000\r"
    b"R|2|^^^NEWTEST|1|U||N||F||||20260102030000\rL|1|N\r"
)
HL7 = (
    b"MSH|^~\\&|BENCH|LAB|MIDDLEWARE|LAB|20260102030405||ORU^R01^ORU_R01|%s|P|2.5.1\rPID|1||P-1^^^TEST||MUSTER^MARIA\r"
    b"OBR|1|||CBC\rOBX|1|NM|2823-3^Potassium^LN||4.10|mmol/L|3.5-5.1|N|||F|||20260102030000\rSPM|1|%s||SER\r"
)


async def send(address: Address, message: bytes) -> PlayReport:
    return await play(parse_source(message), address)


async def taken(address: Address, message: bytes) -> bool:
    """Send until it is acknowledged, as analyzers do: where commits may wait only briefly, a slow disk refuses too."""

    async def complete() -> bool:
        return (await send(address, message)).complete

    return await eventually(complete)


async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, frame: bytes) -> None:
    """Send a frame until it is acknowledged; see `taken`."""
    reply = b"\x15"
    while reply == b"\x15":
        writer.write(frame)
        reply = await reader.readexactly(1)
    assert reply == b"\x06"


async def test_an_analyzers_bytes_become_a_fhir_observation_once_a_person_has_released_it(
    empty_state_dir: Path,
) -> None:
    async with running(empty_state_dir) as daemon:
        people = await register_people(empty_state_dir, daemon.api, Role.ADMINISTRATOR, Role.TECHNOLOGIST)
        await people.order("S1", "WBC", "K")
        reports = await asyncio.gather(
            send(daemon.links["astm"], ASTM % (b"C1", b"S1")), send(daemon.links["hl7"], HL7 % (b"C2", b"S1"))
        )
        assert all(report.complete for report in reports), reports
        assert b"MSA|AA|C2" in reports[1].replies[0]
        results = await eventually(lambda: people.results(3))
        assert await people.observations() == [], "nobody has released anything"
        for result in results:
            if not result["held"]:
                await people.release(result["id"])
        seen = {one["code"]["text"]: one["valueQuantity"] for one in await people.observations()}
        assert {name: (value["value"], value["code"]) for name, value in seen.items()} == {
            "Leukocytes": ("7.35", "10*3/uL"),
            "Potassium": ("4.10", "mmol/L"),
        }
        (held,) = [result for result in results if result["held"]]
        assert held["held"] == ["unmapped_code"]


async def test_what_was_acknowledged_survives_kill_9_and_a_resend_is_not_doubled(
    state_dir: Path, tmp_path: Path
) -> None:
    daemon = Process(state_dir, tmp_path)
    async with daemon:
        reports = [await send(daemon.hl7, HL7 % (b"K%d" % number, b"S%d" % number)) for number in range(5)]
        reports.append(await send(daemon.astm, ASTM % (b"K9", b"S9")))
        assert all(report.complete for report in reports)
        await daemon.end(9)
        await daemon.start()
        again = [await send(daemon.hl7, HL7 % (b"K%d" % number, b"S%d" % number)) for number in range(5)]
        again.append(await send(daemon.astm, ASTM % (b"K9", b"S9")))
        assert all(report.complete for report in again), "a resend is answered again"

        async def settled() -> list[asyncpg.Record] | None:
            rows = await owner_fetch(state_dir, "select control_id, settled from lab.message order by id")
            return rows if all(row["settled"] for row in rows) else None

        rows = await eventually(settled)
        stored = [row["control_id"] for row in rows if row["settled"] != "duplicate"]
        assert sorted(stored) == ["K0", "K1", "K2", "K3", "K4", "K9"]
        assert len(rows) == 12
        count = await owner_fetch(state_dir, "select count(*) from lab.result")
        assert count[0][0] == 7
        assert await daemon.end() == 0, "SIGTERM is a clean end"


async def test_a_transmission_cut_by_kill_9_is_kept_and_superseded_by_its_resend(
    state_dir: Path, tmp_path: Path
) -> None:
    daemon = Process(state_dir, tmp_path)
    frames = parse_source(ASTM % (b"K1", b"S1")).transmissions[0]
    async with daemon:
        reader, writer = await asyncio.open_connection(daemon.astm.host, daemon.astm.port)
        for data in (b"\x05", *frames[:-1]):
            writer.write(data)
            assert await reader.readexactly(1) == b"\x06"
        await daemon.end(9)
        writer.close()
        await daemon.start()

        async def states() -> set[tuple[str, str]]:
            rows = await owner_fetch(state_dir, "select state, settled from lab.message where settled is not null")
            return {(row["state"], row["settled"]) for row in rows}

        await eventually(lambda: _has(states, ("incomplete", "held")))
        assert (await send(daemon.astm, ASTM % (b"K1", b"S1"))).complete
        await eventually(lambda: _has(states, ("complete", "held")))
        held = await owner_fetch(state_dir, "select held from lab.result")
        assert all("incomplete_transmission" not in row["held"] for row in held)
        assert len(held) == 2


async def test_while_postgresql_is_stopped_nothing_is_acknowledged_and_the_links_recover_by_themselves(
    state_dir: Path, tmp_path: Path
) -> None:
    server = EmbeddedPostgres(state_dir)
    await server.start()
    (daemon_dir := state_dir / "daemon").mkdir()
    try:
        async with running(daemon_dir, server.url(OWNER_ROLE), commit_wait_s=0.5) as daemon:
            assert await taken(daemon.links["hl7"], HL7 % (b"A1", b"S1"))
            await server.stop()
            refused = await send(daemon.links["hl7"], HL7 % (b"A2", b"S2"))
            assert not refused.complete
            assert b"MSA|AR|A2" in refused.replies[0]
            reader, writer = await asyncio.open_connection(daemon.links["astm"].host, daemon.links["astm"].port)
            writer.write(b"\x05")
            assert await reader.readexactly(1) == b"\x15", "busy: NAK to ENQ"
            assert (await get(daemon.api, "/ready"))[0] == 503
            assert (await get(daemon.api, "/health"))[0] == 200
            await server.start()

            async def ready() -> bool:
                return (await get(daemon.api, "/ready"))[0] == 200

            await eventually(ready)
            writer.write(b"\x05")
            assert await reader.readexactly(1) == b"\x06", "the same connection goes on"
            writer.close()
            assert await taken(daemon.links["hl7"], HL7 % (b"A2", b"S2"))
            assert await taken(daemon.links["astm"], ASTM % (b"A3", b"S3"))
            connection = await asyncpg.connect(server.url(OWNER_ROLE))
            stored = await connection.fetch(
                "select control_id from lab.message where state = 'complete' and settled is distinct from 'duplicate'"
            )
            await connection.close()
            assert sorted(row["control_id"] for row in stored) == ["A1", "A2", "A3"]
    finally:
        await server.stop()


async def test_a_frame_in_mid_session_is_refused_while_postgresql_is_away_and_taken_afterwards(state_dir: Path) -> None:
    server = EmbeddedPostgres(state_dir)
    await server.start()
    (daemon_dir := state_dir / "daemon").mkdir()
    frames = parse_source(ASTM % (b"M1", b"S1")).transmissions[0]
    try:
        async with running(daemon_dir, server.url(OWNER_ROLE), commit_wait_s=0.5) as daemon:
            reader, writer = await asyncio.open_connection(daemon.links["astm"].host, daemon.links["astm"].port)
            for data in (b"\x05", frames[0]):
                await exchange(reader, writer, data)
            await server.stop()
            writer.write(frames[1])
            assert await reader.readexactly(1) == b"\x15"
            await server.start()
            for data in frames[1:]:
                await exchange(reader, writer, data)
            writer.write(b"\x04")
            writer.close()
            connection = await asyncpg.connect(server.url(OWNER_ROLE))
            stored = await connection.fetchrow("select state, control_id from lab.message")
            await connection.close()
            assert stored is not None
            assert tuple(stored) == ("complete", "M1")
    finally:
        await server.stop()


async def test_a_taken_port_is_one_clear_sentence(state_dir: Path, tmp_path: Path) -> None:
    holder = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    daemon = Process(state_dir, tmp_path)
    port = holder.sockets[0].getsockname()[1]
    daemon.config.write_text(daemon.config.read_text().replace(str(daemon.astm), f"127.0.0.1:{port}"))
    async with holder:
        with pytest.raises(AssertionError) as said:
            await daemon.start()
    last = str(said.value).strip().splitlines()[-1]
    assert "Traceback" not in str(said.value)
    assert f"127.0.0.1:{port}" in last
    assert "astm" in last


async def test_an_unknown_organization_is_reported_with_its_place_once_others_exist(state_dir: Path) -> None:
    async with running(state_dir):
        pass
    wrong = settings(state_dir)
    wrong = replace(wrong, links=tuple(replace(one, organization="mian") for one in wrong.links))
    with pytest.raises(LaboraError, match=r"link\[0\]\.organization: there is no organization mian"):
        async with started(wrong):
            pass


async def test_the_first_start_makes_all_organizations_that_links_name(empty_state_dir: Path) -> None:
    two = settings(empty_state_dir)
    two = replace(two, links=(two.links[0], replace(two.links[1], organization="branch")))
    async with started(two):
        rows = await owner_fetch(empty_state_dir, "select name from lab.organization order by name")
        assert [row["name"] for row in rows] == ["branch", "main"]


async def owner_fetch(state_dir: Path, query: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(EmbeddedPostgres(state_dir).url(OWNER_ROLE))
    try:
        return await connection.fetch(query)
    finally:
        await connection.close()


async def _has(states: Callable[[], Awaitable[set[tuple[str, str]]]], wanted: tuple[str, str]) -> bool:
    return wanted in await states()
