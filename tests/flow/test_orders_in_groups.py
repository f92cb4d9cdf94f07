"""What an analyzer is asked to measure is said in its own orders' words, which are not always those of its results.

By the shipped code maps, of the drivers whose analyzers are told a mode or a group, or a code whose results come in
several units.
"""

from __future__ import annotations

import pytest

from interface.driver.dialogue import read_query, write
from tests.flow.dispatching import NOW, ask, rows
from tests.flow.laboratory import Laboratory, laboratory
from tests.flow.test_queries import say

WERFEN = {"werfen_acl_top": {"1551/s": "PT", "1551/INR": "INR"}, "werfen_acl": {"001/s": "PT", "001/INR": "INR"}}
ASTM = b"H|\\^&|||X\rQ|1|^S-1||ALL\rL|1|N\r"
ORM = b"MSH|^~\\&|BC-5380|Mindray|||20260105100600||ORM^O01|6|P|2.3.1\rORC|RF||S-1||IP\r"


async def said(lab: Laboratory, query: bytes) -> list[str]:
    """The records of the answer about S-1."""
    book = await ask(lab, "S-1")
    driver = lab.context.driver
    assert driver.answer is not None
    asked = read_query(driver.protocol, query)
    texts = write(driver.answer, asked, [one.work for one in book.works], NOW.replace(tzinfo=None), "C1")
    return texts[-1].text.decode().split("\r")


@pytest.mark.parametrize(
    ("driver", "tests", "query", "ordered"),
    [
        ("mindray_bc5380", ("WBC", "HGB"), ORM, "OBX|1|IS|08003^Test Mode^99MRC||CBC||||||F"),
        ("mindray_bc5380", ("NEUT", "WBC", "HGB"), ORM, "OBX|1|IS|08003^Test Mode^99MRC||CBC+DIFF||||||F"),
        ("mindray_bc5150", ("LYMPH_PCT",), ORM, "OBX|2|IS|08003^Test Mode^99MRC||CBC+DIFF||||||F"),
        ("mindray_bc6000", ("PLT", "NRBC"), ORM, "OBX|3|IS|08003^Test Mode^99MRC||CBC+NRBC||||||F"),
        ("beckman_dxh", ("WBC", "NEUT"), ASTM, "O|1|S-1||!!!CD|R||||||N||||Whole blood"),
        ("sysmex_ca1500", ("PT", "INR", "APTT"), ASTM, "^^^040^^100.00\\^^^050^^100.00"),
        ("sysmex_cs", ("PT", "PT_PCT"), ASTM, "^^^040^^100.00"),
        ("ortho_vision", ("RH", "ABO"), ASTM, "ABO"),
    ],
)
async def test_the_shipped_map_orders_what_the_analyzer_takes(
    database_url: str, driver: str, tests: tuple[str, ...], query: bytes, ordered: str
) -> None:
    async with laboratory(database_url, driver) as lab:
        await lab.order("S-1", *tests)
        lines = await said(lab, query)
        assert ordered in lines or ordered in [line.split("|")[4] for line in lines if line.startswith("O|")]


@pytest.mark.parametrize("driver", list(WERFEN))
async def test_a_unit_of_results_is_no_part_of_an_order(database_url: str, driver: str) -> None:
    async with laboratory(database_url, driver) as lab:
        for code, test in WERFEN[driver].items():
            await lab.owner.execute(
                "insert into lab.code_map (id, organization_id, driver, code, test_id, origin, valid_from)"
                " select gen_random_uuid(), organization_id, $1, $2, id, 'site', '2020-01-01' from lab.test"
                " where code = $3 and organization_id = $4", driver, code, test, lab.organization_id,
            )  # fmt: skip
        await lab.order("S-1", "PT", "INR")
        lines = await said(lab, ASTM)
        assert [line.split("|")[4] for line in lines if line.startswith("O|")] == [f"^^^{code.partition('/')[0]}"]


async def test_each_test_of_a_mode_has_its_own_work_and_is_told_and_ended_by_itself(database_url: str) -> None:
    async with laboratory(database_url, "mindray_bc5380") as lab:
        await lab.order("S-1", "WBC", "HGB")
        for control_id in (b"6", b"7"):  # asked again, it gets the same
            receipt = await say(lab, ORM.replace(b"|6|", b"|" + control_id + b"|").decode())
            assert receipt.reply is not None and b"08003^Test Mode^99MRC||CBC||||||F" in receipt.reply
        assert await rows(lab) == [("CBC", "sent")] * 2
        oru = (
            "MSH|^~\\&|BC-5380|Mindray|||20260102080000||ORU^R01|9|P|2.3.1||||||UNICODE\rPID|1\r"
            "OBR|1||S-1|00001^Automated Count^99MRC|||20260102080000\r"
            "OBX|1|NM|6690-2^WBC^LN||9.55|10*9/L|4-10|N|||F\r"
        )
        await lab.intake.block(oru.encode(), "127.0.0.1:1")
        await lab.settle()
        assert sorted(await rows(lab)) == [("CBC", "resulted"), ("CBC", "sent")]
