"""The factor of dilution as analyzers say it in TCD."""

from __future__ import annotations

from decimal import Decimal

import pytest

from interface.driver import decode_lis02, registry
from interface.driver.decode_hl7 import decode
from interface.driver.parse import parse_manifest
from interface.errors import DriverError

HEAD = "MSH|^~\\&|A|B|C|D|20260102030405||OUL^R22|1|P|2.5.1\rSPM|1|S1||SER|||||||P\rOBR|1||1|CHEM\r"


@pytest.mark.parametrize(
    ("details", "factor"),
    [
        ("", None), ("TCD|GLU|^1^:^5\r", "5"), ("TCD|GLU^Glucose|^1^:^1\r", "1"), ("TCD|GLU|^1^:^0\r", None),
        ("TCD|GLU|\r", None), ("TCD|GLU|^1^:^5||^1^:^2\r", "10"), ("TCD|GLU|||^1^:^2\r", "2"),
        ("TCD|GLU|half\r", "0"), ("TCD|GLU|^2^:^5\r", "0"), ("TCD|UREA|^1^:^5\r", None),
        ("TCD|GLU|^1^:^5\rTCD|GLU|^1^:^2\r", "0"),
    ],
)  # fmt: skip
def test_a_result_has_the_factor_that_is_said_of_its_code(details: str, factor: str | None) -> None:
    text = f"{HEAD}OBX|1|NM|GLU^Glucose||5.0|mmol/L|||||F\r{details}OBX|2|NM|K||4.0|mmol/L|||||F\r"
    decoded = decode(registry.load("generic_hl7"), text.encode())
    (specimen,) = decoded.specimens
    assert [one.dilution for one in specimen.results] == [None if factor is None else Decimal(factor), None]


@pytest.mark.parametrize(
    ("container", "details", "factor"),
    [
        ("^1^:^10", "", "10"), ("^1^:^1", "", None), ("^1^:^0", "", None), ("", "", None), ("ten", "", "0"),
        ("^1^:^10", "TCD|GLU|^1^:^5\r", "50"), ("^1^:^10", "TCD|GLU|^1^:^5||^1^:^10\r", "50"),
        ("^1^:^10", "TCD|GLU|^1^:^5||^1^:^2\r", "0"), ("^1^:^1", "TCD|GLU|^1^:^5||^1^:^2\r", "10"),
        ("^1^:^10", "TCD|UREA|^1^:^5\r", "10"),
    ],
)  # fmt: skip
def test_a_result_has_the_factor_that_is_said_of_its_container(
    container: str, details: str, factor: str | None
) -> None:
    """HL7 v2.5.1 13.4.3.29: the dilution that was performed on the specimen already."""
    head = HEAD.replace("OBR|", f"SAC|||C1{'|' * 26}{container}\rOBR|")
    decoded = decode(registry.load("generic_hl7"), f"{head}OBX|1|NM|GLU^Glucose||5.0|mmol/L|||||F\r{details}".encode())
    (specimen,) = decoded.specimens
    assert [one.dilution for one in specimen.results] == [None if factor is None else Decimal(factor)]


@pytest.mark.parametrize(
    ("driver", "code", "factor"),
    [
        ("ortho_vitros_3600", "1.0000+002+1.0", "1"), ("ortho_vitros_3600", "2.0000+002+5.0", "10"),
        ("ortho_vitros_eci", "1.000000+032+4", "4"), ("ortho_vitros_3600", "+002+1.0", "0"),
        ("ortho_vitros_3600", "0.5+002+1.0", "0"), ("generic_lis2", "1.0000+002+5.0", None),
    ],
)  # fmt: skip
def test_a_result_of_lis2_has_the_factor_where_the_driver_says_that_it_stands(
    driver: str, code: str, factor: str | None
) -> None:
    text = f"H|\\^&\rP|1\rO|1|S1||^^^{code}|R\rR|1|^^^{code}|60.10|nmol/L||^0^||F\rL|1|N\r"
    decoded = decode_lis02.decode(registry.load(driver), text.encode())
    (specimen,) = decoded.specimens
    assert [one.dilution for one in specimen.results] == [None if factor is None else Decimal(factor)]


def test_a_place_of_a_factor_is_lis2s_and_its_pattern_has_groups() -> None:
    for old, new, words in (
        ('dilution = "R.3.4"\n', "", "paths.dilution"),
        ("'^([0-9.]+)\\+[^+]+\\+([0-9.]+)$'", "'^[0-9.]+'", "a group for each factor"),
    ):
        text = registry.load("ortho_vitros_3600").manifest
        assert old in text
        with pytest.raises(DriverError, match=f"dilution.pattern: needs a group.*{words}|{words}"):
            parse_manifest(text.replace(old, new), "driver.toml")
    hl7 = registry.load("generic_hl7").manifest + '\n[paths]\ndilution = "OBX.4"\n'
    with pytest.raises(DriverError, match=r"paths\.dilution: is of LIS2"):
        parse_manifest(hl7, "driver.toml")
