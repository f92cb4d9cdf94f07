"""What a result was measured with: module, lots of reagent and calibrator, and of a control its lot and level."""

from __future__ import annotations

import pytest

from interface.domain.model import UNSAID, DecodedMessage, MeasuredWith
from interface.driver import registry
from interface.driver.describe import describe
from interface.driver.parse import parse_manifest
from interface.errors import DriverError
from tests.driver.test_grammar import HL7, LIS2, driver, hl7, lis2


def said(message: DecodedMessage) -> list[MeasuredWith]:
    return [one.measured_with for specimen in message.specimens for one in specimen.results]


def test_hl7_reads_lots_from_inv_by_what_they_are_of() -> None:
    # In the shape of an Alinity m's and a cobas 6800's OUL^R22: INV of several kinds behind each result.
    message = registry.decode(
        driver("", HL7),
        "\r".join(
            (
                "MSH|^~\\&|ACME|||||OUL^R22^OUL_R22||1|P|2.5.1", "SPM|1|S-1|||||||||Q", "SAC|||S-1",
                "INV|NORM|OK|CO|||||||||20270131||||C77", "OBR|1|||GLU", "OBX|1|NM|GLU||5.1|mmol/L|||||F",
                "INV|GLU-R|OK|SR|||||||||20270131||||R1", "INV|GLU-R2|OK|MR|||||||||20270131||||R2",
                "INV|CAL|OK|RC^Reagent Calibrator^HL70384|||||||||||||K9", "INV|TIP|OK|SC|||||||||||||T4",
                "OBX|2|NM|LDH||5.1|U/L|||||F", "INV|LDH-R|OK|SR|||||||||||||R7", 'INV|X|OK|RC|||||||||||||""',
            )
        ).encode() + b"\r",
    )  # fmt: skip
    assert said(message) == [
        MeasuredWith(reagent_lot="R1+R2", calibrator_lot="K9", control_lot="C77"),
        MeasuredWith(reagent_lot="R7", calibrator_lot="K9", control_lot="C77"),
    ]


def test_what_stands_nearest_to_the_result_counts() -> None:
    chosen = driver(
        """
        [[with]]
        what = "reagent_lot"
        path = "M.6"
        when = [{path = "M.3", equals = "SR"}]
        [[with]]
        what = "control_lot"
        path = "M.6"
        when = [{path = "M.3", equals = "CO"}]
        """
    )
    message = lis2(chosen, "M|1|SR|||0", "M|2|CO|||C1", "R|1|^^^A|1", "M|1|SR|||A7", "C|1|I|x", "R|2|^^^B|2")
    assert said(message) == [
        MeasuredWith(reagent_lot="A7", control_lot="C1"), MeasuredWith(reagent_lot="0", control_lot="C1")
    ]  # fmt: skip


def test_plain_places_and_patterns_say_module_and_level() -> None:
    chosen = driver(
        """
        [paths]
        module = ["R.14.2", "R.14"]
        level = "O.4.3"
        [[with]]
        what = "reagent_lot"
        path = "C.4"
        pattern = 'Lot=([^;]+);Bottle=([^;]+)'
        """
    )
    message = lis2(
        chosen, "R|1|^^^A|1||||||||||m1^c503", "C|1|I|Tube=1;Lot=77;Bottle=2;", "R|2|^^^A|1||||||||||m2", "C|1|I|Lot",
        order="O|1|S-1|7^^2|^^^A|R",
    )  # fmt: skip
    assert said(message) == [MeasuredWith("c503", "77/2", level="2"), MeasuredWith("m2", level="2")]
    assert [set(one) & {"module", "reagent_lot", "level"} for one in describe(message)["specimens"][0]["results"]] == [
        {"module", "reagent_lot", "level"}, {"module", "level"}
    ]  # fmt: skip


def test_one_record_may_be_of_all_results_of_an_order() -> None:
    chosen = driver('[[with]]\nwhat = "reagent_lot"\npath = "M.6"\nbeside = true')
    message = lis2(chosen, "R|1|^^^A|1", "R|2|^^^B|2", "M|1|RC|||77", "O|2|S-2||^^^X|R", "R|1|^^^A|1")
    assert said(message) == [MeasuredWith(reagent_lot="77"), MeasuredWith(reagent_lot="77"), UNSAID]


def test_a_driver_that_says_nothing_of_it_makes_nothing_for_it() -> None:
    for message in (
        lis2(driver(""), "M|1|INV|SR|||0", "R|1|^^^A|1"),
        hl7(driver("", HL7), "OBR|1|S-1", "OBX|1|NM|A||1|||||||F"),
    ):
        assert all(one is UNSAID for one in said(message))
        assert not {"module", "reagent_lot"} & describe(message)["specimens"][0]["results"][0].keys()


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[[with]]\nwhat = 'lot'\npath = 'M.3'", "with[0].what: 'lot' is not one of module"),
        ("[[with]]\nwhat = 'module'", "with[0].path: is missing"),
        ("[[with]]\nwhat = 'module'\npath = 'M.3'\npattern = 'a'", "with[0].pattern: needs a group"),
        ("[paths]\nmodule = 'x'", "paths.module: 'x' is not a field path"),
    ],
)
def test_what_cannot_be_meant_is_said(text: str, fault: str) -> None:
    with pytest.raises(DriverError) as caught:
        parse_manifest(LIS2 + text, "driver.toml")
    assert fault in str(caught.value)


def test_a_layout_of_ones_own_names_them_among_its_fields() -> None:
    chosen = parse_manifest(
        LIS2.replace('"lis2"', '"declared"').replace('"H.5.1" = "^ACME"', '"text" = "."')
        + """
[framing.block]
end = "<LF>"
[record]
kind = "csv"
[record.fields]
specimen_id = "1"
code = "2"
value = "3"
role = "4"
control_lot = "5"
level = "6"
reagent_lot = "7"
module = "=left"
[[role]]
role = "qc"
path = "role"
equals = "QC"
""",
        "driver.toml",
    )
    message = registry.decode(chosen, b"NORM,GLU,5.1,QC,L77,1,R9\n")
    assert said(message) == [MeasuredWith("left", "R9", "", "L77", "1")]
