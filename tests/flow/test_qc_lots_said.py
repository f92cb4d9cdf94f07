"""Ids of controls that come as patients', and what analyzers say they measured with."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest

from interface.domain.model import HoldReason
from interface.flow.entry import Entry, enter
from interface.store.ids import uuid7
from tests.flow.control_bench import control_bench
from tests.flow.controls import IN_CONTROL, REJECT, bench
from tests.flow.laboratory import laboratory, message
from tests.flow.rulebook import RULES, put_in_force, sent
from tests.flow.test_two_links import second_link

ALINITY = "H|\\^&|||Alinity ci-series^3.6^SCM24999|||||||P|LIS2-A2|20260105122734+0300"


def ldl(barcode: str, lot: str, at: str) -> list[str]:
    """A direct LDL in the shape of Alinity ci-series traffic; the reagent stands in an M record."""
    return [
        ALINITY, "P|1", f"O|1|{barcode}|{barcode}^P3137^1^1^9|^^^1840^Direct LDL^STANDARD|R||||||||||||||||||||F",
        f"R|1|^^^1840^Direct LDL^STANDARD^F|2.32|mmol/L|2.59 - 4.11|||F||Admin^Admin||{at}|AC06999",
        f"M|1|INV|Direct LDL-1|SR|08158|20270618||{lot}", "L|1",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("identifiers", "barcode", "ordered", "held"),
    [
        (("NORM1",), "NORM1", False, True),
        (("NORM1",), "NORM1", True, True),  # whoever ordered it: a control is called so
        (("NO*",), "NORM1", False, True),
        (("NO*",), "NORM1", True, False),  # a wide word says nothing against a specimen that there is
        (("NORM2",), "NORM1", True, False),
    ],
)
async def test_the_id_of_a_control_is_never_taken_for_a_patients(
    database_url: str, identifiers: tuple[str, ...], barcode: str, ordered: bool, held: bool
) -> None:
    async with laboratory(database_url) as lab:
        at = control_bench(lab)
        await at.lot(1, *identifiers)
        if ordered:
            await lab.order(barcode, "WBC")
        await lab.send(message("P|1", f"O|1|{barcode}||^^^WBC|R", f"R|1|^^^WBC|7.1|10*9/L||N||F||||{at.stamp(1)}"))
        await lab.settle()
        (result,) = await lab.results()
        assert (HoldReason.CONTROL_LIKE_ID in result.held) is held


async def test_results_keep_their_lots_and_the_analyzer_is_known_to_use_them(database_url: str) -> None:
    async with laboratory(database_url, "abbott_alinity_ci") as lab:
        at = control_bench(lab)
        for barcode, lot, minutes in (("S1", "L1", 30), ("S2", "L1", 20), ("S3", "L2", 10)):
            await lab.order(barcode, "LDL_DIR_SI")
            await lab.send(ldl(barcode, lot, at.stamp(minutes)))
        await lab.settle()
        rows = await lab.owner.fetch("select specimen_as_sent, reagent_lot from lab.result_version order by id")
        assert [tuple(row) for row in rows] == [("S1", "L1"), ("S2", "L1"), ("S3", "L2")]
        used = await lab.owner.fetch(
            "select kind, lot, from_at, ended_at, actor_kind from lab.analyzer_lot order by from_at"
        )
        begin, end = at.now - timedelta(minutes=30), at.now - timedelta(minutes=10)
        assert [tuple(row) for row in used] == [
            ("reagent", "L1", begin, end, "link"), ("reagent", "L2", end, None, "link")
        ]  # fmt: skip


ASKS = RULES.replace(
    "require = [{ critical = false }]",
    'require = [{ critical = false }, { reagent_lot = "R7" }, { calibration_age_h = { max = 24 } }]',
)


async def test_rules_know_the_lot_in_use_and_the_last_calibration(database_url: str) -> None:
    """Of an analyzer that says neither with its results: a person said the lot, the calibrator's result came before."""
    async with laboratory(database_url) as lab:
        at = control_bench(lab)
        await put_in_force(lab, ASKS)
        test_id: UUID = await lab.owner.fetchval("select id from lab.test where code = 'NA'")
        org, analyzer_id = lab.organization_id, lab.context.analyzer_id
        await lab.owner.execute(
            """insert into lab.analyzer_lot (id, organization_id, analyzer_id, kind, lot, from_at, actor_kind)
               values ($1, $2, $3, 'reagent', 'R7', $4, 'user')""",
            uuid7(), org, analyzer_id, at.now - timedelta(days=3),
        )  # fmt: skip
        for hours, kind, doubts in (
            (50, "numeric", ()), (30, "failed", ()), (29, "numeric", ("questionable",)), (20, "numeric", ()),
        ):  # fmt: skip
            await lab.owner.execute(
                """insert into lab.qc_result (id, organization_id, natural_key, analyzer_id, role, kind, test_id,
                       measured_at, doubts) values ($1, $2, $3, $4, 'calibrator', $7, $5, $6, $8)""",
                uuid7(), org, uuid7().bytes, analyzer_id, test_id, at.now - timedelta(hours=hours), kind, list(doubts),
            )  # fmt: skip
        for barcode in ("S1", "S2"):
            await lab.order(barcode, "NA")
        await lab.send(sent("S1", {"NA": "140"}, control="1", at=at.stamp(60)))
        await lab.send(sent("S2", {"NA": "140"}, control="2", at=at.stamp(60 * 22)))  # 28 h after the one before it
        await lab.settle()
        assert {one.barcode: one.status.value for one in await lab.results()} == {"S1": "final", "S2": "registered"}


async def test_results_of_an_analyzer_that_says_no_lots_keep_those_that_a_person_said(database_url: str) -> None:
    """And what a person said of every test is not taken for the analyzer's word on each of them."""
    async with laboratory(database_url) as lab:
        at = control_bench(lab)
        for kind, lot, days in (("reagent", "R7", 3), ("calibrator", "C1", 3)):
            await lab.owner.execute(
                """insert into lab.analyzer_lot (id, organization_id, analyzer_id, kind, lot, from_at, actor_kind)
                   values ($1, $2, $3, $4, $5, $6, 'user')""",
                uuid7(), lab.organization_id, lab.context.analyzer_id, kind, lot, at.now - timedelta(days=days),
            )  # fmt: skip
        for number, minutes in (("1", 60), ("2", 60 * 24 * 4)):
            await lab.order(f"S{number}", "NA")
            await lab.send(sent(f"S{number}", {"NA": "140"}, control=number, at=at.stamp(minutes)))
        await lab.settle()
        rows = await lab.owner.fetch(
            "select specimen_as_sent, reagent_lot, calibrator_lot from lab.result_version order by specimen_as_sent"
        )
        assert [tuple(row) for row in rows] == [("S1", "R7", "C1"), ("S2", "", "")]
        assert await lab.owner.fetchval("select count(*) from lab.analyzer_lot") == 2


BOTH = (
    RULES
    + """
[[rule]]
name = "sodium beside chloride"
tests = ["NA"]
require = [{ critical = false }, { calibration_age_h = { max = 24 } }, { sibling_present = "CL" }]
"""
)


async def test_what_waits_goes_by_the_calibration_of_the_analyzer_that_measured_it(database_url: str) -> None:
    """What it waited for came from another, which had been calibrated: by that it was released."""
    async with laboratory(database_url) as lab:
        at = control_bench(lab)
        await put_in_force(lab, BOTH)
        other = await second_link(lab)
        test_id: UUID = await lab.owner.fetchval("select id from lab.test where code = 'NA'")
        for analyzer_id, hours in ((lab.context.analyzer_id, 50), (other.context.analyzer_id, 2)):
            await lab.owner.execute(
                """insert into lab.qc_result (id, organization_id, natural_key, analyzer_id, role, kind, test_id,
                       measured_at) values ($1, $2, $3, $4, 'calibrator', 'numeric', $5, $6)""",
                uuid7(), lab.organization_id, uuid7().bytes, analyzer_id, test_id, at.now - timedelta(hours=hours),
            )  # fmt: skip
        await lab.order("S1", "NA", "CL")
        await lab.send(sent("S1", {"NA": "140"}, control="1", at=at.stamp(60)))
        await lab.settle()
        await other.send(sent("S1", {"CL": "102"}, control="2", at=at.stamp(50)))
        await other.settle()
        assert {one.test_code: one.status.value for one in await lab.results()} == {"NA": "registered", "CL": "final"}


@pytest.mark.parametrize(("hours", "status"), [(2, "final"), (50, "preliminary")])
async def test_what_was_held_for_controls_goes_by_its_analyzers_calibration_too(
    database_url: str, hours: int, status: str
) -> None:
    """Nobody asked for it when the controls were good again: rules that ask for its age released nothing then."""
    async with laboratory(database_url) as lab:
        asks = "[{ critical = false }, { calibration_age_h = { max = 24 } }]"
        at = await bench(lab, IN_CONTROL.replace("[{ critical = false }]", asks))
        await lab.owner.execute(
            """insert into lab.qc_result (id, organization_id, natural_key, analyzer_id, role, kind, test_id,
                   measured_at) values ($1, $2, $3, $4, 'calibrator', 'numeric', $5, $6)""",
            uuid7(), lab.organization_id, uuid7().bytes, lab.context.analyzer_id, at.tests["NA"], at.ago(60 * hours),
        )  # fmt: skip
        await lab.order("S1", "NA")
        await at.control(90)
        await at.control(60, REJECT)
        await at.send("S1", 30, NA="140")
        held = "qc_failed" if status == "final" else "qc_failed rule"
        assert (await at.said())["S1"] == ("registered", held)
        await at.control(10)
        await at.act()
        assert (await at.said())["S1"] == ((status, "") if status == "final" else ("registered", "rule"))


async def test_what_waits_for_what_a_person_enters_goes_by_it_too(database_url: str) -> None:
    async with laboratory(database_url) as lab:
        at = control_bench(lab)
        await put_in_force(lab, BOTH)
        test_id: UUID = await lab.owner.fetchval("select id from lab.test where code = 'NA'")
        await lab.owner.execute(
            """insert into lab.qc_result (id, organization_id, natural_key, analyzer_id, role, kind, test_id,
                   measured_at) values ($1, $2, $3, $4, 'calibrator', 'numeric', $5, $6)""",
            uuid7(), lab.organization_id, uuid7().bytes, lab.context.analyzer_id, test_id, at.now - timedelta(hours=2),
        )  # fmt: skip
        order = await lab.order("S1", "NA", "CL")
        await lab.send(sent("S1", {"NA": "140"}, control="1", at=at.stamp(60)))
        await lab.settle()
        item = next(one.id for one in order.items if one.test_code == "CL")
        async with lab.database.transaction(lab.organization_id) as connection:
            await enter(connection, lab.director, [Entry(item, "102", "mmol/L")])
        assert {one.test_code: one.status.value for one in await lab.results()}["NA"] == "final"
