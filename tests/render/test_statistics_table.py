"""Tables of the laboratory's work: cells are no formulas, pages say what they count."""

from __future__ import annotations

import csv
from datetime import UTC, datetime
from decimal import Decimal
from io import StringIO

import pypdfium2
import pytest

from interface.domain.report import Paper
from interface.domain.statistics import By, Stage, Target, TurnaroundReport, TurnaroundRow, WorkloadReport, WorkloadRow
from interface.render import statistics_table as tables
from interface.render.csv_text import cell, plain, write
from tests.render.report_cases import usual

BEGIN, END = datetime(2026, 2, 1, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC)


def workload() -> WorkloadReport:
    rows = (WorkloadRow("", 1, 1, 1, 0, 0, 0, 0, 1, 1), WorkloadRow("=HYPERLINK(1)", 9, 8, 7, 6, 5, 4, 3, 2, 1))
    return WorkloadReport("Lab", BEGIN, END, "UTC", By.DEPARTMENT, rows, WorkloadRow("", 10, 9, 8, 6, 5, 4, 3, 3, 2))


def turnaround() -> TurnaroundReport:
    row = TurnaroundRow("HGB", Stage.RECEIVED_RELEASED, 12, 660, 7500, 360000, 1, 2, 12, 11)
    targets = (Target(Stage.RECEIVED_RELEASED, 60, priority="stat"),)
    return TurnaroundReport("Lab", BEGIN, END, "UTC", By.TEST, (row,), (row,), targets)


@pytest.mark.parametrize(
    ("value", "said"),
    [("=1+1", "'=1+1"), ("+1", "'+1"), ("-1", "'-1"), ("@SUM(A1)", "'@SUM(A1)"), ("\t=1", "'\t=1"), ("\r=1", "'\n=1"),
     (" =1", "' =1"), ("\n=1", "'\n=1"), ("a=1", "a=1"), ("\uff1d1+1", "'\uff1d1+1"), ("\xa0=1", "'\xa0=1"),
     ("\ufeff@x", "'\ufeff@x"), ("'=1", "''=1"), ("-", "-"), ("+", "+"), ("'a", "'a"),
     (-1, "-1"), (Decimal("-5.10"), "-5.10"), (None, ""), ("", "")],
)  # fmt: skip
def test_no_cell_is_a_formula(value: object, said: str) -> None:
    assert cell(value) == said
    if isinstance(value, str):
        assert plain(said) == value.replace("\r", "\n")
    assert next(csv.reader(StringIO(write(["a"], [[value]]).split("\n", 1)[1]))) in ([said], [])


def test_tables_have_a_row_for_each_key_and_one_for_all() -> None:
    rows = list(csv.reader(StringIO(tables.workload_csv(workload()))))
    assert rows[0][:4] == ["department", "results", "reported", "released"]
    assert [row[:3] for row in rows[1:]] == [["", "1", "1"], ["'=HYPERLINK(1)", "9", "8"], ["all", "10", "9"]]
    rows = list(csv.reader(StringIO(tables.turnaround_csv(turnaround()))))
    assert rows[1] == ["HGB", "received-released", "12", "660", "7500", "360000", "1", "2", "12", "11"]
    rows = list(csv.reader(StringIO(tables.qc_csv(usual()))))
    assert rows[0][:3] == ["analyzer", "module", "test"] and all(len(row) == len(rows[0]) for row in rows)
    assert ["cobas-1", "c503-1", "GLU"] in [row[:3] for row in rows] and rows[1][10] == "3.2133"


@pytest.mark.parametrize("paper", Paper)
def test_pages_say_what_they_count(paper: Paper) -> None:
    for made, words in (
        (tables.workload_pdf(workload(), paper, END, "vera"),
         ("Workload by department", "1 Feb 2026", "=HYPERLINK(1) 9 8 7 6 5 4 3 2 1", "all 10 9 8", "by vera")),
        (tables.turnaround_pdf(turnaround(), paper, END, "vera"),
         ("Turn-around time by test", "received to released", "HGB 12 11 min 00 s 2 h 05 min 4 d 4 h 1 2 11 of 12",
          "stat received to released 60", "page 1 of 1")),
    ):  # fmt: skip
        text = " ".join(pypdfium2.PdfDocument(made)[0].get_textpage().get_text_range().split())
        assert [each for each in words if each not in text] == []


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(None, ""), (0, "0 s"), (59, "59 s"), (60, "1 min 00 s"), (3661, "1 h 01 min"), (172800, "2 d 0 h")],
)
def test_times_are_in_words(seconds: int | None, said: str) -> None:
    assert tables.minutes(seconds) == said
