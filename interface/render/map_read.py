"""Any file of a map: told by what is in it, not by its name; only a plan's TOML is told by its name."""

from __future__ import annotations

from interface.domain.map_files import Fault, FileFaults, FileRows
from interface.render.concept_map import read_fhir
from interface.render.map_plan import read_plan
from interface.render.map_table import read_text_table, read_workbook
from interface.render.sheet import is_sheet

SUFFIXES = frozenset({".toml", ".csv", ".tsv", ".txt", ".xlsx", ".json"})


def read_map(file: str, data: bytes) -> FileRows:
    """CSV of ours, ConceptMap, LIVD as Bundle, spreadsheet or text, or a plan's TOML. Raises FileFaults."""
    if is_sheet(data):
        return read_workbook(file, data)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise FileFaults([Fault(file, line, "", "is not UTF-8 text, nor a spreadsheet (.xlsx)")]) from error
    if "\0" in text:
        raise FileFaults([Fault(file, text.count("\n", 0, text.index("\0")) + 1, "", "is not text")])
    if file.endswith(".toml"):
        return read_plan(file, text)
    if text.lstrip()[:1] == "{":
        return read_fhir(file, text)
    return read_text_table(file, text)
