"""The frame envelope and its checksum."""

from __future__ import annotations

import pytest

from interface.errors import LinkFrameError
from interface.wire.frames import build_frame, checksum, parse_frame


@pytest.mark.parametrize(
    ("body", "digits"),
    [
        (b"1H|\\^&\r\x03", b"E5"),
        (b"1H|\\^&\r\x17", b"F9"),
        (b"2P|1||^\r\x03", b"95"),
        (b"7L|1|N\r\x03", b"0A"),
    ],
)
def test_checksum_agrees_with_published_vectors(body: bytes, digits: bytes) -> None:
    assert checksum(body) == digits


def test_a_built_frame_is_parsed_back() -> None:
    assert build_frame(7, b"L|1|N\r", True) == b"\x027L|1|N\r\x030A\r\n"
    assert parse_frame(build_frame(9, b"R|1\rR|2", False)) == (1, b"R|1\rR|2", False)


@pytest.mark.parametrize("raw", [b"", b"\x02", b"\x021text", b"1H\x0300\r\n", b"\x02H|\x0300\r\n"])
def test_bytes_that_are_no_frame_are_refused(raw: bytes) -> None:
    with pytest.raises(LinkFrameError):
        parse_frame(raw)
