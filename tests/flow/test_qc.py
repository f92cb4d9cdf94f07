"""Controls become judged points by themselves; what cannot is kept, and a person sees why."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from interface import telemetry
from interface.cli.trace import control_line
from interface.flow.trace import trace
from interface.store.qc_lots import TargetFilter, find_targets
from tests.flow.control_bench import control_bench, judged
from tests.flow.laboratory import laboratory, message


async def test_a_control_is_recognised_converted_compared_and_judged(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        at = control_bench(lab)
        one, two = await at.levels(1, 2)
        await at.send("QC1", "7.15", 30)
        await at.send("QC2", "7250", 28, unit="10*6/L")
        await at.send("QC1", "7.21", 10)
        first, second, third = await at.found()
        assert judged([first, second, third]) == [
            ("7.15", "accept", ""), ("7250", "accept", ""), ("7.21", "accept", "")
        ]  # fmt: skip
        assert first.point is not None and second.point is not None and third.point is not None
        assert (first.point.z, second.point.z, third.point.z) == (Decimal("1.5"), Decimal("2.5"), Decimal("2.1"))
        assert (second.point.number, second.point.unit, second.sent_unit) == (Decimal("7.250"), "10*3/uL", "10*6/L")
        assert (first.point.lot_id, second.point.lot_id) == (one.id, two.id)
        assert first.point.run_id == second.point.run_id != third.point.run_id
        explained = await at.shown(second)
        assert explained.point is not None
        assert [(step.step, step.verdict) for step in explained.point.steps] == [
            ("recognise", "ok"), ("unit", "ok"), ("target", "ok"), ("z", "ok"), ("run", "ok"), ("rules", "ok")
        ]  # fmt: skip
        assert explained.point.steps[0].text == "Norm, lot 77/2"
        assert await lab.owner.fetchval("select state from lab.qc_stream") == "ok"


async def test_controls_of_a_lot_that_never_expires_are_judged(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        at = control_bench(lab)
        await at.levels(1)
        old = await at.lot(1, "OLD1", number="76", expires_on=date.max)
        await at.target(old, "7", "0.1", "10*9/L")
        await at.lot(1, "NEW1", number="78", expires_on=date.max)
        for specimen in ("OLD1", "NEW1", "QC1"):
            await at.send(specimen, "7.05", 20)
        assert judged(await at.found()) == [("7.05", "accept", ""), ("7.05", "unknown", ""), ("7.05", "accept", "")]
        assert ("complete", "parked") not in await lab.messages()
        async with lab.database.organization(lab.organization_id) as connection:
            until = {one.lot: one.lot_until for one in await find_targets(connection, TargetFilter())}
        assert until == {"76": datetime.max.replace(tzinfo=UTC), "77": None}, "as `domain.qc_lots.until` has it"


async def test_rules_are_broken_within_the_run_and_over_runs(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        at = control_bench(lab)
        await at.levels(1, 2)
        await at.send("QC1", "7.22", 300)
        await at.send("QC1", "7.23", 200)  # 2-2s within the level
        await at.send("QC2", "6.78", 195)  # R-4s within the run
        await at.send("QC2", "7.31", 100)
        found = judged(await at.found())
        assert found == [("7.22", "accept", ""), ("7.23", "reject", "2-2s"), ("6.78", "reject", "R-4s"),
                         ("7.31", "reject", "1-3s")]  # fmt: skip
        assert await lab.owner.fetchval("select state from lab.qc_stream") == "fail"


async def test_what_comes_late_is_judged_in_its_place_and_changes_nothing_that_was_judged(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        at = control_bench(lab)
        await at.levels(1)
        await at.send("QC1", "7.25", 100)
        before = await lab.owner.fetch("select * from lab.qc_point")
        await at.send("QC1", "7.24", 200)  # measured before it
        late = (await at.found())[1]
        assert judged([late]) == [("7.24", "reject", "2-2s")]
        assert late.point is not None
        assert (await at.shown(late)).point.steps[-1].text.endswith("with what was measured after it: 2-2s")  # type: ignore[union-attr]
        after = await lab.owner.fetch("select * from lab.qc_point where qc_result_id = $1", before[0]["qc_result_id"])
        assert after == before
        assert await lab.owner.fetchval("select state from lab.qc_stream") == "fail"


UNKNOWN = [
    ("QC9", "7.1", "WBC", "unknown_control", "no lot of a control is called so"),
    ("QC1", "7.1", "XYZ", "unmapped_code", "no test is mapped to its code"),
    ("S1", "7.1", "WBC", "patient_id", "its id is the barcode of a patient's specimen"),
    ("77", "7.1", "WBC", "ambiguous_control", "it may be of Norm/77/1, Norm/77/3"),
]


@pytest.mark.parametrize(("specimen", "value", "code", "problem", "text"), UNKNOWN, ids=[one[3] for one in UNKNOWN])
async def test_a_control_that_makes_no_point_is_kept_and_somebody_is_told(
    database_url: str, specimen: str, value: str, code: str, problem: str, text: str
) -> None:
    async with laboratory(database_url) as lab:
        at = control_bench(lab)
        await at.levels(1, 3)
        await at.lot(4, "S1", number="78", material="Other")
        await lab.order("S1", "WBC")
        counted = telemetry.REGISTRY.get_sample_value("labora_qc_problems_total", {"problem": problem}) or 0
        await at.send(specimen, value, code=code)
        (one,) = await at.found(problems=True)
        assert one.problem is not None
        assert (one.problem.kind, one.problem.text, one.point) == (problem, text, None)
        audited = await lab.owner.fetchrow("select entity_id, detail from lab.audit_event where action = 'qc_problem'")
        assert audited is not None and audited["entity_id"] == one.id
        now = telemetry.REGISTRY.get_sample_value("labora_qc_problems_total", {"problem": problem})
        assert now == counted + 1
        assert await lab.results() == []
        assert await lab.owner.fetchval("select count(*) from lab.qc_stream") == 0


async def test_what_was_cut_makes_no_point_and_the_whole_message_does(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        at = control_bench(lab)
        await at.levels(1)
        whole = message(
            "P|1", "O|1|QC1||^^^WBC|R||||||Q", f"R|1|^^^WBC|7.1|10*9/L||N||F||||{at.stamp(5)}", "R|2|^^^HGB|1|g/dL"
        )
        await lab.send(whole[:4], end="timeout")
        await lab.settle()
        assert judged(await at.found()) == [("7.1", "", "incomplete_transmission")]
        await lab.send(whole)
        await lab.settle()
        assert judged(await at.found(test="WBC")) == [("7.1", "", "incomplete_transmission"), ("7.1", "accept", "")]


@pytest.mark.parametrize(
    ("value", "unit", "why"),
    [
        ("<7.1", "10*9/L", "<7.1 is no number"),
        ("----", "10*9/L", "---- is no number"),
        ("POS", "", "POS is no number"),
        ("7.1", "furlong", "unknown unit 'furlong'"),
        ("7.1", "", "no unit was sent and the map names none"),
    ],
)
async def test_what_cannot_be_compared_is_a_point_that_is_not_judged(
    database_url: str, value: str, unit: str, why: str
) -> None:
    async with laboratory(database_url) as lab:
        at = control_bench(lab)
        await at.levels(1)
        await at.send("QC1", value, unit=unit)
        (one,) = await at.found()
        assert one.point is not None
        assert (one.point.verdict.value, one.point.z, one.point.number) == ("unknown", None, None)
        assert (await at.shown(one)).point.steps[-1].text == f"unknown: {why}"  # type: ignore[union-attr]


async def test_without_a_target_it_is_counted_and_not_judged(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        at = control_bench(lab)
        await at.lot(1, "QC1")
        await at.send("QC1", "7100", unit="10*6/L")
        (one,) = await at.found()
        assert one.point is not None
        assert (one.point.verdict.value, one.point.number, one.point.target_id) == ("unknown", Decimal("7.100"), None)


async def test_an_analyzer_without_a_clock_makes_a_second_point_of_the_same_words(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        at = control_bench(lab)
        await at.levels(1)
        await at.send("QC1", "7.1", None, control="")
        await at.send("QC1", "7.1", None, control="other")  # another message: no resend whatever the bytes
        assert judged(await at.found()) == [("7.1", "accept", "")] * 2


async def test_a_failing_control_holds_the_patients_results_of_its_own_message(database_url: str) -> None:
    """What the message says of the analyzer is about them too."""
    async with laboratory(database_url) as lab:
        at = control_bench(lab)
        await at.levels(1)
        await lab.order("S1", "WBC")
        await at.send("QC1", "7.1", 200)
        await lab.send(
            message(
                "P|1", "O|1|S1||^^^WBC|R", f"R|1|^^^WBC|7.35|10*9/L||N||F||||{at.stamp(90)}",
                "P|2", "O|1|QC1||^^^WBC|R||||||Q", f"R|1|^^^WBC|7.9|10*9/L||N||F||||{at.stamp(100)}",
            )
        )  # fmt: skip
        await lab.settle()
        (result,) = await lab.results()
        assert [reason.value for reason in result.held] == ["qc_failed"]


async def test_a_trace_tells_of_the_controls_of_an_id_and_of_a_specimens_messages(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        at = control_bench(lab)
        await at.levels(1)
        await lab.order("S1", "WBC")
        await lab.send(
            message(
                "P|1", "O|1|S1||^^^WBC|R", f"R|1|^^^WBC|7.35|10*9/L||N||F||||{at.stamp(90)}",
                "P|2", "O|1|QC1||^^^WBC|R||||||Q", f"R|1|^^^WBC|7.1|10*9/L||N||F||||{at.stamp(100)}",
            )
        )  # fmt: skip
        await at.send("S1", "7.2", 5)  # run as a control
        async with lab.database.organization(lab.organization_id) as connection:
            of_specimen, of_control = await trace(connection, "S1"), await trace(connection, "QC1")
        assert sorted(judged(list(of_specimen.controls))) == [("7.1", "accept", ""), ("7.2", "", "patient_id")]
        assert (judged(list(of_control.controls)), of_control.results) == ([("7.1", "accept", "")], ())
        assert [control_line(one).partition("  ")[2] for one in of_control.controls] == [
            "QC1 WBC: 7.1 10*9/L, lot 77/1, accept"
        ]  # fmt: skip
