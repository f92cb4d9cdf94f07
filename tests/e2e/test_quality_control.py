"""Controls over a real link, and what they mean for the patients' results of that link."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

from interface.domain.permissions import Role
from interface.domain.views import Actor, ActorKind
from interface.flow import actors
from interface.settings import DatabaseSettings, Settings
from interface.simulator import parse_source, play
from interface.store.embedded import opened_database
from interface.store.ids import uuid7
from tests.e2e.daemon import eventually, running
from tests.e2e.people import EmrAndStaff, register_people
from tests.flow.controls import IN_CONTROL
from tests.flow.laboratory import message
from tests.flow.rulebook import LOINC, put_text_in_force, sent

BEFORE, AFTER = ["B0", "B1"], [f"A{number:02}" for number in range(50)]
NOW = datetime.now(UTC)


def at(minutes: float) -> str:
    return f"{NOW - timedelta(minutes=minutes):%Y%m%d%H%M%S}"


def control(minutes: float, value: str) -> list[str]:
    return message(
        "O|1|QC1||^^^CHEM|R||||||Q", f"R|1|^^^{LOINC['NA']}|{value}|mmol/L||N||F||||{at(minutes)}",
        control=f"Q{minutes}",
    )  # fmt: skip


async def prepare(state_dir: Path, people: EmrAndStaff) -> None:
    """A material with its target, rules that ask for quality control, and what is ordered."""
    why = {"reason": "new lot"}
    await people.ask("POST", "/api/qc-materials", people.staff, {"name": "Serum", "manufacturer": "Maker"})
    lot = {"material": "Serum", "lot": "4711", "level": "normal", "level_number": 1, "identifiers": ["QC1"]}
    await people.ask("POST", "/api/qc-lots", people.staff, lot)
    target = {"lot": "4711", "analyzer": "astm", "test": "NA", "mean": "140", "sd": "2", "unit": "mmol/L"}
    begin = {"valid_from": (NOW - timedelta(days=2)).isoformat()}
    await people.ask("POST", "/api/qc-targets", people.staff, why | target | begin)
    for barcode in ("OLD", *BEFORE, *AFTER):
        await people.order(barcode, "NA")
    async with opened_database(Settings(state_dir, DatabaseSettings("embedded"))) as database:
        organization_id = await actors.find_organization(database, "main")
        director = Actor(ActorKind.USER, uuid7(), "dora", organization_id, frozenset({"rule:write", "rule:read"}))
        async with database.transaction(organization_id) as connection:
            await put_text_in_force(connection, director, IN_CONTROL)


async def test_a_link_sends_a_failing_control_and_fifty_patients(state_dir: Path) -> None:
    """All fifty are held with the reason; a control in range and an action release them; who was released since the
    last good control is on the list, and nobody else."""
    async with running(state_dir) as daemon:
        people = await register_people(state_dir, daemon.api, Role.ADMINISTRATOR, Role.LABORATORY_DIRECTOR)
        await prepare(state_dir, people)

        async def send(records: list[str]) -> None:
            report = await play(parse_source("".join(f"{one}\r" for one in records).encode()), daemon.links["astm"])
            assert report.complete, report

        async def patients(*barcodes: str, minutes: float) -> None:
            for number, barcode in enumerate(barcodes):
                await send(sent(barcode, {"NA": "140"}, control=barcode, at=at(minutes - number / 10)))

        async def state() -> tuple[str, str]:
            found = (await people.ask("GET", "/api/qc-results/status?test=NA", people.staff))["streams"]
            return (found[0]["state"], found[0]["wanted"]) if found else ("", "")  # none before the first is judged

        async def stands(*wanted: str) -> bool:
            return await state() == wanted

        async def said(number: int) -> Counter[tuple[str, str]] | None:
            found = (await people.ask("GET", "/api/results?limit=500", people.staff))["results"]
            whole: Counter[tuple[str, str]] = Counter((one["status"], " ".join(one["held"])) for one in found)
            return whole if len(found) == number else None

        await send(control(300, "141"))
        await eventually(lambda: stands("ok", ""))
        await patients("OLD", minutes=290)
        await send(control(200, "139"))
        await patients(*BEFORE, minutes=190)
        assert await eventually(lambda: said(3)) == {("final", ""): 3}
        await send(control(100, "149"))
        await patients(*AFTER, minutes=90)
        assert await eventually(lambda: said(53)) == {("final", ""): 3, ("registered", "qc_failed"): 50}
        assert len(await people.observations()) == 3

        await send(control(30, "140"))
        done = {"analyzer": "astm", "test": "NA", "text": "needle cleaned", "meanwhile": "stands"}
        await eventually(lambda: stands("fail", "a documented corrective action"))
        assert await said(53) == {("final", ""): 3, ("registered", "qc_failed"): 50}
        assert (await people.ask("POST", "/api/qc-actions", people.staff, done))["state"] == "ok"
        assert await said(53) == {("final", ""): 53}

        (listed,) = (await people.ask("GET", "/api/qc-lookbacks", people.staff))["lookbacks"]
        shown = await people.ask("GET", f"/api/qc-lookbacks/{listed['id']}", people.staff)
        assert [one["barcode"] for one in shown["items"]] == BEFORE
        right = {"decision": "stands", "reason": "measured again, the same", "version": listed["version"]}
        closed = await people.ask("POST", f"/api/qc-lookbacks/{listed['id']}/decide", people.staff, right)
        assert closed["lookback"]["state"] == "closed"
