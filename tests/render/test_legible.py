"""Names of any script are legible on a report: in their own letters, or in Latin ones."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pypdfium2
import pytest
from reportlab.pdfbase.ttfonts import TTFontFile

from interface.domain.model import Sex
from interface.domain.report import Person
from interface.render import typeface
from interface.render.legible import NOTHING_KNOWN, legible
from interface.render.report_pdf import pdf
from tests.render.order_reports import usual

NAMES = {  # as it is written: as it is set
    "Nguyễn Thị Hương": "Nguyễn Thị Hương",
    "Łukasz Żółć": "Łukasz Żółć",
    "Иванов Пётр": "Иванов Пётр",
    "Παπαδόπουλος": "Παπαδόπουλος",
    "王小明": "WangXiaoMing",
    "山田太郎": "ShanTianTaiLang",
    "김민수": "GimMinSu",
    "محمد": "mhmd",
    "שרה": "srh",
    "สมชาย": "smchay",
    "राम": "ram",
    "سارة": "sarh",
    "\ue000": NOTHING_KNOWN,  # for private use: nobody knows what it is
    "Ana\N{COMBINING ACUTE ACCENT}": "Aná",
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_set_in_letters_that_the_font_has(name: str) -> None:
    said = legible(name)
    assert said == NAMES[name]
    known = TTFontFile(typeface.font_file()).charToGlyph
    assert all(ord(letter) in known for letter in said)


@pytest.mark.parametrize("name", NAMES)
def test_it_stands_on_the_page_as_text(name: str) -> None:
    person = Person(name, "Eva", date(1980, 5, 1), Sex.FEMALE, ())
    [page] = pypdfium2.PdfDocument(pdf(replace(usual(), person=person)))
    assert f"{NAMES[name]}, Eva" in " ".join(page.get_textpage().get_text_range().split())
