"""Files of maps: whatever the bytes are, they are read or refused with the place, in one way."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interface.domain.map_files import Choices, FileFaults, Laboratory, resolve
from interface.domain.model import LabTest
from interface.domain.units import UnitAliases
from interface.render.map_read import read_map
from interface.render.map_table import LIVD_COLUMNS, LIVD_SHEET, read_text_table, write_csv
from interface.render.sheet import write_sheet

GLU = LabTest("1", "GLU", "Glucose", "2345-7", "mg/dL")
LABORATORY = Laboratory(
    tests={"GLU": GLU}, specimen_types=frozenset({"SER"}), specimen_words={"serum": "SER"}, aliases=UnitAliases(),
    drivers=frozenset({"d"}), links={"l": "d"},
)  # fmt: skip
CONCEPT_MAP = {
    "resourceType": "ConceptMap",
    "group": [
        {
            "source": "urn:labora:driver:d",
            "target": "http://loinc.org",
            "element": [
                {
                    "code": "A",
                    "display": "Glucose",
                    "target": [
                        {
                            "code": "2345-7",
                            "equivalence": "equivalent",
                            "dependsOn": [{"property": "specimen", "value": "SER"}],
                            "product": [{"property": "test", "system": "urn:labora:test", "value": "GLU"}],
                            "extension": [{"url": "urn:labora:valid", "valuePeriod": {"start": "2026-01-01"}}],
                        }
                    ],
                }
            ],
        }
    ],
}
BUNDLE = {
    "resourceType": "Bundle",
    "entry": [
        {"resource": {"resourceType": "DeviceDefinition", "id": "dev", "modelNumber": "One"}},
        {
            "resource": {
                "resourceType": "ObservationDefinition",
                "id": "x",
                "code": {"coding": [{"code": "A", "display": "Glucose"}]},
                "extension": [{"url": "u/ext-device", "valueReference": {"reference": "DeviceDefinition/dev"}}],
            }
        },
        {
            "resource": {
                "resourceType": "ConceptMap",
                "meta": {"profile": ["p"]},
                "group": [{"element": [{"code": "x", "target": [{"code": "2345-7", "equivalence": "equivalent"}]}]}],
            }
        },
    ],
}
CSV = (
    b"driver,link,code,specimen_type,test,loinc,unit,valid_from,valid_to,note\n"
    b"d,,A,SER,GLU,2345-7,mg/dL,2026-01-01,,x\n"
)
TOML = b'driver = "d"\ncodes = [\n  {code = "A", test = "GLU", valid_from = 2026-01-01},\n]\n'
SHEET = write_sheet(
    LIVD_SHEET, [LIVD_COLUMNS, ["", "Acme", "One", "", "", "A", "Glucose", "", "Serum", "", "", "2345-7"]]
)
WHOLE = {
    "map.json": json.dumps(CONCEPT_MAP, indent=1).encode(),
    "bundle.json": json.dumps(BUNDLE).encode(),
    "map.csv": CSV,
    "plan.toml": TOML,
    "livd.xlsx": SHEET,
}


def understood(file: str, data: bytes) -> int:
    """How many rows are wanted; -1 where the file is refused. Anything else that is raised is a defect."""
    try:
        read = read_map(file, data)
        return len(resolve(read.rows, LABORATORY, Choices(driver="d")).wanted)
    except FileFaults as error:
        assert error.faults and all(str(fault).startswith(file) for fault in error.faults)
        return -1


@pytest.mark.parametrize("file", WHOLE)
def test_each_kind_of_file_is_told_by_what_is_in_it(file: str) -> None:
    assert understood(file, WHOLE[file]) == 1


@given(st.sampled_from(sorted(WHOLE)), st.data())
def test_a_damaged_file_is_read_or_refused(file: str, data: st.DataObject) -> None:
    whole = bytearray(WHOLE[file])
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(whole) - 1))
        whole[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    understood(file, bytes(whole))


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from([CONCEPT_MAP, BUNDLE]), st.data())
def test_a_resource_with_a_part_of_another_kind_is_read_or_refused(
    resource: dict[str, object], data: st.DataObject
) -> None:
    whole = json.loads(json.dumps(resource))
    place: object = whole
    path: list[tuple[object, str | int]] = []
    while isinstance(place, dict | list) and place:
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else list(range(len(place)))))
        path.append((place, key))
        place = place[key]
    parent, key = data.draw(st.sampled_from(path))
    parent[key] = data.draw(_VALUES)  # type: ignore[index]
    understood("map.json", json.dumps(whole).encode())


@pytest.mark.parametrize(
    ("file", "data"),
    [
        ("map.json", b'{"resourceType": "ConceptMap", "group": ' + b"[" * 900 + b"]" * 900 + b"}"),
        ("map.json", b'{"resourceType": "ConceptMap", "group": ' + b"[" * 100_000),
        ("plan.toml", b"codes = " + b"[" * 100_000),
        ("map.csv", b"code,test\n" + b"x" * 200_000 + b",GLU\n"),
    ],
)
def test_what_is_nested_or_long_beyond_sense_is_refused(file: str, data: bytes) -> None:
    assert understood(file, data) == -1


def test_lines_are_told_right_also_where_braces_stand_in_texts() -> None:
    broken = json.loads(json.dumps(CONCEPT_MAP))
    element = broken["group"][0]["element"][0]
    broken["group"][0]["element"] = [element | {"display": 'a } b { c \\" d'}, element | {"code": "B"}]
    broken["group"][0]["element"][1]["target"] = [{"code": "2345-8", "equivalence": "equivalent"}]
    text = json.dumps(broken, indent=1)
    line = next(n for n, one in enumerate(text.splitlines(), 1) if "2345-8" in one) - 1
    with pytest.raises(FileFaults) as refused:
        resolve(read_map("map.json", text.encode()).rows, LABORATORY, Choices())
    assert [fault.line for fault in refused.value.faults] == [line]


def test_no_cell_that_is_written_is_a_formula_and_it_is_read_again_as_it_was() -> None:
    row = {
        "driver": "generic_lis2",
        "code": "=HYPERLINK(1)",
        "test": "-",
        "unit": "+/-",
        "note": "@x",
        "origin": "site",
    }
    text = write_csv([row]).decode()
    assert text.splitlines()[1].startswith("generic_lis2,,'=HYPERLINK(1),,-,,'+/-,,,,'@x,")
    [read] = read_text_table("f", text).rows
    assert (read.code, read.test, read.unit, read.note) == (row["code"], "-", "+/-", "@x")
