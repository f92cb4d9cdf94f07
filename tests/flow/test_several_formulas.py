"""Several calculations of one test: the first, in the document's order, that has a result is the one that counts."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from interface.domain.model import ResultStatus
from tests.flow.laboratory import Laboratory, laboratory
from tests.flow.rulebook import RULES, put_in_force, sent
from tests.flow.test_recalculated import only

WITH_POTASSIUM = """
[[calculation]]
test = "AGAP"
formula = "anion_gap_k"
inputs = { sodium = ["NA"], potassium = ["K"], chloride = ["CL"], bicarbonate = ["HCO3"] }
"""
OF_URINE = WITH_POTASSIUM + 'specimen_types = ["UR"]\n'
VALUES = {"NA": "140", "CL": "100", "HCO3": "24", "K": "4.0"}


@pytest.fixture
async def lab(database_url: str) -> AsyncIterator[Laboratory]:
    async with laboratory(database_url) as made:
        yield made


def first(section: str) -> str:
    """The rules with the section before the anion gap that they have."""
    return RULES.replace("\n[[calculation]]", f"{section}\n[[calculation]]", 1)


@pytest.mark.parametrize(
    ("rules", "gap"),
    [(RULES + WITH_POTASSIUM, "16.0"), (first(WITH_POTASSIUM), "20.0"), (first(OF_URINE), "16.0")],
    ids=["without", "with", "of urine"],
)
async def test_a_message_is_decided_by_the_first_that_has_a_result(lab: Laboratory, rules: str, gap: str) -> None:
    await put_in_force(lab, rules)
    await lab.order("S-1", *VALUES, "AGAP")
    await lab.send(sent("S-1", VALUES))
    await lab.settle()
    assert await lab.messages() == [("complete", "released")]
    assert ((await only(lab, "AGAP")).value, (await only(lab, "AGAP")).status) == (gap, ResultStatus.FINAL)


async def test_one_that_is_not_valid_takes_nothing_from_another(lab: Laboratory) -> None:
    await put_in_force(lab, first(OF_URINE).replace('autoverification = "on"', 'autoverification = "off"'))
    await lab.order("S-1", *VALUES, "AGAP")
    await lab.send(sent("S-1", VALUES))
    await lab.send(sent("S-1", {"NA": "142"}, control="C2"))
    await lab.settle()
    assert {state for _, state in await lab.messages()}.isdisjoint({"parked"})
    gap = await only(lab, "AGAP")
    assert (gap.value, gap.status, gap.held) == ("18.0", ResultStatus.PRELIMINARY, ())
