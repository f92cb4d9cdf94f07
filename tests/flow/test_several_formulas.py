"""Several calculations of one test: the first, in the document's order, that has a result is the one that counts."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from interface.domain.model import ResultStatus
from interface.domain.rule_files import RuleFileError
from interface.domain.rule_set import RuleSet
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


def gaps(*of: tuple[str, str, str]) -> str:
    """Rules that release nothing and calculate each of these as an anion gap of two others."""
    head = RULES[: RULES.index("[[delta]]")].replace('autoverification = "on"', 'autoverification = "off"')
    return head + "".join(
        f'[[calculation]]\nname = "{at}"\ntest = "{test}"\nformula = "anion_gap"\n'
        f'inputs = {{ sodium = ["{sodium}"], chloride = ["{chloride}"], bicarbonate = ["HCO3"] }}\n'
        for at, (test, sodium, chloride) in enumerate(of)
    )


IN_A_ROW = gaps(("CREA", "NA", "CL"), ("MG", "CL", "CREA"), ("AGAP", "NA", "MG"))
IN_A_CIRCLE = gaps(("CREA", "NA", "CL"), ("CREA", "MG", "CL"), ("MG", "CL", "CREA"))


async def test_what_is_made_of_others_in_a_row_is_calculated_once_after_the_last_of_them(lab: Laboratory) -> None:
    """The sodium is of the first and of the last; what the last is made of is another only once the second is."""
    await lab.owner.execute("update lab.test set unit = 'mmol/L' where code in ('CREA', 'MG')")
    await put_in_force(lab, IN_A_ROW)
    await lab.order("S-1", "NA", "CL", "HCO3", "CREA", "MG", "AGAP")
    await lab.owner.execute("delete from lab.reference_interval")
    await lab.send(sent("S-1", {"NA": "141", "CL": "100", "HCO3": "24"}))
    await lab.settle()
    await put_in_force(lab, IN_A_ROW + "# as it was\n")  # what waits is not judged anew by another revision
    await lab.send(sent("S-1", {"NA": "140"}, control="C2"))
    await lab.settle()
    versions = await lab.owner.fetch(
        "select v.version, v.value from lab.result_version v where v.test_code = 'AGAP' order by v.id"
    )
    assert [tuple(row) for row in versions] == [(1, "58.0"), (2, "56.0")]


async def test_what_is_calculated_of_itself_keeps_nobody_from_deciding(
    lab: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is refused; what was in force before goes on."""
    await lab.owner.execute("update lab.test set unit = 'mmol/L' where code in ('CREA', 'MG')")
    with pytest.raises(RuleFileError, match="CREA is calculated of itself"):
        await put_in_force(lab, IN_A_CIRCLE)
    with monkeypatch.context() as as_before:
        as_before.setattr(RuleSet, "never_made", lambda _: [])
        await put_in_force(lab, IN_A_CIRCLE)
    await lab.order("S-1", "NA", "CL", "HCO3", "CREA", "MG")
    await lab.send(sent("S-1", {"NA": "140", "CL": "100", "HCO3": "24"}))
    await lab.send(sent("S-1", {"NA": "141"}, control="C2"))
    await lab.settle()
    assert [state for _, state in await lab.messages()] == ["released", "released"]
