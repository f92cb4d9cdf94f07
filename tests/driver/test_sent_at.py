"""A sender's clock, as the header of its message has it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from interface.driver.sent_at import sent_at, zone_of

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


@pytest.mark.parametrize(
    ("said", "hours"),
    [
        ("20260102030405+0100", 2),  # the link's own, which knows that it is summer in July
        ("20260702030405+0200", 2),
        ("20260102030405-0500", -5),
        ("20260102030405+0000", 0),
        ("20260102030405", 2), ("", 2), ("never", 2), ("20260102+0300", 2), ("20260102030405+9900", 2),
    ],
)  # fmt: skip
def test_the_zone_of_a_message_is_that_of_its_header(said: str, hours: int) -> None:
    text, links = f"MSH|^~\\&|A|B|C|D|{said}||ORU^R01\r".encode(), ZoneInfo("Europe/Berlin")
    zone = zone_of(text, links, sent_at("hl7", text, links) or AT)
    assert datetime(2026, 7, 2, 12, tzinfo=zone).utcoffset() == timedelta(hours=hours)


@pytest.mark.parametrize("before", [b"\xef\xbb\xbf", b"\r\n", b"\x0b", b"\xef\xbb\xbf\n"])
def test_so_it_is_behind_what_is_tolerated_before_a_message(before: bytes) -> None:
    text = before + b"MSH|^~\\&|A|B|C|D|20260102030405-0500||ORU^R01\rPID|1\r"
    came_at = AT + timedelta(hours=5)
    assert zone_of(text, UTC, came_at).utcoffset(AT) == timedelta(hours=-5)
    assert sent_at("hl7", text, UTC) == came_at


def test_a_part_that_has_no_header_has_the_links_zone() -> None:
    assert zone_of(b"PID|1||||||20260102100405+0100\r", UTC, AT) is UTC


@pytest.mark.parametrize(
    ("zone", "late", "rote"),
    [
        ("Europe/Berlin", 0, True), ("Europe/Berlin", 3, True), ("Europe/Berlin", 55, True),
        ("Europe/Berlin", 90, False), ("Europe/Berlin", 130, False),
        ("America/Bogota", 0, True), ("America/Bogota", 3, True), ("America/Bogota", 9, False),
    ],
)  # fmt: skip
def test_an_offset_that_is_written_by_rote_is_none(zone: str, late: int, rote: bool) -> None:
    """The time is the local one, and the offset is always the same: the message came at that time, or before it was
    made if the offset were right."""
    local = datetime(2026, 7, 2, 12, tzinfo=ZoneInfo(zone))
    header = b"MSH|^~\\&|A|B|C|D|20260702120000+0000||ORU^R01\r"
    found = zone_of(header, ZoneInfo(zone), local.astimezone(UTC) + timedelta(minutes=late))
    assert local.replace(tzinfo=found).utcoffset() == (local.utcoffset() if rote else timedelta(0))


@pytest.mark.parametrize(
    ("zone", "offset", "ahead"),
    [("UTC", "-0500", 6), ("UTC", "-0500", 60), ("Asia/Jakarta", "+0000", 6), ("America/Lima", "-0800", 20)],
)
def test_an_offset_of_whose_clock_is_ahead_is_what_it_says(zone: str, offset: str, ahead: int) -> None:
    """By six minutes, or by the hour of a summer that is over: its times were hours off, in silence."""
    text = f"MSH|^~\\&|A|B|C|D|20260102120000{offset}||ORU^R01\r".encode()
    made = sent_at("hl7", text, UTC)
    assert made is not None
    found = zone_of(text, ZoneInfo(zone), made - timedelta(minutes=ahead))
    assert found.utcoffset(AT) == timedelta(hours=int(offset[:3]))


@pytest.mark.parametrize("before", [b"\xef\xbb\xbf", b"\r\n", b"\n"])
def test_what_stands_before_a_header_hides_nothing_of_it(before: bytes) -> None:
    """A byte order mark or a line end, as the message is taken with."""
    text = before + b"MSH|^~\\&|A|B|C|D|20260102030405+0000||ORU^R01\rPID|1\r"
    assert sent_at("hl7", text, ZoneInfo("Asia/Jakarta")) == AT
    assert zone_of(text, ZoneInfo("Asia/Jakarta"), AT).utcoffset(AT) == timedelta(0)
