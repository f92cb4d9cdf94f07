"""Analyzers' spellings of units: each is read, says one thing, and comes back to the very number."""

from __future__ import annotations

import tomllib
from collections import Counter
from decimal import Decimal

import pytest

from interface.domain.units import canonical, commensurable, convert, parse
from interface.errors import UnknownUnit
from interface.settings import packaged
from interface.store.catalogue import shipped_aliases, shipped_tests

ALIASES = shipped_aliases()
TESTS = {test.code: test for test in shipped_tests()}


def test_no_spelling_is_given_twice_or_refused_and_read() -> None:
    units = tomllib.loads((packaged("mappings") / "units.toml").read_text("utf-8"))["unit"]
    written = [raw for unit in units for raw in unit["written"]]
    assert [raw for raw, count in Counter(written).items() if count > 1] == []
    assert not set(written) & ALIASES.refused


def test_every_spelling_is_read_and_its_readings_differ() -> None:
    for raw, readings in ALIASES.spellings.items():
        assert canonical(raw, ALIASES) == readings[0]
        assert len({parse(reading).dimensions for reading in readings}) == len(readings), raw
        assert raw == " ".join(raw.split())


def test_every_spelling_comes_back_to_the_very_number_in_the_unit_of_every_test() -> None:
    sent, compared = Decimal("12.340"), 0
    units = {(test.unit, test.substance) for test in shipped_tests() if test.unit}
    for raw in ALIASES.spellings:
        for unit, substance in units:
            reading = canonical(raw, ALIASES, unit)
            if not commensurable(reading, unit, substance):
                continue
            back = convert(convert(sent, reading, unit, substance), unit, reading, substance)
            assert abs(back - sent) <= sent * Decimal("1e-30"), (raw, unit)
            compared += 1
    assert compared > 5000


def test_refused_spellings_are_refused() -> None:
    for raw in ALIASES.refused:
        with pytest.raises(UnknownUnit):
            canonical(raw, ALIASES)


@pytest.mark.parametrize(
    ("test", "sent", "raw", "reported"),
    [
        ("WBC", "7.41", "10^3/uL", "7.41"),
        ("WBC", "7.41", "10*9/L", "7.41"),
        ("WBC", "7.41", "x10\u00b3/\u00b5L", "7.41"),
        ("WBC", "7.41", "K/uL", "7.41"),
        ("WBC", "7.41", "10e3/ul", "7.41"),
        ("WBC", "7410", "cells/cumm", "7.410"),
        ("RBC", "4.53", "M/uL", "4.53"),
        ("RBC", "4.53", "10E12/L", "4.53"),
        ("PLT", "250", "G/L", "250"),
        ("HGB", "135", "g/L", "13.5"),
        ("HGB", "13.5", "g%", "13.5"),
        ("MCV", "90", "um^3", "90"),
        ("GLU", "95", "mg/dl", "95"),
        ("GLU", "95", "mg%", "95"),
        ("FT4", "1.2", "ng/dl", "1.2"),
        ("FT4", "12", "pg/ml", "1.2"),
        ("TSH", "2.5", "uIU/mL", "2.5"),
        ("TSH", "2.5", "\u00b5U/mL", "2.5"),
        ("TSH", "2.5", "mIU/L", "2.5"),
        ("HCG", "25", "IU/L", "25"),
        ("HCG", "25", "U/L", "25"),
        ("ALT", "40", "IU/L", "40"),
        ("CA125", "35", "U/mL", "35"),
        ("CA125", "35", "kU/L", "35"),
        ("IGE", "100", "kU/L", "100"),
        ("ATPO", "9", "IU/mL", "9"),
        ("K", "4.1", "mEq/L", "4.1"),
        ("CA", "5.0", "mEq/L", "10.01950"),
        ("U_WBC_HPF", "5", "/HPF", "5"),
        ("DDIMER", "0.5", "mg/L FEU", "500"),
        ("DDIMER", "0.5", "ug/mL", "500"),  # does not say of what: the test does
        ("EGFR", "90", "mL/min/1.73m\u00b2", "90"),
        ("UACR", "30", "mg/g creat", "30"),
        ("OSMO", "290", "mOsm/kg H2O", "290"),
        ("ESR", "12", "mm/hr", "12"),
        ("PT", "12.1", "sec", "12.1"),
        ("PCO2_A", "5.3", "KPa", None),
        ("HCV_SCO", "0.1", "S/CO", "0.1"),
        ("NRBC_PCT", "2", "/100 WBC", "2"),
        ("U24_TP", "150", "mg/24h", "150"),
        ("TACRO", "7.5", "ug/L", "7.5"),
        ("HIV_VL", "200", "cp/mL", "200"),
    ],
)
def test_units_as_analyzers_print_them(test: str, sent: str, raw: str, reported: str | None) -> None:
    shipped = TESTS[test]
    there = convert(Decimal(sent), canonical(raw, ALIASES, shipped.unit), shipped.unit, shipped.substance)
    assert reported is None or there == Decimal(reported)


@pytest.mark.parametrize(
    ("test", "raw"),
    [
        ("DDIMER", "ng/mL DDU"),
        ("DDIMER_DDU", "mg/L FEU"),
        ("PT_PCT", "Ratio"),
        ("HIV_VL", "log copies/mL"),
        ("HIV_VL", "IU/mL"),
        ("EGFR", "mL/min"),
        ("HGB", "mmol/L"),
        ("HBA1C", "mmol/mol"),
        ("HBA1C_SI", "%"),
        ("UREA_SI", "mg/dL"),
        ("HGB", "G/L"),
        ("ALT", "mIU/mL x"),
        ("CK", "ng/mL"),
    ],
)
def test_units_that_are_not_the_test_s_are_refused(test: str, raw: str) -> None:
    shipped = TESTS[test]
    with pytest.raises(UnknownUnit):
        convert(Decimal(1), canonical(raw, ALIASES, shipped.unit), shipped.unit, shipped.substance)
