"""Spreadsheets as programs write them are read; what is none, or an attack, is refused."""

from __future__ import annotations

import zipfile
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interface.render import sheet
from interface.render.sheet import SheetError, read_sheets, write_sheet

MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
REL = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
WORKBOOK = (
    f'<workbook xmlns="{MAIN}" xmlns:r="{REL}"><sheets><sheet name="Notes" sheetId="1" r:id="rId2"/>'
    '<sheet name="Map" sheetId="2" r:id="rId1"/></sheets></workbook>'
)
RELATIONS = (
    '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
    f'<Relationship Id="rId1" Type="{REL}/worksheet" Target="worksheets/sheet2.xml"/>'
    f'<Relationship Id="rId2" Type="{REL}/worksheet" Target="/xl/worksheets/sheet1.xml"/></Relationships>'
)
# As Excel writes them: a plain string, one of runs with a phonetic reading, one with blanks that count.
SHARED = (
    f'<sst xmlns="{MAIN}"><si><t>Code</t></si><si><r><t>Glu</t></r><r><rPr><b/></rPr><t>cose</t></r>'
    '<rPh sb="0" eb="1"><t>read aloud</t></rPh></si><si><t xml:space="preserve"> a &amp; b </t></si></sst>'
)
SHEET = (
    f'<worksheet xmlns="{MAIN}"><sheetData><row r="3"><c r="A3" t="s"><v>0</v></c><c r="C3" t="s"><v>1</v></c>'
    '<c r="D3"><v>158</v></c></row><row r="4"><c r="B4" s="1"/></row>'
    '<row r="7"><c r="AA7" t="s"><v>2</v></c><c r="AB7" t="str"><f>A1</f><v>by formula</v></c>'
    '<c r="AC7" t="inlineStr"><is><t>here</t></is></c></row></sheetData></worksheet>'
)


def workbook(**parts: str) -> bytes:
    """A workbook of two sheets, some of its parts replaced or (by "") left out."""
    names = {
        "workbook": ("xl/workbook.xml", WORKBOOK),
        "relations": ("xl/_rels/workbook.xml.rels", RELATIONS),
        "shared": ("xl/sharedStrings.xml", SHARED),
        "notes": ("xl/worksheets/sheet1.xml", f'<worksheet xmlns="{MAIN}"><sheetData/></worksheet>'),
        "sheet": ("xl/worksheets/sheet2.xml", SHEET),
    }
    file = BytesIO()
    with zipfile.ZipFile(file, "w") as package:
        for key, (name, text) in names.items():
            if written := parts.get(key, text):
                package.writestr(name, written)
    return file.getvalue()


def test_cells_are_read_where_they_stand_however_their_text_is_kept() -> None:
    notes, found = read_sheets(workbook())
    assert (notes.name, notes.rows) == ("Notes", ())
    assert found.name == "Map"
    assert [number for number, _ in found.rows] == [3, 7]
    assert found.rows[0][1] == ("Code", "", "Glucose", "158")
    assert found.rows[1][1][26:] == (" a & b ", "by formula", "here")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK\x03\x04",
        workbook()[:-30],
        workbook(relations=""),
        workbook(sheet=""),
        workbook(sheet="<worksheet"),
        workbook(shared=""),
        workbook(sheet=SHEET.replace("<v>1</v>", "<v>999</v>")),
        workbook(sheet=SHEET.replace("<v>1</v>", "<v>-1</v>")),
        workbook(sheet=SHEET.replace('r="3"', 'r="x"')),
        workbook(relations=RELATIONS.replace(' Id="rId1"', "")),
        workbook(sheet='<!DOCTYPE x [<!ENTITY a "b">]>' + SHEET),
    ],
)
def test_what_is_no_spreadsheet_is_refused_in_one_way(data: bytes) -> None:
    with pytest.raises(SheetError):
        list(read_sheets(data))


def test_a_part_that_unpacks_to_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheet, "MAX_PART_BYTES", 100)
    with pytest.raises(SheetError, match="too large"):
        list(read_sheets(workbook()))


def test_a_cell_far_to_the_right_takes_no_memory() -> None:
    cells = '<row r="1"><c r="A1"><v>1</v></c><c r="ZZZ1"><v>2</v></c></row>'
    far = f'<worksheet xmlns="{MAIN}"><sheetData>{cells}</sheetData></worksheet>'
    assert list(read_sheets(workbook(sheet=far)))[1].rows == ((1, ("1",)),)


_TEXTS = st.text(st.characters(exclude_categories=("Cc", "Cs", "Cn", "Co")), max_size=20)


@given(st.lists(st.lists(_TEXTS, min_size=1, max_size=30), max_size=10))
def test_what_is_written_is_read_again(rows: list[list[str]]) -> None:
    [found] = read_sheets(write_sheet("LOINC Mapping", rows))
    filled = {number: row for number, row in enumerate(rows, 1) if any(row)}
    read = {number: list(cells) for number, cells in found.rows}
    assert found.name == "LOINC Mapping"
    assert {number: row + [""] * (len(filled[number]) - len(row)) for number, row in read.items()} == filled
