"""The night in which clocks are set back: an hour is shown twice, and what is said in it is of the one in which it
comes."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from interface.domain.qc import Stream
from interface.domain.qc_state import Meanwhile
from interface.flow import qc_gate
from interface.flow.intake import LinkIntake
from tests.flow.control_bench import ControlBench
from tests.flow.laboratory import Laboratory, laboratory

ZONE = ZoneInfo("Europe/Berlin")  # on that day from 03:00 of summer time to 02:00 of winter time, at 01:00 UTC


async def says(lab: Laboratory, value: str, hour: int, minute: int) -> datetime:
    """The analyzer says a control's value with the time that its clock shows, and it comes then."""
    now = datetime(2026, 10, 25, hour, minute, tzinfo=UTC)
    lab.intake = LinkIntake(lab.context, lab.journal, lambda: now)
    await ControlBench(lab, now.astimezone(ZONE)).send("QC1", value)
    return now


async def state(lab: Laboratory) -> str:
    return str(await lab.owner.fetchval("select state from lab.qc_stream"))


async def test_the_good_control_of_the_first_hour_makes_no_failure_of_the_second_good(database_url: str) -> None:
    """The failure of 02:15 of winter time stood before the good one of 02:45 of summer time: a corrective action was
    enough, and patients' results were released without any control since."""
    async with laboratory(database_url) as lab:
        settings = replace(lab.context.settings, timezone=ZONE.key)
        lab.contexts[lab.context.link_id] = lab.context = replace(lab.context, settings=settings)
        await ControlBench(lab, datetime(2026, 10, 25, tzinfo=UTC)).levels(1)
        good, failed = await says(lab, "7.0", 0, 45), await says(lab, "9.0", 1, 15)
        assert await state(lab) == "fail"
        test_id = await lab.owner.fetchval(
            "select id from lab.test where organization_id = $1 and code = 'WBC'", lab.organization_id
        )
        async with lab.database.transaction(lab.organization_id) as connection:
            await qc_gate.act(
                connection, lab.director, Stream(lab.context.analyzer_id, test_id, ""), "corrective", "needle cleaned",
                meanwhile=Meanwhile.STANDS,
            )  # fmt: skip
        assert await state(lab) == "fail", "nothing was measured since"
        again = await says(lab, "7.1", 1, 40)
        assert await state(lab) == "ok"
        points = await ControlBench(lab, again).found()
        assert [one.measured_at for one in points] == [good, failed, again]
