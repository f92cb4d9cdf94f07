"""What one result of an order says of the run holds all of its order, where a driver says so."""

from __future__ import annotations

import pytest

from interface.domain.model import HoldReason, Observed, ValueKind
from interface.driver import registry
from interface.driver.decode_hl7 import decode as hl7
from interface.driver.decode_lis02 import decode
from interface.driver.parse import parse_manifest
from interface.errors import DriverError
from tests.driver.test_grammar import HL7

PANTHER = registry.load("hologic_panther")
ORDER = "O|{n}|S-{n}|00000000-0000-4000-8000-00000000000{n}^9900{n}|^^^qHIV-1^HIV-1^^1|R"
ROWS = (
    "R|1|^^^qHIV-1^HIV-1^^1|{value}|copies/mL||||F||||20260304052856",
    "R|2|^^^qHIV-1^ICResult^^1|15|||||F||||20260304052856",
    "R|3|^^^qHIV-1^ResultValid^^1|{valid}|||||F||||20260304052856",
    "R|4|^^^qHIV-1^HIV-1LogBase10^^1|{log}|||||F||||20260304052856",
)


def panther(*runs: tuple[str, str, str]) -> list[tuple[Observed, ...]]:
    """The results of each order: value, whether it is valid, logarithm."""
    records = ["H|\\^&|||Panther|||||Host||P|1|"]
    for number, (value, valid, log) in enumerate(runs, start=1):
        rows = [row.format(value=value, valid=valid, log=log) for row in ROWS]
        records += [f"P|{number}", ORDER.format(n=number), *rows]
    return [one.results for one in decode(PANTHER, "".join(f"{one}\r" for one in records).encode()).specimens]


@pytest.mark.parametrize("valid", ["Invalid", "invalid", "", "Void"])
@pytest.mark.parametrize("value", ["59", "Not Detected", "<30"])
def test_a_run_that_says_it_is_not_valid_has_no_result(value: str, valid: str) -> None:
    found, other = panther((value, valid, "1.77"), ("74", "Valid", "1.87"))
    assert all(one.value.kind is ValueKind.FAILED and HoldReason.RUN_FAILED in one.holds for one in found)
    assert [one.holds for one in other] == [()] * 4


def test_a_condition_beside_is_for_lis2() -> None:
    rule = "[[hold]]\nreason = 'run_failed'\nbeside = true\npath = 'OBX-5.1'\nequals = 'Invalid'\n"
    with pytest.raises(DriverError, match="beside is for LIS2"):
        parse_manifest(HL7 + rule, "driver.toml")


@pytest.mark.parametrize(
    ("comment", "held"),
    [
        ("Instrument Flag N", False),
        ("Instrument Flag A,A,A,A", False),
        ("Instrument Flag A,DEP", True),
        ("Instrument Flag LIN", True),
        ("checked by hand", False),
    ],
)
def test_an_instrument_flag_in_words_that_nobody_knows_holds(comment: str, held: bool) -> None:
    """Erba XL: R-7 has the first of the list alone."""
    text = (
        "H|`^&||||||||||P|E 1394-97|20200928131732\rP|1\rO|1|S-1||^^^GLCC\r"
        f"R|1|^^^GLCC|504|mg/dl|^DEFAULT|A|N|F||||20200928131730\rC|1|I|{comment}\rL|1|N\r"
    )
    ((observed,),) = [one.results for one in decode(registry.load("erba_xl"), text.encode()).specimens]
    assert (observed.holds == (HoldReason.UNKNOWN_FLAG,)) == held


@pytest.mark.parametrize("driver", ["ortho_vitros_3600", "ortho_vitros_eci"])
@pytest.mark.parametrize(
    ("flags", "holds"),
    [
        ("^0^", ()),
        ("H^0^", (HoldReason.UNKNOWN_FLAG,)),  # none was seen there
        (">^0^", (HoldReason.QUESTIONABLE,)),  # LIS02-A2 9.8: off the instrument's scale
        ("XX^0^", (HoldReason.UNKNOWN_FLAG,)),
    ],
)
def test_of_a_flag_in_components_none_is_passed_over(driver: str, flags: str, holds: tuple[HoldReason, ...]) -> None:
    name = {"ortho_vitros_3600": "36000123", "ortho_vitros_eci": "VITROS"}[driver]
    text = (
        f"H|\\^&|||{name}|||||||P|LIS2-A|20260101\rP|1\rO|1|S-1^^||^^^1.0000+032+1.0\r"
        f"R|1|^^^1.0000+032+1.0|349|pg/mL||{flags}||V||||20260101\rL|1|N\r"
    )
    ((observed,),) = [one.results for one in decode(registry.load(driver), text.encode()).specimens]
    assert observed.holds == holds


@pytest.mark.parametrize(
    ("words", "held"),
    [(("@",), False), (("C",), True), (("@", "C"), True), (("C", "@"), True), (("",), False), ((), False)],
)
def test_a_word_that_nobody_knows_holds_beside_one_that_is_known(words: tuple[str, ...], held: bool) -> None:
    """Below a Stago's result stands an M record that says @, or something else."""
    below = "".join(f"M|{number}|A|{word}\r" for number, word in enumerate(words, start=1))
    text = f"H|\\^&|||99^2.00|||||||P|1.00|20260105\rP|1\rO|1|S-1|||R\rR|1|^^^5|30.1|sec||||F\r{below}"
    text += "R|2|^^^1|98|%||||F\rM|1|A|@\rL|1|N\r"
    ((found, other),) = [one.results for one in decode(registry.load("stago_sta"), text.encode()).specimens]
    assert (found.holds == (HoldReason.QUESTIONABLE,), other.holds) == (held, ())


@pytest.mark.parametrize(
    ("flag", "status", "holds"),
    [
        ("ND", "F", ()),
        ("BT", "F", ()),
        ("XY", "F", (HoldReason.UNKNOWN_FLAG,)),
        ("P02T", "X", (HoldReason.RUN_FAILED,)),
        ("P02T", "F", (HoldReason.RUN_FAILED,)),  # an error, whatever the status says
    ],
)
def test_the_outcome_of_a_cobas_6800_that_captures_show_is_no_unknown_flag(
    flag: str, status: str, holds: tuple[HoldReason, ...]
) -> None:
    """It stands where flags stand, and is the result."""
    text = (
        "MSH|^~\\&|COBAS6800/8800||LIS||20260317104355||OUL^R22|M-1|P|2.5||||||ASCII\rSPM||S-1||PLAS\r"
        f"OBR|1|||70241-5^HIV^LN\rOBX|1|ST|HIV^HIV^99ROC||ValueNotSet|||{flag}|||{status}\r"
    )
    (observed,) = hl7(registry.load("roche_cobas6800"), text.encode()).specimens[0].results
    assert (observed.value.text, observed.holds) == (flag, holds)


@pytest.mark.parametrize(("driver", "sender"), [("roche_cobas6800", "COBAS6800/8800"), ("roche_cobas5800", "X800 DM")])
@pytest.mark.parametrize(
    ("flags", "holds"), [("P02T", (HoldReason.RUN_FAILED,)), ("ND~P02T", (HoldReason.RUN_FAILED,)), ("", ())]
)
def test_an_error_beside_a_count_fails_it_whatever_its_status_says(
    driver: str, sender: str, flags: str, holds: tuple[HoldReason, ...]
) -> None:
    """The count was released with the error beside it, where its status was F."""
    text = (
        f"MSH|^~\\&|{sender}||LIS||20260317104355||OUL^R22|M-1|P|2.5||||||ASCII\rSPM||S-1||PLAS\r"
        f"OBR|1|||70241-5^HIV^LN\rOBX|1|NM|HIV^HIV^99ROC||763|10*-1.{{Copies}}/mL^^UCUM||{flags}|||F\r"
    )
    (observed,) = hl7(registry.load(driver), text.encode()).specimens[0].results
    assert observed.holds == holds
