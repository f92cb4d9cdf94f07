"""Framings of drivers' own against a real daemon: it takes what the simulator plays, and kill -9 loses nothing."""

from __future__ import annotations

from pathlib import Path

import asyncpg

from interface.driver import registry
from interface.settings import Address
from interface.simulator import Fault, PlayReport, load, play
from interface.wire.wirelog import Noted, What, decode
from tests.e2e.daemon import Process, eventually, free_ports
from tests.e2e.test_main_job import owner_fetch

LINK = """
[[link]]
id = "{name}"
organization = "main"
driver = "{driver}"
transport = {{ type = "tcp-listen", listen = "127.0.0.1:{port}" }}
"""
SEALED = "select protocol, settled from lab.message where state = 'complete' order by id"


class Bench:
    """A daemon with a link for each of the drivers."""

    def __init__(self, state_dir: Path, folder: Path, *drivers: str) -> None:
        self.daemon = Process(state_dir, folder)
        self.at = {
            name: Address("127.0.0.1", port) for name, port in zip(drivers, free_ports(len(drivers)), strict=True)
        }
        with self.daemon.config.open("a") as config:
            for name, address in self.at.items():
                config.write(LINK.format(name=name.replace("_", "-"), driver=name, port=address.port))

    async def play(self, driver: str, vector: str, fault: Fault = Fault.NONE) -> PlayReport:
        path = next(one.trace for one in registry.vectors(driver) if one.name == vector)
        return await play(load(path, grammar=registry.load(driver).blocks), self.at[driver], fault=fault)

    async def settled(self, count: int) -> list[tuple[str, str]]:
        """(protocol, settled) of every whole message, once there are so many and each is decided."""

        async def probe() -> list[asyncpg.Record] | None:
            rows = await owner_fetch(self.daemon.state_dir, SEALED)
            return rows if len(rows) >= count and all(row["settled"] for row in rows) else None

        return [(row["protocol"], row["settled"]) for row in await eventually(probe)]

    async def refused(self) -> list[str]:
        """Why bytes were refused, once the wire log has a reason."""

        async def probe() -> list[str]:
            rows = await owner_fetch(self.daemon.state_dir, "select events from lab.wire_log order by id")
            events = [event for row in rows for event in decode(row["events"])]
            return [event.text for event in events if isinstance(event, Noted) and event.what is What.REFUSED]

        return await eventually(probe)


async def test_what_a_declared_framing_acknowledged_survives_kill_9_and_is_not_doubled(
    state_dir: Path, tmp_path: Path
) -> None:
    bench = Bench(state_dir, tmp_path, "biomerieux_mini_vidas", "generic_fixed")
    async with bench.daemon:
        for _ in range(2):
            reports = [
                await bench.play("biomerieux_mini_vidas", "result-2"),
                await bench.play("generic_fixed", "result", Fault.CHECKSUM),
            ]
            assert [(report.messages, report.acknowledged) for report in reports] == [(2, 2), (2, 2)]
            assert reports[1].rejections == 1
            await bench.daemon.end(9)
            await bench.daemon.start()
        settled = await bench.settled(8)
        assert sorted(settled) == [("declared", "duplicate")] * 4 + [("declared", "held")] * 4
        (count,) = await owner_fetch(state_dir, "select count(*) from lab.result")
        assert count[0] == 5
        # The wire log is written a moment later, which a kill may take; the journal never.
        assert (await bench.play("generic_fixed", "qc", Fault.CHECKSUM)).rejections == 1
        assert await bench.refused() == ["checksum"]


async def test_a_one_way_device_is_taken_without_a_word(state_dir: Path, tmp_path: Path) -> None:
    bench = Bench(state_dir, tmp_path, "hipro_crp", "arkray_spotchem_el", "generic_csv")
    async with bench.daemon:
        for driver, vector in (
            ("hipro_crp", "lost-byte"),
            ("arkray_spotchem_el", "result-2"),
            ("generic_csv", "result"),
        ):
            report = await bench.play(driver, vector)
            assert (report.complete, report.replies) == (True, ())
        assert len(await bench.settled(4)) == 4
        values = await owner_fetch(
            state_dir,
            "select specimen_as_sent, code, raw_value from lab.result_version order by specimen_as_sent, code",
        )
        assert ("1052", "hs-CRP", "<0.5") in [tuple(row) for row in values]
        assert ("S-900043", "K", "3.1") in [tuple(row) for row in values]
        assert ("S-900061", "GLU", "5.10") in [tuple(row) for row in values]


async def test_hl7_in_lis01_frames_is_acknowledged_frame_by_frame(state_dir: Path, tmp_path: Path) -> None:
    bench = Bench(state_dir, tmp_path, "generic_hl7_lis01")
    async with bench.daemon:
        assert (await bench.play("generic_hl7_lis01", "result")).complete
        await bench.settled(2)  # EOT has ended the second message; before that a kill leaves it incomplete, and held
        await bench.daemon.end(9)
        await bench.daemon.start()
        assert (await bench.play("generic_hl7_lis01", "result")).complete
        settled = await bench.settled(4)
        assert [protocol for protocol, _ in settled] == ["hl7"] * 4
        assert [state == "duplicate" for _, state in settled] == [False, False, True, True]
