"""A control beyond the measuring range: it fails where that is certain, and counts for nothing else."""

from __future__ import annotations

import pytest

from interface.flow import qc_gate, qc_people
from interface.flow.qc_people import Entry
from interface.store import qc as rows
from interface.store.qc import AnalysisFilter
from tests.flow.control_bench import ControlBench, control_bench, judged
from tests.flow.laboratory import laboratory

FAILS, NOT_JUDGED = ("reject", "1-3s"), ("unknown", "")


async def state(at: ControlBench) -> str:
    return str(await at.lab.owner.fetchval("select state from lab.qc_stream"))


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (">50", "10*9/L", FAILS),
        ("<0.5", "10*9/L", FAILS),
        (">7.3", "10*9/L", FAILS),  # more than 3 SD
        (">=7.31", "10*9/L", FAILS),
        ("<=6.69", "10*9/L", FAILS),
        (">=7.3", "10*9/L", NOT_JUDGED),  # 3 SD is within
        (">50000", "10*6/L", FAILS),
        (">7.29", "10*9/L", NOT_JUDGED),
        ("<6.71", "10*9/L", NOT_JUDGED),
        ("<50", "10*9/L", NOT_JUDGED),
        (">1", "10*9/L", NOT_JUDGED),
        (">50", "mmol/L", NOT_JUDGED),
        ("POS", "10*9/L", NOT_JUDGED),
    ],
)
async def test_what_a_comparator_says_for_certain_counts(
    database_url: str, value: str, unit: str, expected: tuple[str, str]
) -> None:
    async with laboratory(database_url) as lab:
        at = control_bench(lab)
        await at.levels(1)
        await at.send("QC1", "7.0", 60)
        await at.send("QC1", value, 30, unit=unit)
        assert judged(await at.found())[-1] == (value, *expected)
        assert await state(at) == ("fail" if expected == FAILS else "ok")


async def test_it_counts_in_no_statistic_and_for_no_rule_and_stays_a_failure(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        at = control_bench(lab)
        (lot,) = await at.levels(1)
        await at.send("QC1", "7.0", 60)
        async with lab.database.transaction(lab.organization_id) as connection:
            entry = Entry("bench", "WBC", f"{lot.lot}/{lot.level}", ">50")
            entered = await qc_people.enter(connection, lab.director, entry)
        assert entered.point is not None
        assert (entered.point.verdict, entered.point.number, entered.point.z) == ("reject", None, None)
        assert await state(at) == "fail"
        await at.send("QC1", "7.25", 0)  # one beyond 2 SD by itself
        assert judged(await at.found())[-1] == ("7.25", "accept", "")
        async with lab.database.transaction(lab.organization_id) as connection:
            (one,) = await qc_people.analysis(connection, AnalysisFilter(*qc_people.window(None, None)))
            stream = await rows.stream_of(connection, entered.id)
            found = await qc_gate.refresh(connection, lab.director, stream, "another plan")
        assert (one.n, found) == (2, "fail")
