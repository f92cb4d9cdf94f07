"""Files of lots: every fault with its line, exact numbers, and what goes out comes back."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from interface.domain.map_files import FileFaults
from interface.domain.qc_lot_files import COLUMNS, FileTarget, LotRow
from interface.domain.qc_lots import TargetKind, TargetSource
from interface.render.qc_lot_table import read_lots, write_csv

HEAD = "material,lot,level,test,analyzer,unit,mean,sd"


def faults(text: str) -> list[str]:
    try:
        return [str(fault) for fault in read_lots("f", text).faults]
    except FileFaults as error:
        return [str(fault) for fault in error.faults]


def test_a_row_says_a_lot_and_what_it_should_measure() -> None:
    text = (
        "lot;material;manufacturer;catalogue_number;level;level_number;expires_on;identifiers;analyzers;analyzer;module;"
        "test;unit;mean;sd;source;kind;reagent_lot;note;valid_from;valid_to\n"
        "4711;Control;Maker;C-1;low;1;2027-01-31;;;hema;M1;HGB;g/dL;12.10;0.50;laboratory;cumulative;R1;x;2026-01-01;"
        "2026-02-01T08:00+02:00\n"
        "\n"
        "4712;Control;;;;;;;;;;;;;;;;;;;\n"
    )
    read = read_lots("f", text)
    target = FileTarget(
        "hema", "HGB", Decimal("12.10"), Decimal("0.50"), "g/dL", "M1", "R1", TargetSource.LABORATORY,
        TargetKind.CUMULATIVE, "x", datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, 6, tzinfo=UTC),
    )  # fmt: skip
    assert read.faults == ()
    assert read.rows == (
        LotRow("f", 2, "Control", "4711", "low", "Maker", "C-1", 1, date(2027, 1, 31), target=target),
        LotRow("f", 4, "Control", "4712"),
    )


@pytest.mark.parametrize(
    ("said", "sd"),
    [
        ("11.0,13.0,2", "0.5"), ("11.0,13.0,3", "0.3333333333333333333333333333333333"), ("9,15,3", "1"),
        ("11.96,12.06,2", "0.025"),
    ],
)  # fmt: skip
def test_an_sd_is_worked_out_from_the_range_of_the_insert(said: str, sd: str) -> None:
    head = "material,lot,test,analyzer,unit,mean,low,high,range_sd"
    [row] = read_lots("f", f"{head}\nC,1,HGB,hema,g/dL,12.01,{said}\n").rows
    assert row.target is not None
    assert row.target.sd == Decimal(sd)
    assert row.target.source is TargetSource.MANUFACTURER, "an insert's, where the file does not say"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ["f: is empty"]),
        (HEAD, ["f: has no row"]),
        ("material,lots\nC,1\n", ["f:1: lots: is no column; they are " + ", ".join(COLUMNS), "f:1: lot: is missing"]),
        ("material,lot,lot\nC,1,1\n", ["f:1: lot: stands twice"]),
        ("material,lot\nC,1,2\n", ["f:2: has more fields than there are columns"]),
        ("material,lot\n,\n C,\n", ["f:3: lot: is missing"]),
        ('material,lot\nC,"1\n', ["f:2: is not CSV: unexpected end of data"]),
        (f"{HEAD}\nC,1,low,HGB,,g/dL,12,1\n", ["f:2: analyzer: is missing"]),
        (f"{HEAD}\nC,1,low,,hema,,12,\n", [
            "f:2: analyzer: is of a target, and no test is named", "f:2: mean: is of a target, and no test is named",
        ]),
        (f"{HEAD}\nC,1,low,HGB,hema,g/dL,,\n", ["f:2: sd: is missing", "f:2: mean: is missing"]),
        (f"{HEAD}\nC,1,low,HGB,hema,g/dL,\"12,5\",1\n", [
            "f:2: mean: '12,5' is not a number with a point, such as 5.25",
        ]),
        (f"{HEAD}\nC,1,low,HGB,hema,g/dL,NaN,1\n", ["f:2: mean: 'NaN' is not a number with a point, such as 5.25"]),
        (f"{HEAD}\nC,1,low,HGB,hema,g/dL,1e,1\n", ["f:2: mean: '1e' is not a number with a point, such as 5.25"]),
        (f"{HEAD},low,high\nC,1,low,HGB,hema,g/dL,12,1,11,13\n", [
            "f:2: sd: is given, and a range too: which one counts?",
        ]),
        (f"{HEAD},low,high\nC,1,low,HGB,hema,g/dL,12,,11,13\n", [
            "f:2: low: needs low, high and range_sd: how many SD the range is on either side",
        ]),
        (f"{HEAD},low,high,range_sd\nC,1,low,HGB,hema,g/dL,12,,13,11,2\n", [
            "f:2: low: low is not below high, or range_sd is not above 0",
        ]),
        (f"{HEAD},low,high,range_sd\nC,1,low,HGB,hema,g/dL,12.5,,11,13,2\n", [
            "f:2: mean: is not in the middle of the range",
        ]),
        ("material,lot,expires_on,level_number\nC,1,31.1.2027,one\n", [
            "f:2: level_number: 'one' is not a whole number", "f:2: expires_on: '31.1.2027' is not a date (2026-01-31)",
        ]),
        (f"{HEAD},source,kind,valid_from\nC,1,low,HGB,hema,g/dL,12,1,theirs,moving,soon\n", [
            "f:2: source: 'theirs' is not one of manufacturer, laboratory",
            "f:2: kind: 'moving' is not one of fixed, cumulative",
            "f:2: valid_from: 'soon' is not a date or time (2026-01-31, 2026-01-31T08:00+02:00)",
        ]),
        ("[", ["f: is not JSON"]),
        ("[" * 100_000, ["f: is not JSON"]),
        ("[]", ["f: has no row"]),
        ('[1, {"material": true, "lot": "1"}, {"material": "C", "lots": "1"}, {"material": "C"}]', [
            "f:1: is not an object", "f:2: material: is no text", "f:3: lots: is no column", "f:4: lot: is missing",
        ]),
    ],
)  # fmt: skip
def test_every_fault_of_a_file_is_said_with_its_line(text: str, said: list[str]) -> None:
    assert faults(text) == said


def test_a_json_number_is_taken_as_it_is_written() -> None:
    text = '[{"material": "C", "lot": "1", "identifiers": ["QC 1", "C*"], "expires_on": null, "level_number": 2}, '
    text += (
        '{"material": "C", "lot": "1", "test": "HGB", "analyzer": "hema", "unit": "g/dL", "mean": 12.10, "sd": 0.1}]'
    )
    [first, second] = read_lots("f", text).rows
    assert (first.identifiers, first.level_number, first.target) == (("QC 1", "C*"), 2, None)
    assert second.target is not None
    assert (str(second.target.mean), str(second.target.sd)) == ("12.10", "0.1")


def test_what_is_written_is_read_again() -> None:
    row: dict[str, object] = {
        "material": "C", "lot": "1", "level": "low", "level_number": 1, "expires_on": date(2027, 1, 31),
        "identifiers": ("a b", "c"), "analyzers": (), "test": "HGB", "analyzer": "hema", "unit": "g/dL",
        "mean": Decimal("1E+3"), "sd": Decimal("0.10"), "source": TargetSource.LABORATORY, "kind": TargetKind.FIXED,
        "valid_from": datetime(2026, 1, 1, tzinfo=UTC), "valid_to": None,
    }  # fmt: skip
    [read] = read_lots("f", write_csv([row])).rows
    assert (read.identifiers, read.expires_on) == (("a b", "c"), date(2027, 1, 31))
    assert read.target is not None
    assert (str(read.target.mean), str(read.target.sd)) == ("1000", "0.10")
    assert read.target.valid_from == row["valid_from"]


def test_no_cell_is_a_formula_and_it_is_read_again_as_it_was() -> None:
    row: dict[str, object] = {"material": "=cmd|' /C calc'!A0", "lot": "+1", "level": "@x", "identifiers": ("-1", "=2")}
    text = write_csv([row])
    assert text.splitlines()[1].startswith("'=cmd|' /C calc'!A0,,,'+1,'@x,,,'-1;=2,")
    [read] = read_lots("f", text).rows
    assert (read.material, read.lot, read.level, read.identifiers) == (row["material"], "+1", "@x", ("-1", "=2"))
