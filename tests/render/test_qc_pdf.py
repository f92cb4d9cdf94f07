"""The month's report: what stands in the PDF, read back by a reader that is not ours."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pypdfium2
import pytest

from interface.render.pdf import Paper, Sheet, build, said, table
from interface.render.qc_pdf import SIGNED_BY, attached, pdf
from tests.render.chart_cases import END, LONG
from tests.render.report_cases import month, stream, usual, worst


@cache
def pages(made: bytes) -> list[str]:
    """The text of each page, words as they stand."""
    document = pypdfium2.PdfDocument(made)
    return [" ".join(str(page.get_textpage().get_text_range()).split()) for page in document]


@pytest.fixture(scope="module")
def november() -> bytes:
    return pdf(usual())


def test_a_report_has_all_that_is_asked_of_it(november: bytes) -> None:
    text = " ".join(pages(november))
    for words in (
        "Quality control, November 2026", "Laboratorium Klinik Sehat",
        "1 Nov 2026 \N{EN DASH} 30 Nov 2026, Asia/Jakarta",
        "cobas-1, module c503-1: Glucose (GLU), mmol/L", "Plan: cobas-1 3; rules: by the number of levels (modern)",
        "MultiQual 45820", "2027-08-31", "3.20 ± 0.08 mmol/L from 2026-08-03",  # lots and targets in force
        "52 3.2133 0.0852 2.7 0.4 0.17 4.8 3.6 2 / 2 / 0",  # n, mean, SD, CV, bias, SDI, TE, sigma, verdicts
        "11 Nov 01:10 Low, 45820 3.59 +4.90 1-3s reject 11 Nov 01:35 corrective action: sample probe rinsed",
        "17 Nov 01:11 Normal, 45821 4.94 \N{MINUS SIGN}3.27 1-3s reject nothing documented",
        "7 Nov 01:11 Normal, 45821 5.21 \N{MINUS SIGN}3.40 wrong vial S. Wijaya, 7 Nov 02:11",  # excluded
        "maintenance cuvettes & lamp <changed> Müller", "Suhu ruang 27 °C, AC diperbaiki (µ ± ½)",
        "reagent 771204 2027-03-31 9 Nov 2026 00:00 in use",
        "10 Nov 13:10 \N{EN DASH} 11 Nov 01:10 1 corrected, 41 stands closed", "7 waiting open",  # look-backs
        "Controls that were sent and made no point (lot or test not known, lot closed or expired): cobas-1: 3.",
        "Without a control in this month cobas-1, module c503-1: Potassium (K)",
        "3.59 (+4.9 SD) 1-3s", "+3 SD",  # the chart is text too
    ):  # fmt: skip
        assert words in text, words
    assert all(who in pages(november)[-1] for who in SIGNED_BY)


def test_each_page_says_which_of_how_many_it_is_and_who_printed_it(november: bytes) -> None:
    made = pages(november)
    for number, text in enumerate(made, 1):
        assert text.endswith(f"page {number} of {len(made)}")
        assert "printed 2 Dec 2026 02:00 Asia/Jakarta, by S. Wijaya" in text
    assert pypdfium2.PdfDocument(november).get_metadata_value("CreationDate").startswith("D:20261201190000")


def test_the_same_report_is_the_same_bytes(november: bytes) -> None:
    assert pdf(usual()) == november


def test_a_month_without_controls_says_so() -> None:
    [text] = pages(pdf(month()))
    assert "No control was measured in this month, and nothing was done about any." in text
    assert "No test of any analyzer had a target." in text and "Laboratory director" in text
    without = replace(usual().streams[4], lots=())
    [text] = pages(pdf(month(without)))
    assert "No control was measured in this month" in text and "Potassium (K)" in text and "none" in text


def test_what_is_long_stays_on_the_page_and_is_broken_not_lost() -> None:
    for paper, size in ((Paper.A4, (595, 842)), (Paper.LETTER, (612, 792))):
        document = pypdfium2.PdfDocument(pdf(worst(), paper))
        for page in document:
            assert tuple(round(length) for length in page.get_size()) == size
            text = page.get_textpage()
            for at in range(text.count_chars()):
                left, _, right, _ = text.get_charbox(at)
                assert left >= 0 and right <= size[0]
    rows = [(str(number), LONG) for number in range(200)]
    sheet = Sheet(LONG, LONG, LONG, END)
    made = pages(build(sheet, [table(("number", "text"), rows, (1, 9)), said("<b>&amp;</b>")]))
    assert len(made) > 5 and "<b>&amp;</b>" in made[-1]
    assert all(text.count("number text") == 1 for text in made), "the head is on every page"
    assert all(f" {number} Pemeriksaan" in " ".join(made) for number in range(1, 200))


def test_a_row_that_is_higher_than_a_page_goes_on_on_the_next() -> None:
    """Several long comments on one failure stand in one cell: the month could not be printed."""
    rows = [("1", "W" * 9000, "right"), ("2", "x" * 3000, "")]
    made = pages(build(Sheet("", "", "", END), [table(("number", "tet", "more"), rows, (1, 3, 1))]))
    assert len(made) > 3
    assert [sum(text.count(letter) for text in made) for letter in "Wx"] == [9000, 3000]


def test_letters_go_into_the_file(november: bytes) -> None:
    assert b"/FontFile2" in november and b"Arimo" in november
    [text] = pages(build(Sheet("", "", "", END), [said("µ \N{GREEK SMALL LETTER SIGMA} ± 10⁹/L é ğ ł ≥")]))
    assert "µ \N{GREEK SMALL LETTER SIGMA} ± 10⁹/L é ğ ł ≥" in text


def test_deeds_belong_to_the_failure_they_are_about_or_follow() -> None:
    report = usual().streams[0]
    done = attached(report.failures, report.deeds)
    by_id = {point.id: point for point in report.failures}
    assert {(by_id[id].rules, *(deed.kind for deed in deeds)) for id, deeds in done.items()} == {
        (("1-3s",), "corrective"), (("2-2s",), "maintenance", "comment"),
    }  # fmt: skip
    early = [replace(deed, at=report.chart.begin, point_id="") for deed in report.deeds]
    assert attached(report.failures, early) == {}


def test_a_quiet_stream_says_that_nothing_was_out() -> None:
    quiet = replace(stream(usual().streams[0].chart), failures=())
    assert "Controls out of their rules, and what was done None." in " ".join(pages(pdf(month(quiet))))
