"""A sender's clock, as the header of its message has it."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from interface.driver.sent_at import sent_at

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("protocol", "text"),
    [
        ("lis2", b"H|\\^&|||XN^1||||||||LIS2-A2|20260102030405\rP|1\r"),
        ("lis2", b"H!@^&!!!XN!!!!!!!!LIS2-A2!20260102030405"),
        ("hl7", b"MSH|^~\\&|A|B|C|D|20260102030405.000+0000||ORU^R01\rPID|1\r"),
    ],
)
def test_the_header_says_it(protocol: str, text: bytes) -> None:
    assert sent_at(protocol, text, UTC) == AT


def test_it_is_in_the_analyzers_zone() -> None:
    text = b"H|\\^&||||||||||||20260102100405\r"
    assert sent_at("lis2", text, ZoneInfo("Asia/Jakarta")) == AT


@pytest.mark.parametrize(
    ("protocol", "text"),
    [
        ("lis2", b""), ("lis2", b"H"), ("lis2", b"H|\\^&|||XN\r"), ("lis2", b"P|1||||||||||||20260102030405\r"),
        ("lis2", b"H|\\^&||||||||||||never\r"), ("lis2", b"H|\\^&||||||||||||20260102\r"), ("hl7", b"MSH"),
        ("hl7", b"MSH|^~\\&|A|B|C|D|\xff\r"), ("declared", b"20260102030405"),
    ],
)  # fmt: skip
def test_a_header_that_does_not_say_it_is_no_time(protocol: str, text: bytes) -> None:
    assert sent_at(protocol, text, UTC) is None
