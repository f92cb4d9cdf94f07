"""The report of an order: what stands on its pages, read back by a reader that is not ours, and where it stands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import cache
from itertools import pairwise

import pypdfium2
import pytest

from interface.domain.model import Priority, ResultStatus, Sex
from interface.domain.report import Earlier, Former, Language, Line, OrderReport, Paper
from interface.render import report_json, report_words
from interface.render.drawing import Drawing, Words, extent
from interface.render.report_layout import pages
from interface.render.report_page import MARGIN
from interface.render.report_pdf import pdf
from tests.render.order_reports import AT, corrected, line, preliminary, usual, worst

CASES: dict[str, Callable[[], OrderReport]] = {
    "usual": usual, "corrected": corrected, "preliminary": preliminary, "worst": worst,
}  # fmt: skip


@cache
def read(made: bytes) -> list[str]:
    """The text of each page, words as they stand."""
    document = pypdfium2.PdfDocument(made)
    return [" ".join(str(page.get_textpage().get_text_range()).split()) for page in document]


def text_of(report: OrderReport, language: Language = Language.ENGLISH) -> str:
    return " ".join(read(pdf(report, Paper.A4, language)))


# 42 CFR 493.1291(c), (d), (k): what a test report must indicate, paragraph by paragraph.
@pytest.mark.parametrize(
    ("paragraph", "words"),
    [
        ("(c)(1) name and identification number", ("Muster, Eva Maria", "0012345678 (urn:hospital)", "L-99")),
        ("(c)(2) name and address of the laboratory", ("Laboratorium Klinik Sehat", "Jl. Sudirman 45, Bandung")),
        ("(c)(3) the test report date", ("Version 1, issued 3 Feb 2026 10:00.",)),
        ("(c)(4) the test performed", ("Potassium", "C-reactive protein", "Blood film")),
        ("(c)(5) specimen source", ("1: BC-1 Serum", "2: BC-2 EDTA blood", "3 Feb 2026 06:00 3 Feb 2026 07:00")),
        ("(c)(6) result, units, interpretation", ("7.1 HH mmol/L", "<0.5 < mg/L", "Anisocytosis A")),
        ("(d) reference intervals", ("3.9 \N{EN DASH} 5.6", "≤ 5.6", "no abnormal cells")),
        ("who or what released", ("S. Wijaya, 3 Feb 2026 10:00:", "automatically, by the rules chemistry 4",
                                  "S. Wijaya, checked by A. Putri")),
    ],
)  # fmt: skip
def test_a_report_indicates_what_the_regulation_asks(paragraph: str, words: tuple[str, ...]) -> None:
    text = text_of(usual())
    assert [each for each in words if each not in text] == [], paragraph


def test_a_specimen_that_is_unfit_is_told_with_its_condition_and_what_became_of_it() -> None:  # 493.1291(c)(7)
    text = text_of(preliminary())
    assert "3: BC-3 Urine not stated 3 Feb 2026 10:00 REJECTED: haemolysed, please send another" in text
    assert "No result: Urine status, rejected (specimen unfit)" in text


def test_a_correction_stands_beside_what_was_reported_before() -> None:  # 493.1291(k)
    text = text_of(corrected())
    assert "CORRECTED REPORT" in text and "LABORATORY REPORT CORRECTED" in text
    assert "CORRECTED 3 Feb 2026 10:00. Reported before: 5.1 mmol/L (interval 3.9 - 5.6), 3 Feb 2026 08:00." in text
    assert "WITHDRAWN 3 Feb 2026 10:00: entered in error, not to be used. Reported before: 4.5 mmol/L" in text
    assert "Version 2, issued 3 Feb 2026 10:00. It replaces version 1 of 3 Feb 2026 09:00, which is kept." in text
    assert "CORRECTED" not in text_of(usual())


def test_each_line_of_a_text_is_a_line_of_its_own() -> None:
    """They ran into one another: `Ampicillin R Gentamicin S`, and one comment's end was the next one's begin."""
    culture = "Escherichia coli\nAmpicillin R\r\nGentamicin S\n\nCeftriaxone S"
    was = (former("E. coli\nAmpicillin S", 2),)
    said = line(
        7, name="Urine culture", value=culture, number=None, unit="", flags=(), before=was, earlier=(),
        comments=("Growth in\nboth media", "Seen by\nDr. Meyer"),
    )  # fmt: skip
    short = line(8, value="one\ntwo", number=None, unit="", flags=(), earlier=(Earlier(AT, "three\nfour"),))
    made = pages(replace(usual(), lines=(said, short), history="Fever\nCatheter"), Paper.A4, Language.ENGLISH)
    found = [item.text for page in made for item in page.items if isinstance(item, Words)]
    for text in (*culture.split("\n"), "Growth in", "both media", "Seen by", "Dr. Meyer", "one", "two", "Catheter"):
        assert not text.strip() or text.strip() in found, text
    assert "Clinical information: Fever" in found
    assert any("E. coli / Ampicillin S mmol/L" in text for text in found)
    assert any("three / four" in text for text in found)


def former(value: str, hours: int, status: ResultStatus = ResultStatus.FINAL) -> Former:
    return Former(value, "mmol/L", status, AT - timedelta(hours=hours))


def test_a_comment_that_was_added_is_no_correction() -> None:
    """It said `CORRECTED. Reported before:` the same value, and a ward looked for what had been wrong."""
    said = line(7, status=ResultStatus.AMENDED, version=2, flags=(), before=(former("7.50", 2),))
    report = replace(usual(), status="amended", lines=(said,), version=2)
    text = text_of(report)
    assert "CORRECTED" not in text and "AMENDED REPORT: comments were added" in text
    assert (
        "AMENDED 3 Feb 2026 10:00: a comment was added. Reported before, unchanged: 7.50 mmol/L, 3 Feb 2026 08:00."
        in text
    )
    wrong = line(8, status=ResultStatus.CORRECTED, version=2, flags=(), before=(former("8.10", 2),))
    text = text_of(replace(report, status="corrected", lines=(said, wrong)))
    assert "CORRECTED REPORT" in text and "CORRECTED 3 Feb 2026 10:00. Reported before: 8.10 mmol/L" in text


def test_each_version_of_a_result_that_was_withdrawn_says_what_became_of_it() -> None:
    """At 09:00 it was corrected: it said that it was withdrawn then, and again at 10:00."""
    before = (former("5.1", 3), former("5.9", 1, ResultStatus.CORRECTED))
    gone = line(4, status=ResultStatus.ENTERED_IN_ERROR, value="", number=None, version=3, flags=(), before=before)
    text = text_of(replace(usual(), lines=(gone,)))
    assert "CORRECTED 3 Feb 2026 09:00. Reported before: 5.1 mmol/L, 3 Feb 2026 07:00." in text
    assert text.count("entered in error, not to be used") == 1
    assert "WITHDRAWN 3 Feb 2026 10:00: entered in error, not to be used. Reported before: 5.9 mmol/L" in text


def test_what_is_preliminary_or_still_to_come_says_so() -> None:
    text = text_of(preliminary())
    assert "PRELIMINARY REPORT" in text and "LABORATORY REPORT PARTIAL" in text
    assert "Preliminary, not yet confirmed." in text and "Not yet reported: Urine culture" in text
    assert not {"PRELIMINARY", "Preliminary", "Not yet"} & set(text_of(usual()).split())


def test_flags_comments_and_what_was_measured_before_are_there() -> None:
    text = text_of(usual())
    assert "Slight haemolysis." in text and "7.1 (4 Jan 2026)" in text
    assert "Flags: H above the interval; HH critically high; A abnormal; < below what can be measured" in text
    assert "Chemistry, specimen 1 (BC-1)" in text and "Haematology, specimen 2 (BC-2)" in text


def test_results_are_drawn_with_their_course_but_none_that_is_no_number() -> None:
    def courses(*lines: Line) -> int:
        [page] = pages(replace(usual(), lines=lines), Paper.A4, Language.ENGLISH)
        return sum(type(item).__name__ == "Disc" for item in page.items)

    assert courses(line(4)) == 1
    assert courses(line(4, earlier=()), line(5, value="<5"), line(6, number=None, value="high")) == 0
    assert courses(line(4, status=ResultStatus.ENTERED_IN_ERROR)) == 0


@pytest.mark.parametrize("language", Language)
def test_words_are_of_the_language(language: Language) -> None:
    text = text_of(preliminary(), language)
    other = next(each for each in Language if each is not language)
    for name in ("title", "patient", "condition", "interval", "preliminary", "status.partial", "part"):
        assert report_words.WORDS[language][name] in text, name
        assert report_words.WORDS[other][name] not in text.replace("Pasien", ""), name


def test_languages_have_the_same_words_with_the_same_places() -> None:
    english, *others = (report_words.WORDS[language] for language in Language)
    for words in others:
        assert list(words) == list(english)
        assert {name: text.count("{}") for name, text in words.items()} == {
            name: text.count("{}") for name, text in english.items()
        }
    for table in (report_words.SEXES, report_words.PRIORITIES):
        assert {frozenset(words) for words in table.values()} in ({frozenset(Sex)}, {frozenset(Priority)})


@pytest.mark.parametrize("paper", Paper)
def test_every_page_says_whose_it_is_and_which_of_how_many(paper: Paper) -> None:
    made = read(pdf(worst(), paper))
    assert len(made) >= 3
    for number, text in enumerate(made, 1):
        assert f"page {number} of {len(made)}" in text and "Pemeriksaan laboratorium" in text
    usual_pages = read(pdf(replace(usual(), lines=tuple(line(at) for at in range(60))), paper))
    assert len(usual_pages) in (2, 3)
    assert all("Muster, Eva Maria" in text and "N-2026-000123" in text for text in usual_pages)
    assert all("Reference interval" in text for text in usual_pages), "a table's head is on each page it goes on to"


@pytest.mark.parametrize("language", Language)
@pytest.mark.parametrize("paper", Paper)
@pytest.mark.parametrize("case", CASES)
def test_no_text_overlaps_another_or_leaves_the_page(case: str, paper: Paper, language: Language) -> None:
    for number, page in enumerate(pages(CASES[case](), paper, language), 1):
        texts = sorted((*extent(item), item.text) for item in page.items if isinstance(item, Words))
        assert texts, number
        for left, top, right, bottom, text in texts:
            assert left >= MARGIN - 1 and right <= page.width - MARGIN + 1, (number, text)
            assert top >= MARGIN - 4 and bottom <= page.height - MARGIN + 1, (number, text)
        assert overlapping(page) == [], number


def overlapping(page: Drawing) -> list[tuple[str, str]]:
    """Texts that share more than the ascenders and descenders of two lines may: a quarter of a line."""
    found = []
    boxes = [(extent(item), item) for item in page.items if isinstance(item, Words)]
    for at, ((left, top, right, bottom), one) in enumerate(boxes):
        for (left2, top2, right2, bottom2), other in boxes[at + 1 :]:
            deep = min(bottom, bottom2) - max(top, top2)
            if min(right, right2) - max(left, left2) > 0.5 and deep > 0.25 * min(one.size, other.size):
                found.append((one.text, other.text))
    return found


def test_overlapping_texts_would_be_found() -> None:
    page = pages(usual(), Paper.A4, Language.ENGLISH)[0]
    first = next(item for item in page.items if isinstance(item, Words))
    assert overlapping(replace(page, items=(*page.items, replace(first, y=first.y + 3)))) != []


def test_nothing_of_a_result_is_cut() -> None:
    text = text_of(worst()).replace(" ", "")
    for each in worst().lines:
        for said in (each.value, *each.comments):
            assert said.replace(" ", "") in text, each.test


def test_the_same_report_is_the_same_bytes_and_letters_go_into_the_file() -> None:
    made = pdf(usual())
    assert pdf(report_json.loads(report_json.dumps(usual()))) == made
    assert b"/FontFile2" in made and b"Arimo" in made and b"/ToUnicode" in made and b"/Lang (en)" in made
    assert pypdfium2.PdfDocument(made).get_metadata_value("CreationDate") == "D:20260203030000Z"
    for paper, size in ((Paper.A4, (595, 842)), (Paper.LETTER, (612, 792))):
        page = pypdfium2.PdfDocument(pdf(usual(), paper))[0]
        assert tuple(round(length) for length in page.get_size()) == size


def test_on_a_printer_without_colours_everything_is_told_by_its_form() -> None:
    colours = {
        colour
        for page in pages(corrected(), Paper.A4, Language.ENGLISH)
        for item in page.items
        for colour in (item.colour, getattr(item, "fill", ""))
        if colour
    }
    assert all(len({colour[1:3], colour[3:5], colour[5:7]}) == 1 for colour in colours), "greys only"


@pytest.mark.parametrize("case", CASES)
def test_content_comes_back_as_it_was_written(case: str) -> None:
    report = CASES[case]()
    assert report_json.loads(report_json.dumps(report)) == report
    assert report_json.digest(report_json.loads(report_json.dumps(report))) == report_json.digest(report)


def test_a_version_is_of_what_the_order_says_and_of_nothing_else() -> None:
    report = usual()
    same = (
        replace(report, header=replace(report.header, director="another")),
        replace(report, version=7, issued_at=None, replaces_at=AT, replaces=6),
        replace(report, lines=(replace(report.lines[0], earlier=()), *report.lines[1:])),
    )
    assert {report_json.digest(each) for each in same} == {report_json.digest(report)}
    other = (
        replace(report, lines=report.lines[1:]), replace(report, status="corrected"), replace(report, ward="ICU 4"),
        replace(report, person=replace(report.person, family="Master")) if report.person else report,
        replace(report, lines=(replace(report.lines[0], value="4.51"), *report.lines[1:])),
        replace(report, lines=(replace(report.lines[0], comments=("a word",)), *report.lines[1:])),
        replace(report, tubes=report.tubes[:1]),
    )  # fmt: skip
    digests = [report_json.digest(each) for each in (report, *other)]
    assert len(set(digests)) == len(digests)
    assert all(one != after for one, after in pairwise(digests))
