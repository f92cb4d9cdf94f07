"""An order that an analyzer says it cannot do, without a result below it: somebody has to know."""

from __future__ import annotations

import pytest

from interface.domain.model import HoldReason, Observed, ValueKind
from interface.driver import registry
from tests.flow.laboratory import Laboratory, laboratory, message

FAILED = (HoldReason.RUN_FAILED,)


def decoded(driver: str, *lines: str) -> list[Observed]:
    text = "".join(f"{line}\r" for line in lines).encode()
    return [one for each in registry.decode(registry.load(driver), text).specimens for one in each.results]


def order(tests: str, report: str, specimen: str = "S-1") -> str:
    """An O record with its report type (LIS02-A2 9.4.26)."""
    return f"O|1|{specimen}||{tests}||||||||||||||||||||{'|' if report else ''}{report}"


async def held(lab: Laboratory) -> list[tuple[str, bool, tuple[str, ...]]]:
    """(code, whether it is on a specimen, why it is held) of every result."""
    return [(one.code, one.specimen_id is not None, one.held) for one in await lab.results()]


async def test_what_an_analyzer_cannot_do_is_a_run_that_failed(database_url: str) -> None:
    """An Abbott m2000 sends no result record of it; the message was settled, and nobody heard of it."""
    async with laboratory(database_url, "generic_lis2") as lab:
        await lab.order("S-1", "GLU", "NA")
        await lab.send(message("P|1", order("^^^2345-7\\^^^2951-2", "X"), "C|1|I|Aliquot failed^clot|I"))
        await lab.settle()
        assert await held(lab) == [("2345-7", True, FAILED), ("2951-2", True, FAILED)]
        assert {one.comments for one in await lab.results()} == {("Aliquot failed^clot",)}
        assert await lab.messages() == [("complete", "held")]


async def test_nothing_is_made_of_it_twice_and_a_run_that_succeeds_is_another(database_url: str) -> None:
    async with laboratory(database_url, "generic_lis2") as lab:
        await lab.order("S-1", "GLU")
        for control in ("C1", "C2"):
            await lab.send(message("P|1", order("^^^2345-7", "X"), control=control))
        await lab.send(message("P|1", order("^^^2345-7", "F"), "R|1|^^^2345-7|5.1|mmol/L||N||F", control="C3"))
        await lab.settle()
        assert await held(lab) == [("2345-7", True, FAILED), ("2345-7", True, ())]


@pytest.mark.parametrize("report", ["", "F", "P", "O", "Q"])
def test_an_order_without_results_says_nothing_by_itself(report: str) -> None:
    assert decoded("generic_lis2", *message("P|1", order("^^^2345-7", report))) == []


def test_results_below_it_speak_for_themselves() -> None:
    (result,) = decoded("generic_lis2", *message("P|1", order("^^^A\\^^^B", "X"), "R|1|^^^A|5.1|||||F"))
    assert (result.code, result.holds) == ("A", ())


HEAD = "MSH|^~\\&|A|B|||20260101||{kind}|1|P|2.5.1"


@pytest.mark.parametrize(
    ("control", "report"),
    [("", "|||||||||||||||||||||X"), ("ORC|SC||||CA", ""), ("ORC|CA||||CA", "|||||||||||||||||||||X")],
)
@pytest.mark.parametrize("driver", ["generic_hl7", "ihe_law"])
def test_so_it_is_in_hl7(driver: str, control: str, report: str) -> None:
    """HL7 tables 0123 and 0038; IHE LAW says it of a work step by ORC-5."""
    lines = ["SPM|1|S-1", f"OBR|1|W-7||GLU^Glucose{report}", control, "NTE|1||clotted"]
    (result,) = decoded(driver, HEAD.format(kind="OUL^R22^OUL_R22"), *filter(None, lines))
    assert (result.code, result.value.kind, result.holds) == ("GLU", ValueKind.FAILED, FAILED)
    assert result.comments == ("clotted",)


@pytest.mark.parametrize(
    "lines",
    [
        ["OUL^R22^OUL_R22", "SPM|1|S-1", "OBR|1|||GLU", "ORC|SC||||CM"],
        ["OUL^R22^OUL_R22", "SPM|1|S-1", "OBR|1|||GLU|||||||||||||||||||||F"],
        ["OML^O33^OML_O33", "SPM|1|S-1", "ORC|CA||||CA", "OBR|1|||GLU"],  # an order, which nobody reports
    ],
)
def test_and_of_others_nothing_is_said_in_hl7(lines: list[str]) -> None:
    assert decoded("generic_hl7", HEAD.format(kind=lines[0]), *lines[1:]) == []
