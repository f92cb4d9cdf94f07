"""docs/driver.schema.json is what the parser asks for: drivers fit it, and what the parser refuses does not."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from interface.driver import registry
from interface.driver.parse import parse_manifest
from interface.driver.schema import as_text, schema
from interface.errors import DriverError
from tests.driver.json_schema import faults
from tests.driver.test_grammar import LIS2

FILE = Path(__file__).parents[2] / "docs" / "driver.schema.json"
SCHEMA = schema()


def test_the_published_schema_is_the_one_that_the_parser_gives() -> None:
    said = "labora driver schema > docs/driver.schema.json"
    assert FILE.read_text(encoding="utf-8") == as_text(), f"the grammar has changed: {said}"


@pytest.mark.parametrize("driver_id", sorted(registry.folders()))
def test_every_packaged_driver_fits_it(driver_id: str) -> None:
    text = (registry.folders()[driver_id] / "driver.toml").read_text(encoding="utf-8")
    assert list(faults(tomllib.loads(text), SCHEMA)) == []


@pytest.mark.parametrize(
    ("addition", "said"),
    [
        ("[paths]\ncodes = 'R.3.4'", "paths.codes is not allowed"),
        ("[paths]\ncode = 'R.3.4 + X9'", "paths.code does not match"),
        ("[speciment_id]\nstrip = ' '", "speciment_id is not allowed"),
        ("[framing]\nframe_text_bytes = -1", "framing.frame_text_bytes is less than 0"),
        ("[flags]\nH = 'VERY'", "flags.H is not one of"),
        ("[status]\nG = 'fine'", "status.G is not one of"),
        ("[[role]]\nrole = 'boss'\npath = 'O.12'\nequals = 'Q'", "role[0].role is not one of"),
        ("[[role]]\npath = 'O.12'\nequals = 'Q'", "role[0].role is missing"),
        ("[[codes]]\nlist = {A = 'a'}", "codes[0].source is missing"),
        ("[[codes]]\nsource = 'm'\nlist = {A = {nam = 'a'}}", "codes[0].list.A"),
        ("[value]\ndecimal_comma = 'yes'", "value.decimal_comma is not of type boolean"),
        ("[answer]\nfound = [{lines = [{each = 'rack', lines = []}]}]", "answer.found[0].lines[0]"),
        ("[specimen_id]\ncheck_digit = 'mod99'", "specimen_id.check_digit is not one of"),
        ("[record.fields]\nspeciman = '1-4'", "record.fields.speciman is not allowed"),
    ],
)
def test_what_the_parser_refuses_the_schema_refuses_with_its_place(addition: str, said: str) -> None:
    text = LIS2.replace("[status]", "[stat]") if addition.startswith("[status]") else LIS2
    text = text.replace("[flags]", "[flag]") if addition.startswith("[flags]") else text
    value: dict[str, Any] = tomllib.loads(text + addition + "\n")
    value.pop("stat", None), value.pop("flag", None)
    found = list(faults(value, SCHEMA))
    assert any(one.startswith(said) for one in found), found
    with pytest.raises(DriverError):
        parse_manifest(text + addition + "\n", "driver.toml")


def test_keys_are_described() -> None:
    tables = SCHEMA["properties"]
    undescribed = [name for name, one in tables.items() if "description" not in one.get("items", one)]
    assert undescribed == []
