"""An analyzer's controls over a real socket become judged points, and hold what it measures when they fail."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from interface.daemon import started
from interface.domain.permissions import Role
from interface.settings import TransportType
from interface.simulator.analyzer import Worklist, model, simulate
from tests.e2e.daemon import eventually, link, settings
from tests.e2e.people import EmrAndStaff, register_people

DRIVER, CODE, CONTROLS = "horiba_yumizen_h500", "WBC", 5


async def points(people: EmrAndStaff, number: int) -> list[dict[str, Any]] | None:
    found = (await people.ask("GET", f"/api/qc-results?test={CODE}", people.staff))["qc-results"]
    return found if len(found) >= number else None


async def test_a_stream_of_controls_becomes_judged_points(state_dir: Path) -> None:
    hema = link("hema", TransportType.TCP_LISTEN, DRIVER)
    async with started(replace(settings(state_dir), links=(hema,))) as daemon:
        people = await register_people(state_dir, daemon.api, Role.ADMINISTRATOR, Role.LABORATORY_DIRECTOR)

        async def made(path: str, **body: Any) -> str:
            return str((await people.ask("POST", f"/api/{path}", people.staff, body))["id"])

        async def measure(controls: int, ahead_s: int) -> None:
            # The analyzer's own clock, in the link's zone and a little ahead: the target is in force from now on.
            at = datetime.now(UTC).replace(tzinfo=None) + timedelta(seconds=ahead_s)
            work = Worklist(at=at, orders=0, codes=(CODE,), seed=7, controls=controls)
            run = await simulate(model(DRIVER), work, daemon.links["hema"])
            assert run.report.complete, run.report

        await measure(1, 0)
        (unknown,) = await eventually(lambda: points(people, 1))
        assert unknown["problem"]["kind"] == "unknown_control"
        material = await made("qc-materials", name="Difftrol")
        lot = await made(
            "qc-lots", material=material, lot="PX900", level="N", level_number=1,
            identifiers=[unknown["specimen_as_sent"]],
        )  # fmt: skip
        value = float(unknown["value"])
        why = {"reason": "new lot", "lot": lot, "analyzer": "hema", "test": CODE, "unit": "10*3/uL"}
        target = await made("qc-targets", mean=str(value), sd=str(value), **why)
        await measure(CONTROLS, 60)
        found = await eventually(lambda: points(people, 1 + CONTROLS))
        judged = [one["point"] for one in found[:CONTROLS]]
        assert {one["verdict"] for one in judged} == {"accept"}
        assert {(one["lot_id"], one["level"], one["target_id"]) for one in judged} == {(lot, "N", target)}
        assert {one["level_as_sent"] for one in found} == {"CTRL MEDIUM"}
        assert all(one["reagent_lot"] for one in judged)
        status = await people.ask("GET", "/api/qc-results/status", people.staff)
        assert "ok" in str(status)
